package cmd

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"text/tabwriter"
	"time"
)

type scriptsShadowCommand struct {
	Start scriptsShadowStartCommand `cmd:"" help:"Start a shadow run; it takes the place of the script's other one."`
	Show  scriptsShadowShowCommand  `cmd:"" help:"Show the counts of a shadow run."`
	Stop  scriptsShadowStopCommand  `cmd:"" help:"Stop a shadow run."`
}

// shadowBody is a shadow run as the API shows it.
type shadowBody struct {
	Version         int       `json:"version"`
	Until           time.Time `json:"until"`
	Skipped         int64     `json:"skipped"`
	Events          int64     `json:"events"`
	Same            int64     `json:"same"`
	Differs         int64     `json:"differs"`
	NewlyMatched    int64     `json:"newly_matched"`
	NoLongerMatched int64     `json:"no_longer_matched"`
	Dropped         int64     `json:"dropped"`
	Errors          int64     `json:"errors"`
}

// Complete implements api.Completer.
func (s *shadowBody) Complete() bool { return s.Version > 0 }

type scriptsShadowStartCommand struct {
	Name     string        `arg:"" help:"The script's name."`
	Version  int           `arg:"" optional:"" help:"The version's number; by default the newest version." min:"1" max:"1000000000"`
	Duration time.Duration `help:"How long it runs, 7 days at most; a restart of the router ends it." default:"1h" min:"1s" max:"168h"`
}

// Run starts a shadow run.
func (c *scriptsShadowStartCommand) Run(ctx context.Context, all *commands) error {
	router, s, err := all.Scripts.find(ctx, c.Name)
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
	var run shadowBody
	if err := router.call(ctx, http.MethodPut, s.path("/shadow"), map[string]any{"version": version, "duration": c.Duration.String()}, &run); err != nil {
		return err
	}
	fmt.Printf("version %d of %s runs beside version %d until %s; \"switchhook scripts shadow show %s\" tells what it would change\n",
		run.Version, printable(s.Name), s.LiveVersion, run.Until.Format(time.RFC3339), printable(s.Name))
	return nil
}

type scriptsShadowShowCommand struct {
	Name string `arg:"" help:"The script's name."`
}

// Run shows a shadow run.
func (c *scriptsShadowShowCommand) Run(ctx context.Context, all *commands) error {
	router, s, err := all.Scripts.find(ctx, c.Name)
	if err != nil {
		return err
	}
	var run shadowBody
	if err := router.call(ctx, http.MethodGet, s.path("/shadow"), nil, &run); err != nil {
		return err
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 4, 2, ' ', 0)
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
func (c *scriptsShadowStopCommand) Run(ctx context.Context, all *commands) error {
	router, s, err := all.Scripts.find(ctx, c.Name)
	if err != nil {
		return err
	}
	return router.call(ctx, http.MethodDelete, s.path("/shadow"), nil, nil)
}
