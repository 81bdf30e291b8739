package engine

import (
	"context"
	"runtime"
	"time"

	"switchhook/scripts"
)

// lab is the sandbox for everything but deliveries: compiling what is saved, dry runs,
// test cases, backtests, shadow runs. It leaves a process for what is to be delivered,
// whatever people try.
type lab struct {
	Transformer
	places chan struct{}
}

const labWait = 10 * time.Second

func newLab(t Transformer) *lab {
	return &lab{t, make(chan struct{}, max(1, runtime.GOMAXPROCS(0)-1))}
}

func (l *lab) enter(ctx context.Context) error {
	wait := time.NewTimer(labWait)
	defer wait.Stop()
	select {
	case l.places <- struct{}{}:
		return nil
	case <-ctx.Done():
	case <-wait.C:
	}
	return &scripts.Error{Phase: scripts.PhaseBusy, Message: "too many scripts are being tried at the moment; try again"}
}

// Compile waits for a place in the lab.
func (l *lab) Compile(ctx context.Context, source string) (*scripts.Program, error) {
	if err := l.enter(ctx); err != nil {
		return nil, err
	}
	defer func() { <-l.places }()
	return l.Transformer.Compile(ctx, source)
}

// Run waits for a place in the lab.
func (l *lab) Run(ctx context.Context, p *scripts.Program, ev *scripts.Event, req scripts.Request) (scripts.Result, error) {
	if err := l.enter(ctx); err != nil {
		return scripts.Result{}, err
	}
	defer func() { <-l.places }()
	return l.Transformer.Run(ctx, p, ev, req)
}
