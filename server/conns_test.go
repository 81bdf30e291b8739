package server_test

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"
)

// testTLS returns a configuration with a self-signed certificate.
func testTLS(t *testing.T) *tls.Config {
	s := httptest.NewUnstartedServer(nil)
	s.StartTLS()
	t.Cleanup(s.Close)
	return &tls.Config{Certificates: s.TLS.Certificates}
}

// exchange sends a request on a connection and returns the status of the response.
func exchange(t *testing.T, conn net.Conn, request string) int {
	t.Helper()
	_, err := io.WriteString(conn, request)
	must(t, err)
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	must(t, err)
	_, err = io.Copy(io.Discard, res.Body)
	must(t, err)
	return res.StatusCode
}

func isClosed(conn net.Conn) bool {
	_, err := conn.Read(make([]byte, 1))
	var timeout net.Error
	return err != nil && !(errors.As(err, &timeout) && timeout.Timeout())
}

// At the connection limit idle connections are evicted, first those without a key.
func TestConns_EvictsIdleAtLimit(t *testing.T) {
	for name, config := range map[string]*tls.Config{"TCP": nil, "TLS": testTLS(t)} {
		t.Run(name, func(t *testing.T) {
			r := start(t, setup{conns: 8, tls: config})
			mine := r.dial(t)
			me := "GET /api/v1/me HTTP/1.1\r\nHost: x\r\nX-API-Key: " + r.acme.key + "\r\n\r\n"
			if status := exchange(t, mine, me); status != 200 {
				t.Fatalf("answered %d", status)
			}
			first := r.dial(t)
			if status := exchange(t, first, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"); status != 200 {
				t.Fatalf("answered %d", status)
			}
			for i := range 40 {
				conn := r.dial(t)
				switch i % 4 {
				case 1:
					io.WriteString(conn, "GET /healthz HTTP/1.1\r\nHost: x\r\nX-Slow: ")
				case 2:
					io.WriteString(conn, "POST /api/v1/events HTTP/1.1\r\nHost: x\r\nContent-Length: 4000\r\n\r\n{")
				case 3:
					io.WriteString(conn, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
				}
			}
			if !isClosed(first) {
				t.Error("the connection that was idle longest is still open")
			}
			if status := exchange(t, mine, me); status != 200 {
				t.Errorf("the connection with a key answered %d", status)
			}
			r.acme.post("/api/v1/events", `{"type":"a","data":1}`).want(202)
			if metrics := string(r.admin.get("/metrics").want(200).body); !strings.Contains(metrics, "\nswitchhook_api_connections_evicted_total ") || strings.Contains(metrics, "\nswitchhook_api_connections_evicted_total 0\n") {
				t.Error("evictions are not counted")
			}
		})
	}
}

// A connection with a request in progress is not evicted; the new connection waits.
func TestConns_BusyAreNotEvicted(t *testing.T) {
	r := start(t, setup{conns: 2})
	called, answer := make(chan struct{}, 2), make(chan struct{})
	slow := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		called <- struct{}{}
		<-answer
	}))
	defer slow.Close()
	var busy [2]net.Conn
	for i, account := range []*client{r.acme, r.rival} { // test events of one account are limited
		id := account.subscribe("a", slow.URL)
		busy[i] = r.dial(t)
		_, err := fmt.Fprintf(busy[i], "POST /api/v1/subscriptions/%s/test HTTP/1.1\r\nHost: x\r\nX-API-Key: %s\r\nContent-Type: application/json\r\nContent-Length: 31\r\n\r\n{\"event\":{\"type\":\"a\",\"data\":1}}", id, account.key)
		must(t, err)
		select {
		case <-called:
		case <-time.After(waitTimeout):
			must(t, busy[i].SetReadDeadline(time.Now().Add(time.Second)))
			text, _ := bufio.NewReader(busy[i]).Peek(2000)
			t.Fatalf("the target was not called: %s", text)
		}
	}
	later := r.dial(t)
	_, err := io.WriteString(later, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
	must(t, err)
	must(t, later.SetReadDeadline(time.Now().Add(100*time.Millisecond)))
	if _, err := later.Read(make([]byte, 1)); err == nil {
		t.Error("a third connection was answered")
	}
	must(t, later.SetReadDeadline(time.Now().Add(waitTimeout)))
	close(answer)
	for i := range busy {
		res, err := http.ReadResponse(bufio.NewReader(busy[i]), nil)
		if err != nil || res.StatusCode != 200 {
			t.Errorf("connection %d: %v %v", i, res, err)
		}
	}
	if res, err := http.ReadResponse(bufio.NewReader(later), nil); err != nil || res.StatusCode != 200 {
		t.Errorf("the connection that waited: %v %v", res, err)
	}
}

