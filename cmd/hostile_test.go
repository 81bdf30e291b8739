package cmd

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"switchhook/engine/testkit"
	"switchhook/server/api"
)

// attack is what hostile accounts do while a well-behaved one works.
type attack struct {
	name  string
	flags []string // of the router
	// prepare makes what the attack needs; it may be nil.
	prepare func(w *hostileWorld)
	// run attacks until ctx ends.
	run func(ctx context.Context, w *hostileWorld)
	// check looks at what the attack left; it may be nil.
	check func(w *hostileWorld)
}

const (
	hostileMemory = 512 << 20 // of the router with its sandbox processes, enforced where cgroups can be made
	hostilePeak   = 400 << 20 // what they may use
	// An attack lasts long enough for the account beside it to make some hundred requests.
	hostileTime = 1500 * time.Millisecond
)

// attacks are described by what one account, or a stranger, does.
var attacks = []attack{
	{name: "reads of large attempts", prepare: prepareLargeAttempts, run: readLargeAttempts},
	{name: "reads of large events", prepare: prepareLargeEvents, run: readLargeEvents},
	{name: "many large scripts", run: storeLargeScripts, check: restartInMemory},
	{name: "named targets with large headers", run: storeLargeTargets, check: restartInMemory},
	{name: "everything that is stored beside events", prepare: limitStoredBytes, run: storeEverything, check: diskIsBounded},
	{name: "failing events fill the store", flags: []string{"--keep-bytes", "67108864"}, run: publishLargeFailing},
	{name: "a loop through another name of the router", prepare: prepareLoop, run: publishToLoop, check: loopHasEnded},
	{name: "a loop of many subscriptions", prepare: prepareWideLoop, run: publishToLoop, check: wideLoopIsSlow},
	{name: "retries of many subscriptions to one host", prepare: subscribeManyToOneHost, run: publishToOneHost},
	{name: "verification requests", run: verifyManyTargets},
	{name: "a loop through reports of dead letters", prepare: prepareOperationalLoop, run: publishFailing, check: operationalLoopHasEnded},
	{name: "deliveries that call the router", run: retryByDelivery},
	{name: "retries and replays of one delivery", run: retryByHand},
	{name: "test events and changes of a target", run: testTargets},
	{name: "keys of one scope", run: useOneScope},
	{name: "hostile ids, cursors and headers", run: sendHostileNames},
	{name: "answers that nobody reads", prepare: prepareLargeEvents, run: readSlowly},
	{name: "many ids, idempotency keys and types", run: useManyNames},
	{name: "many accounts, keys and event types of an admin key", run: configureMuch, check: restartInMemory},
	{name: "endless previews", run: previewEndless},
	{name: "slow compiles", run: saveSlowScripts},
	{name: "costly filters", prepare: prepareCostlyFilters, run: publishCostly},
	{name: "many programs", prepare: prepareManyPrograms, run: publishMany},
	{name: "comparisons of many accounts", prepare: prepareComparisons, run: compareEndless},
	{name: "previews of many accounts", run: previewOfManyAccounts},
	{name: "costly ordering keys", prepare: prepareCostlyKeys, run: publishCostly},
	{name: "batches of tiny events", prepare: prepareManyTinyBatches, run: publishLists},
	{name: "lists that lead to many deliveries", prepare: prepareManySubscriptions, run: publishLists},
	{name: "unfinished bodies", run: sendUnfinishedBodies},
	{name: "unfinished bodies without a key", run: sendUnfinishedBodiesWithoutKey},
	{name: "unfinished chunked bodies of two accounts", run: sendUnfinishedChunks},
	{name: "JSON of many values", run: previewManyValues},
	{name: "large bodies on many connections", run: publishLargeOnManyConns},
	{name: "publishing on 2,000 connections", run: publishOnManyConns},
	{name: "changes of 300 subscriptions", prepare: prepareManyChanges, run: changeMany},
	{name: "connections with half a header", run: openManyConns},
	{name: "wrong keys", run: tryManyKeys},
	{name: "slow targets", prepare: prepareSlowTargets, run: publishSteadily},
	{name: "more events than can be delivered", prepare: prepareSink, run: publishMany},
	{name: "two accounts at once", prepare: prepareTwo, run: attackWithTwo},
}

// Accounts that do what they can to harm others: a well-behaved account beside them is served, its
// history stays, and the router keeps within its memory. HOSTILE_TIME=4s lengthens each attack;
// with go test -v, that shows the latencies alone and beside it.
func TestHostile_AccountsHarmThemselvesOnly(t *testing.T) {
	if testing.Short() {
		t.Skip("attacks a router for minutes")
	}
	for _, a := range attacks {
		t.Run(a.name, func(t *testing.T) { runAttack(t, &a) })
	}
}

