package cmd

import (
	"cmp"
	"context"
	"fmt"
	"strings"

	"switchhook/cmd/manifest"
	"switchhook/server/api"
)

type subscriptionsCommand struct {
	clientFlags `embed:""`
	List        subscriptionsListCommand `cmd:"" help:"List the subscriptions, with the health of their targets."`
}

// subscriptionName returns a display name: the name that apply set, or the description.
func subscriptionName(s *api.Subscription) string {
	return cmp.Or(s.Text(manifest.NameKey), s.Description, "-")
}

// subscriptionProblem returns the reason why deliveries do not arrive, the most severe first; empty
// if they do.
func subscriptionProblem(s *api.Subscription) string {
	return cmp.Or(s.InactiveReason, s.Quarantine, s.Health.LastError)
}

type subscriptionsListCommand struct {
	Account  string `help:"Account whose subscriptions are listed; by default the key's own." placeholder:"NAME"`
	Event    string `help:"Only those that match this event type or have this pattern." placeholder:"TYPE" aliases:"event-type"`
	Inactive bool   `help:"Only those that are inactive."`
	Failing  bool   `help:"Only those whose targets fail."`
	JSON     bool   `name:"json" help:"Print the JSON of the API."`
}

// Run lists the subscriptions.
func (c *subscriptionsListCommand) Run(ctx context.Context, commands *commands) error {
	router, err := commands.Subscriptions.client()
	if err != nil {
		return err
	}
	params := api.ListSubscriptionsParams{Account: c.Account, Event: c.Event}
	if c.Inactive {
		params.Active = new(false)
	}
	found, err := api.Collect(api.List[rawJSON[api.Subscription]](ctx, router.Client, "/api/v1/subscriptions", params))
	if err != nil {
		return err
	}
	list := []rawJSON[api.Subscription]{}
	for _, s := range found {
		if !c.Failing || s.value.Health.FailingSince != nil {
			list = append(list, s)
		}
	}
	if c.JSON {
		return printJSON(pointers(list))
	}
	w := newTable()
	fmt.Fprintln(w, "ID\tNAME\tACTIVE\tHEALTH\tFAILURES\tFAILING SINCE\tACCOUNT\tEVENTS\tTARGET\tPROBLEM")
	for i := range list {
		s := &list[i].value
		active := "no"
		if s.Active {
			active = "yes"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%d\t%s\t%s\t%s\t%s\t%s\n", s.ID, oneLine(subscriptionName(s)), active, s.Health.State, s.Health.Failures, timeOr(s.Health.FailingSince, "-"),
			oneLine(s.Account), oneLine(strings.Join(s.Events, ",")), oneLine(s.TargetURL), oneLine(subscriptionProblem(s)))
	}
	return w.Flush()
}
