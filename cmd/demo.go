package cmd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"switchhook/engine"
	"switchhook/engine/settings"
	"switchhook/engine/target"
	"switchhook/server/api"
)

type demoCommand struct {
	Once bool `help:"Exit after the demonstration; the exit status is 0 if every event was delivered."`
}

const demoFilter = `data.total > 100 && data.customer.country in ["GB", "US"]`

const demoTransform = `export default function transform(event, request) {
  const order = event.data
  if (order.test) return drop("a test order")
  request.headers["X-Order"] = String(order.id)
  return { text: ` + "`Order ${order.id} of ${order.customer.name}: ${order.total} ${order.currency}`" + ` }
}`

// demoEvents are the published events with the expected results.
var demoEvents = []struct {
	kind, data, why string
	status          api.DeliveryStatus // of its delivery; empty if there must be none
	body            string             // the body that the receiver must get
}{
	{"order.created", `{"id":1001,"total":129.5,"currency":"EUR","customer":{"name":"Ada","country":"GB"}}`, "passes the filter",
		"succeeded", `{"text":"Order 1001 of Ada: 129.5 EUR"}`},
	{"order.created", `{"id":1002,"total":20,"currency":"EUR","customer":{"name":"Ben","country":"GB"}}`, "the filter does not match: total is not above 100", "", ""},
	{"order.created", `{"id":1003,"total":500,"currency":"USD","test":true,"customer":{"name":"Test","country":"US"}}`, "the transform drops it", "dropped", ""},
	{"customer.created", `{"id":7,"name":"Ada"}`, "nobody subscribes to its type", "", ""},
	{"order.created", `{"id":9007199254740993,"total":250,"currency":"USD","customer":{"name":"Grace <g@example.com>","country":"US"}}`, "the receiver answers 503 at first, so it is sent twice",
		"succeeded", `{"text":"Order 9007199254740993 of Grace <g@example.com>: 250 USD"}`},
}

const demoDeadline = 20 * time.Second

// Run demonstrates the delivery of some events, and checks it.
func (c *demoCommand) Run(ctx context.Context) error {
	ctx, hangUp := signal.NotifyContext(ctx, syscall.SIGHUP) // the terminal was closed
	defer hangUp()
	out, ctx := newPipedOutput(ctx)
	defer out.close()
	folder, err := os.MkdirTemp("", "switchhook-demo-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(folder)
	r, key, err := startDemo(ctx, folder)
	if err != nil {
		return err
	}
	d := &demonstration{Writer: out, router: newClient(r.url(), key), bodies: map[string]received{}}
	err = d.run(ctx, r, folder)
	if err != nil && ctx.Err() != nil {
		err = errors.New("interrupted before everything was through")
	}
	if err == nil && !c.Once {
		fmt.Fprintf(d, "\nThe router goes on until you press Ctrl-C. Publish something yourself:\n\n"+
			"  curl -X POST %s/api/v1/events -H 'Authorization: Bearer %s' \\\n    -H 'Content-Type: application/json' -d '{\"type\":\"order.created\",\"data\":%s}'\n\n", r.url(), key, demoEvents[0].data)
		d.chatty.Store(true)
		<-ctx.Done()
	}
	if d.receiver != nil {
		d.receiver.close()
	}
	closing := r.close()
	if failure := out.failure(); failure != nil {
		return failure
	}
	return errors.Join(err, closing)
}

// startDemo starts a router as serve would, on the default port if that is free.
func startDemo(ctx context.Context, folder string) (*routerProcess, string, error) {
	cfg := processConfig{
		folder: folder, listen: "127.0.0.1:8080", policy: target.Policy{Allow: target.Loopback}, pace: time.Millisecond,
		engine: settings.Config{Retries: engine.RetrySchedule{0, 200 * time.Millisecond, time.Second}},
		log:    slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})),
	}
	r, err := startRouter(ctx, cfg)
	if _, inUse := errors.AsType[*inUseError](err); inUse {
		cfg.listen = "127.0.0.1:0"
		r, err = startRouter(ctx, cfg)
	}
	if err != nil {
		return nil, "", err
	}
	key, err := adminKey(ctx, r.engine, folder, "")
	if err != nil {
		return nil, "", errors.Join(err, r.close())
	}
	r.serve()
	return r, key, nil
}

// demonstration is one run of the demo.
type demonstration struct {
	io.Writer
	router   *client
	receiver *receiver
	chatty   atomic.Bool

	mu       sync.Mutex
	bodies   map[string]received // received deliveries by webhook-id; the last attempt of each
	attempts int
}