func attackTime(t *testing.T) time.Duration {
	text := os.Getenv("HOSTILE_TIME")
	if text == "" {
		return hostileTime
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		t.Fatalf("HOSTILE_TIME: %v", err)
	}
	return d
}

func runAttack(t *testing.T, a *attack) {
	w := newHostileWorld(t, a.flags)
	good := newNeighbour(w, "neighbour")
	if a.prepare != nil {
		a.prepare(w)
	}
	alone := good.work(attackTime(t)/2, nil)
	beside := good.work(attackTime(t), func(ctx context.Context) { a.run(ctx, w) })
	good.checkHistory()
	if a.check != nil {
		a.check(w)
	}
	peak := w.router.memory.peak()
	t.Logf("peak %d MiB, requests of the attack %v\n%s", peak>>20, w.outcomes, compareLatencies(alone, beside))
	if peak > hostilePeak {
		t.Errorf("the router used %d MiB of memory", peak>>20)
	}
}

// hostileWorld is a router with limited memory, and a target that answers every request.
type hostileWorld struct {
	*testing.T
	data   string
	flags  []string
	router *limitedRouter
	sink   *httptest.Server
	slow   *httptest.Server // answers after 200 ms
	down   *httptest.Server // answers 500
	hits   atomic.Int64     // requests to down

	changed []string // subscriptions that an attack changes

	arrived sync.Map // number of the neighbour's event → time of its first delivery
	keys    sync.Map // account → key

	mu       sync.Mutex
	outcomes map[string]int // of the requests of the attack: how many had each status
}

// RoundTrip sends a request of the attack and counts its outcome.
func (w *hostileWorld) RoundTrip(req *http.Request) (*http.Response, error) {
	res, err := hostileTransport.RoundTrip(req)
	outcome := "no answer"
	if err == nil {
		outcome = strconv.Itoa(res.StatusCode)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.outcomes[outcome]++
	return res, err
}

var hostileTransport = &http.Transport{MaxIdleConnsPerHost: 512, MaxConnsPerHost: 512}

func newHostileWorld(t *testing.T, flags []string) *hostileWorld {
	w := &hostileWorld{T: t, data: t.TempDir(), flags: flags, outcomes: map[string]int{}}
	serve := func(h http.HandlerFunc) *httptest.Server {
		s := httptest.NewServer(h)
		t.Cleanup(func() { s.CloseClientConnections(); s.Close() })
		return s
	}
	w.sink = serve(func(rw http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		if n := r.Header.Get("X-Number"); n != "" {
			w.arrived.LoadOrStore(n, time.Now())
		}
	})
	w.slow = serve(func(rw http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		time.Sleep(200 * time.Millisecond)
	})
	w.down = serve(func(rw http.ResponseWriter, r *http.Request) {
		w.hits.Add(1)
		io.Copy(io.Discard, r.Body)
		rw.WriteHeader(http.StatusInternalServerError)
	})
	w.start()
	return w
}

// start starts the router, or starts it again on the same data.
func (w *hostileWorld) start() {
	w.Helper()
	if w.router != nil {
		if err := w.router.end(os.Interrupt); err != nil {
			w.Fatalf("the router ended with %v", err)
		}
	}
	w.router = startLimited(w.T, w.data, w.flags...)
}

// account returns a client with a key of an account, which may have scopes other than the usual ones.
func (w *hostileWorld) account(name string, scopes ...string) *api.Client {
	w.Helper()
	id := name + " " + strings.Join(scopes, " ")
	client := func(key string) *api.Client { // a refused request is not repeated
		c := &api.Client{URL: w.router.api.URL, Key: key, HTTP: &http.Client{}, Attempts: 1}
		if strings.HasPrefix(name, "hostile") {
			c.HTTP.Transport = w
		}
		return c
	}
	if key, ok := w.keys.Load(id); ok {
		return client(key.(string))
	}
	key, err := w.router.api.CreateKey(w.Context(), api.CreateKeyRequest{Account: name, Scopes: scopes})
	if err != nil {
		w.Fatal(err)
	}
	w.keys.Store(id, key.Key)
	return client(key.Key)
}

// hostile returns a client of the account that attacks. It does not repeat refused requests.
func (w *hostileWorld) hostile(scopes ...string) *api.Client { return w.account("hostile", scopes...) }

// subscribe creates a subscription, which must succeed.
func (w *hostileWorld) subscribe(c *api.Client, in api.SubscriptionRequest) *api.Subscription {
	w.Helper()
	s, err := c.CreateSubscription(w.Context(), in, api.AllowDuplicates())
	if err != nil {
		w.Fatal(err)
	}
	return s
}

// publish publishes an event, which must succeed.
func (w *hostileWorld) publish(c *api.Client, event string, data any) *api.AcceptedEvent {
	w.Helper()
	accepted, err := c.Publish(w.Context(), api.PublishRequest{Type: event, Data: data})
	if err != nil {
		w.Fatal(err)
	}
	return accepted
}

// concurrently calls do in n goroutines, again and again until ctx ends. do gets the number of the call.
func concurrently(ctx context.Context, n int, do func(ctx context.Context, i int)) {
	var group sync.WaitGroup
	var calls atomic.Int64
	for range n {
		group.Go(func() {
			for ctx.Err() == nil {
				do(ctx, int(calls.Add(1)))
			}
		})
	}
	group.Wait()
}

// limitedRouter is a router with limited memory.
type limitedRouter struct {
	*process
	memory *memoryWatch
}

func startLimited(t *testing.T, data string, flags ...string) *limitedRouter {
	t.Helper()
	limit := newMemoryLimit(t)
	p := launch(t, os.Stderr, data, append([]string{"--log-level", "error"}, flags...)...)
	limit(p.Process.Pid)
	r := &limitedRouter{p, watchMemory(t, p.Process.Pid)}
	testkit.WaitFor(t, "the router is ready", p.ready)
	return r
}

// newMemoryLimit makes a cgroup with hostileMemory. It returns the function that puts a process into
// it, which is called before the process has children.
func newMemoryLimit(t *testing.T) (limit func(pid int)) {
	for _, version := range []struct{ parent, limit string }{
		{"/sys/fs/cgroup/memory", "memory.limit_in_bytes"}, // version 1
		{"/sys/fs/cgroup", "memory.max"},
	} {
		group, err := os.MkdirTemp(version.parent, "switchhook-test-")
		if err != nil {
			continue
		}
		// It can be removed once its processes are gone.
		t.Cleanup(func() { testkit.WaitFor(t, "the cgroup is empty", func() bool { return os.Remove(group) == nil }) })
		if os.WriteFile(filepath.Join(group, version.limit), []byte(strconv.Itoa(hostileMemory)), 0) != nil {
			continue
		}
		return func(pid int) {
			if err := os.WriteFile(filepath.Join(group, "cgroup.procs"), []byte(strconv.Itoa(pid)), 0); err != nil {
				t.Error(err)
			}
		}
	}
	t.Log("no cgroup can be made here (root can): memory is measured, but not limited")
	return func(int) {}
}

// memoryWatch measures the memory of a process and its children from time to time.
type memoryWatch struct {
	pid  int
	most atomic.Int64 // bytes
}

func watchMemory(t *testing.T, pid int) *memoryWatch {
	m := &memoryWatch{pid: pid}
	ctx := t.Context()
	go func() {
		for ctx.Err() == nil {
			total := pss(pid)
			for _, child := range children(pid) {
				total += pss(child)
			}
			m.most.Store(max(m.most.Load(), total))
			time.Sleep(20 * time.Millisecond)
		}
	}()
	return m
}

// peak returns the highest measured value, in bytes; 0 where the system does not tell.
func (m *memoryWatch) peak() int64 { return m.most.Load() }

// pss returns the memory of a process in bytes; of what it shares with others, its part.
func pss(pid int) int64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "Pss:"); ok {
			kb, _ := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			return kb << 10
		}
	}
	return 0
}

