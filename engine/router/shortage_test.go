package router_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/net/dns/dnsmessage"

	"switchhook/engine"
	"switchhook/engine/evaluate"
	"switchhook/engine/router/routertest"
	"switchhook/engine/settings"
	"switchhook/engine/target"
	"switchhook/engine/target/targettest"
	"switchhook/engine/testkit"
	"switchhook/scripts"
)

// starved is a transport that fails with an error as often as it is told.
type starved struct {
	*http.Transport
	mu   sync.Mutex
	left int
	err  error
}

func (s *starved) lacks(n int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.left, s.err = n, err
}

func (s *starved) RoundTrip(req *http.Request) (*http.Response, error) {
	s.mu.Lock()
	lacks := s.left != 0
	if s.left > 0 {
		s.left--
	}
	err := s.err
	s.mu.Unlock()
	if lacks {
		return nil, err
	}
	return s.Transport.RoundTrip(req)
}

func dialError(call string, number syscall.Errno, address string) error {
	at, err := net.ResolveTCPAddr("tcp", address)
	if err != nil {
		panic(err)
	}
	return &net.OpError{Op: "dial", Net: "tcp", Addr: at, Err: os.NewSyscallError(call, number)}
}

// startStarved starts an engine over a transport that can be starved, and gives what counts
// its shortages.
func startStarved(t *testing.T, change func(*settings.Config)) (*rig, *starved, func(resource string) float64) {
	transport, registry := &starved{}, prometheus.NewRegistry()
	r := start(t, func(c *settings.Config) {
		transport.Transport = target.Transport(c.Guard, 64)
		c.Transport, c.Registerer = transport, registry
		if change != nil {
			change(c)
		}
	})
	t.Cleanup(transport.Transport.CloseIdleConnections)
	return r, transport, func(resource string) (n float64) {
		families, err := registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range families {
			if f.GetName() != "switchhook_delivery_shortages_total" {
				continue
			}
			for _, m := range f.Metric {
				if resource == "" || m.Label[0].GetValue() == resource {
					n += m.Counter.GetValue()
				}
			}
		}
		return n
	}
}

// untouched fails the test where a target is blamed for something.
func (r *rig) untouched(s *engine.Subscription) {
	r.t.Helper()
	if h := r.Health(s.ID); h.Failures != 0 || h.State() != engine.HealthHealthy {
		r.t.Errorf("%s: %s, %d failures: %s", s.TargetURL, h.State(), h.Failures, h.LastError)
	}
}

func TestShortage_IsNoTargetFailure(t *testing.T) {
	t.Parallel()
	r, transport, counted := startStarved(t, nil)
	s := r.subscribe(nil)
	for _, c := range []struct {
		name     string
		err      error
		resource string
	}{
		{"files of the process", dialError("socket", syscall.EMFILE, "127.0.0.1:80"), "files"},
		{"files of the machine", dialError("socket", syscall.ENFILE, "127.0.0.1:80"), "files"},
		{"memory", dialError("connect", syscall.ENOMEM, "127.0.0.1:80"), "memory"},
		{"buffers", dialError("write", syscall.ENOBUFS, "127.0.0.1:80"), "memory"},
		{"local ports", dialError("connect", syscall.EADDRNOTAVAIL, "127.0.0.1:80"), "ports"},
		{"files, for names", &net.DNSError{Err: "dial udp 127.0.0.53:53: socket: too many open files", Name: "a.example", IsTemporary: true}, "files"},
		{"name servers that answer", &net.DNSError{Err: "read udp 127.0.0.1:1->127.0.0.1:53: read: connection refused", Name: "a.example", IsTemporary: true}, "dns"},
		{"the proxy", &net.OpError{Op: "proxyconnect", Net: "tcp", Err: dialError("connect", syscall.ECONNREFUSED, "127.0.0.1:3128")}, "proxy"},
	} {
		before := counted(c.resource)
		transport.lacks(3, c.err)
		a := r.publish("a", `1`)
		d, attempts := r.delivery(a.ID, s, engine.StateSucceeded, engine.StateRetrying, engine.StateDead)
		if d.State != engine.StateSucceeded || d.Attempts != 1 || len(attempts) != 1 {
			t.Errorf("%s: %s after %d attempts: %s", c.name, d.State, d.Attempts, d.Error)
		}
		if n := counted(c.resource) - before; n != 3 {
			t.Errorf("%s: counted %v times", c.name, n)
		}
		if lacking := fmt.Sprint(r.Lacking()); !strings.Contains(lacking, "the router lacks") {
			t.Errorf("%s: lacking %s", c.name, lacking)
		}
		if err := r.Ready(context.Background()); err != nil { // events are accepted all the same
			t.Error(err)
		}
		r.untouched(s)
	}
}

