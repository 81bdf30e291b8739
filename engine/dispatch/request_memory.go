package dispatch

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"switchhook/engine/fairlimit"
	"switchhook/engine/telemetry"
)

const (
	// smallRequest is the number of bytes up to which a request is not counted: so many attempts may
	// be in flight that their small requests are negligible.
	smallRequest = 16 << 10
	// unknownRequest is reserved for an event that must be read and for what a transform returns,
	// until the size is known.
	unknownRequest = 1 << 20
	// preparedDelivery is about what a delivery of a batch takes besides its body until the request is
	// complete, and sentDelivery what it takes from then on.
	preparedDelivery, sentDelivery = 3 << 10, 1 << 10
	// requestWait is how long an attempt waits for memory before its deliveries go back to their queue.
	requestWait = 10 * time.Second
)

// newRequestMemory returns the limiter of the bytes of requests in flight. An account may use three
// quarters of them.
func newRequestMemory(bytes int64, r prometheus.Registerer) *fairlimit.Limiter {
	l := fairlimit.New(fairlimit.Limits{Units: bytes, PerAccount: max(1, bytes*3/4), Wait: requestWait})
	r.MustRegister(telemetry.NewPlacesCollector("requests_in_flight", l))
	return l
}

// requestBytes returns the most memory that the request of an attempt may take, besides events that
// are in memory already.
func requestBytes(f *flight) (bytes int64) {
	for i := range f.batch.Len() {
		if h, ok := f.batch.At(i).Payload.(*cachedEvent); ok {
			bytes += int64(len(h.ev.Data))
		} else {
			bytes += 2 * unknownRequest // the event, and the body made of it
		}
	}
	if f.compiled.Transform.Source != "" {
		bytes = max(bytes, unknownRequest)
	}
	bytes = min(bytes, 4*unknownRequest) // a batch is cut at 1 MiB
	if n := f.batch.Len(); n > 1 {
		bytes += int64(n) * preparedDelivery
	}
	return bytes
}

// memory returns the memory that the requests of a batch and their events take.
func (b *batch) memory() (bytes int64) {
	for i := range b.attempts {
		at := &b.attempts[i]
		bytes += int64(len(at.body))
		if at.event != nil && at.entry.Payload == nil {
			bytes += int64(len(at.event.Data))
		}
	}
	if n := len(b.attempts); n > 1 {
		bytes += int64(n) * sentDelivery
	}
	return bytes
}

// holdMemory waits until the request of an attempt fits in memory; ok is false if it does not. h is
// nil for a small request.
func (d *Dispatcher) holdMemory(f *flight) (h *fairlimit.Hold, ok bool) {
	bytes := requestBytes(f)
	if bytes <= smallRequest {
		return nil, true
	}
	h, err := d.requests.Hold(d.life.StopContext(), f.queue.account.name, "", bytes)
	return h, err == nil
}
