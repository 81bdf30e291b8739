package cmd

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"switchhook/scripts/dts"
	"switchhook/server/api"
)

type typesCommand struct {
	Out    string `help:"Folder to write to, usually that of the scripts; created if it is missing." default:"." type:"path" placeholder:"DIR"`
	Server string `help:"Address of a running router, whose event types give the types of event.data." placeholder:"URL"`
	Key    secret `help:"API key; by default the one in ./switchhook-data/admin.key, if it is there." placeholder:"KEY"`
}

// Run writes switchhook.d.ts, with --server events.d.ts, and a tsconfig.json if there is
// none.
func (c *typesCommand) Run(ctx context.Context) error {
	files := []struct{ name, text string }{{"switchhook.d.ts", dts.Declarations()}}
	if c.Server != "" {
		all, err := c.eventTypes(ctx)
		if err != nil {
			return err
		}
		files = append(files, struct{ name, text string }{"events.d.ts", dts.Events(all)})
	}
	if err := os.MkdirAll(c.Out, 0o755); err != nil {
		return err
	}
	for _, f := range files {
		if err := writeTypes(filepath.Join(c.Out, f.name), f.text, os.O_TRUNC); err != nil {
			return err
		}
	}
	// The author's own settings take precedence.
	err := writeTypes(filepath.Join(c.Out, "tsconfig.json"), dts.Config(), os.O_EXCL)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	return err
}

func writeTypes(path, text string, how int) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|how, 0o644)
	if err != nil {
		return err
	}
	if _, err = f.WriteString(text); err == nil {
		fmt.Println("wrote", path)
	}
	return errors.Join(err, f.Close())
}

// eventTypes reads all registered event types.
func (c *typesCommand) eventTypes(ctx context.Context) ([]dts.EventType, error) {
	router, err := (&clientFlags{Server: c.Server, Key: c.Key}).client()
	if err != nil {
		return nil, err
	}
	registered, err := api.Collect(router.ListEventTypes(ctx))
	if err != nil {
		return nil, err
	}
	list := make([]dts.EventType, len(registered))
	for i, t := range registered {
		list[i] = dts.EventType{Name: t.Name, Description: t.Description}
		if string(t.Schema) != "null" {
			list[i].Schema = t.Schema
		}
	}
	return list, nil
}