func TestShortage_TargetFaults(t *testing.T) {
	t.Parallel()
	r, transport, counted := startStarved(t, func(c *settings.Config) { c.Retries = engine.RetrySchedule{0} })
	s := r.subscribe(nil)
	for _, c := range []struct {
		name string
		err  error
	}{
		{"nobody listens", dialError("connect", syscall.ECONNREFUSED, "127.0.0.1:80")},
		{"no route", dialError("connect", syscall.EHOSTUNREACH, "127.0.0.1:80")},
		{"no address like its", dialError("connect", syscall.EADDRNOTAVAIL, "[fe80::1]:80")}, // without a zone: it can't be reached from anywhere
		{"a name that is none", &net.DNSError{Err: "no such host", Name: "a.example", IsNotFound: true}},
		{"a reset", &net.OpError{Op: "read", Net: "tcp", Err: os.NewSyscallError("read", syscall.ECONNRESET)}},
		{"a text that looks so", errors.New("too many open files")},
		{"an answer that is bad", errors.New("malformed HTTP response")},
	} {
		transport.lacks(-1, c.err)
		if d, _ := r.delivery(r.publish("a", `1`).ID, s, engine.StateDead, engine.StateSucceeded); d.State != engine.StateDead || d.Attempts != 1 {
			t.Errorf("%s: %s after %d attempts", c.name, d.State, d.Attempts)
		}
	}
	if n := counted(""); n != 0 {
		t.Errorf("counted as shortages: %v", n)
	}
}

// The guarantees of ordering, batches and restarts hold during a shortage.
func TestShortage_KeepsOrderAndBatches(t *testing.T) {
	t.Parallel()
	r, transport, counted := startStarved(t, nil)
	fifo := r.subscribe(func(s *engine.Subscription) { s.Events, s.Policy.Ordering = []string{"fifo"}, engine.OrderingFIFO })
	keyed := r.subscribe(func(s *engine.Subscription) {
		s.Events, s.Policy.Ordering, s.Policy.OrderingKey = []string{"keyed"}, engine.OrderingKeyed, "data.k"
	})
	batch := r.subscribe(func(s *engine.Subscription) {
		s.Events, s.Batch = []string{"batch"}, engine.Batch{Size: 5, Wait: 50 * time.Millisecond}
	})
	files := dialError("socket", syscall.EMFILE, "127.0.0.1:80")
	var want []string
	var batched []engine.ID
	for n := range 40 {
		if n%10 == 5 {
			transport.lacks(4, files)
		}
		body := fmt.Sprintf(`{"k":0,"n":%d}`, n)
		want = append(want, body)
		r.publish("fifo", body)
		r.publish("keyed", body)
		batched = append(batched, r.publish("batch", body).ID)
	}
	transport.lacks(5, files)
	if counted("files") == 0 {
		t.Error("nothing was lacking")
	}
	r.Config.Registerer = prometheus.NewRegistry()
	r.restart()
	single := func() []string { // the bodies that are no batch
		return slices.DeleteFunc(r.sink.Bodies(), func(body string) bool { return !strings.HasPrefix(body, "{") })
	}
	testkit.WaitFor(t, "all has come", func() bool { return len(single()) >= 2*40 })
	for _, id := range batched {
		if d, attempts := r.delivery(id, batch, engine.StateSucceeded); d.Attempts != 1 || len(attempts) != 1 {
			t.Errorf("%+v", d)
		}
	}
	// Two subscriptions get the same bodies, each in its order.
	seen := map[string]int{}
	var first, second []string
	for _, body := range single() {
		if seen[body]++; seen[body] == 1 {
			first = append(first, body)
		} else {
			second = append(second, body)
		}
	}
	if !slices.Equal(first, want) || !slices.Equal(second, want) {
		t.Errorf("order: %v, %v", first, second)
	}
	for _, s := range []*engine.Subscription{fifo, keyed, batch} {
		r.untouched(s)
	}
}

