package target_test

import (
	"strings"
	"testing"

	"switchhook/engine/target"
)

func TestGuard_PublicURLIsNoTarget(t *testing.T) {
	for _, c := range []struct {
		public, url string
		refused     bool
	}{
		{"https://hooks.example.com", "https://hooks.example.com/api/v1/events", true},
		{"https://hooks.example.com", "https://hooks.example.com", true},
		{"https://hooks.example.com", "http://HOOKS.example.com.:80/x?y", true},
		{"https://hooks.example.com/", "https://hooks.example.com:443/api", true},
		{"https://hooks.example.com", "https://hooks.example.com:8443/", false},
		{"https://hooks.example.com", "https://example.com/", false},
		{"https://hooks.example.com", "https://other.hooks.example.com/", false},
		{"http://hooks.example.com:8080", "http://hooks.example.com:8080/x", true},
		{"http://hooks.example.com:8080", "http://hooks.example.com/x", false},
		{"https://b\u00fccher.example", "https://xn--bcher-kva.example/", true},
		{"https://example.com/router", "https://example.com/router/api/v1/events", true},
		{"https://example.com/router/", "https://example.com/router", true},
		{"https://example.com/router", "https://example.com/%72outer/x", true},
		{"https://example.com/router", "https://example.com/a/../router/x", true},
		{"https://example.com/router", "https://example.com//router/x", true},
		{"https://example.com/router", "https://example.com/routers", false},
		{"https://example.com/router", "https://example.com/shop/hooks", false},
	} {
		own, err := target.Parse(c.public)
		if err != nil {
			t.Fatal(err)
		}
		_, err = target.NewGuard(target.Policy{Public: own}).ParseURL(c.url)
		if (err != nil) != c.refused || err != nil && !strings.Contains(err.Error(), "--public-url") {
			t.Errorf("%s of the router %s: %v", c.url, c.public, err)
		}
	}
}
