package server_test

import (
	"encoding/json"
	"strings"
	"testing"
)

// Receivers that see headers under CGI names confuse Webhook_Signature with webhook-signature.
func TestHeaders_ReservedAreRefusedInAnyCase(t *testing.T) {
	r := start(t)
	hook := receive(t, nil)
	const own = "X-Shop-Signature: sha256={hmac-sha256-hex}"
	try := func(name string) string {
		text, err := json.Marshal(name)
		must(t, err)
		event := "h." + strings.Map(func(c rune) rune {
			if c == '-' || c == '_' || c == '.' || c == '!' {
				return 'x'
			}
			return c
		}, name)
		sub := r.acme.subscribe(event, hook.URL, map[string]any{"signatures": []string{own}, "policy": map[string]any{"retries": []string{"0s"}},
			"transform": "export default (event, request) => { request.headers[" + string(text) + "] = 'v1,x'; return 1 }"})
		r.acme.publish(event, 1)
		var detail string
		eventually(t, "the attempt", func() bool {
			list := r.acme.get("/api/v1/deliveries?subscription_id=" + sub).want(200)
			detail, _ = list.at("data.0.error").(string)
			return detail != "" || list.at("data.0.status") == "succeeded"
		})
		return detail
	}
	for _, name := range []string{
		"Webhook_Signature", "webhook-signature", "WEBHOOK_ID", "Webhook.Timestamp", "Webhook_Anything", "X-Hook-Signature", "x_hook_signature", "X-Hook_Secret", "X-HOOK-SECRET", "Switchhook-Hops", "switchhook_hops", "SWITCHHOOK.HOPS",
		"Content_Length", "content_length", "Transfer_Encoding", "Content_Encoding", "Content-Encoding", "HOST", "Connection", "Keep_Alive", "X_Forwarded_For", "Proxy_Authorization", "Te", "Upgrade", "x!forwarded!host",
	} {
		headers := map[string]any{name: "v1,x"}
		r.acme.post("/api/v1/subscriptions", map[string]any{"event": "a", "target_url": hook.URL, "headers": headers}).refused(422, "headers", "is set by the router")
		r.admin.post("/api/v1/events", map[string]any{"type": "a", "data": 1, "targets": []any{map[string]any{"target_url": hook.URL, "headers": headers}}}).refused(422, "targets[0].headers", "is set by the router")
		if detail := try(name); !strings.Contains(detail, "is set by the router") {
			t.Errorf("a transform may set %s: %q", name, detail)
		}
	}
	for _, name := range []string{"X-Shop-Signature", "x_shop_signature", "X.Shop.Signature"} {
		r.acme.post("/api/v1/subscriptions", map[string]any{"event": "a", "target_url": hook.URL, "signatures": []string{own}, "headers": map[string]any{name: "x"}}).refused(422, "headers", "is set by the router")
		if detail := try(name); !strings.Contains(detail, "is set by the router") {
			t.Errorf("a transform may set %s: %q", name, detail)
		}
	}
	for _, name := range []string{"X-Webhook-Source", "X-Signature", "Hosted-By", "X-Hook-Secrets", "Via-Shop", "X_Custom"} {
		r.acme.post("/api/v1/subscriptions", map[string]any{"event": "z", "target_url": hook.URL, "headers": map[string]any{name: "x"}}).want(201)
		if detail := try(name); detail != "" {
			t.Errorf("a transform may not set %s: %q", name, detail)
		}
	}
}
