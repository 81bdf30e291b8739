package server_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"switchhook/engine"
	"switchhook/server"
)

// One account may publish with any number of requests at the same time: those of another one do not
// wait behind them.
func TestPublish_RequestsOfAccountWaitForEachOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := server.NewPublishPlaces()
		begun, ends := make(chan func(), 1000), make(chan error, 1000)
		for range 1000 {
			go func() {
				release, err := p.Acquire(t.Context(), "many")
				if err != nil {
					ends <- err
					return
				}
				begun <- release
			}()
		}
		synctest.Wait()
		running := len(begun)
		if running < 100 || running > 200 {
			t.Errorf("%d requests of one account are in progress", running)
		}
		for range 10 {
			release, err := p.Acquire(t.Context(), "few")
			if err != nil {
				t.Fatal(err)
			}
			release()
		}
		for range 500 {
			(<-begun)() // requests that waited follow
			synctest.Wait()
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if refused := len(ends); refused == 0 || refused+len(begun) != 500 {
			t.Fatalf("%d are refused, %d are in progress", refused, len(begun))
		}
		if err := <-ends; engine.ErrorCode(err) != engine.CodeBusy {
			t.Error(err)
		}
		for len(begun) > 0 {
			(<-begun)()
		}
		for range running {
			if _, err := p.Acquire(t.Context(), "many"); err != nil {
				t.Fatal(err)
			}
		}
	})
}

func TestPublish_RequestsThatWaitAreToldThatTheServerStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := server.NewPublishPlaces()
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		var err error
		for err == nil { // the first that waits ends when the server stops
			time.AfterFunc(time.Second, stop)
			_, err = p.Acquire(ctx, "a")
		}
		if engine.ErrorCode(err) != engine.CodeUnavailable {
			t.Error(err)
		}
	})
}
