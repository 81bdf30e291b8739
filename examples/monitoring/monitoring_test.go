// Package monitoring holds what watches a router to the router that is watched. It is a
// module of its own, since Prometheus's own parser comes with more than the router needs.
package monitoring

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql/parser"
)

const (
	waitTimeout = 60 * time.Second
	adminKey    = "monitoring-admin-key-0123456789"
)

// running builds a router, starts it, lets an event through, and gives its metrics.
func running(t *testing.T) map[string]*dto.MetricFamily {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	binary := filepath.Join(t.TempDir(), "switchhook")
	build := exec.Command("go", "build", "-o", binary, ".")
	build.Dir = filepath.Join("..", "..")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	address := "127.0.0.1:"
	for port := 20_000 + rand.IntN(12_000); ; port++ { // none that the kernel gives to whoever asks for any
		if l, err := net.Listen("tcp", address+strconv.Itoa(port)); err == nil {
			must(l.Close())
			address += strconv.Itoa(port)
			break
		}
	}
	var log bytes.Buffer
	router := exec.Command(binary, "serve", "--dev", "--listen", address, "--data", t.TempDir(), "--admin-key", adminKey, "--metrics-accounts", "1")
	router.Stderr = &log
	must(router.Start())
	t.Cleanup(func() {
		router.Process.Signal(syscall.SIGTERM)
		if err := router.Wait(); err != nil {
			t.Errorf("the router ended with %v\n%s", err, &log)
		}
	})
	call := func(method, path, body string) (int, []byte) {
		req, err := http.NewRequest(method, "http://"+address+path, strings.NewReader(body))
		must(err)
		req.Header.Set("Authorization", "Bearer "+adminKey)
		req.Header.Set("Content-Type", "application/json")
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			return 0, nil // not there yet
		}
		defer res.Body.Close()
		var text bytes.Buffer
		_, err = text.ReadFrom(res.Body)
		must(err)
		return res.StatusCode, text.Bytes()
	}
	until := func(what string, ok func() bool) {
		t.Helper()
		for deadline := time.Now().Add(waitTimeout); !ok(); time.Sleep(20 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatal("never: " + what)
			}
		}
	}
	until("the router is ready", func() bool { status, _ := call("GET", "/readyz", ""); return status == 200 })
	target := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }))
	t.Cleanup(target.Close)
	subscription := `{"event": "order.paid", "target_url": "` + target.URL + `", "filter": "data.n > 0", "transform": "export default () => 'sent'"}`
	if status, answer := call("POST", "/api/v1/subscriptions", subscription); status != 201 {
		t.Fatalf("subscribe: %d %s", status, answer)
	}
	if status, answer := call("POST", "/api/v1/events", `{"type": "order.paid", "data": {"n": 1}}`); status != 202 {
		t.Fatalf("publish: %d %s", status, answer)
	}
	var metrics []byte
	until("the delivery is counted", func() bool {
		_, metrics = call("GET", "/metrics", "")
		return bytes.Contains(metrics, []byte(`switchhook_delivery_attempts_total{result="succeeded"} 1`))
	})
	text := expfmt.NewTextParser(model.LegacyValidation)
	families, err := text.TextToMetricFamilies(bytes.NewReader(metrics))
	must(err)
	return families
}

// series are the labels of those that a router has under a name, each with its values.
type series map[string]map[string][]string

func seriesOf(families map[string]*dto.MetricFamily) series {
	all := series{}
	for name, f := range families {
		labels := map[string][]string{"instance": nil, "job": nil} // Prometheus adds them
		for _, m := range f.Metric {
			for _, pair := range m.Label {
				labels[pair.GetName()] = append(labels[pair.GetName()], pair.GetValue())
			}
		}
		if f.GetType() != dto.MetricType_HISTOGRAM {
			all[name] = labels
			continue
		}
		all[name+"_sum"], all[name+"_count"] = labels, labels
		all[name+"_bucket"] = map[string][]string{"le": nil}
		for label, values := range labels {
			all[name+"_bucket"][label] = values
		}
	}
	return all
}

var shown = regexp.MustCompile(`\{\{ *(\w+) *\}\}`)

