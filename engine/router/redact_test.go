package router_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"switchhook/engine"
	"switchhook/engine/settings"
)

func TestHidesHeader(t *testing.T) {
	t.Parallel()
	for _, name := range []string{
		"Authorization", "Proxy-Authorization", "Cookie", "Set-Cookie", "Set-Cookie ", "set_cookie", "X-Auth", "X-Auth-User", "X-Functions-Key",
		"Ocp-Apim-Subscription-Key", "X-Amz-Security-Token", "X-API-Key", "x_api_key", "APIKEY", "X-Client-Secret", "X-Session-Id", "X-Password", "X-JWT", "X-App-Key", "X-Shared-Passphrase",
	} {
		if !engine.IsSensitiveName(name) {
			t.Errorf("%q is shown", name)
		}
	}
	for _, name := range []string{"Content-Type", "X-Author", "Idempotency-Key", "X-Order-Id", "ETag", "Retry-After", "X-Request-Id", "webhook-signature", "Location", "Surrogate-Key", "Authority"} {
		if engine.IsSensitiveName(name) {
			t.Errorf("%q is hidden", name)
		}
	}
}

func TestSubscription_HidesItsOwnHeadersUnlessHarmlessOrVisible(t *testing.T) {
	t.Parallel()
	s := &engine.Subscription{Headers: map[string]string{}, VisibleHeaders: []string{"x-team"}}
	for name, hidden := range map[string]bool{
		"X-Shop": true, "X-Whatever": true, "Authorization": true, "Referer": true, "content-type": false, "ACCEPT": false, "User-Agent": false, "X-TEAM": false,
	} {
		s.Headers[name] = "value"
		if got := s.ShownHeaders()[name] == engine.RedactedValue; got != hidden || s.HidesHeader(name) != hidden {
			t.Errorf("%s: hidden %v", name, got)
		}
	}
}

func TestMaskURL(t *testing.T) {
	t.Parallel()
	for url, want := range map[string]string{
		"https://hooks.slack.com/services/T024BE7LD/B024BE7LH/kM8sK3nzEYT": "https://hooks.slack.com/services/[hidden]",
		"https://discord.com/api/webhooks/1/abc":                           "https://discord.com/api/[hidden]",
		"https://webhook.site/7f5c2e9a-1111-2222-3333-444455556666":        "https://webhook.site/[hidden]",
		"https://example.com/Zx8Kq":                                        "https://example.com/[hidden]",
		"https://example.com/v1/orders?key=abc&b&=c":                       "https://example.com/v1/[hidden]?key=[hidden]&[hidden]&=[hidden]",
		"https://example.com/hooks":                                        "https://example.com/hooks",
		"https://example.com/hooks/":                                       "https://example.com/hooks/",
		"https://example.com":                                              "https://example.com",
		"https://example.com/":                                             "https://example.com/",
		"https://example.com:8443?k=v":                                     "https://example.com:8443?k=[hidden]",
		"nonsense":                                                         "[hidden]",
	} {
		if got := engine.MaskURL(url); got != want {
			t.Errorf("%s: %s", url, got)
		}
	}
}

// A value of a subscription's own headers is nowhere in its stored attempts, whatever its
// transform and its target do with it.
func TestDelivery_HiddenValuesAreNotStored(t *testing.T) {
	t.Parallel()
	const secret, short = "s3cr3t-value-0001", "1234"
	r := start(t, func(c *settings.Config) { c.Retries = engine.RetrySchedule{0} })
	r.sink.SetAnswer(func(w http.ResponseWriter, req *http.Request, _ string) {
		w.Header().Set("X-Echo", "you sent "+req.Header.Get("X-Shop"))
		w.Header().Set("Set-Cookie", "sid=answer-cookie-0001")
		w.Header().Set("X-Auth", "answer-auth-0001")
		w.WriteHeader(500)
		fmt.Fprintf(w, "headers: %v", req.Header)
	})
	for name, transform := range map[string]string{
		"none": "", "copied": `export default (e, r) => {
			const [shop, pin] = [r.headers["X-Shop"], r.headers["X-Pin"]]
			console.log("shop is " + shop)
			r.headers["X-Copy"] = shop; r.headers["X-Part"] = "id " + shop; r.headers["X-Pin-Copy"] = pin; r.headers["X-Bearer"] = r.headers["Authorization"].split(" ")[1]
			r.headers["X-Open"] = "open"; r.query.shop = shop
			return { shop } }`,
		"thrown":  `export default (e, r) => { throw new Error("no shop " + r.headers["X-Shop"]) }`,
		"dropped": `export default (e, r) => drop("not for " + r.headers["X-Shop"])`,
	} {
		t.Run(name, func(t *testing.T) {
			s := r.subscribe(func(s *engine.Subscription) {
				s.Events, s.Transform = []string{"redact." + name}, transform
				s.Headers = map[string]string{"X-Shop": secret, "X-Pin": short, "Authorization": "Bearer bearer-value-0001", "X-Team": "north", "content-type": "text/x"}
				s.VisibleHeaders = []string{"x-team"}
			})
			d, attempts := r.delivery(r.publish("redact."+name, `1`).ID, s, engine.StateDead, engine.StateDropped)
			text, err := json.Marshal([]any{d, attempts})
			if err != nil {
				t.Fatal(err)
			}
			shown := string(text)
			for _, a := range attempts {
				shown += string(a.Request.Body) + string(a.Response.Body)
			}
			for _, value := range []string{secret, "bearer-value-0001", "answer-cookie", "answer-auth", base64.StdEncoding.EncodeToString([]byte(secret))} {
				if strings.Contains(shown, value) {
					t.Errorf("%q is shown: %s", value, shown)
				}
			}
			request := map[string]string{}
			for _, h := range attempts[0].Request.Headers {
				request[h.Name] = h.Value
			}
			if name == "none" || name == "copied" {
				if request["X-Shop"] != engine.RedactedValue || request["X-Team"] != "north" || request["content-type"] != "text/x" {
					t.Errorf("the request shows %v", request)
				}
				if !strings.Contains(string(attempts[0].Response.Body), engine.RedactedValue) {
					t.Errorf("the answer shows %s", attempts[0].Response.Body)
				}
			}
			if name == "copied" && (request["X-Copy"] != engine.RedactedValue || request["X-Part"] != "id [hidden]" || request["X-Pin-Copy"] != engine.RedactedValue || request["X-Open"] != "open") {
				t.Errorf("the request shows %v", request)
			}
		})
	}
	entries, err := r.Audit(context.Background(), engine.AuditQuery{Limit: 100})
	if err != nil || len(entries) != 4 {
		t.Fatalf("%d entries of the audit log, %v", len(entries), err)
	}
	for _, e := range entries {
		if text := string(e.After); strings.Contains(text, secret) || !strings.Contains(text, `"X-Team":"north"`) || !strings.Contains(text, `"X-Shop":"[hidden]"`) {
			t.Errorf("the audit log says %s", text)
		}
	}
}
