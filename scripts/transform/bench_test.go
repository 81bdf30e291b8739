package transform_test

import (
	"fmt"
	"testing"

	"switchhook/scripts"
	"switchhook/scripts/scriptstest"
)

const benchSource = `
export default function transform(event, request) {
  const { customer, items, ...order } = event.data
  return {
    orderId: order.id,
    buyer: customer.name,
    summary: ` + "`Order ${order.id} of ${customer.name} in ${customer.country}`" + `,
    lines: items.map(i => ({ code: i.sku, name: i.title, count: i.quantity, cost: i.quantity * i.price, label: ` + "`${i.quantity} x ${i.title}`" + ` })),
    total: order.total,
  }
}`

func BenchmarkRun(b *testing.B) {
	l := load(b, benchSource)
	for _, items := range []int{2, 24} {
		ev := event(string(scriptstest.Order(items)))
		b.Run(fmt.Sprintf("%dB", len(ev.Data)), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := l.Run(ev, request(), scripts.DefaultLimits(), nil); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkHelpers measures a run that uses one helper once; "none" is the run itself.
func BenchmarkHelpers(b *testing.B) {
	cases := []struct{ name, expression string }{
		{"none", `1`},
		{"console", `console.log("a")`},
		{"crypto", `crypto.hmac("sha256", "key", "data")`},
		{"base64", `base64.encode("data")`},
		{"formatDate", `formatDate(0, "yyyy-MM-dd", "Europe/Berlin")`},
		{"URL", `new URL("https://example.com/a?b=c").host`},
		{"searchParams", `new URL("https://example.com/a?b=c").searchParams.get("b")`},
		{"TextEncoder", `new TextEncoder().encode("data").length`},
		{"structuredClone", `structuredClone({a: [1, 2, {b: 3}]})`},
	}
	for _, c := range cases {
		l := load(b, "export default () => ["+c.expression+"]")
		ev := event(`{}`)
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := l.Run(ev, scripts.Request{}, scripts.DefaultLimits(), nil); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