// resolving starts an engine whose targets' names a function answers.
func resolving(t *testing.T, answer func(q dnsmessage.Question, reply *dnsmessage.Message) []byte) (*rig, func(string) float64) {
	registry := prometheus.NewRegistry()
	r := start(t, func(c *settings.Config) {
		c.Guard = target.NewGuard(target.Policy{Allow: target.Loopback, AnyPort: true, Resolver: targettest.Names(t, answer)})
		c.Registerer, c.Retries, c.Timeout = registry, engine.RetrySchedule{0}, time.Second
	})
	return r, func(resource string) (n float64) {
		families, _ := registry.Gather()
		for _, f := range families {
			for _, m := range f.Metric {
				if f.GetName() == "switchhook_delivery_shortages_total" && m.Label[0].GetValue() == resource {
					n += m.Counter.GetValue()
				}
			}
		}
		return n
	}
}

func TestShortage_UnresponsiveNameServers(t *testing.T) {
	t.Parallel()
	var dead, broken atomic.Bool
	r, counted := resolving(t, func(q dnsmessage.Question, reply *dnsmessage.Message) []byte {
		name := q.Name.String()
		switch {
		case dead.Load():
			return nil
		case broken.Load():
			reply.RCode = dnsmessage.RCodeServerFailure
		case name == "silent.example.": // whose own servers are dead
			return nil
		case name == "failing.example.":
			reply.RCode = dnsmessage.RCodeServerFailure
		case name == "none.example.":
			reply.RCode = dnsmessage.RCodeNameError
		case q.Type == dnsmessage.TypeNS:
			reply.Answers = []dnsmessage.Resource{{
				Header: dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class}, Body: &dnsmessage.NSResource{NS: dnsmessage.MustNewName("a.root-servers.net.")},
			}}
		default:
			return targettest.Addresses(q, reply, addressesFor(q)...)
		}
		packed, err := reply.Pack()
		if err != nil {
			panic(err)
		}
		return packed
	})
	_, port, _ := net.SplitHostPort(r.sink.Listener.Addr().String())
	to := func(host string) *engine.Subscription {
		return r.subscribe(func(s *engine.Subscription) { s.Events, s.TargetURL = []string{host}, "http://"+host+":"+port+"/" })
	}
	good := to("good.example")
	for _, host := range []string{"none.example", "failing.example", "silent.example"} {
		bad := to(host)
		if d, _ := r.delivery(r.publish(host, `1`).ID, bad, engine.StateDead, engine.StateSucceeded); d.State != engine.StateDead || d.Attempts != 1 {
			t.Errorf("%s: %+v", host, d)
		}
	}
	if n := counted("dns"); n != 0 {
		t.Errorf("domains that are broken count as a shortage, %v times", n)
	}
	r.sink.CloseClientConnections()
	for what, gone := range map[string]*atomic.Bool{"silent": &dead, "broken": &broken} {
		before := counted("dns")
		gone.Store(true)
		a := r.publish("good.example", `1`)
		testkit.WaitFor(t, "names are lacking", func() bool { return counted("dns") > before })
		gone.Store(false)
		if d, attempts := r.delivery(a.ID, good, engine.StateSucceeded, engine.StateDead); d.State != engine.StateSucceeded || len(attempts) != 1 {
			t.Errorf("%s: %+v", what, d)
		}
		r.untouched(good)
		r.sink.CloseClientConnections()
	}
}