// receive answers the receiver's deliveries: 503 to the first attempt of the last event.
func (d *demonstration) receive(got received) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.chatty.Load() {
		fmt.Fprintf(d, "  received %s %s\n", printable(got.header.Get("webhook-id")), cutBody(got.body, 1))
	}
	if strings.Contains(string(got.body), "Grace") {
		if d.attempts++; d.attempts == 1 {
			return http.StatusServiceUnavailable
		}
	}
	d.bodies[got.header.Get("webhook-id")] = got
	return http.StatusOK
}

func (d *demonstration) run(ctx context.Context, r *routerProcess, folder string) (err error) {
	if d.receiver, err = startReceiver("127.0.0.1:0", d.receive); err != nil {
		return err
	}
	fmt.Fprintf(d, "Switchhook %s\n  page       %s\n  API        %s/api/v1\n  database   %s (SQLite, deleted at the end)\n  receiver   %s\n\n", Version, r.url(), r.url(), folder, d.receiver.url())

	fmt.Fprintf(d, "POST /api/v1/subscriptions\n  event      order.*\n  target_url %s/orders\n  filter     %s\n  transform  %s\n", d.receiver.url(), demoFilter, strings.ReplaceAll(demoTransform, "\n", "\n             "))
	sub, err := d.router.CreateSubscription(ctx, api.SubscriptionRequest{
		Event: api.Some(api.EventNames{"order.*"}), TargetURL: api.Some(d.receiver.url() + "/orders"), Filter: api.Some(demoFilter), Transform: api.Some(demoTransform),
	})
	if err != nil {
		return err
	}
	d.receiver.setSecret(sub.Secret)
	fmt.Fprintf(d, "  → 201      %s\n\n", sub.ID)

	fmt.Fprintf(d, "POST /api/v1/events, %d times\n", len(demoEvents))
	ids := make([]string, len(demoEvents))
	for i, ev := range demoEvents {
		answer, err := d.router.Publish(ctx, api.PublishRequest{Type: ev.kind, Data: json.RawMessage(ev.data)})
		if err != nil {
			return err
		}
		ids[i] = answer.ID
		fmt.Fprintf(d, "  %s  %-16s matched %d  %s\n", answer.ID, ev.kind, answer.Matched, ev.why)
	}
	fmt.Fprintf(d, "\nGET /api/v1/events/{id}\n")
	lost := 0
	for i, ev := range demoEvents {
		line, ok := d.outcome(ctx, ids[i], ev.status, ev.body)
		mark := "✓"
		if !ok {
			mark = "✗"
			lost++
		}
		fmt.Fprintf(d, "  %s %s  %s\n", mark, ids[i], line)
	}
	if lost > 0 {
		return fmt.Errorf("%d of %d events did not come out as they should", lost, len(demoEvents))
	}
	fmt.Fprintln(d, "\nEverything came through: filtered, transformed, signed, delivered, retried.")
	return nil
}

// outcome waits until an event's delivery is finished, and describes the result.
func (d *demonstration) outcome(ctx context.Context, id string, status api.DeliveryStatus, body string) (line string, ok bool) {
	ctx, cancel := context.WithTimeout(ctx, demoDeadline)
	defer cancel()
	for {
		ev, err := d.router.GetEvent(ctx, id)
		if err != nil {
			return err.Error(), false
		}
		if len(ev.Deliveries) == 0 {
			return "kept, delivered to nobody", status == ""
		}
		got := ev.Deliveries[0]
		if got.Status != api.DeliveryPending && got.Status != api.DeliveryRetrying {
			return d.describe(ev, status, body)
		}
		select {
		case <-ctx.Done():
			return fmt.Sprintf("still %s after %s: %s", got.Status, demoDeadline, got.Error), false
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (d *demonstration) describe(ev *api.Event, status api.DeliveryStatus, body string) (line string, ok bool) {
	delivery := ev.Deliveries[0]
	d.mu.Lock()
	got, came := d.bodies[ev.WebhookID]
	d.mu.Unlock()
	if delivery.Status != status || came != (body != "") || came && string(got.body) != body {
		return fmt.Sprintf("%s, wanted %s: %s %q", delivery.Status, status, delivery.Error, got.body), false
	}
	if !came {
		return fmt.Sprintf("%s: %s", delivery.Status, delivery.Error), true
	}
	if got.signed != nil {
		return "the signature is wrong: " + got.signed.Error(), false
	}
	return fmt.Sprintf("%s, attempt %d, signature ok, body %s", delivery.Status, delivery.AttemptCount, got.body), true
}
