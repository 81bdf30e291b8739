package target_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"switchhook/engine/target"
)

func TestGuard_NonPublicAddresses(t *testing.T) {
	g := target.NewGuard(target.Policy{})
	for _, addr := range []string{
		"127.0.0.1:80", "127.8.8.8:443", "0.0.0.0:80", "10.1.2.3:80", "172.16.0.1:443", "192.168.1.1:80", "100.64.0.1:80",
		"169.254.169.254:80", "168.63.129.16:80", "192.0.0.192:80", "198.18.0.1:80", "240.0.0.1:80", "255.255.255.255:80", "224.0.0.1:80",
		"[::1]:80", "[::]:80", "[::ffff:127.0.0.1]:80", "[::ffff:10.0.0.1]:80", "[::ffff:168.63.129.16]:80", "[64:ff9b::7f00:1]:80", "[64:ff9b:1::1]:80",
		"[2002:7f00:1::]:80", "[2001::1]:80", "[fec0::1]:80", "[fe80::1%eth0]:80", "[fd00:ec2::254]:80", "[2001:db8::1]:80", "[ff02::1]:80", "[::127.0.0.1]:80",
		"8.8.8.8:22", "8.8.8.8:25", "[2001:4860:4860::8888]:6379",
	} {
		if err := g.Control(network(addr), addr, nil); err == nil {
			t.Errorf("%s passed", addr)
		}
	}
	for _, addr := range []string{"8.8.8.8:443", "8.8.8.8:80", "93.184.216.34:8443", "[2001:4860:4860::8888]:443"} {
		if err := g.Control(network(addr), addr, nil); err != nil {
			t.Errorf("%s: %v", addr, err)
		}
	}
}

func network(addr string) string {
	if strings.HasPrefix(addr, "[") {
		return "tcp6"
	}
	return "tcp4"
}

func TestGuard_AllowAndDeny(t *testing.T) {
	g := target.NewGuard(target.Policy{
		Allow: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")},
		Deny:  []netip.Prefix{netip.MustParsePrefix("10.9.0.0/16"), netip.MustParsePrefix("8.8.8.8/32")},
	})
	for addr, open := range map[string]bool{
		"10.1.1.1:80": true, "10.1.1.1:3000": true, "[::ffff:10.1.1.1]:80": true,
		"10.9.1.1:80": false, "8.8.8.8:443": false, "192.168.0.1:80": false,
	} {
		if err := g.Control(network(addr), addr, nil); (err == nil) != open {
			t.Errorf("%s: open should be %v: %v", addr, open, err)
		}
	}
}

func TestGuard_CheckURL(t *testing.T) {
	g := target.NewGuard(target.Policy{})
	for raw, want := range map[string]string{
		"ftp://example.com/":                        "must begin with",
		"file:///etc/passwd":                        "must begin with",
		"//example.com/x":                           "must begin with",
		"example.com/x":                             "must begin with",
		"http://":                                   "has no host",
		"http:///x":                                 "has no host",
		"http://user:pw@example.com/":               "user name or password",
		"https://example.com/#frag":                 "fragment",
		"https://example.com/a b":                   "space",
		"https://example.com/\r\nX: y":              "control character",
		"https://example.com:99999/":                "is not a port",
		"https://example.com:0/":                    "is not a port",
		"http://%zz/":                               "is not a URL",
		"http://127.0.0.1/":                         "private or special",
		"http://localhost/":                         "private or special",
		"http://[::1]/":                             "private or special",
		"http://[::ffff:7f00:1]/":                   "private or special",
		"http://169.254.169.254/latest":             "private or special",
		"http://168.63.129.16/":                     "denied",
		"http://8.8.8.8:22/":                        "port 22",
		"https://x.io/" + strings.Repeat("a", 2100): "longer than",
	} {
		err := g.CheckURL(context.Background(), raw)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.60q: want %q, got %v", raw, want, err)
		}
	}
	if err := g.CheckURL(context.Background(), "https://8.8.8.8/hook?x=1"); err != nil {
		t.Error(err)
	}
	if err := target.NewGuard(target.Policy{HTTPS: true}).CheckURL(context.Background(), "http://8.8.8.8/"); err == nil {
		t.Error("http passed where only https is allowed")
	}
}

func TestTransport_RefusedAddressesAreNotDialled(t *testing.T) {
	hits := 0
	srv := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { hits++ }))
	defer srv.Close()
	_, port, _ := strings.Cut(strings.TrimPrefix(srv.URL, "http://"), ":")
	t.Setenv("HTTP_PROXY", srv.URL)

	closed := target.Transport(target.NewGuard(target.Policy{AnyPort: true}), 1)
	defer closed.CloseIdleConnections()
	for _, host := range []string{"127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "0.0.0.0", "127。0。0。1"} {
		req, err := http.NewRequest("POST", "http://"+host+":"+port+"/", strings.NewReader("{}"))
		if err != nil {
			t.Fatal(err)
		}
		if res, err := closed.RoundTrip(req); err == nil {
			res.Body.Close()
			t.Errorf("%s was reached", host)
		}
	}
	if hits != 0 {
		t.Fatalf("%d requests came through", hits)
	}

	open := target.Transport(target.NewGuard(target.Policy{Allow: target.Loopback}), 1)
	defer open.CloseIdleConnections()
	req, _ := http.NewRequest("POST", srv.URL, strings.NewReader("{}"))
	res, err := open.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if hits != 1 {
		t.Fatal("the allowed request did not arrive")
	}
}
