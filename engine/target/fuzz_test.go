package target_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"strings"
	"testing"

	"switchhook/engine/target"
)

// An accepted URL is sent to the host that it names, in one request line.
func FuzzParseURL(f *testing.F) {
	for _, seed := range []string{
		"https://example.com/a?b=c", "http://user@example.com/", "http://0x7f.1/", "http://127。0。0。1/", "http://[::1%25lo]/", "http://a\\@b/", "http://a:80:80/", "http://%31/", "https://example.com//evil/..%2f", "HTTP://EXAMPLE.com.:443/?\r\n",
	} {
		f.Add(seed)
	}
	nowhere := &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) { return nil, errors.New("no names here") }}
	g := target.NewGuard(target.Policy{Resolver: nowhere, AnyPort: true})
	f.Fuzz(func(t *testing.T, raw string) {
		u, err := g.ParseURL(raw)
		if err != nil {
			if !isRefused(err) {
				t.Fatalf("%q: %v is no refusal", raw, err)
			}
			return
		}
		if u.User != nil || u.Hostname() == "" || u.Scheme != "http" && u.Scheme != "https" {
			t.Errorf("%q passes as %v", raw, u)
		}
		req := &http.Request{Method: "POST", URL: u, Host: u.Host}
		if line := req.URL.RequestURI(); strings.ContainsAny(line, " \r\n") || !strings.HasPrefix(line, "/") && !strings.HasPrefix(line, "?") {
			t.Errorf("%q is asked for as %q", raw, line)
		}
		if err := g.CheckURL(context.Background(), raw); err != nil && !isRefused(err) {
			t.Errorf("%q: %v", raw, err)
		}
	})
}
