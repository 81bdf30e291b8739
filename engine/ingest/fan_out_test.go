package ingest

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"switchhook/engine"
)

// A request with many deliveries waits for its place before its events have ids.
func TestFanOut_PlaceComesFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		places := newFanOut(prometheus.NewRegistry())
		many := &engine.Event{Type: "a", Targets: make([]engine.ID, fewDeliveries/2+1)}
		var requests [accountFanOutPlaces]fanOut
		for i := range requests {
			f := &requests[i]
			f.places = places
			if err := f.add(many, 1); err != nil {
				t.Fatal(err)
			}
			if err := f.add(many, 1); !errors.Is(err, errManyDeliveries) {
				t.Fatalf("without a place: %v", err)
			}
			if err := f.acquire(t.Context(), "a"); err != nil {
				t.Fatal(err)
			}
			if err := f.add(many, 1); err != nil {
				t.Errorf("with a place: %v", err)
			}
		}
		further := fanOut{places: places}
		if err := further.acquire(t.Context(), "a"); engine.ErrorCode(err) != engine.CodeBusy {
			t.Error(err)
		}
		stopping, stop := context.WithTimeout(t.Context(), time.Second)
		defer stop()
		if err := further.acquire(stopping, "a"); engine.ErrorCode(err) != engine.CodeUnavailable {
			t.Error(err)
		}
		further.end() // it has none
		for i := range requests {
			requests[i].end()
		}
		if u := places.Usage(); u.InUse != 0 || u.Waiting != 0 {
			t.Errorf("%+v", u)
		}
	})
}

func TestFanOut_ListHasALimit(t *testing.T) {
	f := fanOut{release: func() {}}
	half := &engine.Event{Type: "a", Targets: make([]engine.ID, maxListDeliveries/2+1)}
	if err := f.add(half, 2); err != nil {
		t.Error(err)
	}
	if err := f.add(half, 2); engine.ErrorCode(err) != engine.CodeInvalid {
		t.Error(err)
	}
	one := fanOut{release: func() {}}
	if err := one.add(&engine.Event{Type: "a", Targets: make([]engine.ID, maxListDeliveries+1)}, 1); err != nil {
		t.Errorf("a single event: %v", err)
	}
	operational := fanOut{}
	if err := operational.add(&engine.Event{Type: engine.TypeDead, Targets: make([]engine.ID, fewDeliveries+1)}, 1); err != nil {
		t.Errorf("an event of the router: %v", err)
	}
}
