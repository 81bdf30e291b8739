package router_test

import (
	"context"
	"net/http"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"switchhook/engine"
	"switchhook/engine/router"
	"switchhook/engine/router/routertest"
	"switchhook/engine/settings"
	"switchhook/engine/target"
	"switchhook/storage/sqlite"
)

// countedAt answers every attempt at once, so that what is measured is the router and not a
// network.
type counted struct{ posts atomic.Int64 }

// RoundTrip implements http.RoundTripper.
func (c *counted) RoundTrip(*http.Request) (*http.Response, error) {
	c.posts.Add(1)
	return &http.Response{StatusCode: http.StatusNoContent, Header: http.Header{}, Body: http.NoBody}, nil
}

// BenchmarkDeliver takes events from Publish to the target's answer, over a real database.
func BenchmarkDeliver(b *testing.B) {
	b.Run("plain", func(b *testing.B) { benchDeliver(b, func(*engine.Subscription) {}, 1) })
}

func benchDeliver(b *testing.B, change func(*engine.Subscription), perPost int) {
	const batch = 500
	ctx := context.Background()
	store, err := sqlite.Open(ctx, sqlite.Options{Path: filepath.Join(b.TempDir(), "bench.db"), Logger: routertest.Quiet})
	if err != nil {
		b.Fatal(err)
	}
	posts := &counted{}
	e, err := router.New(ctx, settings.Config{
		Store: store, Transformer: routertest.Pool(), Logger: routertest.Quiet, Transport: posts,
		Guard: target.NewGuard(target.Policy{Allow: target.Loopback}),
	})
	if err != nil {
		b.Fatal(err)
	}
	if err := e.Start(ctx); err != nil {
		b.Fatal(err)
	}
	sub := &engine.Subscription{Account: engine.DefaultAccount, Events: []string{"*"}, TargetURL: "http://127.0.0.1:9/", Active: true}
	change(sub)
	if _, err := e.CreateSubscription(ctx, sub); err != nil {
		b.Fatal(err)
	}
	events := make([]engine.EventInput, batch)
	for i := range events {
		events[i] = event("order.created", benchOrder(i))
	}
	want := int64(0)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := e.Publish(ctx, events); err != nil {
			b.Fatal(err)
		}
		for want += int64(batch / perPost); posts.posts.Load() < want; {
			time.Sleep(20 * time.Microsecond)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*batch), "ns/event")
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	if err := e.Close(ctx); err != nil {
		b.Error(err)
	}
	if err := store.Close(); err != nil {
		b.Error(err)
	}
}
