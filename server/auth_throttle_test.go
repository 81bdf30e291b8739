package server_test

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"testing"
	"time"
)

var loopback = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}

func TestAuthLimiter_ThrottlesFailedAuthentication(t *testing.T) {
	clock := newClock()
	r := start(t, setup{now: clock.now, proxies: loopback})
	from := func(c *client, address string) *answer {
		return c.get("/api/v1/events", "X-Forwarded-For", address)
	}
	wrong := r.acme.with(t, "swk_wrong")
	from(r.acme, "192.0.2.1").want(200) // records the address of acme's key
	for i := range 20 {
		if a := from(wrong, "192.0.2.1"); a.status != 401 {
			t.Fatalf("wrong key %d: %d", i, a.status)
		}
	}
	a := from(wrong, "192.0.2.1")
	a.refused(429, "", "too many wrong API keys")
	if wait, err := strconv.Atoi(a.header.Get("Retry-After")); err != nil || wait < 1 || wait > 3 {
		t.Errorf("Retry-After is %q", a.header.Get("Retry-After"))
	}
	from(r.acme, "192.0.2.1").want(200)                 // a key last used from there is not throttled
	from(r.rival, "192.0.2.1").refused(429, "", "wait") // another key might be a correct guess
	from(r.rival, "192.0.2.2").want(200)                // it works from another address
	from(wrong, "192.0.2.2").refused(401, "", "not known")
	from(r.acme.with(t, ""), "192.0.2.1").refused(401, "", "is needed")
	r.acme.with(t, "").get("/healthz", "X-Forwarded-For", "192.0.2.1").want(200)
	wrong.post("/api/v1/events", fmt.Sprintf("%10000d", 1), "X-Forwarded-For", "192.0.2.1").refused(429, "", "wait")

	clock.pass(3 * time.Second) // one more attempt
	from(r.rival, "192.0.2.1").want(200)
	from(wrong, "192.0.2.1").refused(401, "", "not known")
	from(wrong, "192.0.2.1").refused(429, "", "wait")
}

func TestAuthLimiter_IPv6CountsByNetwork(t *testing.T) {
	clock := newClock()
	r := start(t, setup{now: clock.now, proxies: loopback})
	wrong := r.acme.with(t, "swk_wrong")
	for i := range 20 {
		wrong.get("/api/v1/events", "X-Forwarded-For", fmt.Sprintf("2001:db8::%x:1", i)).want(401)
	}
	wrong.get("/api/v1/events", "X-Forwarded-For", "2001:db8:0:0:ffff::1").want(429)
	wrong.get("/api/v1/events", "X-Forwarded-For", "2001:db8:0:1::1").want(401)
}

func TestAuthLimiter_ForwardedForOnlyFromTrustedProxies(t *testing.T) {
	clock := newClock()
	plain := start(t, setup{now: clock.now})
	wrong := plain.acme.with(t, "swk_wrong")
	for i := range 20 {
		wrong.get("/api/v1/events", "X-Forwarded-For", fmt.Sprintf("192.0.2.%d", i)).want(401)
	}
	wrong.get("/api/v1/events", "X-Forwarded-For", "192.0.2.200").want(429)

	behind := start(t, setup{now: clock.now, proxies: append(loopback, netip.MustParsePrefix("10.0.0.0/8"))})
	wrong = behind.acme.with(t, "swk_wrong")
	for i := range 20 { // the client's own claim, on the left, is ignored
		wrong.get("/api/v1/events", "X-Forwarded-For", fmt.Sprintf("198.51.100.%d, 192.0.2.1, 10.1.1.1", i)).want(401)
	}
	wrong.get("/api/v1/events", "X-Forwarded-For", "203.0.113.9, 192.0.2.1").want(429)
	for _, odd := range []string{"", "192.0.2.1, nonsense", "192.0.2.1, 192.0.2.7", "unknown", "fe80::1%eth0, 192.0.2.8", ","} {
		wrong.get("/api/v1/events", "X-Forwarded-For", odd).want(401)
	}
}

func TestAuthLimiter_LargeBodiesCount(t *testing.T) {
	clock := newClock()
	r := start(t, setup{now: clock.now, proxies: loopback})
	// send returns the status of a request that announces a large body, or 0 if the router keeps
	// reading.
	send := func(path, key, framing string) (status int) {
		t.Helper()
		conn := r.dial(t)
		fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 192.0.2.1\r\nX-API-Key: %s\r\n%s", path, key, framing)
		must(t, conn.(*net.TCPConn).CloseWrite()) // a router that keeps reading gets a truncated body
		fmt.Fscanf(conn, "HTTP/1.1 %d", &status)
		return status
	}
	framings := map[string]string{"a length": "Content-Length: 10000\r\n\r\n", "chunks": "Transfer-Encoding: chunked\r\n\r\n2710\r\n"}
	for name, framing := range framings {
		clock.pass(time.Hour)
		for range 20 {
			if send("/api/v1/events", "swk_wrong", framing) == 0 {
				t.Fatalf("%s: the body of a wrong key was read", name)
			}
		}
		// Wrong and valid keys now get the same response, on every route.
		for _, path := range []string{"/api/v1/events", "/api/v1/subscriptions/x/confirm", "/nothing"} {
			wrong, right := send(path, "swk_wrong", framing), send(path, r.rival.key, framing)
			if wrong != right || wrong == 0 {
				t.Errorf("%s, %s: a wrong key is answered %d, a right one %d", name, path, wrong, right)
			}
		}
		r.acme.with(t, "swk_wrong").get("/api/v1/me", "X-Forwarded-For", "192.0.2.1").want(429)
		r.rival.get("/api/v1/me", "X-Forwarded-For", "192.0.2.2").want(200)
	}
}