// Without a sandbox process, deliveries without transforms continue.
func TestShortage_SandboxCannotStart(t *testing.T) {
	t.Parallel()
	var lacks atomic.Bool
	r := start(t, func(c *settings.Config) {
		c.Transformer = &lackingSandbox{Transformer: routertest.Pool(), lacks: &lacks}
	})
	transformed := r.subscribe(func(s *engine.Subscription) { s.Transform = "function transform() { return 1 }" })
	plain := r.subscribe(nil)
	lacks.Store(true)
	a := r.publish("a", `1`)
	r.delivery(a.ID, plain, engine.StateSucceeded)
	testkit.WaitFor(t, "the sandbox is lacking", func() bool { return strings.Contains(fmt.Sprint(r.Lacking()), "processes that run transforms") })
	if _, _, err := r.TestSend(context.Background(), evaluate.PreviewRequest{Subscription: transformed.ID, EventSource: evaluate.EventSource{Event: event("a", `1`)}}); engine.ErrorCode(err) != engine.CodeBusy || !strings.Contains(err.Error(), "processes that run transforms") {
		t.Error(err)
	}
	lacks.Store(false)
	if d, attempts := r.delivery(a.ID, transformed, engine.StateSucceeded, engine.StateRetrying, engine.StateDead); d.Attempts != 1 || len(attempts) != 1 {
		t.Errorf("%+v", d)
	}
	r.untouched(transformed)
}

type lackingSandbox struct {
	settings.Transformer
	lacks *atomic.Bool
}

func (l *lackingSandbox) Run(ctx context.Context, p *scripts.Program, ev *scripts.Event, req scripts.Request) (scripts.Result, error) {
	if l.lacks.Load() {
		return scripts.Result{}, &scripts.Error{Phase: scripts.PhaseBusy, Message: "no sandbox process can be started", Cause: syscall.EAGAIN}
	}
	return l.Transformer.Run(ctx, p, ev, req)
}

const fewFiles = "SWITCHHOOK_TEST_FEW_FILES"

// A process without free file descriptors still delivers, a few at a time.
func TestShortage_FewOpenFiles(t *testing.T) {
	t.Parallel()
	if urls := os.Getenv(fewFiles); urls != "" {
		deliverWithFewFiles(t, strings.Split(urls, ","))
		return
	}
	var urls []string
	for range 16 {
		slow := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { time.Sleep(100 * time.Millisecond) }))
		defer slow.Close()
		urls = append(urls, slow.URL)
	}
	child := exec.Command(os.Args[0], "-test.run=^TestShortage_FewOpenFiles$", "-test.v", "-test.count=1")
	child.Env = append(os.Environ(), fewFiles+"="+strings.Join(urls, ","))
	said, err := child.CombinedOutput()
	if err != nil || !strings.Contains(string(said), "PASS") {
		t.Errorf("%v: %s", err, said)
	}
}

func deliverWithFewFiles(t *testing.T, urls []string) {
	r, transport, counted := startStarved(t, nil)
	var subs []*engine.Subscription
	for _, url := range urls {
		subs = append(subs, r.subscribe(func(s *engine.Subscription) { s.TargetURL = url }))
	}
	first := r.publish("warm", `0`) // so that the database has the files that it needs
	for _, s := range subs {
		r.delivery(first.ID, s, engine.StateSucceeded)
	}
	transport.Transport.CloseIdleConnections()
	open, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skip(err)
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: uint64(len(open) + 4), Max: 4096}); err != nil {
		t.Fatal(err)
	}
	var events []engine.ID
	for n := range 10 {
		events = append(events, r.publish("a", fmt.Sprint(n)).ID)
	}
	testkit.WaitFor(t, "files are lacking", func() bool { return counted("files") > 0 })
	for _, id := range events {
		for _, s := range subs {
			if d, attempts := r.delivery(id, s, engine.StateSucceeded, engine.StateRetrying, engine.StateDead); d.State != engine.StateSucceeded || len(attempts) != 1 {
				t.Errorf("%s after %d attempts: %s", d.State, d.Attempts, d.Error)
			}
		}
	}
	for _, s := range subs {
		r.untouched(s)
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: 4096, Max: 4096}); err != nil {
		t.Fatal(err)
	}
}

// addressesFor returns loopback to who asks for an IPv4 address, and nothing to others.
func addressesFor(q dnsmessage.Question) []netip.Addr {
	if q.Type == dnsmessage.TypeA {
		return []netip.Addr{netip.MustParseAddr("127.0.0.1")}
	}
	return nil
}
