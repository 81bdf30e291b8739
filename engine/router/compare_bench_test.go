package router_test

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"switchhook/engine"
	"switchhook/engine/evaluate"
	"switchhook/engine/router"
	"switchhook/engine/router/routertest"
	"switchhook/engine/settings"
	"switchhook/engine/target"
	"switchhook/storage/sqlite"
)

// benchEngine is an engine over a real database that delivers nothing: what is measured
// is the way in, or over what is stored.
func benchEngine(b *testing.B) *router.Engine {
	b.Helper()
	ctx := context.Background()
	store, err := sqlite.Open(ctx, sqlite.Options{Path: filepath.Join(b.TempDir(), "bench.db"), Logger: routertest.Quiet})
	if err != nil {
		b.Fatal(err)
	}
	e, err := router.New(ctx, settings.Config{Store: store, Transformer: routertest.Pool(), Logger: routertest.Quiet, Guard: target.NewGuard(target.Policy{Allow: target.Loopback})})
	if err != nil {
		b.Fatal(err)
	}
	if err := e.Start(ctx); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
		defer cancel()
		if err := e.Close(ctx); err != nil {
			b.Error(err)
		}
		if err := store.Close(); err != nil {
			b.Error(err)
		}
	})
	return e
}

const benchTransform = `export default ({data}) => ({
	orderId: data.id,
	buyer: data.customer.name,
	summary: ` + "`Order ${data.id} of ${data.customer.name} in ${data.customer.country}`" + `,
	lines: data.items.map(i => ({ code: i.sku, name: i.title, cost: i.quantity * i.price, label: ` + "`${i.quantity} x ${i.title}`" + ` })),
	total: data.total,
})`

// benchOrder is an event of about 0.5 KB.
func benchOrder(n int) string {
	return fmt.Sprintf(`{"id":"ord_%06d","total":129.5,"currency":"EUR","customer":{"name":"Ada Lovelace","country":"GB","email":"ada@example.com"},"items":[
		{"sku":"SKU-00001","title":"A thing of beauty","quantity":%d,"price":20.25,"attributes":{"color":"red","size":"L"},"vendor":"Acme"},
		{"sku":"SKU-00002","title":"Another thing","quantity":2,"price":34.5,"attributes":{"color":"blue","size":"M"},"vendor":"Acme"}],"note":null,"gift":false,"tags":["new","sale"]}`, n, n%5+1)
}

// BenchmarkCompare goes over 10,000 stored events, with live version and candidate both
// run in the sandbox.
func BenchmarkCompare(b *testing.B) {
	const events = 10_000
	ctx := context.Background()
	e := benchEngine(b)
	s, err := e.CreateScript(ctx, &engine.Script{Account: engine.DefaultAccount, Name: "order", Kind: engine.KindTransform}, benchTransform, "", "")
	if err != nil {
		b.Fatal(err)
	}
	v, _, err := e.AddScriptVersion(ctx, "", "order", strings.Replace(benchTransform, "total: data.total", "total: data.id.endsWith('7') ? 0 : data.total", 1), nil, "", "")
	if err != nil {
		b.Fatal(err)
	}
	for i := 0; i < events; i += 500 {
		batch := make([]engine.EventInput, 500)
		for j := range batch {
			batch[j] = event("order.created", benchOrder(i+j))
		}
		if _, err := e.Publish(ctx, batch); err != nil {
			b.Fatal(err)
		}
	}
	for b.Loop() {
		run, err := e.StartComparison(ctx, evaluate.Comparison{Script: "order", Candidate: evaluate.ScriptSource{Ref: engine.ScriptRef{Script: s.ID, Version: v.Number}}})
		if err != nil {
			b.Fatal(err)
		}
		totals, err := run.Run(ctx, func(evaluate.ComparedEvent) error { return nil }, func(evaluate.ComparisonTotals) error { return nil })
		if err != nil || totals.Events != events || totals.Differs != events/10 {
			b.Fatalf("%+v %v", totals, err)
		}
	}
	b.ReportMetric(events*float64(b.N)/b.Elapsed().Seconds(), "events/s")
	b.ReportMetric(b.Elapsed().Seconds()/float64(b.N), "s/comparison")
}

// BenchmarkPublishBesideSubscriptions publishes events that one subscription is asked for,
// alone or beside 9,999 on 100 other types: the difference is what others cost a
// publisher.
func BenchmarkPublishBesideSubscriptions(b *testing.B) {
	ctx := context.Background()
	for _, n := range []int{1, 10_000} {
		b.Run(fmt.Sprintf("subscriptions=%d", n), func(b *testing.B) {
			e := benchEngine(b)
			subscribe := func(kind string) {
				_, err := e.CreateSubscription(ctx, &engine.Subscription{
					Account: engine.DefaultAccount, Events: []string{kind}, TargetURL: "http://127.0.0.1:9/", Active: true, Filter: "data.total > 1e9", Secret: "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
				})
				if err != nil {
					b.Fatal(err)
				}
			}
			subscribe("type.0") // the one that is asked in both cases
			for i := 1; i < n; i++ {
				subscribe(fmt.Sprintf("type.%d", 1+i%100))
			}
			batch := make([]engine.EventInput, 100)
			for i := range batch {
				batch[i] = event("type.0", benchOrder(i))
			}
			for b.Loop() {
				if _, err := e.Publish(ctx, batch); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(batch)), "ns/event")
		})
	}
}
