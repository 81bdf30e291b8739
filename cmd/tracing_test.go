package cmd

import (
	"bytes"
	"context"
	"encoding/hex"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"switchhook/engine"
	"switchhook/engine/snowflake"
	"switchhook/engine/telemetry"
	"switchhook/engine/testkit"
)

// otlp is an OpenTelemetry collector that receives spans over HTTP.
type otlp struct {
	*httptest.Server
	mu       sync.Mutex
	spans    []*tracepb.Span
	resource map[string]string
}

func newCollector(t *testing.T) *otlp {
	c := &otlp{resource: map[string]string{}}
	c.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		var in collector.ExportTraceServiceRequest
		if err := proto.Unmarshal(body, &in); err != nil || r.URL.Path != "/v1/traces" {
			t.Errorf("%s: %v", r.URL.Path, err)
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		for _, rs := range in.ResourceSpans {
			for _, a := range rs.Resource.Attributes {
				c.resource[a.Key] = a.Value.GetStringValue()
			}
			for _, ss := range rs.ScopeSpans {
				c.spans = append(c.spans, ss.Spans...)
			}
		}
	}))
	t.Cleanup(c.Close)
	return c
}

// of waits for n spans of a name.
func (c *otlp) of(t *testing.T, name string, n int) (list []*tracepb.Span) {
	t.Helper()
	testkit.WaitFor(t, "there are spans named "+name, func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		list = nil
		for _, s := range c.spans {
			if s.Name == name {
				list = append(list, s)
			}
		}
		return len(list) >= n
	})
	return list
}

func attributes(s *tracepb.Span) map[string]any {
	all := map[string]any{}
	for _, a := range s.Attributes {
		if text := a.Value.GetStringValue(); text != "" {
			all[a.Key] = text
		} else {
			all[a.Key] = a.Value.GetIntValue()
		}
	}
	return all
}

// traced is a receiver that records the traceparents it gets.
type traced struct {
	*httptest.Server
	mu     sync.Mutex
	got    []string
	status int
}

func newTraced(t *testing.T) *traced {
	s := &traced{status: 204}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.got = append(s.got, strings.Join(r.Header.Values("Traceparent"), ","))
		if r.Header.Get("Tracestate") != "" || r.Header.Get("Baggage") != "" {
			t.Error("the target learned of the publisher's systems")
		}
		w.WriteHeader(s.status)
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *traced) parents() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.got)
}

const publishersTrace, publishersSpan = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"

func publishTraced(t *testing.T, p *process) (event string) {
	t.Helper()
	req, _ := http.NewRequest(http.MethodPost, p.api.URL+"/api/v1/events", bytes.NewReader([]byte(`{"type":"order.created","data":{"secret":"payload-secret"}}`)))
	req.Header = http.Header{"Authorization": {"Bearer " + testKey}, "Content-Type": {"application/json"}, "Traceparent": {"00-" + publishersTrace + "-" + publishersSpan + "-01"}, "Tracestate": {"vendor=hush"}, "Baggage": {"user=hush"}}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, _ := io.ReadAll(res.Body)
	if res.StatusCode != http.StatusAccepted {
		t.Fatalf("%s %s", res.Status, body)
	}
	_, event, _ = strings.Cut(string(body), `"id":"`)
	event, _, _ = strings.Cut(event, `"`)
	return event
}

func subscribeTo(t *testing.T, p *process, url string, more map[string]any) (id string) {
	t.Helper()
	in := map[string]any{"event": "*", "target_url": url}
	for k, v := range more {
		in[k] = v
	}
	var out struct{ ID string }
	if err := p.api.call(context.Background(), http.MethodPost, "/api/v1/subscriptions", in, &out); err != nil {
		t.Fatal(err)
	}
	return out.ID
}