func children(pid int) (list []int) {
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, task := range tasks {
		text, _ := os.ReadFile(task)
		for _, field := range strings.Fields(string(text)) {
			if child, err := strconv.Atoi(field); err == nil {
				list = append(list, child)
			}
		}
	}
	return list
}

// latencies are the durations of the operations of an account, by kind.
type latencies map[string][]time.Duration

// neighbour is an account that uses the router moderately.
type neighbour struct {
	*hostileWorld
	api  *api.Client
	name string

	mu        sync.Mutex
	published []string // numbers of the accepted events
	ids       map[string]bool
}

func newNeighbour(w *hostileWorld, name string) *neighbour {
	n := &neighbour{hostileWorld: w, api: w.account(name), name: name, ids: map[string]bool{}}
	w.subscribe(n.api, api.SubscriptionRequest{
		Event: api.Some(api.EventNames{"order.created"}), TargetURL: api.Some(w.sink.URL + "/plain"),
		Filter:    api.Some(`data.total > 10`),
		Transform: api.Some(`export default function transform(event, request) { request.headers["X-Number"] = event.data.number; return {total: event.data.total * 2} }`),
	})
	return n
}

// work publishes, reads, previews and saves for d, while run works beside it, which may be nil. A
// request that is refused or fails is an error.
func (n *neighbour) work(d time.Duration, run func(context.Context)) latencies {
	n.Helper()
	ctx, cancel := context.WithTimeout(n.Context(), d)
	defer cancel()
	measured, mu := latencies{}, sync.Mutex{}
	failed, failure := map[string]int{}, map[string]error{}
	var group sync.WaitGroup
	every := func(kind string, interval time.Duration, do func(ctx context.Context, i int) error) {
		group.Go(func() {
			for i, tick := 0, time.NewTicker(interval); ctx.Err() == nil; i++ {
				began := time.Now()
				err := do(n.Context(), i)
				mu.Lock()
				measured[kind] = append(measured[kind], time.Since(began))
				if err != nil {
					failed[kind]++
					failure[kind] = err
				}
				mu.Unlock()
				select {
				case <-tick.C:
				case <-ctx.Done():
				}
			}
		})
	}
	first := len(n.published)
	every("publish", 20*time.Millisecond, n.publishOne)
	every("list events", 100*time.Millisecond, n.listEvents)
	every("preview", 200*time.Millisecond, n.preview)
	every("save a script", 500*time.Millisecond, n.save)
	if run != nil {
		run(ctx)
	}
	group.Wait()
	for kind, err := range failure {
		n.Errorf("%s of the account beside the attack: %d of %d failed: %v", kind, failed[kind], len(measured[kind]), err)
	}
	if !n.router.ready() {
		n.Fatal("the router does not answer any more")
	}
	testkit.WaitFor(n.T, "the events of the account beside the attack are delivered", func() bool {
		return !slices.ContainsFunc(n.published[first:], func(number string) bool { _, ok := n.arrived.Load(number); return !ok })
	})
	for _, number := range n.published[first:] {
		sent, _ := strconv.ParseInt(strings.TrimPrefix(number, n.name), 10, 64)
		at, _ := n.arrived.Load(number)
		measured["delivery"] = append(measured["delivery"], at.(time.Time).Sub(time.Unix(0, sent)))
	}
	return measured
}

