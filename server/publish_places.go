package server

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"switchhook/engine"
	"switchhook/engine/fairlimit"
	"switchhook/engine/lifecycle"
)

// More publish requests at the same time do not make the router faster: they only wait for each other,
// in the order in which they came. So the first few take no place, which costs nothing; the others
// take places that accounts share.
const (
	freePublishing       = 64
	maxPublishing        = 128
	maxAccountPublishing = 64
	publishWait          = 10 * time.Second
)

// publishPlaces limits the publish requests in progress, so that those of one account don't all have
// to be stored before the next one of another account.
type publishPlaces struct {
	free    atomic.Int64 // requests without a place
	leave   func()       // ends one
	limiter *fairlimit.Limiter
}

func newPublishPlaces() *publishPlaces {
	p := &publishPlaces{limiter: fairlimit.New(fairlimit.Limits{Units: maxPublishing, PerAccount: maxAccountPublishing, Wait: publishWait})}
	p.leave = func() { p.free.Add(-1) }
	return p
}

// acquire waits until an account may publish; release ends that. ctx ends when the server stops. Errors:
// CodeBusy, CodeUnavailable.
func (p *publishPlaces) acquire(ctx context.Context, account string) (release func(), err error) {
	if p.free.Add(1) <= freePublishing {
		return p.leave, nil
	}
	p.leave()
	release, err = p.limiter.Acquire(ctx, account, "", 1)
	switch {
	case err == nil:
		return release, nil
	case ctx.Err() != nil:
		return nil, lifecycle.ErrStopping()
	}
	return nil, &engine.Error{Code: engine.CodeBusy, Wait: time.Second, Message: fmt.Sprintf(
		"too many publish requests are in progress, and this one had no turn for %s; use fewer connections, with several events in a request", publishWait)}
}
