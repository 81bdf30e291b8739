package cmd

import (
	"cmp"
	"context"
	"fmt"
	"net/url"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"switchhook/cmd/manifest"
)

type subscriptionsCommand struct {
	clientFlags `embed:""`
	List        subscriptionsListCommand `cmd:"" help:"List the subscriptions, with the health of their targets."`
}

// listedSubscription holds the fields of a subscription that the list shows.
type listedSubscription struct {
	ID          string `json:"id"`
	Account     string `json:"account"`
	Description string `json:"description"`

	Metadata       metadataTexts `json:"metadata"`
	Events         []string      `json:"events"`
	TargetURL      string        `json:"target_url"`
	Active         bool          `json:"active"`
	InactiveReason string        `json:"inactive_reason"`
	Quarantine     string        `json:"quarantine"`
	Health         struct {
		State        string     `json:"state"`
		FailingSince *time.Time `json:"failing_since"`
		Failures     int        `json:"failures"`
		LastError    string     `json:"last_error"`
	} `json:"health"`
}

// Complete implements api.Completer.
func (s *listedSubscription) Complete() bool { return s.ID != "" }

// name returns a display name: the name that apply set, or the description.
func (s *listedSubscription) name() string {
	return cmp.Or(s.Metadata[manifest.NameKey], s.Description, "-")
}

// problem returns the reason why its deliveries do not arrive, the most severe first; empty
// if they do.
func (s *listedSubscription) problem() string {
	return cmp.Or(s.InactiveReason, s.Quarantine, s.Health.LastError)
}

type subscriptionsListCommand struct {
	Account  string `help:"Account whose subscriptions are listed; by default the key's own." placeholder:"NAME"`
	Event    string `help:"Only those that would get this event type, or name this pattern." placeholder:"TYPE" aliases:"event-type"`
	Inactive bool   `help:"Only those that are inactive."`
	Failing  bool   `help:"Only those whose targets fail."`
	JSON     bool   `name:"json" help:"Print JSON, as the API has it."`
}

// Run lists the subscriptions.
func (c *subscriptionsListCommand) Run(ctx context.Context, commands *commands) error {
	router, err := commands.Subscriptions.client()
	if err != nil {
		return err
	}
	query := url.Values{}
	if c.Account != "" {
		query.Set("account", c.Account)
	}
	if c.Event != "" {
		query.Set("event", c.Event)
	}
	if c.Inactive {
		query.Set("active", "false")
	}
	path := "/api/v1/subscriptions"
	if len(query) > 0 {
		path += "?" + query.Encode()
	}
	found, err := all[rawJSON[listedSubscription]](ctx, router, path)
	if err != nil {
		return err
	}
	list := []rawJSON[listedSubscription]{}
	for _, s := range found {
		if !c.Failing || s.is.Health.FailingSince != nil {
			list = append(list, s)
		}
	}
	if c.JSON {
		return printJSON(pointers(list))
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "ID\tNAME\tACTIVE\tHEALTH\tFAILURES\tFAILING SINCE\tACCOUNT\tEVENTS\tTARGET\tPROBLEM")
	for i := range list {
		s := &list[i].is
		active := "no"
		if s.Active {
			active = "yes"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%d\t%s\t%s\t%s\t%s\t%s\n", s.ID, oneLine(s.name()), active, s.Health.State, s.Health.Failures, timeOr(s.Health.FailingSince, "-"),
			oneLine(s.Account), oneLine(strings.Join(s.Events, ",")), oneLine(s.TargetURL), oneLine(s.problem()))
	}
	return w.Flush()
}
