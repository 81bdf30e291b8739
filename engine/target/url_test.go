package target_test

import (
	"context"
	"crypto/tls"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"switchhook/engine/target"
)

func TestParse_CanonicalHost(t *testing.T) {
	for raw, want := range map[string]string{
		"http://BÜCHER.example/":               "http://xn--bcher-kva.example/",
		"http://bu\u0308cher.example":          "http://xn--bcher-kva.example",
		"http://XN--BCHER-KVA.example":         "http://xn--bcher-kva.example",
		"http://b%C3%BCcher.example":           "http://xn--bcher-kva.example",
		"http://ＥＸＡＭＰＬＥ．com/":                  "http://example.com/",
		"http://example。com":                   "http://example.com",
		"http://example｡com．":                  "http://example.com.",
		"http://ex\u00adam\u00adple.com":       "http://example.com",
		"http://straße.example":                "http://xn--strae-oqa.example",
		"http://STRASSE.example":               "http://strasse.example",
		"http://ﬁn.example":                    "http://fin.example",
		"http://Example.COM.:8080/X":           "http://example.com.:8080/X",
		"http://example.com:/":                 "http://example.com/",
		"http://σας.example":                   "http://xn--mxa8ab.example",
		"http://faß.ExAmPlE/":                  "http://xn--fa-hia.example/",
		"http://my_service:8080/":              "http://my_service:8080/",
		"http://[2001:DB8:0:0::1]:8080/":       "http://[2001:db8::1]:8080/",
		"http://[::FFFF:192.0.2.1]":            "http://[::ffff:192.0.2.1]",
		"http://[fe80::1%25eth0]/":             "http://[fe80::1%25eth0]/",
		"http://１９２.0.2.１":                     "http://192.0.2.1",
		"http://192。0。2。1":                     "http://192.0.2.1",
		"http://0x7f.1":                        "refused",
		"http://127.1":                         "refused",
		"http://0177.0.0.1":                    "refused",
		"http://2130706433":                    "refused",
		"http://１２７.1":                         "refused",
		"http://192.0.2.1.":                    "refused",
		"http://a\u200bb\u2028.example":        "refused",
		"http://a⁄b.example":                   "http://xn--ab-c6t.example", // a fraction slash is not a slash
		"http://\u00ad":                        "refused",
		"http://xn--a-ecp.ru":                  "refused",
		"http://a..b":                          "refused",
		"http://" + strings.Repeat("ü", 64):    "refused",
		"http://example.com\u200d/":            "refused",
		"http://example。/":                     "http://example./",
		"http://" + strings.Repeat("a", 64):    "refused",
		"http://ex\u2024ample.com/":            "refused", // a one dot leader would be a dot
		"http://℀.example/":                    "refused", // would be a/c
		"http://xn--bcher-kva.example/ü?ß#":    "http://xn--bcher-kva.example/%C3%BC?%C3%9F",
		"http://[::1%25l\u00fcfter]/":          "refused",
		"http://example.com/a%2Fb|\"?x='\"<>ü": "http://example.com/a%2Fb%7C%22?x=%27%22%3C%3E%C3%BC",
	} {
		u, err := target.Parse(raw)
		got := "refused"
		if err == nil {
			got = u.String()
		}
		if got != want {
			t.Errorf("%q is %q, not %q (%v)", raw, got, want, err)
		}
		if err == nil {
			again, err := target.Parse(got)
			if err != nil || again.String() != got || again.Host != u.Host || again.RequestURI() != u.RequestURI() {
				t.Errorf("%q is read again as %v, %v", got, again, err)
			}
		}
	}
}

// The name in the DNS query, in the Host header and in the TLS handshake is the same.
func TestTransport_HostIsTheSameInDNSHeaderAndTLS(t *testing.T) {
	hosts, names := make(chan string, 1), make(chan string, 1)
	plain := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { hosts <- r.Host }))
	defer plain.Close()
	secure := httptest.NewUnstartedServer(nil)
	secure.TLS = &tls.Config{GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		names <- hello.ServerName
		return nil, nil
	}}
	secure.Config.ErrorLog = nil
	secure.StartTLS()
	defer secure.Close()
	_, resolver := serveNames(t, map[string][]string{"xn--bcher-kva.test": {"127.0.0.1"}, "xn--strae-oqa.test": {"127.0.0.1"}, "example.test": {"127.0.0.1"}})
	g := target.NewGuard(target.Policy{Allow: target.Loopback, Resolver: resolver})
	rt := target.Transport(g, 1)
	defer rt.CloseIdleConnections()
	send := func(raw string) error {
		u, err := g.ParseURL(raw)
		if err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		req := (&http.Request{Method: "POST", URL: u, Host: u.Host, Header: http.Header{}}).WithContext(ctx)
		res, err := rt.RoundTrip(req)
		if err == nil {
			res.Body.Close()
		}
		return err
	}
	for host, want := range map[string]string{
		"BÜCHER.test": "xn--bcher-kva.test", "straße.test": "xn--strae-oqa.test", "ＥＸＡＭＰＬＥ。test": "example.test", "Exam\u00adple.TEST": "example.test",
	} {
		_, port, _ := strings.Cut(strings.TrimPrefix(plain.URL, "http://"), ":")
		if err := send("http://" + host + ":" + port + "/"); err != nil {
			t.Errorf("%s: %v", host, err)
		} else if got := <-hosts; got != want+":"+port {
			t.Errorf("the Host of %s is %s", host, got)
		}
		_, port, _ = strings.Cut(strings.TrimPrefix(secure.URL, "https://"), ":")
		_ = send("https://" + host + ":" + port + "/") // its certificate is for no such name
		select {
		case got := <-names:
			if got != want {
				t.Errorf("TLS asks %s for %s", host, got)
			}
		case <-time.After(10 * time.Second):
			t.Errorf("%s was not asked by TLS", host)
		}
	}
}
