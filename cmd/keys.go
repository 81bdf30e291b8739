package cmd

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"
	"text/tabwriter"
	"time"
)

type keysCommand struct {
	clientFlags `embed:""`
	List        keysListCommand   `cmd:"" help:"List the API keys."`
	Create      keysCreateCommand `cmd:"" help:"Make an API key and print it; it can't be shown again."`
	Rotate      keysRotateCommand `cmd:"" help:"Give an API key a new text and print it; the one before works for a while still."`
	Delete      keysDeleteCommand `cmd:"" help:"Delete an API key; requests with it are refused from then on."`
}

type keyBody struct {
	ID      string `json:"id,omitempty"`
	Name    string `json:"name"`
	Account string `json:"account,omitempty"`
	Admin   bool   `json:"admin"`
	Prefix  string `json:"prefix,omitempty"`

	Scopes     []string   `json:"scopes,omitempty"`
	ExpiresIn  string     `json:"expires_in,omitempty"`
	ExpiresAt  *time.Time `json:"expires_at,omitempty"`
	LastUsedAt *time.Time `json:"last_used_at,omitempty"`
	OldUntil   *time.Time `json:"old_key_until,omitempty"`

	Key string `json:"key,omitempty"`
}

func (k *keyBody) whole() bool { return k.ID != "" }

// may lists the permissions of the key, one word for each.
func (k *keyBody) may() string {
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
	api, err := commands.Keys.client()
	if err != nil {
		return err
	}
	list, err := all[keyBody](ctx, api, "/api/v1/keys")
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "ID\tPREFIX\tACCOUNT\tSCOPES\tEXPIRES\tLAST USED\tNAME")
	for _, k := range list {
		fmt.Fprintf(w, "%s\t%s…\t%s\t%s\t%s\t%s\t%q\n", k.ID, k.Prefix, k.Account, k.may(), timeOr(k.ExpiresAt, "never"), timeOr(k.LastUsedAt, "never"), k.Name)
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
func (c *keysCreateCommand) Run(ctx context.Context, all *commands) error {
	api, err := all.Keys.client()
	if err != nil {
		return err
	}
	wanted := keyBody{Name: c.Name, Account: c.Account, Admin: c.Admin, Scopes: c.Scopes}
	if c.ExpiresIn != 0 {
		wanted.ExpiresIn = c.ExpiresIn.String()
	}
	var made keyBody
	if err := api.call(ctx, http.MethodPost, "/api/v1/keys", wanted, &made); err != nil {
		return err
	}
	fmt.Println(made.Key)
	fmt.Fprintf(os.Stderr, "%s for account %s; keep it, it can't be shown again\n", made.ID, made.Account)
	return nil
}

type keysRotateCommand struct {
	ID          string        `arg:"" help:"The key's id: key_…"`
	GracePeriod time.Duration `help:"How long the text that it has now still works." default:"24h" placeholder:"DURATION" min:"0s" max:"8760h"`
}

// Run rotates a key.
func (c *keysRotateCommand) Run(ctx context.Context, all *commands) error {
	api, err := all.Keys.client()
	if err != nil {
		return err
	}
	var k keyBody
	if err := api.call(ctx, http.MethodPost, "/api/v1/keys/"+url.PathEscape(c.ID)+"/rotate", map[string]string{"grace_period": c.GracePeriod.String()}, &k); err != nil {
		return err
	}
	fmt.Println(k.Key)
	fmt.Fprintf(os.Stderr, "%s for account %s; keep it, it can't be shown again; the one before works until: %s\n", k.ID, k.Account, timeOr(k.OldUntil, "now"))
	return nil
}

type keysDeleteCommand struct {
	ID string `arg:"" help:"The key's id: key_…"`
}

// Run deletes a key.
func (c *keysDeleteCommand) Run(ctx context.Context, all *commands) error {
	api, err := all.Keys.client()
	if err != nil {
		return err
	}
	return api.call(ctx, http.MethodDelete, "/api/v1/keys/"+url.PathEscape(c.ID), nil, nil)
}
