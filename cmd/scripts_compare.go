package cmd

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"

	"switchhook/scripts/scripttest"
	"switchhook/server/api"
)

type scriptsCompareCommand struct {
	Name         string `arg:"" help:"The script's name."`
	Candidate    string `arg:"" optional:"" help:"The number of a version, or a file; by default the newest version." placeholder:"VERSION|FILE"`
	Last         int    `help:"Maximum number of events, newest first." default:"10000" placeholder:"N" min:"1" max:"1000000000"`
	Subscription string `help:"Only the events of this subscription, with its filter and its request; by default of all that use the script." placeholder:"ID"`
	Show         int    `help:"Maximum number of changes to show." default:"20" placeholder:"N" min:"0" max:"1000000000"`
}

// Help implements kong.HelpProvider.
func (*scriptsCompareCommand) Help() string {
	return `The candidate and the live version run over stored events, the newest first. Lines with - are the live version's result for an event, lines with + the candidate's.

Exit status: 0 no event has a different result; 3 at least one has; 1 the candidate fails on an event, or another error; 2 the command line is wrong.`
}

// Run runs a comparison.
func (c *scriptsCompareCommand) Run(ctx context.Context, root *commands) error {
	router, s, err := root.Scripts.find(ctx, c.Name)
	if err != nil {
		return err
	}
	ask := api.CompareScriptRequest{Last: c.Last, SubscriptionID: c.Subscription}
	number, notNumber := strconv.Atoi(c.Candidate)
	switch {
	case c.Candidate == "":
		v, err := router.newest(ctx, s)
		if err != nil {
			return err
		}
		number = v.Version
		fallthrough
	case notNumber == nil:
		if s.LiveVersion != nil && number == *s.LiveVersion {
			fmt.Fprintf(os.Stderr, "version %d is the live one: it is compared with itself\n", number)
		}
		ask.Version = number
	default:
		source, err := readScriptFile(c.Candidate)
		if err != nil {
			return err
		}
		ask.Source = source
	}
	totals, err := c.compare(ctx, router, s.ID, ask)
	if err != nil {
		return err
	}
	fmt.Print(totalsText(totals))
	switch {
	case totals.Errors > 0:
		return &statusError{status: 1}
	case totals.Events > totals.Same:
		return &statusError{status: differsStatus}
	}
	return nil
}

// compare runs the comparison, prints the changes as they arrive and returns the totals.
func (c *scriptsCompareCommand) compare(
	ctx context.Context, router *client, id string, ask api.CompareScriptRequest,
) (*api.ComparisonTotals, error) {
	bar := progressbar.DefaultSilent(int64(c.Last))
	if term.IsTerminal(int(os.Stderr.Fd())) {
		bar = progressbar.Default(int64(c.Last), "events")
	}
	shown := 0
	totals, err := router.CompareScript(ctx, id, ask, func(change api.ComparisonChange) {
		if shown++; shown <= c.Show {
			bar.Clear()
			fmt.Print(changeText(&change, colours()))
		}
	}, func(so api.ComparisonTotals) { bar.Set64(so.Events) })
	bar.Clear()
	if err == nil && shown > c.Show {
		fmt.Printf("and %d more\n", shown-c.Show)
	}
	return totals, err
}

// changeText formats an event whose result differs.
func changeText(l *api.ComparisonChange, colours bool) string {
	w := &testWriter{colours: colours}
	fmt.Fprintf(w, "%s %s: %s\n", printable(l.EventID), printable(l.EventType), strings.ReplaceAll(printable(l.Change), "_", " "))
	w.diff(scripttest.Diff(outcomeText(&l.Live), outcomeText(&l.Candidate)), "    ")
	return w.String()
}

// outcomeText formats an outcome on lines.
func outcomeText(o *api.ScriptOutcome) string {
	switch {
	case o.Error != nil:
		return "error: " + o.Error.Error()
	case o.Dropped != "":
		return "dropped: " + o.Dropped
	case !o.Sent:
		return "not sent"
	}
	text := "sent"
	if r := o.Request; r != nil {
		asked, err := json.MarshalIndent(map[string]any{"method": r.Method, "path": r.Path, "query": r.Query, "headers": r.Headers}, "", "  ")
		if err == nil {
			text += "\nrequest: " + string(asked)
		}
	}
	if o.Body == "" {
		return text
	}
	var laidOut bytes.Buffer
	if json.Indent(&laidOut, []byte(o.Body), "", "  ") == nil {
		return text + "\n" + laidOut.String()
	}
	return text + "\n" + o.Body
}

// totalsText formats the totals of a comparison.
func totalsText(l *api.ComparisonTotals) string {
	against := "nothing, for no version is live"
	if l.LiveVersion > 0 {
		against = fmt.Sprintf("version %d", l.LiveVersion)
	}
	return fmt.Sprintf("%s, compared with %s\n%d same, %d different, %d newly matched, %d no longer matched, %d dropped, %s\np50 %.2f ms, p99 %.2f ms a run\n",
		countedNoun(int(l.Events), "event"), against, l.Same, l.Differs, l.NewlyMatched, l.NoLongerMatched, l.Dropped, countedNoun(int(l.Errors), "error"), l.P50MS, l.P99MS)
}
