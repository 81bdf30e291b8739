package cmd

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"switchhook/engine/testkit"
	"switchhook/server/api"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// watched starts a router with its own metrics listener and some traffic, so that every
// metric exists.
func watched(t *testing.T) (p *process, metrics string) {
	t.Helper()
	addr := testkit.FreeAddress(t)
	metrics = "http://" + addr + "/metrics"
	p = serve(t, t.TempDir(), withRace, "--metrics-listen", addr, "--metrics-accounts", "3")
	sink := testkit.NewReceiver(t, nil)
	ctx := context.Background()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(p.api.call(ctx, http.MethodPost, "/api/v1/subscriptions", map[string]any{
		"event": "*", "target_url": sink.URL, "filter": "data.n > 0", "transform": "export default () => 'sent'",
	}, nil))
	must(p.api.call(ctx, http.MethodPost, "/api/v1/events", api.PublishRequest{Type: "a", Data: json.RawMessage(`{"n":1}`)}, nil))
	testkit.WaitFor(t, "the delivery comes", func() bool { return sink.Missing([]string{"sent"}) == 0 })
	testkit.WaitFor(t, "it is counted", func() bool {
		return strings.Contains(scrape(t, metrics), `switchhook_delivery_attempts_total{result="succeeded"} 1`)
	})
	return p, metrics
}

func scrape(t *testing.T, url string) string {
	t.Helper()
	res, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusOK {
		t.Fatal(res.Status, err)
	}
	return string(text)
}

// families parses the router's own metrics: their labels by name.
func families(t *testing.T, text string) map[string]*dto.MetricFamily {
	t.Helper()
	parser := expfmt.NewTextParser(model.LegacyValidation)
	all, err := parser.TextToMetricFamilies(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	maps.DeleteFunc(all, func(name string, _ *dto.MetricFamily) bool { return !strings.HasPrefix(name, "switchhook_") })
	if len(all) < 20 {
		t.Fatalf("only %d metrics", len(all))
	}
	return all
}

func TestMetrics_PrometheusConventions(t *testing.T) {
	t.Parallel()
	_, url := watched(t)
	text := scrape(t, url)
	problems, err := promlint.New(strings.NewReader(text)).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}

	// The documentation lists each of them, with its labels.
	doc, err := os.ReadFile("../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	told := map[string]bool{}
	for _, row := range regexp.MustCompile("(?m)^\\| `(switchhook_[^`]*)` \\|").FindAllSubmatch(doc, -1) {
		told[string(row[1])] = true
	}
	for name, f := range families(t, text) {
		var labels []string
		for _, pair := range f.Metric[0].Label {
			labels = append(labels, pair.GetName())
		}
		slices.Sort(labels)
		if labels != nil {
			name += "{" + strings.Join(labels, ",") + "}"
		}
		if !told[name] {
			t.Errorf("docs/operations.md has no row of %s", name)
		}
		delete(told, name)
	}
	for name := range told {
		t.Errorf("docs/operations.md tells of %s, which is not there", name)
	}
}

// Metrics with account names, or with an address of their own, require a key for every
// account on the API.
func TestMetrics_AccountNamesRequireKey(t *testing.T) {
	t.Parallel()
	p, url := watched(t)
	if text := scrape(t, url); !strings.Contains(text, `switchhook_account_events_accepted_total{account="default"} 1`) {
		t.Errorf("no figures of an account: %s", text)
	}
	var made struct {
		Key string `json:"key"`
	}
	if err := p.api.call(context.Background(), http.MethodPost, "/api/v1/keys", map[string]any{"account": "acme"}, &made); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		key  string
		want int
	}{{"", 401}, {"swk_wrong0000000000000000", 401}, {made.Key, 403}, {testKey, 200}} {
		req, _ := http.NewRequest(http.MethodGet, p.api.URL+"/metrics", nil)
		if c.key != "" {
			req.Header.Set("Authorization", "Bearer "+c.key)
		}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(res.Body)
		res.Body.Close()
		if res.StatusCode != c.want || c.want != 200 && bytes.Contains(body, []byte("switchhook_")) {
			t.Errorf("with %q: %d %.200s", c.key, res.StatusCode, body)
		}
	}
	res, err := http.Get(strings.TrimSuffix(url, "/metrics") + "/api/v1/events")
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != http.StatusNotFound {
		t.Errorf("the metrics' address answers the API: %d", res.StatusCode)
	}
}

func TestMetrics_InvalidFlags(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ flags, says string }{
		{"--metrics-accounts=-1", "--metrics-accounts"},
		{"--metrics-accounts=100000", "--metrics-accounts"},
		{"--metrics-listen=everywhere", "--metrics-listen"},
	} {
		out, err := command("serve", "--data", t.TempDir(), "--listen", "127.0.0.1:0", c.flags).CombinedOutput()
		if err == nil || !strings.Contains(string(out), c.says) {
			t.Errorf("%s: %v %s", c.flags, err, out)
		}
	}
}
