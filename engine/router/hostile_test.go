package router_test

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"switchhook/engine"
	"switchhook/engine/catalog"
	"switchhook/engine/settings"
	"switchhook/engine/target"
	"switchhook/engine/target/targettest"
	"switchhook/engine/testkit"
)

// wicked is a target that does as it likes with each connection, on a socket of its own.
type wicked struct {
	net.Listener
	open atomic.Int64 // connections
}

// newWicked plays each connection; it is closed after that. over is closed when the test ends.
func newWicked(t *testing.T, play func(c *net.TCPConn, over <-chan struct{})) *wicked {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &wicked{Listener: l}
	ctx, over := context.WithCancel(context.Background())
	var playing sync.WaitGroup
	playing.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			w.open.Add(1)
			playing.Go(func() {
				defer w.open.Add(-1)
				defer c.Close()
				defer context.AfterFunc(ctx, func() { c.Close() })()
				play(c.(*net.TCPConn), ctx.Done())
			})
		}
	})
	t.Cleanup(func() {
		over()
		l.Close()
		playing.Wait()
	})
	return w
}

// request reads one, whole.
func request(c net.Conn) bool {
	req, err := http.ReadRequest(bufio.NewReader(c))
	if err != nil {
		return false
	}
	_, err = io.Copy(io.Discard, req.Body)
	return err == nil
}

// gone waits until the other side has closed.
func gone(c net.Conn) { io.Copy(io.Discard, c) }

// says answers a request with these bytes and waits until the router goes.
func says(text string) func(*net.TCPConn, <-chan struct{}) {
	return func(c *net.TCPConn, _ <-chan struct{}) {
		if request(c) {
			io.WriteString(c, text)
			gone(c)
		}
	}
}

// closes answers so and closes.
func closes(text string) func(*net.TCPConn, <-chan struct{}) {
	return func(c *net.TCPConn, _ <-chan struct{}) {
		if request(c) {
			io.WriteString(c, text)
		}
	}
}

// resets answers so and resets the connection once that may have been read.
func resets(text string) func(*net.TCPConn, <-chan struct{}) {
	return func(c *net.TCPConn, _ <-chan struct{}) {
		if request(c) {
			io.WriteString(c, text)
			c.SetLinger(0)
		}
	}
}

// drips begins with text, and adds a byte a second.
func drips(text string) func(*net.TCPConn, <-chan struct{}) {
	return func(c *net.TCPConn, over <-chan struct{}) {
		text := text // each connection begins again
		if !request(c) {
			return
		}
		for err := error(nil); err == nil; {
			_, err = io.WriteString(c, text)
			text = "x"
			select {
			case <-time.After(time.Second):
			case <-over:
				return
			}
		}
	}
}

// pours begins with text and repeats more until the router has enough.
func pours(text, more string) func(*net.TCPConn, <-chan struct{}) {
	return func(c *net.TCPConn, _ <-chan struct{}) {
		text := text // each connection begins again
		if !request(c) {
			return
		}
		for err := error(nil); err == nil; {
			_, err = io.WriteString(c, text)
			text = more
		}
	}
}

// answered is an answer with a status as it stands, and no body.
func answered(status string) string {
	return "HTTP/1.1 " + status + "\r\nContent-Length: 0\r\n\r\n"
}

// attack is what a target does, and what is to be noted of it.
type attack struct {
	play  func(*net.TCPConn, <-chan struct{})
	state engine.State
	phase string
	err   string // part of it, or of why the body broke off after success
}

const succeeded, dead = engine.StateSucceeded, engine.StateDead

