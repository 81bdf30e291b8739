package cmd

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"switchhook/engine/rfc3339"
	"switchhook/server/api"
)

type replaysCommand struct {
	clientFlags `embed:""`
	JSON        bool                 `name:"json" help:"Print the JSON of the API."`
	Start       replaysStartCommand  `cmd:"" help:"Send past events to a subscription again; by default its dead letters."`
	List        replaysListCommand   `cmd:"" help:"List the replays, newest first."`
	Show        replaysShowCommand   `cmd:"" help:"Show the progress of a replay."`
	Pause       replaysPauseCommand  `cmd:"" help:"Pause a replay."`
	Resume      replaysResumeCommand `cmd:"" help:"Resume a paused replay."`
	Cancel      replaysCancelCommand `cmd:"" help:"Cancel a replay; queued deliveries are still made."`
}

func percent(r *api.Replay) string { return fmt.Sprintf("%.0f %%", r.Progress*100) }

type replaysStartCommand struct {
	Subscriptions []string `arg:"" name:"subscription" help:"Ids of the subscriptions whose deliveries are replayed: sub_…"`
	Since         string   `help:"Only events received at this time or later: 2026-01-31T09:30:00Z, or an age such as 2h." placeholder:"TIME"`
	Until         string   `help:"Only events received before this time; by default now." placeholder:"TIME"`
	Status        []string `help:"Deliveries that are sent again: dead, retrying, succeeded, dropped; missing: events that match and have no delivery. By default dead." placeholder:"STATUS"`
	EventType     []string `help:"Only events of this type, or pattern." placeholder:"TYPE" aliases:"event"`
	Filter        string   `help:"Only events that match this filter." placeholder:"EXPR" multiline:""`
	To            string   `help:"Another subscription, to whose target the events are sent instead." placeholder:"ID"`
	Rate          int      `help:"Maximum deliveries a second; by default 100." placeholder:"N" min:"1" max:"10000"`
}

// Run starts a replay.
func (c *replaysStartCommand) Run(ctx context.Context, root *commands) error {
	if err := checkFilter(c.Filter); err != nil {
		return err
	}
	wanted := api.CreateReplayRequest{
		SubscriptionIDs: c.Subscriptions, TargetSubscriptionID: c.To, EventTypes: c.EventType, Filter: c.Filter, Rate: c.Rate,
	}
	for _, status := range c.Status {
		wanted.DeliveryStatus = append(wanted.DeliveryStatus, api.DeliveryStatus(status))
	}
	for _, t := range []struct {
		flag, text string
		into       **time.Time
	}{{"since", c.Since, &wanted.Since}, {"until", c.Until, &wanted.Until}} {
		if t.text == "" {
			continue
		}
		at, err := parseTime(t.text, time.Now())
		if err != nil {
			return usageError("--%s: %w", t.flag, err)
		}
		*t.into = &at
	}
	router, err := root.Replays.client()
	if err != nil {
		return err
	}
	r, err := router.CreateReplay(ctx, wanted)
	if err != nil {
		return err
	}
	if root.Replays.JSON {
		return printJSON(r)
	}
	fmt.Println(r.ID)
	fmt.Fprintf(os.Stderr, "%s; \"switchhook replays show %s\" shows its progress\n", r.Status, r.ID)
	return nil
}

// parseTime parses a time, or a duration before now.
func parseTime(text string, now time.Time) (time.Time, error) {
	if ago, err := time.ParseDuration(text); err == nil && ago > 0 {
		return now.Add(-ago).UTC(), nil
	}
	at, err := rfc3339.Parse(text)
	if err != nil {
		return at, fmt.Errorf("%.40q is neither a time such as 2026-01-31T09:30:00Z nor how long ago, such as 2h or 90m", text)
	}
	return at, nil
}

