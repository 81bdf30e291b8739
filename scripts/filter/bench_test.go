package filter

import (
	"fmt"
	"testing"

	"switchhook/scripts/jsonindex"
)

// A payload of 0.5 KB, the size of most webhooks.
const smallOrder = `{"id":"ord_10001","amount":129.5,"currency":"EUR","created":"2026-03-04T05:06:07Z","test":false,
"customer":{"id":"cus_77","name":"Asa Oberg","mail":"asa@shop.example","country":"US","city":"Portland","vip":true},
"items":[{"sku":"a-1","name":"Lamp","quantity":1,"price":9.5},{"sku":"b-2","name":"Table","quantity":1,"price":120}],
"shipping":{"method":"express","carrier":"dhl","tracking":"JD014600003SE","weight":12.4},
"payment":{"method":"card","brand":"visa","last4":"4242"}}`

const benchFilter = `data.amount > 100 && data.customer.country in ["US", "CA"] && data.currency == "EUR"`

func readInput(b *testing.B, data string) *Input {
	b.Helper()
	doc, err := jsonindex.Parse([]byte(data), jsonindex.Limits{})
	if err != nil {
		b.Fatal(err)
	}
	e := event(data)
	e.Doc = doc.Root()
	return NewInput(e)
}

func BenchmarkMatch(b *testing.B) {
	cases := []struct{ name, source string }{
		{"three paths", benchFilter},
		{"one path", `data.amount > 100`},
		{"first clause false", `data.amount > 1000 && data.customer.country in ["US", "CA"]`},
		{"type and header", `type == "order.created" && headers["X-Shop"] == "berlin"`},
		{"pattern", `data.customer.mail matches "@shop\\.example$"`},
		{"predicate over 2 objects", `any(data.items, .price > 100)`},
	}
	for _, c := range cases {
		b.Run(c.name, func(b *testing.B) {
			f, in := mustCompile(b, c.source), readInput(b, smallOrder)
			defer in.Release()
			b.ReportAllocs()
			for b.Loop() {
				_, _ = f.Match(in)
			}
		})
	}
}

func BenchmarkNewInputAndThreePaths(b *testing.B) {
	f := mustCompile(b, benchFilter)
	doc, _ := jsonindex.Parse([]byte(smallOrder), jsonindex.Limits{})
	e := event(smallOrder)
	b.Run("read already", func(b *testing.B) {
		e.Doc = doc.Root()
		b.ReportAllocs()
		for b.Loop() {
			in := NewInput(e)
			_, _ = f.Match(in)
			in.Release()
		}
	})
	b.Run("from bytes", func(b *testing.B) {
		e.Doc = jsonindex.Value{}
		b.ReportAllocs()
		for b.Loop() {
			in := NewInput(e)
			_, _ = f.Match(in)
			in.Release()
		}
	})
}

// One event is matched against the hundred filters of its type.
func BenchmarkHundredDistinctFilters(b *testing.B) {
	fields := []string{"amount", "customer.country", "shipping.weight", "payment.brand", "currency", "customer.vip", "shipping.method"}
	var filters []*Filter
	for i := range 100 {
		filters = append(filters, mustCompile(b, fmt.Sprintf(`data.amount > %d && data.%s != nil`, i, fields[i%len(fields)])))
	}
	doc, _ := jsonindex.Parse([]byte(smallOrder), jsonindex.Limits{})
	e := event(smallOrder)
	e.Doc = doc.Root()
	b.ReportAllocs()
	for b.Loop() {
		in := NewInput(e)
		for _, f := range filters {
			_, _ = f.Match(in)
		}
		in.Release()
	}
}

func BenchmarkCompile(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		mustCompile(b, benchFilter)
	}
}

func BenchmarkCompileWithSchema(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		mustCompile(b, `data.amount > 100 && data.customer.country in ["US", "CA"]`, []byte(orderSchema))
	}
}

func BenchmarkCacheHit(b *testing.B) {
	c := NewCache(1 << 20)
	for b.Loop() {
		_, _ = c.Compile(benchFilter)
	}
}

// The worst filters on payloads of a mebibyte; the aim is 10 ms.
func BenchmarkNasty(b *testing.B) {
	for _, c := range nastyFilters() {
		b.Run(c.name, func(b *testing.B) {
			f := mustCompile(b, c.source)
			doc, err := jsonindex.Parse([]byte(c.data), jsonindex.Limits{})
			if err != nil {
				b.Fatal(err)
			}
			e := event("")
			e.Doc = doc.Root()
			for b.Loop() {
				in := NewInput(e)
				_, _ = f.Match(in)
				in.Release()
			}
		})
	}
}