var attacks = map[string]attack{
	"the head comes a byte a second": {drips("H"), dead, "headers", "the headers of the answer did not end within 1s"},
	"the body comes a byte a second": {drips("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"), succeeded, "", "the body did not end within 1s"},
	"no answer at all":               {says(""), dead, "wait", "no answer within 1s"},
	"an endless body":                {pours("HTTP/1.1 200 OK\r\n\r\n", strings.Repeat("x", 4096)), succeeded, "", ""},
	"an endless chunked body":        {pours("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "1000\r\n"+strings.Repeat("x", 4096)+"\r\n"), succeeded, "", ""},
	"endless empty chunk extensions": {pours("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;", strings.Repeat("e", 4096)), succeeded, "", "the body broke off after 0 bytes"},
	"endless trailers":               {pours("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", "X-T: "+strings.Repeat("t", 1000)+"\r\n"), succeeded, "", "the body broke off after 0 bytes"},
	"endless headers":                {pours("HTTP/1.1 200 OK\r\n", "X-H: "+strings.Repeat("h", 1000)+"\r\n"), dead, "headers", "headers exceeded"},
	"a header of 2 MiB":              {says("HTTP/1.1 200 OK\r\nX-H: " + strings.Repeat("h", 2<<20) + "\r\n\r\n"), dead, "headers", "headers exceeded"},
	"a status line of 2 MiB":         {says("HTTP/1.1 200 " + strings.Repeat("h", 2<<20) + "\r\n\r\n"), dead, "headers", "headers exceeded"},

	// net/http reports a reset that it sees before it has written the request as a closed connection.
	"a reset before the request is read": {func(c *net.TCPConn, _ <-chan struct{}) { c.SetLinger(0) }, dead, "", "connection"},
	"a reset instead of an answer":       {resets(""), dead, "wait", "the connection ended without an answer: connection reset by peer"},
	"a reset in the headers":             {resets("HTTP/1.1 200 OK\r\nX-H: "), dead, "headers", "the answer broke off in its headers"},
	"a reset in the body":                {resets("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nx"), succeeded, "", "connection reset by peer"},
	"closed instead of an answer":        {closes(""), dead, "wait", "the connection ended without an answer: it was closed by the target"},
	"closed in the headers":              {closes("HTTP/1.1 200 OK\r\nX-H"), dead, "headers", "malformed MIME"},
	"another protocol":                   {says("SSH-2.0-OpenSSH_9.6\r\n"), dead, "headers", "malformed HTTP"},
	"zeros":                              {closes(strings.Repeat("\x00", 4096)), dead, "headers", "broke off in its headers"},
	"a page without a head":              {says("<html>200 OK</html>\r\n\r\n"), dead, "headers", "malformed HTTP"},
	"a header without a colon":           {says("HTTP/1.1 200 OK\r\nnonsense\r\n\r\n"), dead, "headers", "malformed MIME"},
	"a header name with a space":         {says("HTTP/1.1 200 OK\r\nContent-Length : 0\r\n\r\n"), succeeded, "", "the body did not end within 1s"}, // another header, so the body has no end

	"1,000 times 100":    {says(strings.Repeat("HTTP/1.1 100 Continue\r\n\r\n", 1000) + answered("200 OK")), succeeded, "", ""},
	"100 without an end": {pours("", strings.Repeat("HTTP/1.1 100 Continue\r\n\r\n", 100)), dead, "headers", "exceeded"},
	"103 before 200":     {says("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + answered("200 OK")), succeeded, "", ""},
	"103 and no more":    {says("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"), dead, "headers", "did not end within 1s"},
	"101":                {says("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\nnow something else"), dead, "http", "switch protocols"},
	"HTTP/1.0":           {closes("HTTP/1.0 200 OK\r\n\r\nto the end"), succeeded, "", ""},
	"no reason":          {says("HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n"), succeeded, "", ""},
	"line feeds only":    {says("HTTP/1.1 200 OK\nContent-Length: 0\n\n"), succeeded, "", ""},
	"HTTP/9.9":           {says("HTTP/9.9 200 OK\r\nContent-Length: 0\r\n\r\n"), succeeded, "", ""},

	"less body than announced":   {closes("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort"), succeeded, "", "the body broke off after 5 bytes: it was closed by the target"},
	"more body than announced":   {says("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok, and HTTP/1.1 500 No\r\n\r\n"), succeeded, "", ""},
	"two lengths":                {says("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxy"), dead, "headers", "Content-Length"},
	"a length below zero":        {says("HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n"), dead, "headers", "Content-Length"},
	"a length beyond all":        {says("HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n"), dead, "headers", "Content-Length"},
	"a chunk that has no length": {says("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nx"), succeeded, "", "broke off"},
	"a chunk beyond all":         {says("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffffff\r\nx"), succeeded, "", "broke off"},
	"a chunk that breaks off":    {closes("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab"), succeeded, "", "broke off after 2 bytes"},
	"an unknown encoding":        {says("HTTP/1.1 200 OK\r\nTransfer-Encoding: rot13\r\n\r\nx"), dead, "headers", "transfer encoding"},
	"chunks and a length":        {says("HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"), succeeded, "", ""},
	"a body with 204":            {says("HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\nhello"), succeeded, "", ""},

	"status 226":  {says(answered("226 IM Used")), succeeded, "", ""},
	"status 299":  {says(answered("299 x")), succeeded, "", ""},
	"status 199":  {says(answered("199 x")), dead, "headers", "did not end within 1s"}, // one of those that another follows
	"status 300":  {says(answered("300 x")), dead, "http", "300"},
	"status 304":  {says(answered("304 x")), dead, "http", "304"},
	"status 418":  {says(answered("418 x")), dead, "http", "418"},
	"status 451":  {says(answered("451 x")), dead, "http", "451"},
	"status 499":  {says(answered("499 x")), dead, "http", "499"},
	"status 600":  {says(answered("600 x")), dead, "http", "600"},
	"status 999":  {says(answered("999 x")), dead, "http", "999"},
	"status 000":  {says(answered("000 x")), dead, "http", "status 0, which HTTP does not have"},
	"status 099":  {says(answered("099 x")), dead, "http", "status 99, which HTTP does not have"},
	"status +20":  {says(answered("+20 x")), dead, "http", "status 20, which HTTP does not have"},
	"status 0":    {says(answered("0 x")), dead, "headers", "malformed HTTP"},
	"status -10":  {says(answered("-10 x")), dead, "headers", "malformed HTTP"},
	"status 2000": {says(answered("2000 x")), dead, "headers", "malformed HTTP"},
	"status 2x0":  {says(answered("2x0 x")), dead, "headers", "malformed HTTP"},
	"status ٢٠٠":  {says(answered("٢٠٠ x")), dead, "headers", "malformed HTTP"},
}

// siege is a rig whose deliveries go out through a transport that the test can look into.
type siege struct {
	*rig
	transport *http.Transport
	before    int
}

func besiege(t *testing.T, policy target.Policy) *siege {
	s := &siege{before: clientGoroutines()}
	policy.Allow = target.Loopback
	s.rig = start(t, func(c *settings.Config) {
		c.Timeout, c.Retries = testkit.Timeout, engine.RetrySchedule{0}
		c.Guard = target.NewGuard(policy)
		s.transport = patientTransport(t, c.Guard)
		c.Transport = s.transport
	})
	return s
}

// clientGoroutines counts those that stand for a connection that somebody made.
func clientGoroutines() (n int) {
	stacks := make([]byte, 16<<20)
	for _, stack := range strings.Split(string(stacks[:runtime.Stack(stacks, true)]), "\n\n") {
		if strings.Contains(stack, "net/http.(*persistConn)") || strings.Contains(stack, "net/http.(*Transport)") || strings.Contains(stack, "outbound.(*Sender).Send") {
			n++
		}
	}
	return n
}

// nothingLeft checks that no connection and no goroutine of one stays.
func (s *siege) nothingLeft(targets ...*wicked) {
	s.t.Helper()
	testkit.WaitFor(s.t, "no connection is left", func() bool {
		s.transport.CloseIdleConnections()
		return !slices.ContainsFunc(targets, func(w *wicked) bool { return w.open.Load() > 0 })
	})
	testkit.WaitFor(s.t, "no goroutine of a connection is left", func() bool {
		s.transport.CloseIdleConnections()
		return clientGoroutines() <= s.before
	})
	testkit.WaitFor(s.t, "no attempt and no outcome is left", func() bool {
		attempts, outcomes := s.InFlight()
		return attempts == 0 && outcomes == 0
	})
}

// steady publishes one event after the other to a target that works, and gives how long
// they took to arrive.
func (s *siege) steady(on func(done int) bool) (took []time.Duration) {
	s.t.Helper()
	for i := 0; on(i); i++ {
		body := fmt.Sprintf(`"%d-%d"`, time.Now().UnixNano(), i)
		began := time.Now()
		s.publish("steady", body)
		testkit.WaitFor(s.t, "a target that works gets its event", func() bool { return s.sink.Times(body) == 1 })
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	return took
}

func p99(sorted []time.Duration) time.Duration { return sorted[len(sorted)*99/100] }

// run makes a subscription for each attack, lets all happen at once beside a target that
// works, and checks what was noted.
func (s *siege) run(list map[string]attack, url func(name string) string) {
	s.subscribe(func(sub *engine.Subscription) { sub.Events = []string{"steady"} })
	subs, events, n := map[string]*engine.Subscription{}, map[string]engine.ID{}, 0
	for name := range list {
		n++
		subs[name] = s.subscribe(func(sub *engine.Subscription) {
			sub.Events, sub.TargetURL = []string{"attack.n" + strconv.Itoa(n)}, url(name)
			if strings.Contains(list[name].err, "within 1s") {
				sub.Policy.Timeout = time.Second
			}
		})
	}
	before := s.steady(func(done int) bool { return done < 100 })
	for name, sub := range subs {
		events[name] = s.publish(sub.Events[0], `1`).ID
	}
	during := s.steady(func(done int) bool { attempts, _ := s.InFlight(); return done < 100 || attempts > 0 })
	for name, a := range list {
		d, attempts := s.delivery(events[name], subs[name], dead, succeeded)
		at := attempts[0]
		said, wrong := d.Error, a.phase != "" && at.Phase != a.phase || (d.Error == "") != (d.State == succeeded)
		if d.State == succeeded {
			said, wrong = at.Response.BodyError, wrong || at.Phase != "" || at.Response.BodyError != "" && !at.Response.Truncated
		}
		if d.State != a.state || len(attempts) != 1 || wrong || !strings.Contains(said, a.err) || strings.Contains(said, "127.0.0.1:") && at.Phase != "connect" {
			s.t.Errorf("%s: %s, phase %q, %q, status %d", name, d.State, at.Phase, said, d.Status)
		}
		if len(at.Response.Body) > 16<<10 || len(at.Error) > 600 {
			s.t.Errorf("%s: %d bytes of answer and %d of error are kept", name, len(at.Response.Body), len(at.Error))
		}
	}
	s.t.Logf("%d attacks; a target that works got its events after %v (p99 of %d) before, %v (of %d) during", len(list), p99(before), len(before), p99(during), len(during))
}

func TestDelivery_HostileHTTPTargets(t *testing.T) {
	s := besiege(t, target.Policy{})
	targets := map[string]*wicked{}
	for name, a := range attacks {
		targets[name] = newWicked(t, a.play)
	}
	s.run(attacks, func(name string) string { return "http://" + targets[name].Addr().String() + "/" })
	list := []*wicked{}
	for _, w := range targets {
		list = append(list, w)
	}
	s.nothingLeft(list...)
}

func TestDelivery_StatusCountsDespiteBodyError(t *testing.T) {
	t.Parallel()
	r := start(t, func(c *settings.Config) { c.Retries = engine.RetrySchedule{0} })
	for _, tc := range []struct {
		status string
		want   engine.State
	}{{"200 OK", succeeded}, {"202 Accepted", succeeded}, {"302 Found", dead}, {"404 Not Found", dead}, {"410 Gone", dead}, {"429 Slow", dead}, {"503 No", dead}} {
		for _, c := range []struct {
			name      string
			play      func(string) func(*net.TCPConn, <-chan struct{})
			rest      string
			body      string
			bodyError string
		}{
			{"broken off", closes, "Content-Length: 100\r\n\r\nshort", "short", "the body broke off after 5 bytes: it was closed by the target"},
			{"reset", resets, "Content-Length: 100\r\n\r\n", "", "the body broke off after 0 bytes: connection reset by peer"},
			{"bad chunks", says, "Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\nzz\r\n", "ok", "the body broke off after 2 bytes: "},
			{"never ending", says, "Content-Length: 100\r\n\r\nslow", "slow", "the body did not end within 300ms; 4 bytes came"},
			{"bad gzip", closes, "Content-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc", "abc", ""},
			{"a trailer", closes, "Transfer-Encoding: chunked\r\nTrailer: X\r\n\r\n2\r\nok\r\n0\r\nX: y\r\n\r\n", "ok", ""},
		} {
			w := newWicked(t, c.play("HTTP/1.1 "+tc.status+"\r\n"+c.rest))
			s := r.subscribe(func(s *engine.Subscription) {
				s.Events, s.TargetURL, s.Policy.Timeout = []string{"a.body"}, "http://"+w.Addr().String(), 5*time.Second
				if c.name == "never ending" {
					s.Policy.Timeout = 300 * time.Millisecond
				}
			})
			d, attempts := r.delivery(r.publish("a.body", `1`).ID, s, dead, succeeded)
			at := attempts[0]
			if d.State != tc.want || strconv.Itoa(at.Response.Status) != tc.status[:3] || string(at.Response.Body) != c.body ||
				!strings.HasPrefix(at.Response.BodyError, c.bodyError) || at.Response.Truncated != (c.bodyError != "") || (at.Response.BodyError != "") != (c.bodyError != "") {
				t.Errorf("%s, %s: %s, %+v, %q", tc.status, c.name, d.State, at.Response, d.Error)
			}
			if now, err := r.Subscription("", s.ID); err != nil || now.Active == (tc.status[:3] == "410") {
				t.Errorf("%s, %s: active %v, %v", tc.status, c.name, now.Active, err)
			}
			if err := r.DeleteSubscription(context.Background(), "", s.ID, catalog.AnyVersion); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestDelivery_ClosedIdleConnectionCostsNoAttempt(t *testing.T) {
	t.Parallel()
	r := start(t, func(c *settings.Config) { c.Retries = engine.RetrySchedule{0, time.Hour} })
	var requests atomic.Int64
	w := newWicked(t, func(c *net.TCPConn, _ <-chan struct{}) {
		reader := bufio.NewReader(c)
		for n := 1; ; n++ {
			req, err := http.ReadRequest(reader)
			if err != nil {
				return
			}
			io.Copy(io.Discard, req.Body)
			requests.Add(1)
			if n == 2 {
				return
			}
			io.WriteString(c, answered("200 OK"))
		}
	})
	s := r.subscribe(func(s *engine.Subscription) {
		s.TargetURL, s.Policy.Ordering, s.Headers = "http://"+w.Addr().String(), engine.OrderingFIFO, map[string]string{"Idempotency-Key": "k"}
	})
	resent := 0
	for i := range 10 {
		d, attempts := r.delivery(r.publish("a.b", strconv.Itoa(i)).ID, s, succeeded, engine.StateRetrying)
		if d.State != succeeded || len(attempts) != 1 {
			t.Errorf("event %d: %s after %d attempts, %q", i, d.State, len(attempts), d.Error)
		}
		if attempts[0].Resent {
			resent++
		}
	}
	if n := requests.Load(); resent == 0 || n != int64(10+resent) {
		t.Errorf("%d requests came, %d attempts say that they sent two", n, resent)
	}
}

// rawHeaders serves a target that keeps the header lines of each request as they came.
func rawHeaders(t *testing.T, got chan<- []string) *wicked {
	return newWicked(t, func(c *net.TCPConn, _ <-chan struct{}) {
		reader := bufio.NewReader(c)
		var lines []string
		length := 0
		for {
			line, err := reader.ReadString('\n')
			if err != nil {
				return
			}
			if line = strings.TrimRight(line, "\r\n"); line == "" {
				break
			}
			lines = append(lines, line)
			if n, ok := strings.CutPrefix(line, "Content-Length: "); ok {
				length, _ = strconv.Atoi(n)
			}
		}
		io.CopyN(io.Discard, reader, int64(length))
		io.WriteString(c, answered("200 OK"))
		got <- lines
		gone(c)
	})
}

func TestDelivery_HeaderNamesAreSentAsWritten(t *testing.T) {
	t.Parallel()
	got := make(chan []string, 1)
	r := start(t, nil)
	for _, c := range []struct {
		name      string
		headers   map[string]string
		transform string
		want      []string // lines, each once
		without   []string // names in lower case
	}{
		{"none", nil, "", []string{"Accept: */*", "Content-Type: application/json", "User-Agent: Switchhook"}, nil},
		{"odd cases", map[string]string{"x-API-KEY": "k", "SOAPAction": "s", "eTag": "e", "accept": "text/plain", "user-agent": "mine", "content-TYPE": "text/x", "idempotency-Key": "i"}, "",
			[]string{"x-API-KEY: k", "SOAPAction: s", "eTag: e", "accept: text/plain", "user-agent: mine", "content-TYPE: text/x", "idempotency-Key: i"}, nil},
		{"by a transform", map[string]string{"x-API-KEY": "k", "x-gone": "g", "Content-type": "text/x"}, `export default (e, r) => {
				r.headers["xML-id"] = "1"; r.headers["X-api-key"] = "changed"; r.headers["ACCEPT"] = "a/b"; r.headers["X-Gone"] = null
				r.headers["x-A"] = "first"; r.headers["X-a"] = "second"; return "t" }`,
			[]string{"xML-id: 1", "X-api-key: changed", "ACCEPT: a/b", "Content-type: text/x", "X-a: second", "User-Agent: Switchhook"}, []string{"x-gone"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := rawHeaders(t, got)
			s := r.subscribe(func(s *engine.Subscription) {
				s.Events, s.TargetURL, s.Headers, s.Transform = []string{"raw.headers"}, "http://"+w.Addr().String(), c.headers, c.transform
			})
			id := r.publish("raw.headers", `1`).ID
			lines := <-got
			names := map[string]int{}
			for _, line := range lines {
				name, _, _ := strings.Cut(line, ":")
				names[strings.ToLower(name)]++
			}
			for _, want := range c.want {
				name, _, _ := strings.Cut(want, ":")
				if !slices.Contains(lines, want) || names[strings.ToLower(name)] != 1 {
					t.Errorf("%q is not there, or not once", want)
				}
			}
			for _, name := range c.without {
				if names[name] > 0 {
					t.Errorf("%s was sent", name)
				}
			}
			if t.Failed() {
				t.Logf("%q", lines)
			}
			_, attempts := r.delivery(id, s, succeeded)
			for _, h := range attempts[0].Request.Headers {
				if h.Value != engine.RedactedValue && !slices.Contains(lines, h.Name+": "+h.Value) {
					t.Errorf("the attempt shows %s: %s", h.Name, h.Value)
				}
			}
			if err := r.DeleteSubscription(context.Background(), "", s.ID, catalog.AnyVersion); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func TestVerification_HeaderNamesAreSentAsWritten(t *testing.T) {
	t.Parallel()
	got := make(chan []string, 10)
	r := start(t, func(c *settings.Config) { c.VerifyWait = time.Millisecond })
	w := rawHeaders(t, got)
	r.subscribe(func(s *engine.Subscription) {
		s.TargetURL, s.Headers, s.Verification.Mode = "http://"+w.Addr().String(), map[string]string{"x-API-KEY": "k", "content-type": "text/x"}, engine.VerifyHookSecret
	})
	lines := <-got
	for _, want := range []string{"x-API-KEY: k", "Accept: */*", "Content-Type: application/json"} {
		if !slices.Contains(lines, want) {
			t.Errorf("%q is not in %q", want, lines)
		}
	}
	if strings.Contains(strings.ToLower(strings.Join(lines, "\n")), "text/x") {
		t.Errorf("two content types: %q", lines)
	}
}

// certificate makes one for a host, by an authority; nil: by itself.
func certificate(t *testing.T, authority *tls.Certificate, change func(*x509.Certificate)) *tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "test"},
		NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: time.Now().Add(48 * time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	if change != nil {
		change(template)
	}
	parent, signer := template, any(key)
	if authority != nil {
		parent, signer = authority.Leaf, authority.PrivateKey
	}
	raw, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(raw)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Certificate{Certificate: [][]byte{raw}, PrivateKey: key, Leaf: leaf}
}

func TestDelivery_HostileTLSTargets(t *testing.T) {
	s := besiege(t, target.Policy{})
	authority := certificate(t, nil, func(c *x509.Certificate) {
		c.IsCA, c.BasicConstraintsValid, c.KeyUsage = true, true, x509.KeyUsageCertSign
	})
	roots := x509.NewCertPool()
	roots.AddCert(authority.Leaf)
	s.transport.TLSClientConfig.RootCAs = roots

	over := func(cfg *tls.Config) func(*net.TCPConn, <-chan struct{}) {
		return func(c *net.TCPConn, _ <-chan struct{}) {
			secure := tls.Server(c, cfg)
			if request(secure) {
				io.WriteString(secure, answered("200 OK"))
				gone(secure)
			}
			gone(c) // a reset could be faster than the alert that says why
		}
	}
	with := func(c *tls.Certificate) *tls.Config { return &tls.Config{Certificates: []tls.Certificate{*c}} }
	good := certificate(t, authority, nil)
	list := map[string]attack{
		"as it should be":        {over(with(good)), succeeded, "", ""},
		"an expired certificate": {over(with(certificate(t, authority, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Hour) }))), dead, "tls", "expired"},
		"one for later":          {over(with(certificate(t, authority, func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Hour) }))), dead, "tls", "not yet valid"},
		"one for another host":   {over(with(certificate(t, authority, func(c *x509.Certificate) { c.IPAddresses, c.DNSNames = nil, []string{"example.com"} }))), dead, "tls", "127.0.0.1"},
		"a self-signed one":      {over(with(certificate(t, nil, nil))), dead, "tls", "unknown authority"},
		"TLS 1.0 only":           {over(&tls.Config{Certificates: []tls.Certificate{*good}, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS10}), dead, "tls", "protocol version"},
		"plain HTTP": {func(c *net.TCPConn, _ <-chan struct{}) {
			io.CopyN(io.Discard, c, 5)
			io.WriteString(c, "HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\nClient sent an HTTPS request?")
			gone(c)
		}, dead, "tls", "does not look like a TLS handshake"},
		"an answer before its turn":           {func(c *net.TCPConn, _ <-chan struct{}) { io.WriteString(c, answered("200 OK")); gone(c) }, dead, "tls", "does not look like a TLS handshake"},
		"a handshake of nothing":              {func(c *net.TCPConn, _ <-chan struct{}) { gone(c) }, dead, "tls", "the TLS handshake did not end within 1s"},
		"a handshake that ends":               {func(c *net.TCPConn, _ <-chan struct{}) { io.CopyN(io.Discard, c, 5); c.SetLinger(0) }, dead, "tls", "the TLS handshake broke off: connection reset by peer"},
		"a demand for a client's certificate": {over(&tls.Config{Certificates: []tls.Certificate{*good}, ClientAuth: tls.RequireAnyClientCert}), dead, "tls", "certificate required"},
	}
	targets := map[string]*wicked{}
	all := []*wicked{}
	for name, a := range list {
		targets[name] = newWicked(t, a.play)
		all = append(all, targets[name])
	}
	s.run(list, func(name string) string { return "https://" + targets[name].Addr().String() + "/" })
	s.nothingLeft(all...)
}

// moodyNames is a DNS server that answers names under their moods, and says nothing to others.
func moodyNames(t *testing.T) *net.Resolver {
	return targettest.Names(t, func(q dnsmessage.Question, reply *dnsmessage.Message) []byte {
		switch mood, _, _ := strings.Cut(q.Name.String(), "."); mood {
		case "unknown":
			reply.RCode = dnsmessage.RCodeNameError
		case "broken":
			reply.RCode = dnsmessage.RCodeServerFailure
		case "refusing":
			reply.RCode = dnsmessage.RCodeRefused
		case "empty", "": // the root of all names, which name servers know
		case "garbage":
			return []byte("garbage")
		case "good":
			if q.Type == dnsmessage.TypeA {
				return targettest.Addresses(q, reply, netip.MustParseAddr("127.0.0.1"))
			}
		default:
			return nil
		}
		return targettest.Addresses(q, reply)
	})
}

func TestDelivery_UnresolvableTargets(t *testing.T) {
	s := besiege(t, target.Policy{Resolver: moodyNames(t)})
	w := newWicked(t, says(answered("200 OK")))
	_, port, _ := net.SplitHostPort(w.Addr().String())
	s.run(map[string]attack{
		"good":     {nil, succeeded, "", ""},
		"unknown":  {nil, dead, "dns", "the host unknown.test. was not found: no such host"},
		"empty":    {nil, dead, "dns", "the host empty.test. was not found: no such host"},
		"broken":   {nil, dead, "dns", "the host broken.test. was not found: server misbehaving"},
		"refusing": {nil, dead, "dns", "the host refusing.test. was not found"},
		"silent":   {nil, dead, "dns", "within 1s"},
		"garbage":  {nil, dead, "dns", "within 1s"},
	}, func(name string) string { return "http://" + name + ".test.:" + port + "/" })
	s.nothingLeft(w)
}

func TestDelivery_RetryAfterWithinBounds(t *testing.T) {
	t.Parallel()
	r := start(t, nil)
	date := func(d time.Duration) string { return time.Now().Add(d).UTC().Format(http.TimeFormat) }
	// The schedule asks for a minute, give or take a fifth.
	const least, most = 48 * time.Second, 72 * time.Second
	for _, c := range []struct {
		name        string
		headers     []string
		least, most time.Duration
	}{
		{"none", nil, least, most},
		{"seconds", []string{"120"}, 2 * time.Minute, 2 * time.Minute},
		{"zero", []string{"0"}, least, most},
		{"less than it was", []string{"1"}, least, most},
		{"a date", []string{date(time.Hour)}, 30 * time.Minute, time.Hour},
		{"a date of RFC 850", []string{time.Now().Add(time.Hour).UTC().Format("Monday, 02-Jan-06 15:04:05 GMT")}, 30 * time.Minute, time.Hour},
		{"a date that is over", []string{date(-time.Hour)}, least, most},
		{"a date far away", []string{date(1000 * time.Hour)}, 24 * time.Hour, 24 * time.Hour},
		{"below zero", []string{"-5"}, least, most},
		{"a billion", []string{"1000000000"}, 24 * time.Hour, 24 * time.Hour},
		{"beyond all", []string{"99999999999999999999999"}, 24 * time.Hour, 24 * time.Hour},
		{"1e9", []string{"1e9"}, least, most},
		{"a fraction", []string{"120.5"}, 2 * time.Minute, 121 * time.Second},
		{"nonsense", []string{"soon"}, least, most},
		{"several", []string{"120", "240"}, 4 * time.Minute, 4 * time.Minute},
		{"a list", []string{"120, 240"}, 4 * time.Minute, 4 * time.Minute},
	} {
		for _, status := range []int{429, 503, 500} {
			header := ""
			for _, h := range c.headers {
				header += "Retry-After: " + h + "\r\n"
			}
			w := newWicked(t, says(fmt.Sprintf("HTTP/1.1 %d No\r\n%sContent-Length: 0\r\n\r\n", status, header)))
			s := r.subscribe(func(s *engine.Subscription) {
				s.Events, s.TargetURL = []string{"retry.later"}, "http://"+w.Addr().String()
				s.Policy.Retries = engine.RetrySchedule{0, time.Minute}
			})
			began := time.Now().Truncate(time.Millisecond)
			d, _ := r.delivery(r.publish("retry.later", `1`).ID, s, engine.StateRetrying, dead)
			ended := time.Now()
			if d.State != engine.StateRetrying || d.NextAt.Before(began.Add(c.least)) || d.NextAt.After(ended.Add(c.most)) {
				t.Errorf("%s with %d: %s, again after %v", c.name, status, d.State, d.NextAt.Sub(began))
			}
			if err := r.DeleteSubscription(context.Background(), "", s.ID, catalog.AnyVersion); err != nil {
				t.Fatal(err)
			}
		}
	}
}
