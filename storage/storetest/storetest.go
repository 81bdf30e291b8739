// Package storetest is the contract suite that every engine.Store must pass. It checks what
// the comments of that interface promise.
package storetest

import (
	"bytes"
	"context"
	"fmt"
	"reflect"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"switchhook/engine"
	"switchhook/engine/snowflake"
)

// Open makes an empty store for one test. reopen closes it and opens it again from disk.
// Both must fail the test on an error.
type Open func(t *testing.T) (store engine.Store, reopen func() engine.Store)

// Run runs the suite, each test in a store of its own, in parallel.
func Run(t *testing.T, open Open) {
	for _, group := range [][]check{events, sequences, deliveries, listings, pages, housekeeping, catalog, secrets, replays, audit, requests, lifecycle, hostile} {
		for _, c := range group {
			t.Run(c.name, func(t *testing.T) {
				t.Parallel()
				s, reopen := open(t)
				c.run(&suite{T: t, s: s, reopen: reopen, positions: map[engine.DeliveryID]engine.Position{}})
			})
		}
	}
}

type check struct {
	name string
	run  func(*suite)
}

// suite is one test and its store.
type suite struct {
	*testing.T
	s         engine.Store
	reopen    func() engine.Store
	positions map[engine.DeliveryID]engine.Position // of appended deliveries
}

// ctx returns a context that ends before the test binary would time out.
func (t *suite) ctx() context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// base is the time of the suite's events, so that ids and times are the same in each run.
var base = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

var sequence atomic.Int64

// newID returns growing ids, as the engine's are.
func newID() engine.ID { return snowflake.FirstAt(base) + engine.ID(sequence.Add(1)) }

// event returns an event of account "acme" and type "order.created".
func event(targets ...engine.ID) *engine.Event {
	id := newID()
	return &engine.Event{
		ID: id, Account: "acme", Type: "order.created", Time: base.Add(123 * time.Millisecond),
		Data: fmt.Appendf(nil, `{"n":%d}`, id), Targets: targets,
	}
}

func (t *suite) append(events ...*engine.Event) {
	t.Helper()
	batch := make([]engine.NewEvent, len(events))
	for i, e := range events {
		batch[i].Event = e
	}
	results, err := t.s.Append(t.ctx(), batch)
	t.must(err)
	for i, r := range results {
		for j, target := range events[i].Targets {
			t.positions[id(events[i], target)] = r.Position(j)
		}
		r.Positions = nil
		t.equal("appended", r, engine.Appended{ID: events[i].ID, Matched: len(events[i].Targets)})
	}
}

// waiting returns a delivery of an appended event as the store must list it.
func (t *suite) waiting(d engine.DeliveryID, attempts int) engine.Waiting {
	return engine.Waiting{ID: d, Position: t.positions[d], Attempts: attempts}
}

// record records outcomes and waits until all are on disk.
func (t *suite) record(outcomes ...*engine.Outcome) {
	t.Helper()
	errs := make(chan error, len(outcomes))
	for _, o := range outcomes {
		t.s.Record(o, func(err error) { errs <- err })
	}
	for range outcomes {
		select {
		case err := <-errs:
			t.must(err)
		case <-time.After(time.Minute):
			t.Fatal("an outcome was not answered in a minute")
		}
	}
}

func id(e *engine.Event, subscription engine.ID) engine.DeliveryID {
	return engine.DeliveryID{Event: e.ID, Subscription: subscription}
}

// tried is the outcome of attempt n.
func tried(d engine.DeliveryID, state engine.State, n, status int) *engine.Outcome {
	o := &engine.Outcome{ID: d, State: state, Attempts: n, Attempt: &engine.Attempt{
		Number: n, At: base.Add(time.Duration(n) * time.Minute), Duration: 1500 * time.Microsecond,
		Request:  engine.AttemptRequest{Method: "POST", URL: "https://example.com/hook", Plain: engine.FormatStandard},
		Response: engine.AttemptResponse{Status: status},
	}}
	if state != engine.StateSucceeded {
		o.Error, o.Attempt.Error, o.Attempt.Phase = fmt.Sprintf("answered %d", status), "refused it", "http"
	}
	return o
}

// failed is the outcome of a failed attempt n, with the next one due at next.
func failed(d engine.DeliveryID, n int, next time.Time) *engine.Outcome {
	o := tried(d, engine.StateRetrying, n, 503)
	o.NextAt = next
	return o
}