// check holds a query against what there is: names, labels and their values. The legend
// may show labels that the query keeps. It gives how many series were asked for, and what
// is wrong.
func (all series) check(query, legend string) (asked int, problems []string) {
	wrong := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }
	expr, err := parser.ParseExpr(strings.ReplaceAll(query, "$__rate_interval", "5m"))
	if err != nil {
		wrong("%v", err)
		return 0, problems
	}
	var legends []string // labels
	for _, match := range shown.FindAllStringSubmatch(legend, -1) {
		legends = append(legends, match[1])
	}
	parser.Inspect(expr, func(n parser.Node, above []parser.Node) error {
		switch n := n.(type) {
		case *parser.AggregateExpr:
			for _, label := range legends {
				if n.Without == slices.Contains(n.Grouping, label) {
					wrong("the legend shows %s, which is summed over", label)
				}
			}
		case *parser.BinaryExpr:
			if v := n.VectorMatching; v != nil {
				for _, label := range v.MatchingLabels {
					if !all.has(n, label) {
						wrong("%s is matched on or ignored, and no side has it", label)
					}
				}
			}
		case *parser.VectorSelector:
			asked++
			has, ok := all[n.Name]
			if !ok {
				wrong("there is no %s", n.Name)
				return nil
			}
			wanted := slices.Clone(legends)
			for _, up := range above {
				if a, ok := up.(*parser.AggregateExpr); ok {
					wanted = append(wanted, a.Grouping...)
				}
			}
			for _, label := range wanted {
				if _, ok := has[label]; !ok {
					wrong("%s has no label %s", n.Name, label)
				}
			}
			for _, m := range n.LabelMatchers {
				if m.Name == labels.MetricName {
					continue
				}
				meant := m.Matches
				if m.Type == labels.MatchNotEqual || m.Type == labels.MatchNotRegexp {
					meant = func(v string) bool { return !m.Matches(v) } // it excludes something
				}
				if !slices.ContainsFunc(has[m.Name], meant) {
					wrong("no %s is one that %s speaks of", n.Name, m)
				}
			}
		}
		return nil
	})
	return asked, problems
}

// has reports whether a series that an expression asks for has a label.
func (all series) has(expr parser.Expr, label string) (found bool) {
	parser.Inspect(expr, func(n parser.Node, _ []parser.Node) error {
		if s, ok := n.(*parser.VectorSelector); ok {
			_, there := all[s.Name][label]
			found = found || there
		}
		return nil
	})
	return found
}

func TestRulesAndDashboardAskForWhatThereIs(t *testing.T) {
	all := seriesOf(running(t))

	rules, problems := rulefmt.ParseFile("rules.yml", false)
	for _, err := range problems {
		t.Error(err)
	}
	if rules == nil {
		t.FailNow()
	}
	asked := 0
	for _, g := range rules.Groups {
		for _, r := range g.Rules {
			n, problems := all.check(r.Expr, "")
			if asked += n; problems != nil {
				t.Errorf("%s: %q", r.Alert, problems)
			}
			if r.Annotations["summary"] == "" || r.Labels["severity"] == "" {
				t.Errorf("%s has no summary or severity", r.Alert)
			}
		}
	}
	if asked < 10 {
		t.Errorf("the rules ask for %d series only", asked)
	}

	var dashboard struct {
		Panels []struct {
			ID      int
			Title   string
			GridPos struct{ X, Y, W, H int }
			Targets []struct{ RefID, Expr, LegendFormat string }
		}
	}
	text, err := os.ReadFile("dashboard.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &dashboard); err != nil {
		t.Fatal(err)
	}
	asked = 0
	ids, places := map[int]bool{}, map[[2]int]string{}
	for _, p := range dashboard.Panels {
		if ids[p.ID] {
			t.Errorf("%s has the id of another panel", p.Title)
		}
		ids[p.ID] = true
		for x := range p.GridPos.W {
			for y := range p.GridPos.H {
				at := [2]int{p.GridPos.X + x, p.GridPos.Y + y}
				if other := places[at]; other != "" && other != p.Title {
					t.Fatalf("%s lies on %s", p.Title, other)
				}
				places[at] = p.Title
			}
		}
		refs := map[string]bool{}
		for _, q := range p.Targets {
			if refs[q.RefID] {
				t.Errorf("%s has two queries %s", p.Title, q.RefID)
			}
			refs[q.RefID] = true
			n, problems := all.check(q.Expr, q.LegendFormat)
			if asked += n; problems != nil {
				t.Errorf("%s, %s: %q", p.Title, q.RefID, problems)
			}
		}
	}
	if asked < 20 {
		t.Errorf("the dashboard asks for %d series only", asked)
	}
}

// The check can fail.
func TestTheCheckFindsMistakes(t *testing.T) {
	all := series{"a_total": {"job": nil, "result": {"dead", "retrying"}}, "b": {"job": nil}}
	for _, mistake := range [][2]string{
		{"rate(a_total[5m]"}, {"c > 0"}, {`a_total{state="dead"}`}, {`a_total{result="succeeded"}`}, {`a_total{result!="gone"}`}, {`a_total{result=~"x.*"}`},
		{"sum by (state) (a_total)"}, {"sum(a_total)", "{{result}}"}, {"sum without (result) (a_total)", "{{result}}"}, {"b", "{{result}}"}, {"a_total + ignoring(state) b"},
	} {
		if _, problems := all.check(mistake[0], mistake[1]); problems == nil {
			t.Errorf("%q passes", mistake)
		}
	}
	for right, legend := range map[string]string{
		`sum by (result) (rate(a_total{result=~"dead|retrying"}[5m])) > 0`: "{{result}}", `a_total{result!="dead"} - ignoring(result) b`: "of {{job}}", `sum by (result) (a_total) unless ignoring(result) b`: "",
	} {
		if asked, problems := all.check(right, legend); asked == 0 || problems != nil {
			t.Errorf("%q: %d series, %q", right, asked, problems)
		}
	}
}
