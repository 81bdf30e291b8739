package engine

import "testing"

func TestIsSensitiveName(t *testing.T) {
	t.Parallel()
	for _, name := range []string{
		"Authorization", "Proxy-Authorization", "Cookie", "Set-Cookie", "Set-Cookie ", "set_cookie", "X-Auth", "X-Auth-User", "X-Functions-Key",
		"Ocp-Apim-Subscription-Key", "X-Amz-Security-Token", "X-API-Key", "x_api_key", "APIKEY", "X-Client-Secret", "X-Session-Id", "X-Password", "X-JWT", "X-App-Key", "X-Shared-Passphrase",
	} {
		if !IsSensitiveName(name) {
			t.Errorf("%q is shown", name)
		}
	}
	for _, name := range []string{"Content-Type", "X-Author", "Idempotency-Key", "X-Order-Id", "ETag", "Retry-After", "X-Request-Id", "webhook-signature", "Location", "Surrogate-Key", "Authority"} {
		if IsSensitiveName(name) {
			t.Errorf("%q is hidden", name)
		}
	}
}

func TestSubscription_HidesItsOwnHeadersUnlessHarmlessOrVisible(t *testing.T) {
	t.Parallel()
	s := &Subscription{Headers: map[string]string{}, VisibleHeaders: []string{"x-team"}}
	for name, hidden := range map[string]bool{
		"X-Shop": true, "X-Whatever": true, "Authorization": true, "Referer": true, "content-type": false, "ACCEPT": false, "User-Agent": false, "X-TEAM": false,
	} {
		s.Headers[name] = "value"
		if got := s.ShownHeaders()[name] == RedactedValue; got != hidden || s.HidesHeader(name) != hidden {
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
		if got := MaskURL(url); got != want {
			t.Errorf("%s: %s", url, got)
		}
	}
}