// waits is the outcome of a delivery that is pending after n attempts.
func waits(d engine.DeliveryID, n int) *engine.Outcome {
	return &engine.Outcome{ID: d, State: engine.StatePending, Attempts: n}
}

func (t *suite) delivery(d engine.DeliveryID) *engine.Delivery {
	t.Helper()
	got, err := t.s.Delivery(t.ctx(), "", d)
	t.must(err)
	return got
}

// attempts returns a delivery's attempts, oldest first, and compares them with the list of them.
func (t *suite) attempts(d engine.DeliveryID) []*engine.Attempt {
	t.Helper()
	list, next, err := t.s.Attempts(t.ctx(), engine.AttemptQuery{Delivery: d})
	t.must(err)
	t.equal("cursor of all attempts", next, 0)
	var got []*engine.Attempt
	for _, listed := range slices.Backward(list) {
		a, err := t.s.Attempt(t.ctx(), d, listed.Number)
		t.must(err)
		bodiless := *a
		bodiless.Request.Body, bodiless.Request.Size = nil, len(a.Request.Body)
		bodiless.Response.Body, bodiless.Response.Size = nil, len(a.Response.Body)
		t.equal("attempt in a list", listed, &bodiless)
		got = append(got, a)
	}
	return got
}

func (t *suite) list(q engine.DeliveryQuery) []engine.DeliveryID {
	t.Helper()
	got := []engine.DeliveryID{}
	for {
		list, next, err := t.s.Deliveries(t.ctx(), q)
		t.must(err)
		got = append(got, ids(list)...)
		if q.Before = next; next == (engine.DeliveryID{}) || q.Limit > 0 {
			return got
		}
	}
}

func ids(list []*engine.Delivery) []engine.DeliveryID {
	out := make([]engine.DeliveryID, len(list))
	for i, d := range list {
		out[i] = d.ID
	}
	return out
}

func (t *suite) must(err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// code fails the test unless err is an engine.Error with that code.
func (t *suite) code(err error, want engine.Code) {
	t.Helper()
	if got := engine.ErrorCode(err); got != want {
		t.Fatalf("error is %v with code %q, want code %q", err, got, want)
	}
}

// equal compares deeply. Lists and maps without entries equal nil ones, byte slices do not:
// an empty body differs from no body.
func (t *suite) equal(what string, got, want any) {
	t.Helper()
	if !same(reflect.ValueOf(got), reflect.ValueOf(want)) {
		t.Fatalf("%s:\n got %s\nwant %s", what, show(got), show(want))
	}
}

func same(a, b reflect.Value) bool {
	if !a.IsValid() || !b.IsValid() {
		return a.IsValid() == b.IsValid()
	}
	if a.Type() != b.Type() {
		return false
	}
	if t, ok := a.Interface().(time.Time); ok {
		u := b.Interface().(time.Time)
		return t.Equal(u) && t.Location() == u.Location()
	}
	switch a.Kind() {
	case reflect.Pointer:
		return a.IsNil() == b.IsNil() && (a.IsNil() || same(a.Elem(), b.Elem()))
	case reflect.Struct:
		for i := range a.NumField() {
			if !same(a.Field(i), b.Field(i)) {
				return false
			}
		}
		return true
	case reflect.Slice:
		if a.Type().Elem().Kind() == reflect.Uint8 {
			return a.IsNil() == b.IsNil() && bytes.Equal(a.Bytes(), b.Bytes())
		}
		if a.Len() != b.Len() {
			return false
		}
		for i := range a.Len() {
			if !same(a.Index(i), b.Index(i)) {
				return false
			}
		}
		return true
	case reflect.Map:
		return a.Len() == 0 && b.Len() == 0 || reflect.DeepEqual(a.Interface(), b.Interface())
	}
	return reflect.DeepEqual(a.Interface(), b.Interface())
}

func show(v any) string {
	r := reflect.ValueOf(v)
	switch {
	case r.Kind() == reflect.Pointer && !r.IsNil():
		return "&" + show(r.Elem().Interface())
	case r.Kind() == reflect.Slice && r.Type().Elem().Kind() == reflect.Pointer:
		text := "["
		for i := range r.Len() {
			text += show(r.Index(i).Interface()) + " "
		}
		return text + "]"
	}
	return fmt.Sprintf("%+v", v)
}
