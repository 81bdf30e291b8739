package cmd

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"
)

type listenCommand struct {
	clientFlags `embed:""`
	Addr        string `help:"Address to receive on." default:"127.0.0.1:9000" placeholder:"HOST:PORT" aliases:"listen"`
	Secret      secret `help:"Signing secret (whsec_…, whsk_…) or public key (whpk_…) to verify deliveries with." placeholder:"SECRET"`
	Subscribe   string `help:"Make a subscription for this event type or pattern at --server, and delete it at the end." placeholder:"EVENT"`
	Filter      string `help:"Filter of that subscription." placeholder:"EXPR" multiline:""`
	Transform   string `help:"File with the transform of that subscription." type:"existingfile" placeholder:"FILE"`
	Status      int    `help:"Status to answer deliveries with." default:"200" placeholder:"CODE" min:"200" max:"599"`
	Headers     bool   `help:"Print the headers of deliveries too."`
}

// Run receives until a signal comes.
func (c *listenCommand) Run(ctx context.Context) error {
	if c.Subscribe == "" && (c.Filter != "" || c.Transform != "") {
		return wrongCommand("--filter and --transform are those of a subscription: give --subscribe too")
	}
	if publicKey(string(c.Secret)) == nil {
		if err := checkSecret(c.Secret); err != nil {
			return err
		}
	}
	if err := checkFilter(c.Filter); err != nil {
		return err
	}
	var transform string
	if c.Transform != "" {
		var err error
		if transform, err = readSource(c.Transform); err != nil {
			return err
		}
	}
	ctx, hangUp := signal.NotifyContext(ctx, syscall.SIGHUP) // the terminal is closed
	defer hangUp()
	out, ctx := newPipedOutput(ctx)
	defer out.close()
	r, err := startReceiver(c.Addr, func(d received) int {
		c.print(out, d)
		return c.Status
	})
	if err != nil {
		return err
	}
	defer r.close()
	r.setSecret(string(c.Secret))
	fmt.Fprintf(out, "receiving on %s\n", r.url())
	if c.Subscribe != "" {
		api, err := c.client()
		if err != nil {
			return err
		}
		made, err := c.subscribe(ctx, api, r, transform)
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "subscribed to %s as %s\n", c.Subscribe, made.ID)
		defer func() {
			if err := api.unsubscribe(context.Background(), made.ID); err != nil {
				fmt.Fprintf(os.Stderr, "the subscription %s was not deleted: %v\n", made.ID, err)
				return
			}
			fmt.Fprintf(out, "deleted the subscription %s\n", made.ID)
		}()
	} else if c.Secret == "" {
		fmt.Fprintln(out, "signatures are not verified: give --secret, or let --subscribe make a subscription")
	}
	<-ctx.Done()
	return out.failure()
}

func (c *listenCommand) subscribe(ctx context.Context, api *client, r *receiver, transform string) (subscriptionBody, error) {
	wanted := subscriptionBody{Event: c.Subscribe, TargetURL: r.url(), Filter: c.Filter, Transform: transform, Secret: string(c.Secret)}
	made, err := api.subscribe(ctx, wanted)
	if err == nil {
		r.setSecret(made.Secret)
	}
	return made, err
}

func (c *listenCommand) print(w io.Writer, d received) {
	var out strings.Builder
	verdict := "signature ok"
	switch {
	case d.signed != nil:
		verdict = "SIGNATURE WRONG: " + d.signed.Error()
	case c.Secret == "" && c.Subscribe == "":
		verdict = "signature not checked"
	}
	fmt.Fprintf(&out, "%s  %s  %s  %s\n", time.Now().Format("15:04:05.000"), d.path, d.header.Get("webhook-id"), verdict)
	if c.Headers {
		out.WriteString(headerLines(d.header))
	}
	var pretty bytes.Buffer
	if json.Indent(&pretty, d.body, "  ", "  ") == nil {
		fmt.Fprintf(&out, "  %s\n", pretty.Bytes())
	} else {
		fmt.Fprintf(&out, "  %q\n", d.body) // quoted: it may hold what a terminal obeys
	}
	io.WriteString(w, out.String())
}

func headerLines(h http.Header) string {
	var lines []string
	for name, values := range h {
		for _, v := range values {
			lines = append(lines, fmt.Sprintf("  %s: %s\n", name, v))
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "")
}
