package server_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// unfinished sends a publish request without the last byte of its body, which finish sends.
func (r *testServer) unfinished(t *testing.T, key, length string, body string) (conn net.Conn, finish func() *http.Response) {
	t.Helper()
	conn = r.dial(t)
	_, err := fmt.Fprintf(conn, "POST /api/v1/events HTTP/1.1\r\nHost: x\r\nX-API-Key: %s\r\nContent-Type: application/json\r\n%s\r\n\r\n%s", key, length, body[:len(body)-1])
	must(t, err)
	return conn, func() *http.Response {
		_, err := io.WriteString(conn, body[len(body)-1:])
		must(t, err)
		return readResponse(t, conn)
	}
}

func readResponse(t *testing.T, conn net.Conn) *http.Response {
	t.Helper()
	must(t, conn.SetReadDeadline(time.Now().Add(waitTimeout)))
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	must(t, err)
	return res
}

func eventOf(size int) string {
	const frame = `{"type":"a","data":""}`
	return strings.Replace(frame, `""`, `"`+strings.Repeat("x", size-len(frame))+`"`, 1)
}

// bodiesInUse returns the bytes of bodies that are counted.
func (r *testServer) bodiesInUse() string { return r.placesInUse("bodies") }

func (r *testServer) placesInUse(kind string) string {
	for line := range strings.Lines(string(r.admin.get("/metrics").want(200).body)) {
		if n, ok := strings.CutPrefix(line, fmt.Sprintf("switchhook_places_in_use{kind=%q} ", kind)); ok {
			return strings.TrimSpace(n)
		}
	}
	return "missing"
}