// A client that sends its whole request before it reads gets an early response, and not a reset.
func TestConns_EarlyResponseReachesClient(t *testing.T) {
	large := bytes.Repeat([]byte("x"), 12<<20)
	for name, config := range map[string]*tls.Config{"TCP": nil, "TLS": testTLS(t)} {
		t.Run(name, func(t *testing.T) {
			r := start(t, setup{tls: config})
			for answer, test := range map[string]struct {
				status  int
				headers string
				body    []byte
			}{
				"too large":            {413, fmt.Sprintf("X-API-Key: %s\r\nContent-Length: %d\r\n", r.acme.key, len(large)), large},
				"too large in chunks":  {413, fmt.Sprintf("X-API-Key: %s\r\nTransfer-Encoding: chunked\r\n", r.acme.key), fmt.Appendf(nil, "%x\r\n%s\r\n0\r\n\r\n", len(large), large)},
				"no key":               {401, fmt.Sprintf("Content-Length: %d\r\n", len(large)), large},
				"a wrong key":          {401, fmt.Sprintf("X-API-Key: swk_wrong\r\nContent-Length: %d\r\n", len(large)), large},
				"two lengths":          {400, fmt.Sprintf("X-API-Key: %s\r\nContent-Length: %d\r\nTransfer-Encoding: chunked\r\n", r.acme.key, len(large)), large},
				"headers too large":    {431, "X-Large: " + string(large[:100<<10]) + "\r\n", nil},
				"refused after a part": {413, fmt.Sprintf("X-API-Key: %s\r\nTransfer-Encoding: chunked\r\n", r.acme.key), fmt.Appendf(nil, "8\r\nxxxxxxxx\r\n%x\r\n%s\r\n0\r\n\r\n", len(large), large)},
			} {
				t.Run(answer, func(t *testing.T) {
					var group sync.WaitGroup
					for range 12 {
						conn := r.dial(t)
						group.Go(func() {
							_, err := fmt.Fprintf(conn, "POST /api/v1/events HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n%s\r\n%s", test.headers, test.body)
							if err != nil {
								t.Errorf("the body could not be sent: %v", err)
								return
							}
							res, err := http.ReadResponse(bufio.NewReader(conn), nil)
							if err != nil {
								t.Errorf("the answer is lost: %v", err)
								return
							}
							text, err := io.ReadAll(res.Body)
							if res.StatusCode != test.status || err != nil || !bytes.Contains(text, []byte(`"detail"`)) {
								t.Errorf("%d %v: %s", res.StatusCode, err, text)
							}
							if !isClosed(conn) {
								t.Error("the connection stays open")
							}
						})
					}
					group.Wait()
				})
			}
		})
	}
}

// "100 Continue" is sent only for bodies that will be read.
func TestConns_ExpectContinue(t *testing.T) {
	r := start(t)
	for name, test := range map[string]struct {
		headers string
		status  int
	}{
		"a body that is wanted":    {"X-API-Key: " + r.acme.key + "\r\nContent-Length: 21\r\n", 100},
		"in other case":            {"X-API-Key: " + r.acme.key + "\r\nContent-Length: 21\r\n", 100},
		"a body that is too large": {"X-API-Key: " + r.acme.key + "\r\nContent-Length: 2000000\r\n", 413},
		"no key":                   {"Content-Length: 100000\r\n", 401},
	} {
		t.Run(name, func(t *testing.T) {
			expect := "100-continue"
			if name == "in other case" {
				expect = "100-Continue"
			}
			conn := r.dial(t)
			answers := bufio.NewReader(conn)
			_, err := fmt.Fprintf(conn, "POST /api/v1/events HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nExpect: %s\r\n%s\r\n", expect, test.headers)
			must(t, err)
			res, err := http.ReadResponse(answers, nil)
			must(t, err)
			if res.StatusCode != test.status {
				t.Fatalf("answered %d", res.StatusCode)
			}
			if test.status != 100 {
				return
			}
			_, err = io.WriteString(conn, `{"type":"a","data":1}`)
			must(t, err)
			if res, err = http.ReadResponse(answers, nil); err != nil || res.StatusCode != 202 {
				t.Errorf("then %v %v", res, err)
			}
		})
	}
}

