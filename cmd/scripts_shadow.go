package cmd

import (
	"context"
	"fmt"
	"switchhook/server/api"
	"time"
)

type scriptsShadowCommand struct {
	Start scriptsShadowStartCommand `cmd:"" help:"Start a shadow run; it replaces the script's current one."`
	Show  scriptsShadowShowCommand  `cmd:"" help:"Show the counts of a shadow run."`
	Stop  scriptsShadowStopCommand  `cmd:"" help:"Stop a shadow run."`
}

type scriptsShadowStartCommand struct {
	Name     string        `arg:"" help:"The script's name."`
	Version  int           `arg:"" optional:"" help:"The version's number; by default the newest version." min:"1" max:"1000000000"`
	Duration time.Duration `help:"Duration, 7 days at most; a restart of the router ends the run." default:"1h" min:"1s" max:"168h"`
}

// Run starts a shadow run.
func (c *scriptsShadowStartCommand) Run(ctx context.Context, root *commands) error {
	router, s, err := root.Scripts.find(ctx, c.Name)
	if err != nil {
		return err
	}
	version := c.Version
	if version == 0 {
		v, err := router.newest(ctx, s)
		if err != nil {
			return err
		}
		version = v.Version
	}
	run, err := router.StartScriptShadow(ctx, s.ID, api.StartScriptShadowRequest{Version: version, Duration: new(api.Duration(c.Duration))})
	if err != nil {
		return err
	}
	fmt.Printf("version %d of %s runs beside the live version until %s; \"switchhook scripts shadow show %s\" shows what it would change\n",
		run.Version, printable(s.Name), run.Until.Format(time.RFC3339), printable(s.Name))
	return nil
}

type scriptsShadowShowCommand struct {
	Name string `arg:"" help:"The script's name."`
}

// Run shows a shadow run.
func (c *scriptsShadowShowCommand) Run(ctx context.Context, root *commands) error {
	router, s, err := root.Scripts.find(ctx, c.Name)
	if err != nil {
		return err
	}
	run, err := router.GetScriptShadow(ctx, s.ID)
	if err != nil {
		return err
	}
	w := newTable()
	fmt.Fprintf(w, "version\t%d, beside the live one\nuntil\t%s\n", run.Version, run.Until.Format(time.RFC3339))
	for _, line := range []struct {
		name string
		n    int64
	}{
		{"events", run.Events}, {"same", run.Same}, {"different", run.Differs}, {"newly matched", run.NewlyMatched},
		{"no longer matched", run.NoLongerMatched}, {"dropped", run.Dropped}, {"errors", run.Errors}, {"skipped", run.Skipped},
	} {
		fmt.Fprintf(w, "%s\t%d\n", line.name, line.n)
	}
	return w.Flush()
}

type scriptsShadowStopCommand struct {
	Name string `arg:"" help:"The script's name."`
}

// Run stops a shadow run.
func (c *scriptsShadowStopCommand) Run(ctx context.Context, root *commands) error {
	router, s, err := root.Scripts.find(ctx, c.Name)
	if err != nil {
		return err
	}
	return router.StopScriptShadow(ctx, s.ID)
}
