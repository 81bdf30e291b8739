package catalog

import (
	"context"
	"runtime"
	"time"

	"switchhook/engine/settings"
	"switchhook/scripts"
)

// limitedTransformer is the sandbox for everything except deliveries: compiling scripts on save,
// dry runs, test cases, backtests, shadow runs. It always leaves a process for deliveries.
type limitedTransformer struct {
	settings.Transformer
	slots chan struct{}
}

const sandboxWait = 10 * time.Second

func newLimitedTransformer(t settings.Transformer) *limitedTransformer {
	return &limitedTransformer{t, make(chan struct{}, max(1, runtime.GOMAXPROCS(0)-1))}
}

func (l *limitedTransformer) acquire(ctx context.Context) error {
	wait := time.NewTimer(sandboxWait)
	defer wait.Stop()
	select {
	case l.slots <- struct{}{}:
		return nil
	case <-ctx.Done():
	case <-wait.C:
	}
	return &scripts.Error{Phase: scripts.PhaseBusy, Message: "too many scripts are being tried at the moment; try again"}
}

// Compile waits for a slot, then compiles source.
func (l *limitedTransformer) Compile(ctx context.Context, source string) (*scripts.Program, error) {
	if err := l.acquire(ctx); err != nil {
		return nil, err
	}
	defer func() { <-l.slots }()
	return l.Transformer.Compile(ctx, source)
}

// Run waits for a slot, then runs p.
func (l *limitedTransformer) Run(ctx context.Context, p *scripts.Program, ev *scripts.Event, req scripts.Request) (scripts.Result, error) {
	if err := l.acquire(ctx); err != nil {
		return scripts.Result{}, err
	}
	defer func() { <-l.slots }()
	return l.Transformer.Run(ctx, p, ev, req)
}
