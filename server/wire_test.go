package server_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"
)

// dial opens a connection to the router, with a deadline for all of the test.
func (r *router) dial(t *testing.T) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(r.url, "http://"))
	must(t, err)
	t.Cleanup(func() { conn.Close() })
	must(t, conn.SetDeadline(time.Now().Add(patience)))
	return conn
}

func TestNothingFollowsAMethodThatHTTPDoesNotHave(t *testing.T) {
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

func TestARequestWithTwoLengthsIsRefusedAndItsConnectionClosed(t *testing.T) {
	r := start(t)
	const event = `{"type":"a","data":1}`
	smuggled := "POST /api/v1/events HTTP/1.1\r\nHost: x\r\nX-API-Key: " + r.acme.key + "\r\nContent-Length: 24\r\n\r\n" + `{"type":"smuggled","data":1}`
	for name, headers := range map[string]string{
		"two lengths":               fmt.Sprintf("Content-Length: %d\r\nContent-Length: %d\r\n", len(event), len(event)+len(smuggled)),
		"two lengths, turned round": fmt.Sprintf("Content-Length: %d\r\ncontent-LENGTH: %d\r\n", len(event)+len(smuggled), len(event)),
		"the same twice":            fmt.Sprintf("Content-Length: %d\r\nContent-Length: %d\r\n", len(event), len(event)),
		"one with a space":          fmt.Sprintf("Content-Length : 3\r\nContent-Length: %d\r\n", len(event)),
		"chunked and a length":      fmt.Sprintf("Content-Length: %d\r\nTransfer-Encoding: chunked\r\n", len(event)),
		"chunked twice":             "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
		"no coding that is known":   "Transfer-Encoding: xchunked\r\n",
		"one before chunked":        "Transfer-Encoding: gzip, chunked\r\n",
		"a coding in a folded line": "Transfer-Encoding:\r\n chunked\r\n",
		"a list":                    fmt.Sprintf("Content-Length: %d, %d\r\n", len(event), len(event)),
		"a sign":                    fmt.Sprintf("Content-Length: +%d\r\n", len(event)),
		"negative":                  "Content-Length: -1\r\n",
		"hexadecimal":               "Content-Length: 0x15\r\n",
		"more than there are":       "Content-Length: 99999999999999999999\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			conn := r.dial(t)
			body := event
			if strings.Contains(headers, "chunked") {
				body = fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(event), event)
			}
			_, err := io.WriteString(conn, "POST /api/v1/events HTTP/1.1\r\nHost: x\r\nX-API-Key: "+r.acme.key+"\r\nContent-Type: application/json\r\n"+headers+"\r\n"+body+smuggled)
			must(t, err)
			answers := bufio.NewReader(conn)
			res, err := http.ReadResponse(answers, nil)
			must(t, err)
			text, err := io.ReadAll(res.Body)
			must(t, err)
			if res.StatusCode != 400 && res.StatusCode != 413 || !res.Close {
				t.Errorf("%d, close is %v: %s", res.StatusCode, res.Close, text)
			}
			// A reset says as well that nothing more comes: what was not read is thrown away.
			if more, err := io.ReadAll(answers); len(more) > 0 || errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("there is another answer: %q %v", more, err)
			}
		})
	}
	if got := r.acme.get("/api/v1/events").want(200).column("type"); len(got) > 0 {
		t.Errorf("events came through: %v", got)
	}
}

// Clients open connections in reserve. One on which nothing came is not waited for.
func TestAConnectionWithoutARequestHoldsUpNoStop(t *testing.T) {
	r := start(t, setup{read: time.Hour})
	r.dial(t)
	r.admin.get("/healthz").want(200) // so that the one before it has been taken
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	check(t, r.server.Shutdown(ctx))
}

// A client that sends a byte now and then has no longer than one that sends nothing: the
// time is that of the whole request.
func TestClientsThatDripAreCutOff(t *testing.T) {
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
						t.Errorf("it was not cut off in %s", patience)
					}
					return
				case <-drip.C:
					io.WriteString(conn, parts[1]) // an error is the end, which the reader tells
				}
			}
		})
	}
}
