package cmd

import (
	"context"
	"fmt"

	"switchhook/server/api"
)

type accountsCommand struct {
	clientFlags `embed:""`
	Name        string `arg:"" optional:"" help:"The account; all if it is left out, which needs an admin key."`
}

// Run shows the usage of accounts.
func (c *accountsCommand) Run(ctx context.Context) error {
	router, err := c.client()
	if err != nil {
		return err
	}
	var list []api.Account
	if c.Name != "" {
		var a *api.Account
		if a, err = router.GetAccount(ctx, c.Name); err == nil {
			list = []api.Account{*a}
		}
	} else {
		list, err = api.Collect(router.ListAccounts(ctx))
	}
	if err != nil {
		return err
	}
	w := newTable()
	fmt.Fprintln(w, "ACCOUNT\tSUBSCRIPTIONS\tSTORED BYTES\tEVENTS\tDELIVERIES\tCONFIGURATION\tAUDIT")
	for _, a := range list {
		of := a.Usage.StoredBytesOf
		fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%d\t%d\t%d\n", a.Name, ofLimit(int64(a.Usage.Subscriptions), a.Limits.Subscriptions), ofLimit(a.Usage.StoredBytes, a.Limits.StoredBytes), of.Events, of.Deliveries, of.Configuration, of.Audit)
	}
	return w.Flush()
}

// ofLimit returns "3 of 10", or "3" without a limit.
func ofLimit(used int64, limit *int64) string {
	if limit == nil {
		return fmt.Sprint(used)
	}
	return fmt.Sprintf("%d of %d", used, *limit)
}
