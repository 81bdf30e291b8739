package server_test

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// lines is a log buffer that is safe for concurrent use.
type lines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

func TestRequestLog_MetricsAndAccessLog(t *testing.T) {
	log := &lines{}
	r := start(t, setup{accessLog: slog.New(slog.NewJSONHandler(log, nil))})
	r.acme.post("/api/v1/events", `{"type":"a","data":1}`).want(202)
	r.acme.post("/api/v1/event/", `{"type":"a","data":1}`).want(202)
	r.acme.post("/api/v1/events", `{`).want(400)
	r.acme.get("/api/v1/events/evt_secret?x=sesame").want(404)
	r.acme.get("/" + r.acme.key + "?token=sesame").want(404)
	r.acme.with(t, "swk_nobody-has-this-key").get("/api/v1/events").want(401)
	r.acme.do("OPTIONS", "/api/v1/events", nil).want(204)
	r.acme.do("PATCH", "/api/v1/events", nil).want(405)
	r.acme.do("PATCH", "/hooks/subscribe/"+r.acme.key, nil).want(405) // of a dialect
	r.legacy("authcode", "swk_nobody-has-this-key").call("GET", "/hooks/subscribe", "", 401)
	r.acme.do("HEAD", "/healthz", nil).want(200)

	conn, err := net.Dial("tcp", strings.TrimPrefix(r.url, "http://"))
	must(t, err)
	_, err = conn.Write([]byte("nonsense\r\n\r\n"))
	must(t, err)
	conn.SetDeadline(time.Now().Add(waitTimeout))
	res := make([]byte, 12)
	if _, err := conn.Read(res); err != nil || string(res) != "HTTP/1.1 400" {
		t.Errorf("nonsense: %q %v", res, err)
	}
	conn.Close()

	metrics := string(r.acme.get("/metrics").want(200).body)
	for _, series := range []string{
		`{code="202",method="POST",route="/api/v1/events"} 2`,
		`{code="400",method="POST",route="/api/v1/events"} 1`,
		`{code="404",method="GET",route="/api/v1/events/{id}"} 1`,
		`{code="404",method="other",route="other"} 1`,
		`{code="401",method="GET",route="/api/v1/events"} 1`,
		`{code="401",method="GET",route="dialect/express-demo"} 1`,
		`{code="204",method="other",route="other"} 1`,
		`{code="405",method="other",route="other"} 2`,
		`{code="400",method="other",route="other"} 1`,
		`{code="200",method="HEAD",route="/healthz"} 1`,
		`{code="503",method="POST",route="/api/v1/events"} 0`,
	} {
		if !strings.Contains(metrics, "switchhook_api_requests_total"+series+"\n") {
			t.Errorf("/metrics does not say %s", series)
		}
	}
	logged := log.String()
	for _, secret := range []string{r.acme.key, r.admin.key, "sesame", "swk_nobody"} {
		if strings.Contains(logged+metrics, secret) {
			t.Errorf("%q is shown", secret)
		}
	}
	var line struct {
		Method, Path string
		Status       int
		Duration     *int64
		KeyID        string `json:"key_id"`
	}
	first := logged[strings.Index(logged, `{"time"`):]
	for text := range strings.Lines(first) {
		if strings.Contains(text, `"status":202`) {
			must(t, json.Unmarshal([]byte(text), &line))
			break
		}
	}
	if line.Method != http.MethodPost || line.Path != "/api/v1/events" || line.Duration == nil || line.KeyID != r.acme.keyID {
		t.Errorf("logged %+v in %s", line, logged)
	}
}
