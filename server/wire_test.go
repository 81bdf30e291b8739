package server_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"testing"
	"time"
)

// dial opens a connection to the router, with a deadline for the whole test.
func (r *testServer) dial(t *testing.T) net.Conn {
	t.Helper()
	return r.dialFrom(t, "127.0.0.1")
}

// dialFrom opens a connection from a local address.
func (r *testServer) dialFrom(t *testing.T, from string) net.Conn {
	t.Helper()
	u, err := url.Parse(r.url)
	must(t, err)
	conn, err := (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}).Dial("tcp", u.Host)
	must(t, err)
	if u.Scheme == "https" {
		conn = tls.Client(conn, &tls.Config{InsecureSkipVerify: true})
	}
	t.Cleanup(func() { conn.Close() })
	must(t, conn.SetDeadline(time.Now().Add(waitTimeout)))
	return conn
}

func TestConnection_ClosedAfterUnknownMethod(t *testing.T) {
	r := start(t)
	conn := r.dial(t)
	_, err := io.WriteString(conn, "BREW / HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
	must(t, err)
	answers := bufio.NewReader(conn)
	res, err := http.ReadResponse(answers, nil)
	must(t, err)
	text, err := io.ReadAll(res.Body)
	must(t, err)
	if res.StatusCode != 501 || !res.Close {
		t.Errorf("%d, close is %v: %s", res.StatusCode, res.Close, text)
	}
	if more, err := io.ReadAll(answers); len(more) > 0 || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("there is another answer: %q %v", more, err)
	}
}

// Clients open spare connections. Shutdown does not wait for one that has sent nothing.
func TestConnection_SilentDoesNotBlockShutdown(t *testing.T) {
	r := start(t, setup{read: time.Hour})
	r.dial(t)
	r.admin.get("/healthz").want(200) // so that the one before it has been taken
	ctx, cancel := context.WithTimeout(context.Background(), waitTimeout)
	defer cancel()
	check(t, r.server.Shutdown(ctx))
}

// A client that sends a byte from time to time gets no extension: the timeout is for the whole request.
func TestConnection_SlowClientsAreCutOff(t *testing.T) {
	r := start(t, setup{read: 2 * time.Second})
	for name, parts := range map[string][2]string{
		"headers":          {"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Slow: ", "x"},
		"a known body":     {"POST /api/v1/events HTTP/1.1\r\nHost: x\r\nX-API-Key: " + r.acme.key + "\r\nContent-Type: application/json\r\nContent-Length: 100000\r\n\r\n", " "},
		"a stranger's":     {"POST /api/v1/events HTTP/1.1\r\nHost: x\r\nContent-Length: 4000\r\n\r\n", " "},
		"a chunked body":   {"POST /api/v1/events HTTP/1.1\r\nHost: x\r\nX-API-Key: " + r.acme.key + "\r\nTransfer-Encoding: chunked\r\n\r\n", "1\r\n \r\n"},
		"a second request": {"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\nGET /healthz HTTP/1.1\r\nHost: x\r\nX-Slow: ", "x"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn := r.dial(t)
			_, err := io.WriteString(conn, parts[0])
			must(t, err)
			ended := make(chan error, 1)
			go func() {
				_, err := io.Copy(io.Discard, conn)
				ended <- err
			}()
			drip := time.NewTicker(20 * time.Millisecond)
			defer drip.Stop()
			for {
				select {
				case err := <-ended:
					if errors.Is(err, os.ErrDeadlineExceeded) {
						t.Errorf("it was not cut off in %s", waitTimeout)
					}
					return
				case <-drip.C:
					io.WriteString(conn, parts[1]) // an error is the end, which the reader tells
				}
			}
		})
	}
}
