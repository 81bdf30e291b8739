package cmd

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"text/tabwriter"
)

type keysCommand struct {
	clientFlags `embed:""`
	List        keysListCommand   `cmd:"" help:"List the API keys."`
	Create      keysCreateCommand `cmd:"" help:"Make an API key and print it; it can't be shown again."`
	Delete      keysDeleteCommand `cmd:"" help:"Delete an API key; requests with it are refused from then on."`
}

type keyBody struct {
	ID      string `json:"id,omitempty"`
	Name    string `json:"name"`
	Account string `json:"account,omitempty"`
	Admin   bool   `json:"admin"`
	Prefix  string `json:"prefix,omitempty"`
	Key     string `json:"key,omitempty"`
}

func (k *keyBody) whole() bool { return k.ID != "" }

type keysListCommand struct{}

// Run lists.
func (keysListCommand) Run(ctx context.Context, all *commands) error {
	api, err := all.Keys.client()
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "ID\tPREFIX\tACCOUNT\tADMIN\tNAME")
	for cursor := ""; ; {
		var page page[keyBody]
		if err := api.call(ctx, http.MethodGet, "/api/v1/keys?limit=500"+cursor, nil, &page); err != nil {
			return err
		}
		for _, k := range page.Data {
			fmt.Fprintf(w, "%s\t%s…\t%s\t%v\t%q\n", k.ID, k.Prefix, k.Account, k.Admin, k.Name)
		}
		if page.NextCursor == nil {
			return w.Flush()
		}
		cursor = "&cursor=" + *page.NextCursor
	}
}

type keysCreateCommand struct {
	Name    string `arg:"" help:"What the key is for."`
	Account string `help:"Account that it belongs to." default:"default" placeholder:"NAME"`
	Admin   bool   `help:"Let it act for every account."`
}

// Run makes a key.
func (c *keysCreateCommand) Run(ctx context.Context, all *commands) error {
	api, err := all.Keys.client()
	if err != nil {
		return err
	}
	var made keyBody
	if err := api.call(ctx, http.MethodPost, "/api/v1/keys", keyBody{Name: c.Name, Account: c.Account, Admin: c.Admin}, &made); err != nil {
		return err
	}
	fmt.Println(made.Key)
	fmt.Fprintf(os.Stderr, "%s for account %s; keep it, it can't be shown again\n", made.ID, made.Account)
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
	return api.call(ctx, http.MethodDelete, "/api/v1/keys/"+c.ID, nil, nil)
}
