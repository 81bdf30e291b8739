package cmd

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"switchhook/server/api"
	"sync"
	"syscall"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
)

type listenCommand struct {
	clientFlags `embed:""`
	Addr        string `help:"Address to receive on." default:"127.0.0.1:9000" placeholder:"HOST:PORT" aliases:"listen"`
	Secret      secret `help:"Signing secret (whsec_…, whsk_…) or public key (whpk_…) to verify deliveries with." placeholder:"SECRET"`
	Subscribe   string `help:"Create a subscription for this event type or pattern at --server, and delete it at the end." placeholder:"EVENT"`
	Filter      string `help:"Filter of that subscription." placeholder:"EXPR" multiline:""`
	Transform   string `help:"File with the transform of that subscription." type:"existingfile" placeholder:"FILE"`
	Status      int    `help:"Status to answer deliveries with." default:"200" placeholder:"CODE" min:"200" max:"599"`
	Headers     bool   `help:"Print the headers of deliveries too."`
	Full        bool   `help:"Print whole bodies; by default they are cut after 20 lines and 500 characters a line."`

	mu   sync.Mutex
	seen *lru.Cache[string, int] // deliveries by webhook-id and path
}

// Help implements kong.HelpProvider.
func (*listenCommand) Help() string {
	return `Each delivery is shown with its response status. One with a known webhook-id is marked as a repeat. Ctrl-C ends, and deletes the subscription that --subscribe created.`
}

const (
	shownLines  = 20  // of a body
	shownWidth  = 500 // characters of a line
	repeatsKept = 10_000
)

// Run receives deliveries until a signal arrives.
func (c *listenCommand) Run(ctx context.Context) error {
	if c.Subscribe == "" && (c.Filter != "" || c.Transform != "") {
		return usageError("--filter and --transform are those of a subscription: give --subscribe too")
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
		if transform, err = readScriptFile(c.Transform); err != nil {
			return err
		}
	}
	ctx, hangUp := signal.NotifyContext(ctx, syscall.SIGHUP) // the terminal was closed
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
		router, err := c.client()
		if err != nil {
			return err
		}
		made, err := c.subscribe(ctx, router, r, transform)
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "subscribed to %s as %s\n", c.Subscribe, made.ID)
		defer func() {
			if err := router.DeleteSubscription(context.Background(), made.ID); err != nil {
				fmt.Fprintf(os.Stderr, "the subscription %s was not deleted: %v\n", made.ID, err)
				return
			}
			fmt.Fprintf(out, "deleted the subscription %s\n", made.ID)
		}()
	} else if c.Secret == "" {
		fmt.Fprintln(out, "signatures are not verified: use --secret, or --subscribe to create a subscription")
	}
	<-ctx.Done()
	return out.failure()
}

func (c *listenCommand) subscribe(ctx context.Context, router *client, r *receiver, transform string) (*api.Subscription, error) {
	made, err := router.CreateSubscription(ctx, api.SubscriptionRequest{
		Event: api.Some(api.EventNames{c.Subscribe}), TargetURL: api.Some(r.url()), Filter: api.Some(c.Filter), Transform: api.Some(transform), Secret: api.Some(string(c.Secret)),
	})
	if err != nil {
		return nil, err
	}
	if made.Secret == "" { // an equal subscription existed, from a listen that was killed
		stored, err := router.GetSubscriptionSecret(ctx, made.ID)
		if err != nil {
			return nil, err
		}
		made.Secret = stored.Secret
	}
	r.setSecret(made.Secret)
	return made, nil
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
	id := d.header.Get("webhook-id")
	answer := fmt.Sprintf("answered %d", c.Status)
	if n := c.count(id, d.path); n > 1 {
		answer += fmt.Sprintf("  REPEAT: delivery %d of this webhook-id", n)
	}
	fmt.Fprintf(&out, "%s  %s  %s  %s  %s\n", time.Now().Format("15:04:05.000"), printable(d.path), printable(id), verdict, answer)
	if c.Headers {
		out.WriteString(headerLines(d.header))
	}
	lines := shownLines
	if c.Full {
		lines = math.MaxInt
	}
	fmt.Fprintf(&out, "  %s\n", strings.ReplaceAll(cutBody(d.body, lines), "\n", "\n  "))
	io.WriteString(w, out.String())
}

// count counts the deliveries of a webhook-id to a path, including this one.
func (c *listenCommand) count(id, path string) int {
	if id == "" {
		return 1
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.seen == nil {
		c.seen, _ = lru.New[string, int](repeatsKept)
	}
	n, _ := c.seen.Get(id + " " + path)
	c.seen.Add(id+" "+path, n+1)
	return n + 1
}

// cutBody formats a body for people in at most the given number of lines: JSON is indented
// if it has more than one, other text is quoted, since it may contain control characters.
func cutBody(body []byte, lines int) string {
	var indented bytes.Buffer
	text := strconv.Quote(string(body))
	switch {
	case lines > 1 && json.Indent(&indented, body, "", "  ") == nil:
		text = indented.String()
	case lines == 1 && json.Compact(&indented, body) == nil:
		text = indented.String()
	}
	text = printable(text)
	if lines == math.MaxInt {
		return text
	}
	all := strings.Split(text, "\n")
	left := len(all) - lines
	if left > 0 {
		all = all[:lines]
	}
	for i, line := range all {
		if characters := []rune(line); len(characters) > shownWidth {
			all[i] = string(characters[:shownWidth]) + "… (" + countedNoun(len(characters)-shownWidth, "character") + " more)"
		}
	}
	if left > 0 {
		all = append(all, "… ("+countedNoun(left, "line")+" more; --full shows them)")
	}
	return strings.Join(all, "\n")
}

func headerLines(h http.Header) string {
	var lines []string
	for name, values := range h {
		for _, v := range values {
			lines = append(lines, fmt.Sprintf("  %s: %s\n", name, printable(v)))
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "")
}
