package cmd

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"switchhook/server/api"
)

type keysCommand struct {
	clientFlags `embed:""`
	List        keysListCommand   `cmd:"" help:"List the API keys."`
	Create      keysCreateCommand `cmd:"" help:"Create an API key and print it; it can't be shown again."`
	Rotate      keysRotateCommand `cmd:"" help:"Replace an API key and print the new one; the old one works until the grace period ends. The id stays."`
	Delete      keysDeleteCommand `cmd:"" help:"Delete an API key; requests with it are refused at once."`
}

// permissions lists what a key may do, one word for each.
func permissions(k *api.Key) string {
	if k.Admin {
		return "admin"
	}
	return strings.Join(k.Scopes, ",")
}

func timeOr(t *time.Time, otherwise string) string {
	if t == nil {
		return otherwise
	}
	return t.Format(time.RFC3339)
}

type keysListCommand struct{}

// Run lists the keys.
func (keysListCommand) Run(ctx context.Context, commands *commands) error {
	router, err := commands.Keys.client()
	if err != nil {
		return err
	}
	list, err := api.Collect(router.ListKeys(ctx))
	if err != nil {
		return err
	}
	w := newTable()
	fmt.Fprintln(w, "ID\tPREFIX\tACCOUNT\tSCOPES\tEXPIRES\tLAST USED\tNAME")
	for _, k := range list {
		fmt.Fprintf(w, "%s\t%s…\t%s\t%s\t%s\t%s\t%q\n", k.ID, k.Prefix, k.Account, permissions(&k), timeOr(k.ExpiresAt, "never"), timeOr(k.LastUsedAt, "never"), k.Name)
	}
	return w.Flush()
}

type keysCreateCommand struct {
	Name    string `arg:"" help:"Purpose of the key."`
	Account string `help:"Account that it belongs to." default:"default" placeholder:"NAME"`
	Admin   bool   `help:"Let it act for every account."`

	Scopes    []string      `help:"Permissions: publish, targets, subscribe, scripts, read. By default all but targets." placeholder:"SCOPE"`
	ExpiresIn time.Duration `help:"Lifetime of the key, such as 720h." placeholder:"DURATION" min:"1s" max:"876000h"`
}

// Run creates a key.
func (c *keysCreateCommand) Run(ctx context.Context, root *commands) error {
	router, err := root.Keys.client()
	if err != nil {
		return err
	}
	wanted := api.CreateKeyRequest{Name: c.Name, Account: c.Account, Admin: c.Admin, Scopes: c.Scopes}
	if c.ExpiresIn != 0 {
		wanted.ExpiresIn = new(api.Duration(c.ExpiresIn))
	}
	made, err := router.CreateKey(ctx, wanted)
	if err != nil {
		return err
	}
	fmt.Println(made.Key)
	fmt.Fprintf(os.Stderr, "%s for account %s; keep it, it can't be shown again\n", made.ID, made.Account)
	return nil
}

type keysRotateCommand struct {
	ID          string        `arg:"" help:"The key's id: key_…"`
	GracePeriod time.Duration `help:"How long the current key still works." default:"24h" placeholder:"DURATION" min:"0s" max:"720h"`
}

// Run rotates a key.
func (c *keysRotateCommand) Run(ctx context.Context, root *commands) error {
	router, err := root.Keys.client()
	if err != nil {
		return err
	}
	k, err := router.RotateKey(ctx, c.ID, api.RotateKeyRequest{GracePeriod: new(api.Duration(c.GracePeriod))})
	if err != nil {
		return err
	}
	fmt.Println(k.Key)
	fmt.Fprintf(os.Stderr, "%s for account %s; keep it, it can't be shown again; the one before works until: %s\n", k.ID, k.Account, timeOr(k.OldKeyUntil, "now"))
	return nil
}

type keysDeleteCommand struct {
	ID string `arg:"" help:"The key's id: key_…"`
}

// Run deletes a key.
func (c *keysDeleteCommand) Run(ctx context.Context, root *commands) error {
	router, err := root.Keys.client()
	if err != nil {
		return err
	}
	return router.DeleteKey(ctx, c.ID)
}