// Connections that arrive faster than evicted ones end do not stop the accept loop, even before a
// handshake.
func TestConns_BurstDoesNotStopAcceptLoop(t *testing.T) {
	for name, config := range map[string]*tls.Config{"TCP": nil, "TLS": testTLS(t)} {
		t.Run(name, func(t *testing.T) {
			r := start(t, setup{conns: 4, tls: config})
			u, err := url.Parse(r.url)
			must(t, err)
			var group sync.WaitGroup
			for range 8 {
				group.Go(func() {
					for range 100 {
						conn, err := net.Dial("tcp", u.Host)
						if err != nil {
							t.Error(err)
							return
						}
						t.Cleanup(func() { conn.Close() })
					}
				})
			}
			group.Wait()
			if status := exchange(t, r.dial(t), "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"); status != 200 {
				t.Errorf("answered %d", status)
			}
		})
	}
}

// An address has a share of the connections: beyond it one of its own idle connections is closed for a
// new one, or the new one if all are in use.
func TestConns_AddressHasShare(t *testing.T) {
	r := start(t, setup{conns: 8, addressConns: 3})
	const request = "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
	first := r.dial(t)
	if status := exchange(t, first, request); status != 200 {
		t.Fatalf("answered %d", status)
	}
	other := r.dialFrom(t, "127.0.0.2")
	if status := exchange(t, other, request); status != 200 {
		t.Fatalf("answered %d", status)
	}
	for range 12 {
		if status := exchange(t, r.dial(t), request); status != 200 {
			t.Errorf("answered %d", status)
		}
	}
	if !isClosed(first) {
		t.Error("the oldest connection of the address is open")
	}
	if status := exchange(t, other, request); status != 200 {
		t.Errorf("the connection of another address answered %d", status)
	}
}

func TestConns_AddressWithAllInUse(t *testing.T) {
	r := start(t, setup{conns: 8, addressConns: 2})
	called, answer := make(chan struct{}, 2), make(chan struct{})
	slow := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		called <- struct{}{}
		<-answer
	}))
	defer slow.Close()
	defer close(answer)
	id := r.acme.subscribe("a", slow.URL) // its own connection is idle, so it is closed below
	for range 2 {
		conn := r.dial(t)
		_, err := fmt.Fprintf(conn, "POST /api/v1/subscriptions/%s/test HTTP/1.1\r\nHost: x\r\nX-API-Key: %s\r\nContent-Type: application/json\r\nContent-Length: 31\r\n\r\n{\"event\":{\"type\":\"a\",\"data\":1}}", id, r.acme.key)
		must(t, err)
		<-called
	}
	if !isClosed(r.dial(t)) {
		t.Error("a third connection of the address stays open")
	}
	if status := exchange(t, r.dialFrom(t, "127.0.0.2"), "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"); status != 200 {
		t.Errorf("another address is answered %d", status)
	}
}

// The connections of a trusted proxy are those of many clients.
func TestConns_TrustedProxyHasNoShare(t *testing.T) {
	r := start(t, setup{conns: 8, addressConns: 2, proxies: []netip.Prefix{netip.MustParsePrefix("127.0.0.2/32")}})
	var conns []net.Conn
	for range 6 {
		conns = append(conns, r.dialFrom(t, "127.0.0.2"))
	}
	for _, conn := range conns {
		if status := exchange(t, conn, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"); status != 200 {
			t.Errorf("answered %d", status)
		}
	}
}

// A connection that sends nothing is closed soon, also during a TLS handshake; one that began has the
// time for a whole request.
func TestConns_SilentAreClosed(t *testing.T) {
	t.Parallel()
	r := start(t, setup{tls: testTLS(t)})
	began := time.Now()
	silent, err := net.Dial("tcp", strings.TrimPrefix(r.url, "https://"))
	must(t, err)
	defer silent.Close()
	slow := r.dial(t)
	_, err = io.WriteString(slow, "GET /healthz HTTP/1.1\r\n")
	must(t, err)
	must(t, silent.SetReadDeadline(began.Add(waitTimeout)))
	if _, err := io.Copy(io.Discard, silent); err != nil {
		t.Error(err)
	}
	if took := time.Since(began); took < 9*time.Second || took > 25*time.Second {
		t.Errorf("closed after %s", took)
	}
	if status := exchange(t, slow, "Host: x\r\n\r\n"); status != 200 {
		t.Errorf("the slow request is answered %d", status)
	}
}