// One publish makes one trace, continued from the publisher to the target.
func TestTracing_PublisherToTarget(t *testing.T) {
	t.Setenv("OTEL_BSP_SCHEDULE_DELAY", "20")
	t.Setenv("OTEL_RESOURCE_ATTRIBUTES", "service.name=hooks,deployment.environment=test")
	spans, target := newCollector(t), newTraced(t)
	p := serve(t, t.TempDir(), "--otlp-endpoint", spans.URL)
	sub := subscribeTo(t, p, target.URL+"/hook?token=url-secret", map[string]any{"transform": "export default e => e.data", "headers": map[string]string{"X-Api-Key": "header-secret"}})
	event := publishTraced(t, p)

	publish, commit := spans.of(t, "publish", 1)[0], spans.of(t, "commit", 1)[0]
	deliver, transform, send := spans.of(t, "deliver", 1)[0], spans.of(t, "transform", 1)[0], spans.of(t, "POST", 1)[0]
	for child, parent := range map[*tracepb.Span]*tracepb.Span{commit: publish, deliver: publish, transform: deliver, send: deliver} {
		if !bytes.Equal(child.ParentSpanId, parent.SpanId) {
			t.Errorf("%s does not stand below %s", child.Name, parent.Name)
		}
	}
	if hex.EncodeToString(publish.ParentSpanId) != publishersSpan {
		t.Errorf("publish stands below %x", publish.ParentSpanId)
	}
	for _, s := range []*tracepb.Span{publish, commit, deliver, transform, send} {
		if hex.EncodeToString(s.TraceId) != publishersTrace {
			t.Errorf("%s is of trace %x", s.Name, s.TraceId)
		}
	}
	if len(deliver.Links) != 1 || !bytes.Equal(deliver.Links[0].SpanId, publish.SpanId) {
		t.Errorf("deliver links to %v", deliver.Links)
	}
	if want := "00-" + publishersTrace + "-" + hex.EncodeToString(send.SpanId) + "-01"; !slices.Equal(target.parents(), []string{want}) {
		t.Errorf("the target got %q, not %q", target.parents(), want)
	}
	a := attributes(deliver)
	id, _ := a["switchhook.delivery_id"].(string)
	if a["switchhook.subscription_id"] != sub || a["switchhook.event_id"] != event || !strings.HasPrefix(id, "dlv_") || a["switchhook.attempt"] != int64(1) || a["switchhook.result"] != "succeeded" || a["switchhook.account"] != "default" {
		t.Errorf("deliver says %v", a)
	}
	if a := attributes(send); a["http.response.status_code"] != int64(204) || a["server.address"] != "127.0.0.1" {
		t.Errorf("POST says %v", a)
	}
	if a := attributes(publish); a["switchhook.event_id"] != event || a["switchhook.matched"] != int64(1) {
		t.Errorf("publish says %v", a)
	}
	spans.mu.Lock()
	defer spans.mu.Unlock()
	if spans.resource["service.name"] != "hooks" || spans.resource["deployment.environment"] != "test" || spans.resource["service.version"] == "" {
		t.Errorf("resource %v", spans.resource)
	}
	for _, s := range spans.spans {
		for _, secret := range []string{"url-secret", "header-secret", "payload-secret", testKey, "hush"} {
			if strings.Contains(s.String(), secret) {
				t.Errorf("%s tells %s", s.Name, secret)
			}
		}
	}
}

