package sandbox_test

import (
	"encoding/json"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"switchhook/scripts/sandbox"
	"switchhook/scripts/scriptstest"

	"golang.org/x/sys/unix"
)

const benchSource = `
export default function transform(event, request) {
  const order = event.data
  return {
    orderId: order.id,
    buyer: order.customer.name,
    summary: ` + "`Order ${order.id} of ${order.customer.name} in ${order.customer.country}`" + `,
    lines: order.items.map(i => ({ code: i.sku, name: i.title, count: i.quantity, cost: i.quantity * i.price, label: ` + "`${i.quantity} x ${i.title}`" + ` })),
    total: order.total,
  }
}`

// cpu returns the CPU time that this process and the children pid have used.
func cpu(pids []string) time.Duration {
	var u unix.Rusage
	_ = unix.Getrusage(unix.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano()+u.Stime.Nano()) + childrenCPU(pids)
}

// childrenCPU returns the CPU time that the children pid have used.
func childrenCPU(pids []string) (total time.Duration) {
	for _, text := range pids {
		pid, _ := strconv.Atoi(text)
		var t unix.Timespec
		if unix.ClockGettime(int32(^pid<<3|2), &t) == nil {
			total += time.Duration(t.Nano())
		}
	}
	return total
}

// BenchmarkTransform measures the CPU time of both sides of the pipe. The plain case does the
// same work in Go, for the ratio.
func BenchmarkTransform(b *testing.B) {
	p := start(b, sandbox.Config{})
	prog := compile(b, p, benchSource)
	time.Sleep(300 * time.Millisecond) // all children are running
	for _, items := range []int{2, 24} {
		ev := event(string(scriptstest.Order(items)))
		res, err := p.Run(b.Context(), prog, ev, post)
		if err != nil {
			b.Fatal(err)
		}
		want, _ := plain(ev.Data)
		if string(want) != string(res.Body) {
			b.Fatalf("%s\n%s", want, res.Body)
		}
		b.Run(fmt.Sprintf("sandbox/%dB", len(ev.Data)), func(b *testing.B) {
			pids := listChildren()
			began := cpu(pids)
			var wg sync.WaitGroup
			var inScript atomic.Int64
			const callers = 64
			for c := range callers {
				wg.Go(func() {
					for i := c; i < b.N; i += callers {
						res, err := p.Run(b.Context(), prog, ev, post)
						if err != nil {
							b.Error(err)
							return
						}
						inScript.Add(int64(res.CPU))
					}
				})
			}
			wg.Wait()
			b.ReportMetric(float64(cpu(pids)-began)/float64(b.N)/1e3, "cpu-µs/op")
			b.ReportMetric(float64(inScript.Load())/float64(b.N)/1e3, "child-cpu-µs/op")
		})
		b.Run(fmt.Sprintf("go/%dB", len(ev.Data)), func(b *testing.B) {
			began := cpu(nil)
			for range b.N {
				if _, err := plain(ev.Data); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(cpu(nil)-began)/float64(b.N)/1e3, "cpu-µs/op")
		})
	}
}

func plain(data []byte) ([]byte, error) {
	var in struct {
		ID       string
		Total    float64
		Customer struct{ Name, Country string }
		Items    []struct {
			SKU, Title string
			Quantity   int
			Price      float64
		}
	}
	if err := json.Unmarshal(data, &in); err != nil {
		return nil, err
	}
	type line struct {
		Code  string  `json:"code"`
		Name  string  `json:"name"`
		Count int     `json:"count"`
		Cost  float64 `json:"cost"`
		Label string  `json:"label"`
	}
	out := struct {
		OrderID string  `json:"orderId"`
		Buyer   string  `json:"buyer"`
		Summary string  `json:"summary"`
		Lines   []line  `json:"lines"`
		Total   float64 `json:"total"`
	}{OrderID: in.ID, Buyer: in.Customer.Name, Total: in.Total}
	out.Summary = fmt.Sprintf("Order %s of %s in %s", in.ID, in.Customer.Name, in.Customer.Country)
	for _, i := range in.Items {
		out.Lines = append(out.Lines, line{i.SKU, i.Title, i.Quantity, float64(i.Quantity) * i.Price, fmt.Sprintf("%d x %s", i.Quantity, i.Title)})
	}
	return json.Marshal(out)
}