// one calls an operation on a replay and prints the answer.
func (c *replaysCommand) one(ctx context.Context, id string, do func(*api.Client, context.Context, string, ...api.Option) (*api.Replay, error)) error {
	router, err := c.client()
	if err != nil {
		return err
	}
	r, err := do(router.Client, ctx, id)
	if err != nil {
		return err
	}
	if c.JSON {
		return printJSON(r)
	}
	showReplay(r)
	return nil
}

type replaysListCommand struct {
	Account string `help:"Account whose replays are listed; by default the key's own." placeholder:"NAME"`
}

// Run lists the replays.
func (c *replaysListCommand) Run(ctx context.Context, commands *commands) error {
	router, err := commands.Replays.client()
	if err != nil {
		return err
	}
	list, err := api.Collect(router.ListReplays(ctx, api.ListReplaysParams{Account: c.Account}))
	if err != nil {
		return err
	}
	if commands.Replays.JSON {
		return printJSON(list)
	}
	w := newTable()
	fmt.Fprintln(w, "ID\tSTATUS\tPROGRESS\tQUEUED\tSTARTED\tSUBSCRIPTIONS\tERROR")
	for _, r := range list {
		fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%s\t%s\t%s\n", r.ID, r.Status, percent(&r), r.Queued, r.CreatedAt.Format(time.RFC3339), strings.Join(r.SubscriptionIDs, ","), oneLine(r.Error))
	}
	return w.Flush()
}

// replayID is the argument of the commands for one replay.
type replayID struct {
	ID string `arg:"" help:"The replay's id: rpl_…"`
}

type replaysShowCommand struct {
	replayID `embed:""`
}

// Run shows a replay.
func (c *replaysShowCommand) Run(ctx context.Context, root *commands) error {
	return root.Replays.one(ctx, c.ID, (*api.Client).GetReplay)
}

type replaysPauseCommand struct {
	replayID `embed:""`
}

// Run pauses a replay.
func (c *replaysPauseCommand) Run(ctx context.Context, root *commands) error {
	return root.Replays.one(ctx, c.ID, (*api.Client).PauseReplay)
}

type replaysResumeCommand struct {
	replayID `embed:""`
}

// Run resumes a replay.
func (c *replaysResumeCommand) Run(ctx context.Context, root *commands) error {
	return root.Replays.one(ctx, c.ID, (*api.Client).ResumeReplay)
}

type replaysCancelCommand struct {
	replayID `embed:""`
}

// Run cancels a replay.
func (c *replaysCancelCommand) Run(ctx context.Context, root *commands) error {
	return root.Replays.one(ctx, c.ID, (*api.Client).CancelReplay)
}

// showReplay prints a replay, one property a line.
func showReplay(r *api.Replay) {
	w := newTable()
	to := "their own subscriptions"
	if r.TargetSubscriptionID != nil {
		to = *r.TargetSubscriptionID
	}
	var statuses []string
	for _, status := range r.DeliveryStatus {
		statuses = append(statuses, string(status))
	}
	for _, line := range [][2]string{
		{"id", r.ID}, {"account", r.Account}, {"status", string(r.Status)}, {"error", r.Error}, {"progress", percent(r)},
		{"examined", fmt.Sprint(r.Examined)}, {"queued", fmt.Sprint(r.Queued)}, {"subscriptions", strings.Join(r.SubscriptionIDs, ", ")}, {"sent to", to},
		{"deliveries", strings.Join(statuses, ", ")}, {"event types", strings.Join(r.EventTypes, ", ")}, {"filter", r.Filter},
		{"since", timeOr(r.Since, "")}, {"until", timeOr(&r.Until, "")}, {"rate", fmt.Sprintf("%d a second", r.Rate)},
		{"started", timeOr(&r.CreatedAt, "")}, {"finished", timeOr(r.FinishedAt, "")},
	} {
		if line[1] != "" {
			fmt.Fprintf(w, "%s\t%s\n", line[0], oneLine(line[1]))
		}
	}
	w.Flush() // errors are ignored as in fmt.Println
}