// After a restart the publisher's trace is unknown; the attempts of an event share a trace
// whose id derives from the event's id.
func TestTracing_AfterRestart(t *testing.T) {
	t.Setenv("OTEL_BSP_SCHEDULE_DELAY", "20")
	spans, target, data := newCollector(t), newTraced(t), t.TempDir()
	target.status = 500
	flags := []string{"--otlp-endpoint", spans.URL, "--retries", "0s,1h,1s"}
	p := serve(t, data, flags...)
	subscribeTo(t, p, target.URL, nil)
	event := publishTraced(t, p)
	first := spans.of(t, "deliver", 1)[0]
	if hex.EncodeToString(first.TraceId) != publishersTrace || first.Status.GetCode() != tracepb.Status_STATUS_CODE_ERROR || attributes(first)["switchhook.result"] != "retrying" {
		t.Errorf("first attempt: %v", first)
	}
	if err := p.end(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	p = serve(t, data, flags...)
	var list struct{ Data []struct{ ID string } }
	if err := p.api.call(context.Background(), http.MethodGet, "/api/v1/deliveries", nil, &list); err != nil || len(list.Data) != 1 {
		t.Fatal(list, err)
	}
	post(t, p, "/api/v1/deliveries/"+list.Data[0].ID+"/retry", nil, nil)
	later := spans.of(t, "deliver", 3)[1:]
	id, _ := snowflake.Parse(engine.EventPrefix, event)
	want := telemetry.EventTrace(id)
	for i, s := range later {
		if !bytes.Equal(s.TraceId, want[:]) || len(s.ParentSpanId) != 0 || attributes(s)["switchhook.attempt"] != int64(i+2) || attributes(s)["switchhook.event_id"] != event {
			t.Errorf("a later attempt: %v", s)
		}
	}
	if got := target.parents(); len(got) != 3 || !strings.Contains(got[2], want.String()) {
		t.Errorf("the target got %q, not the trace %s", got, want)
	}
}

func TestTracing_SubscriptionTraceparentWins(t *testing.T) {
	spans, target := newCollector(t), newTraced(t)
	p := serve(t, t.TempDir(), "--otlp-endpoint", spans.URL)
	own := "00-" + strings.Repeat("a", 32) + "-" + strings.Repeat("b", 16) + "-00"
	subscribeTo(t, p, target.URL, map[string]any{"headers": map[string]string{"traceparent": own}})
	publishTraced(t, p)
	testkit.WaitFor(t, "it is delivered", func() bool { return len(target.parents()) == 1 })
	if target.parents()[0] != own {
		t.Errorf("the target got %q", target.parents())
	}
}

// Without configuration no trace is recorded, continued or propagated; and the standard
// variables are respected.
func TestTracing_OffWithoutCollector(t *testing.T) {
	spans, target := newCollector(t), newTraced(t)
	for _, env := range []string{"", "OTEL_SDK_DISABLED=true", "OTEL_TRACES_EXPORTER=none"} {
		if name, value, ok := strings.Cut(env, "="); ok {
			t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", spans.URL)
			t.Setenv(name, value)
		}
		p := serve(t, t.TempDir())
		before := len(target.parents())
		subscribeTo(t, p, target.URL, nil)
		publishTraced(t, p)
		testkit.WaitFor(t, "it is delivered", func() bool { return len(target.parents()) == before+1 })
		if got := target.parents()[before]; got != "" {
			t.Errorf("%s: the target got %q", env, got)
		}
		if err := p.end(os.Interrupt); err != nil {
			t.Error(err)
		}
		if name, _, ok := strings.Cut(env, "="); ok {
			os.Unsetenv(name)
		}
	}
	if len(spans.spans) != 0 {
		t.Errorf("%d spans", len(spans.spans))
	}
}

func TestTracing_InvalidFlags(t *testing.T) {
	for _, c := range []struct{ endpoint, protocol, says string }{
		{"collector:4317?key=hush", "", "http://127.0.0.1:4318"},
		{"ftp://collector", "", "http://127.0.0.1:4318"},
		{"http://127.0.0.1:4317", "grpc", "http/protobuf"},
	} {
		t.Setenv("OTEL_EXPORTER_OTLP_PROTOCOL", c.protocol)
		out, err := command("serve", "--data", t.TempDir(), "--listen", "127.0.0.1:0", "--otlp-endpoint", c.endpoint).CombinedOutput()
		if err == nil || !strings.Contains(string(out), c.says) || strings.Contains(string(out), "hush") {
			t.Errorf("%+v: %v %s", c, err, out)
		}
	}
}

// An unreachable or slow collector delays neither events nor the exit.
func TestTracing_UnreachableCollector(t *testing.T) {
	t.Setenv("OTEL_BSP_SCHEDULE_DELAY", "20")
	t.Setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "200")
	target := newTraced(t)
	p := serve(t, t.TempDir(), "--otlp-endpoint", "http://127.0.0.1:9/?key=hush", "--log-level", "error")
	subscribeTo(t, p, target.URL, nil)
	publishTraced(t, p)
	testkit.WaitFor(t, "it is delivered", func() bool { return len(target.parents()) == 1 })
	if err := p.end(os.Interrupt); err != nil {
		t.Error(err)
	}
}
