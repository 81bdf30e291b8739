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

	"switchhook/engine/rfc3339"
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

// replayBody holds the fields of a replay that the commands read.
type replayBody struct {
	ID            string     `json:"id"`
	Account       string     `json:"account"`
	Status        string     `json:"status"`
	Progress      float64    `json:"progress"`
	Looked        int64      `json:"looked"`
	Queued        int64      `json:"queued"`
	Error         string     `json:"error"`
	Subscriptions []string   `json:"subscriptions"`
	To            *string    `json:"to"`
	Since         *time.Time `json:"since"`
	Until         *time.Time `json:"until"`
	EventTypes    []string   `json:"event_types"`
	Deliveries    []string   `json:"delivery_status"`
	Filter        string     `json:"filter"`
	Rate          int        `json:"rate"`
	CreatedAt     *time.Time `json:"created_at"`
	FinishedAt    *time.Time `json:"finished_at"`
}

// Complete implements api.Completer.
func (r *replayBody) Complete() bool { return r.ID != "" }

func (r *replayBody) percent() string { return fmt.Sprintf("%.0f %%", r.Progress*100) }

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
func (c *replaysStartCommand) Run(ctx context.Context, all *commands) error {
	if err := checkFilter(c.Filter); err != nil {
		return err
	}
	wanted := map[string]any{"subscriptions": c.Subscriptions}
	for name, text := range map[string]string{"since": c.Since, "until": c.Until} {
		if text == "" {
			continue
		}
		at, err := parseTime(text, time.Now())
		if err != nil {
			return usageError("--%s: %w", name, err)
		}
		wanted[name] = at
	}
	for name, text := range map[string]string{"filter": c.Filter, "to": c.To} {
		if text != "" {
			wanted[name] = text
		}
	}
	for name, list := range map[string][]string{"delivery_status": c.Status, "event_types": c.EventType} {
		if len(list) > 0 {
			wanted[name] = list
		}
	}
	if c.Rate != 0 {
		wanted["rate"] = c.Rate
	}
	return all.Replays.one(ctx, http.MethodPost, "", wanted, func(r *replayBody) {
		fmt.Println(r.ID)
		fmt.Fprintf(os.Stderr, "%s; \"switchhook replays show %s\" tells how far it is\n", r.Status, r.ID)
	})
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

// one sends a request about one replay and prints the answer, as JSON or by show.
func (c *replaysCommand) one(ctx context.Context, method, tail string, body any, show func(*replayBody)) error {
	router, err := c.client()
	if err != nil {
		return err
	}
	var r rawJSON[replayBody]
	if err := router.call(ctx, method, "/api/v1/replays"+tail, body, &r); err != nil {
		return err
	}
	if c.JSON {
		return printJSON(&r)
	}
	show(&r.is)
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
	list, err := all[rawJSON[replayBody]](ctx, router, "/api/v1/replays"+inAccount(c.Account))
	if err != nil {
		return err
	}
	if commands.Replays.JSON {
		return printJSON(pointers(list))
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "ID\tSTATUS\tPROGRESS\tQUEUED\tSTARTED\tSUBSCRIPTIONS\tWHY IT STANDS STILL")
	for _, r := range list {
		fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%s\t%s\t%s\n", r.is.ID, r.is.Status, r.is.percent(), r.is.Queued, timeOr(r.is.CreatedAt, "-"), strings.Join(r.is.Subscriptions, ","), oneLine(r.is.Error))
	}
	return w.Flush()
}

// replayID is the argument of the commands for one replay.
type replayID struct {
	ID string `arg:"" help:"The replay's id: rpl_…"`
}

func (r *replayID) path(tail string) string { return "/" + url.PathEscape(r.ID) + tail }

type replaysShowCommand struct {
	replayID `embed:""`
}

// Run shows a replay.
func (c *replaysShowCommand) Run(ctx context.Context, all *commands) error {
	return all.Replays.one(ctx, http.MethodGet, c.path(""), nil, showReplay)
}

type replaysPauseCommand struct {
	replayID `embed:""`
}

// Run pauses a replay.
func (c *replaysPauseCommand) Run(ctx context.Context, all *commands) error {
	return all.Replays.one(ctx, http.MethodPost, c.path("/pause"), nil, showReplay)
}

type replaysResumeCommand struct {
	replayID `embed:""`
}

// Run resumes a replay.
func (c *replaysResumeCommand) Run(ctx context.Context, all *commands) error {
	return all.Replays.one(ctx, http.MethodPost, c.path("/resume"), nil, showReplay)
}

type replaysCancelCommand struct {
	replayID `embed:""`
}

// Run cancels a replay.
func (c *replaysCancelCommand) Run(ctx context.Context, all *commands) error {
	return all.Replays.one(ctx, http.MethodPost, c.path("/cancel"), nil, showReplay)
}

// showReplay prints a replay, one property a line.
func showReplay(r *replayBody) {
	w := tabwriter.NewWriter(os.Stdout, 0, 4, 2, ' ', 0)
	to := "their own subscriptions"
	if r.To != nil {
		to = *r.To
	}
	for _, line := range [][2]string{
		{"id", r.ID}, {"account", r.Account}, {"status", r.Status}, {"error", r.Error}, {"progress", r.percent()},
		{"looked at", fmt.Sprint(r.Looked)}, {"queued", fmt.Sprint(r.Queued)}, {"subscriptions", strings.Join(r.Subscriptions, ", ")}, {"sent to", to},
		{"deliveries", strings.Join(r.Deliveries, ", ")}, {"event types", strings.Join(r.EventTypes, ", ")}, {"filter", r.Filter},
		{"since", timeOr(r.Since, "")}, {"until", timeOr(r.Until, "")}, {"rate", fmt.Sprintf("%d a second", r.Rate)},
		{"started", timeOr(r.CreatedAt, "")}, {"finished", timeOr(r.FinishedAt, "")},
	} {
		if line[1] != "" {
			fmt.Fprintf(w, "%s\t%s\n", line[0], oneLine(line[1]))
		}
	}
	w.Flush() // errors are ignored as in fmt.Println
}
