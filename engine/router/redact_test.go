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
	for _, c := range []struct{ name, transform string }{
		{"none", ""}, {"copied", `export default (e, r) => {
			const [shop, pin] = [r.headers["X-Shop"], r.headers["X-Pin"]]
			console.log("shop is " + shop)
			r.headers["X-Copy"] = shop; r.headers["X-Part"] = "id " + shop; r.headers["X-Pin-Copy"] = pin; r.headers["X-Bearer"] = r.headers["Authorization"].split(" ")[1]
			r.headers["X-Open"] = "open"; r.query.shop = shop
			return { shop } }`},
		{"thrown", `export default (e, r) => { throw new Error("no shop " + r.headers["X-Shop"]) }`},
		{"dropped", `export default (e, r) => drop("not for " + r.headers["X-Shop"])`},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := r.subscribe(func(s *engine.Subscription) {
				s.Events, s.Transform = []string{"redact." + c.name}, c.transform
				s.Headers = map[string]string{"X-Shop": secret, "X-Pin": short, "Authorization": "Bearer bearer-value-0001", "X-Team": "north", "content-type": "text/x"}
				s.VisibleHeaders = []string{"x-team"}
			})
			d, attempts := r.delivery(r.publish("redact."+c.name, `1`).ID, s, engine.StateDead, engine.StateDropped)
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
			if c.name == "none" || c.name == "copied" {
				if request["X-Shop"] != engine.RedactedValue || request["X-Team"] != "north" || request["content-type"] != "text/x" {
					t.Errorf("the request shows %v", request)
				}
				if !strings.Contains(string(attempts[0].Response.Body), engine.RedactedValue) {
					t.Errorf("the answer shows %s", attempts[0].Response.Body)
				}
			}
			if c.name == "copied" && (request["X-Copy"] != engine.RedactedValue || request["X-Part"] != "id [hidden]" || request["X-Pin-Copy"] != engine.RedactedValue || request["X-Open"] != "open") {
				t.Errorf("the request shows %v", request)
			}
		})
	}
	entries, _, err := r.Audit(context.Background(), engine.AuditQuery{Limit: 100})
	if err != nil || len(entries) != 4 {
		t.Fatalf("%d entries of the audit log, %v", len(entries), err)
	}
	for _, e := range entries {
		if text := string(e.After); strings.Contains(text, secret) || !strings.Contains(text, `"X-Team":"north"`) || !strings.Contains(text, `"X-Shop":"[hidden]"`) {
			t.Errorf("the audit log says %s", text)
		}
	}
}