// The bodies that an account sends at the same time are bounded in bytes; those of another account, and
// small ones, are read meanwhile.
func TestBodies_MemoryIsShared(t *testing.T) {
	t.Parallel()
	const size = 100_000
	r := start(t, setup{maxBody: size, maxBodies: 16 * size, bodyWait: 100 * time.Millisecond}) // an account may have two
	body := eventOf(size)
	known := fmt.Sprintf("Content-Length: %d", size)
	_, finishFirst := r.unfinished(t, r.acme.key, known, body)
	_, finishSecond := r.unfinished(t, r.acme.key, "Transfer-Encoding: chunked", fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", size, body))
	eventually(t, "both are counted", func() bool { return r.bodiesInUse() == fmt.Sprint(2*size) })

	r.rival.post("/api/v1/events", body).want(202)
	r.acme.post("/api/v1/events", `{"type":"a","data":1}`).want(202)
	third := r.dial(t)
	_, err := fmt.Fprintf(third, "POST /api/v1/events HTTP/1.1\r\nHost: x\r\nX-API-Key: %s\r\nExpect: 100-continue\r\n%s\r\n\r\n", r.acme.key, known)
	must(t, err)
	res := readResponse(t, third)
	text, err := io.ReadAll(res.Body)
	must(t, err)
	if res.StatusCode != 429 || res.Header.Get("Retry-After") == "" || !res.Close || !strings.Contains(string(text), `"too_many_requests"`) {
		t.Errorf("the third of the account: %d %v\n%s", res.StatusCode, res.Header, text)
	}
	for _, finish := range []func() *http.Response{finishFirst, finishSecond} {
		if res := finish(); res.StatusCode != 202 {
			t.Errorf("answered %d", res.StatusCode)
		}
	}
	eventually(t, "nothing is counted", func() bool { return r.bodiesInUse() == "0" })
}

// A request waits for the memory of its body, and is read when there is some.
func TestBodies_WaitForMemory(t *testing.T) {
	t.Parallel()
	const size = 100_000
	r := start(t, setup{maxBody: size, maxBodies: size})
	body := eventOf(size)
	known := fmt.Sprintf("Content-Length: %d", size)
	_, finish := r.unfinished(t, r.acme.key, known, body)
	eventually(t, "the first is counted", func() bool { return r.bodiesInUse() == fmt.Sprint(size) })
	answered := make(chan int)
	go func() { answered <- r.rival.post("/api/v1/events", body).status }()
	eventually(t, "the second waits", func() bool {
		return strings.Contains(string(r.admin.get("/metrics").want(200).body), `switchhook_places_waiting{kind="bodies"} 1`)
	})
	if res := finish(); res.StatusCode != 202 {
		t.Errorf("the first is answered %d", res.StatusCode)
	}
	if status := <-answered; status != 202 {
		t.Errorf("the second is answered %d", status)
	}
}

// With no room at all the answer is 503 in place of 429, also to a chunked body that is shorter than
// any limit.
func TestBodies_AllMemoryInUse(t *testing.T) {
	t.Parallel()
	const size = 100_000
	r := start(t, setup{maxBody: size, maxBodies: size, bodyWait: 100 * time.Millisecond})
	_, finish := r.unfinished(t, r.acme.key, fmt.Sprintf("Content-Length: %d", size), eventOf(size))
	eventually(t, "it is counted", func() bool { return r.bodiesInUse() == fmt.Sprint(size) })
	for _, test := range []string{
		"Content-Length: 99999\r\n\r\n" + eventOf(99_999),
		"Transfer-Encoding: chunked\r\n\r\n15\r\n" + `{"type":"a","data":1}` + "\r\n0\r\n\r\n",
		"Transfer-Encoding: chunked\r\n\r\n1\r\n1\r\n0\r\n\r\n",
	} {
		conn := r.dial(t)
		_, err := fmt.Fprintf(conn, "POST /api/v1/events HTTP/1.1\r\nHost: x\r\nX-API-Key: %s\r\nContent-Type: application/json\r\n%s", r.rival.key, test)
		must(t, err)
		if res := readResponse(t, conn); res.StatusCode != 503 || res.Header.Get("Retry-After") == "" || !res.Close {
			t.Errorf("answered %d %v", res.StatusCode, res.Header)
		}
	}
	finish()
}

// What a body counts is given back however its request ends.
func TestBodies_MemoryIsGivenBack(t *testing.T) {
	t.Parallel()
	const size = 100_000
	r := start(t, setup{maxBody: size, maxBodies: 100 * size, read: 500 * time.Millisecond})
	for name, end := range map[string]func(net.Conn){
		"the client closes":   func(conn net.Conn) { conn.Close() },
		"the time is over":    func(conn net.Conn) { readResponse(t, conn) },
		"the body is no JSON": func(conn net.Conn) { io.WriteString(conn, "x"); readResponse(t, conn) },
	} {
		conn, _ := r.unfinished(t, r.acme.key, fmt.Sprintf("Content-Length: %d", size), eventOf(size))
		eventually(t, name+": it is counted", func() bool { return r.bodiesInUse() == fmt.Sprint(size) })
		end(conn)
		eventually(t, name+": it is given back", func() bool { return r.bodiesInUse() == "0" })
	}
	conn, _ := r.unfinished(t, r.acme.key, "Transfer-Encoding: chunked", fmt.Sprintf("%x\r\nx", 2*size))
	if res := readResponse(t, conn); res.StatusCode != 413 {
		t.Errorf("answered %d", res.StatusCode)
	}
	eventually(t, "too large: it is given back", func() bool { return r.bodiesInUse() == "0" })
}

// A document of many values takes memory until its request is answered: one that comes meanwhile waits,
// or is refused.
func TestBodies_DocumentsAreShared(t *testing.T) {
	t.Parallel()
	r := start(t, setup{maxBodies: 4 << 20, bodyWait: 10 * time.Millisecond})
	many := "[" + strings.Repeat("1,", 200_000) + "1]"
	slow := `{"transform":"export default () => { for (;;) {} }","event":{"type":"a","data":` + many + `}}`
	eventually(t, "one of two is refused", func() bool {
		first := make(chan *answer)
		go func() { first <- r.acme.post("/api/v1/preview", slow) }()
		second := r.acme.post("/api/v1/preview", slow)
		for _, a := range []*answer{<-first, second} {
			if a.status == 429 && strings.Contains(a.text("detail"), "JSON values") {
				return true
			}
		}
		return false
	})
	eventually(t, "nothing is counted", func() bool { return r.placesInUse("documents") == "0" })
	r.acme.post("/api/v1/events", `{"type":"a","data":`+many+`}`).want(202)
}
