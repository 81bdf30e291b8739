package router_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"switchhook/engine"
	"switchhook/engine/catalog"
	"switchhook/engine/ingest"
	"switchhook/engine/router"
	"switchhook/engine/router/routertest"
	"switchhook/engine/settings"
	"switchhook/engine/target"
	"switchhook/storage/sqlite"
)

const (
	isolationTargets = 100
	isolationRate    = 500 // events a second
)

// BenchmarkIsolation measures how long deliveries to 100 healthy targets take at a steady
// load, alone and beside two that get every event: one that never answers and one where
// nobody listens. Each event is one operation, so give a number of them:
//
//	go test ./engine -run - -bench Isolation -benchtime 5000x
func BenchmarkIsolation(b *testing.B) {
	b.Run("alone", func(b *testing.B) { benchmarkIsolation(b, false) })
	b.Run("beside dead targets", func(b *testing.B) { benchmarkIsolation(b, true) })
}

func benchmarkIsolation(b *testing.B, dead bool) {
	e := routerOn(b, filepath.Join(b.TempDir(), "test.db"))
	var mu sync.Mutex
	var took []time.Duration
	late := map[string]bool{} // what the dead targets were sent once they lived
	healthy := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		now := time.Now()
		var body [64]byte
		n, _ := r.Body.Read(body[:])
		mu.Lock()
		defer mu.Unlock()
		if r.URL.Path != "/" {
			late[r.URL.Path+string(body[:n])] = true
			return
		}
		sent, _ := strconv.ParseInt(string(body[:n]), 10, 64)
		took = append(took, now.Sub(time.Unix(0, sent)))
	}))
	defer healthy.Close()
	gate := make(chan struct{})
	hanging := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-gate }))
	defer hanging.Close()
	defer close(gate)

	subscribe := func(event, url string, policy engine.Policy) *engine.Subscription {
		s, err := e.CreateSubscription(context.Background(), &engine.Subscription{
			Account: engine.DefaultAccount, Events: []string{event}, TargetURL: url, Active: true, PayloadFormat: engine.FormatData, Policy: policy,
		})
		if err != nil {
			b.Fatal(err)
		}
		return s
	}
	for i := range isolationTargets {
		subscribe(fmt.Sprintf("t%d", i), healthy.URL, engine.Policy{})
	}
	var ill []*engine.Subscription
	if dead {
		patient := engine.Policy{Timeout: time.Second, Retries: append(engine.RetrySchedule{0}, slices.Repeat(engine.RetrySchedule{3 * time.Second}, 49)...)}
		ill = append(ill, subscribe("*", hanging.URL, patient), subscribe("*", refusing(b), patient))
	}
	b.ResetTimer()
	ticker := time.NewTicker(time.Second / isolationRate)
	defer ticker.Stop()
	for i := range b.N {
		<-ticker.C
		in := event(fmt.Sprintf("t%d", i%isolationTargets), strconv.FormatInt(time.Now().UnixNano(), 10))
		if _, err := e.Publish(context.Background(), []engine.EventInput{in}); err != nil {
			b.Fatal(err)
		}
	}
	count := func() (int, int) {
		mu.Lock()
		defer mu.Unlock()
		return len(took), len(late)
	}
	await(b, "all have come", func() bool { n, _ := count(); return n >= b.N })
	b.StopTimer()
	b.ReportMetric(rss(b), "MB-RSS")
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "p50-ms")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "p99-ms")
	b.ReportMetric(0, "ns/op")

	// Nothing is lost: once the dead targets live, they get all that they were owed.
	for i, s := range ill {
		if _, err := e.UpdateSubscription(context.Background(), "", s.ID, catalog.AnyVersion, func(s *engine.Subscription) error {
			s.TargetURL = fmt.Sprintf("%s/%d/", healthy.URL, i)
			return nil
		}); err != nil {
			b.Fatal(err)
		}
	}
	await(b, "the dead targets have all", func() bool { _, n := count(); return n == len(ill)*b.N })
}

// BenchmarkStartWithABacklog measures the start of an engine that finds 100,000 deliveries
// waiting for a target where nobody listens.
func BenchmarkStartWithABacklog(b *testing.B) {
	const backlog = 100_000
	path := filepath.Join(b.TempDir(), "test.db")
	first := routerOn(b, path)
	if _, err := first.CreateSubscription(context.Background(), &engine.Subscription{
		Account: engine.DefaultAccount, Events: []string{"*"}, TargetURL: refusing(b), Active: true,
	}); err != nil {
		b.Fatal(err)
	}
	batch := make([]engine.EventInput, ingest.MaxBatch)
	for i := range batch {
		batch[i] = event("a", `{"id":1001,"text":"`+strings.Repeat("x", 400)+`"}`)
	}
	for range backlog / len(batch) {
		if _, err := first.Publish(context.Background(), batch); err != nil {
			b.Fatal(err)
		}
	}
	first.close()
	for b.Loop() {
		e := routerOn(b, path)
		b.StopTimer()
		b.ReportMetric(rss(b), "MB-RSS")
		e.close()
		b.StartTimer()
	}
}

type benchmarked struct {
	*router.Engine
	close func()
}

// routerOn starts an engine over a real database.
func routerOn(b *testing.B, path string) benchmarked {
	store, err := sqlite.Open(context.Background(), sqlite.Options{Path: path, Logger: routertest.Quiet, Pace: time.Millisecond})
	if err != nil {
		b.Fatal(err)
	}
	e, err := router.New(context.Background(), settings.Config{
		Store: store, Transformer: routertest.Pool(), Logger: routertest.Quiet, Guard: target.NewGuard(target.Policy{Allow: target.Loopback}),
	})
	if err != nil {
		b.Fatal(err)
	}
	if err := e.Start(context.Background()); err != nil {
		b.Fatal(err)
	}
	closed := sync.OnceFunc(func() {
		if err := e.Close(context.Background()); err != nil {
			b.Error(err)
		}
		store.Close()
	})
	b.Cleanup(closed)
	return benchmarked{e, closed}
}

// refusing is a URL where nobody listens.
func refusing(b *testing.B) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	return "http://" + l.Addr().String()
}

func await(b *testing.B, what string, met func() bool) {
	for deadline := time.Now().Add(2 * time.Minute); !met(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			b.Fatalf("waited in vain until %s", what)
		}
	}
}

// rss is the memory of this process, targets included, in MB.
func rss(b *testing.B) float64 {
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0 // not on Linux
	}
	_, rest, _ := strings.Cut(string(text), "VmRSS:")
	kib, err := strconv.Atoi(strings.Fields(rest)[0])
	if err != nil {
		b.Fatal(err)
	}
	return float64(kib) / 1024
}
