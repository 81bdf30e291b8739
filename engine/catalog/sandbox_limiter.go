package catalog

import (
	"context"
	"runtime"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"switchhook/engine/fairlimit"
	"switchhook/engine/settings"
	"switchhook/engine/telemetry"
	"switchhook/scripts"
)

// limitedTransformer is the sandbox for everything except deliveries: compiling scripts on save,
// previews, test cases, comparisons, shadow runs. It always leaves a process for deliveries, if there
// are two or more. Nothing holds a place longer than a compilation: 200 ms of CPU time, or 600 ms in
// native code.
type limitedTransformer struct {
	transformer settings.Transformer
	places      *fairlimit.Limiter
}

const sandboxWait = 10 * time.Second

func newLimitedTransformer(t settings.Transformer, metrics prometheus.Registerer) *limitedTransformer {
	units := int64(max(1, runtime.GOMAXPROCS(0)-1))
	places := fairlimit.New(fairlimit.Limits{Units: units, PerAccount: max(1, units-1), Wait: sandboxWait})
	metrics.MustRegister(telemetry.NewPlacesCollector("scripts", places))
	return &limitedTransformer{t, places}
}

// accountTransformer is a limitedTransformer whose places an account waits for.
type accountTransformer struct {
	*limitedTransformer
	account string
}

func (t accountTransformer) acquire(ctx context.Context) (release func(), err error) {
	if release, err = t.places.Acquire(ctx, t.account, "", 1); err != nil {
		return nil, &scripts.Error{Phase: scripts.PhaseBusy, Message: "too many scripts are being compiled and run; try again in a moment"}
	}
	return release, nil
}

// Compile waits for a place, then compiles source.
func (t accountTransformer) Compile(ctx context.Context, source string) (*scripts.Program, error) {
	release, err := t.acquire(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	return t.transformer.Compile(scripts.ForAccount(ctx, t.account), source)
}

// Run waits for a place, then runs p.
func (t accountTransformer) Run(ctx context.Context, p *scripts.Program, ev *scripts.Event, req scripts.Request) (scripts.Result, error) {
	release, err := t.acquire(ctx)
	if err != nil {
		return scripts.Result{}, err
	}
	defer release()
	return t.transformer.Run(scripts.ForAccount(ctx, t.account), p, ev, req)
}