func (n *neighbour) publishOne(ctx context.Context, _ int) error {
	number := n.name + strconv.FormatInt(time.Now().UnixNano(), 10)
	accepted, err := n.api.Publish(ctx, api.PublishRequest{
		Type: "order.created", Data: map[string]any{"number": number, "total": 42, "note": strings.Repeat("x", 400)}})
	if err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.published = append(n.published, number)
	n.ids[accepted.ID] = true
	return nil
}

func (n *neighbour) listEvents(ctx context.Context, _ int) error {
	count := 0
	for _, err := range n.api.ListEvents(ctx, api.ListEventsParams{}, api.Query("limit", "10")) {
		if err != nil {
			return err
		}
		if count++; count == 10 {
			break
		}
	}
	return nil
}

func (n *neighbour) preview(ctx context.Context, _ int) error {
	filter, transform := "data.total > 1", "export default function transform(event, request) { return event.data }"
	p, err := n.api.Preview(ctx, api.PreviewRequest{Filter: &filter, Transform: &transform, Event: []byte(`{"type": "a", "data": {"total": 2}}`)})
	if err == nil && (p.Error != nil || p.Request == nil) {
		err = fmt.Errorf("the preview says %+v", p)
	}
	return err
}

func (n *neighbour) save(ctx context.Context, i int) error {
	_, err := n.api.CreateScript(ctx, api.CreateScriptRequest{
		Name: fmt.Sprintf("script %d of %d", i, time.Now().UnixNano()), Kind: "transform",
		Source: fmt.Sprintf("export default function transform(event, request) { return %d }", i),
	})
	return err
}

// checkHistory checks that every accepted event is still listed.
func (n *neighbour) checkHistory() {
	n.Helper()
	found := 0
	for event, err := range n.api.ListEvents(n.Context(), api.ListEventsParams{}) {
		if err != nil {
			n.Error(err)
			return
		}
		if n.ids[event.ID] {
			found++
		}
	}
	if found < len(n.ids) {
		n.Errorf("%d of %d events of the account beside the attack are left", found, len(n.ids))
	}
}

// compareLatencies returns a table of medians and 99th percentiles.
func compareLatencies(alone, beside latencies) string {
	var text strings.Builder
	fmt.Fprintf(&text, "%-14s %18s %18s\n", "ms p50 / p99", "alone", "beside")
	for _, kind := range []string{"publish", "delivery", "list events", "preview", "save a script"} {
		fmt.Fprintf(&text, "%-14s %18s %18s\n", kind, percentiles(alone[kind]), percentiles(beside[kind]))
	}
	return text.String()
}

func percentiles(list []time.Duration) string {
	if len(list) == 0 {
		return "none"
	}
	slices.SortFunc(list, func(a, b time.Duration) int { return cmp.Compare(a, b) })
	ms := func(part float64) float64 {
		return float64(list[int(part*float64(len(list)-1))].Microseconds()) / 1000
	}
	return fmt.Sprintf("%.1f / %.1f", ms(0.5), ms(0.99))
}
