package cmd

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"time"

	"switchhook/engine/testkit"
	"switchhook/server/api"
)

// otherName returns a URL under which the router is reached as if by another name. Its requests
// count as hits.
func otherName(w *hostileWorld) string {
	router, err := url.Parse(w.router.api.URL)
	if err != nil {
		w.Fatal(err)
	}
	proxy := httptest.NewServer(&httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		w.hits.Add(1)
		r.SetURL(router)
	}})
	w.Cleanup(func() { proxy.CloseClientConnections(); proxy.Close() })
	return proxy.URL
}

// subscribeToRouter subscribes to an event with a request to the router as the delivery.
func subscribeToRouter(w *hostileWorld, event, path, transform string) {
	c := w.hostile()
	authorization := "Bearer " + c.Key
	w.subscribe(c, api.SubscriptionRequest{
		Event: api.Some(api.EventNames{event}), TargetURL: api.Some(otherName(w) + path),
		Headers: api.Some(map[string]*string{"Authorization": &authorization}), Transform: api.Some(transform),
	})
}

// prepareOperationalLoop publishes each report of a dead letter as an event that becomes one.
func prepareOperationalLoop(w *hostileWorld) {
	subscribeToRouter(w, "switchhook.delivery.dead", "/api/v1/events", `export default () => ({type: "fails", data: 1})`)
	for range 10 {
		w.subscribe(w.hostile(), api.SubscriptionRequest{
			Event: api.Some(api.EventNames{"fails"}), TargetURL: api.Some(w.down.URL), Policy: api.Some(api.Policy{Retries: api.Some(quickRetries(1))}),
		})
	}
}

func publishFailing(ctx context.Context, w *hostileWorld) {
	w.publish(w.hostile(), "fails", 1)
	<-ctx.Done()
}

// operationalLoopHasEnded checks that nothing follows for longer than the second between two reports.
func operationalLoopHasEnded(w *hostileWorld) {
	testkit.WaitFor(w.T, "the loop ends", func() bool {
		before := w.hits.Load()
		time.Sleep(1500 * time.Millisecond)
		return before > 0 && w.hits.Load() == before
	})
}

// retryByDelivery makes a delivery that asks for its own retry, and for another subscription.
func retryByDelivery(ctx context.Context, w *hostileWorld) {
	c := w.hostile()
	for _, path := range []string{"/api/v1/replays", "/api/v1/subscriptions", "/api/v1/preview"} {
		subscribeToRouter(w, "self", path, `export default () => ({event: "self", target_url: "https://example.com/", subscription_ids: []})`)
	}
	accepted := w.publish(c, "self", 1)
	for d, err := range c.ListDeliveries(ctx, api.ListDeliveriesParams{}) {
		if err == nil {
			subscribeToRouter(w, "again", "/api/v1/deliveries/"+d.ID+"/retry", `export default () => 1`)
		}
	}
	w.publish(c, "again", accepted.ID)
	<-ctx.Done()
	if n := w.hits.Load(); n == 0 || n > 100 {
		w.Errorf("the router sent %d requests to itself", n)
	}
}

// retryByHand retries and replays one failing delivery as often as it can.
func retryByHand(ctx context.Context, w *hostileWorld) {
	c := w.hostile()
	s := w.subscribe(c, api.SubscriptionRequest{
		Event: api.Some(api.EventNames{"fails"}), TargetURL: api.Some(w.down.URL), Policy: api.Some(api.Policy{Retries: api.Some(quickRetries(1))}),
	})
	id := "dlv_" + strings.TrimPrefix(w.publish(c, "fails", 1).ID, "evt_") + strings.TrimPrefix(s.ID, "sub_")
	concurrently(ctx, 16, func(ctx context.Context, i int) {
		if i%4 == 0 {
			c.CreateReplay(ctx, api.CreateReplayRequest{SubscriptionIDs: []string{s.ID}, Rate: 10_000})
		} else {
			c.RetryDelivery(ctx, id)
		}
	})
	sent := w.hits.Load()
	w.Logf("%d attempts of one delivery in %v", sent, attackTime(w.T))
	// Requests that came while the last attempt was not recorded yet may add some.
	if most := int64(attackTime(w.T).Seconds()+2) * 16; sent == 0 || sent > most {
		w.Errorf("one delivery was attempted %d times", sent)
	}
}

// testTargets sends test events and changes targets that must confirm.
func testTargets(ctx context.Context, w *hostileWorld) {
	c := w.hostile()
	s := w.subscribe(c, api.SubscriptionRequest{Event: api.Some(api.EventNames{"a"}), TargetURL: api.Some(w.down.URL)})
	pending := w.subscribe(c, api.SubscriptionRequest{Event: api.Some(api.EventNames{"a"}), TargetURL: api.Some(w.down.URL), Verify: api.Some("hook-secret")})
	concurrently(ctx, 16, func(ctx context.Context, i int) {
		c.TestSubscription(ctx, s.ID, api.TestSubscriptionRequest{Event: json.RawMessage(`{"type": "a", "data": 1}`)})
		c.UpdateSubscription(ctx, pending.ID, api.SubscriptionRequest{TargetURL: api.Some(fmt.Sprint(w.down.URL, "/", i))})
	})
	if most := int64(2 * (10 + attackTime(w.T).Seconds() + 5)); w.hits.Load() > most {
		w.Errorf("%d requests to a host, want at most %d", w.hits.Load(), most)
	}
}

// useOneScope uses keys of one scope on all that they may do, and on what they may not.
func useOneScope(ctx context.Context, w *hostileWorld) {
	var group sync.WaitGroup
	for _, scope := range []string{"publish", "subscribe", "scripts", "read"} {
		c := w.hostile(scope)
		group.Go(func() {
			concurrently(ctx, 16, func(ctx context.Context, i int) {
				c.Publish(ctx, api.PublishRequest{Type: "a", Data: strings.Repeat("x", 10_000), ID: fmt.Sprint(scope, i)})
				c.CreateSubscription(ctx, api.SubscriptionRequest{Event: api.Some(api.EventNames{"a"}), TargetURL: api.Some(fmt.Sprint(w.sink.URL, "/", i%200))})
				c.CreateScript(ctx, api.CreateScriptRequest{Name: fmt.Sprint(scope, i), Kind: "filter", Source: "true"})
				c.Do(ctx, http.MethodGet, "/api/v1/deliveries?limit=500", nil, nil)
				c.Do(ctx, http.MethodGet, "/api/v1/audit?limit=500", nil, nil)
			})
		})
	}
	group.Wait()
}

// sendHostileNames sends ids, cursors and headers that do not exist, are malformed or huge.
func sendHostileNames(ctx context.Context, w *hostileWorld) {
	c, long := w.hostile(), strings.Repeat("%61", 4000)
	concurrently(ctx, 32, func(ctx context.Context, i int) {
		for _, path := range []string{
			"/api/v1/events/" + long, fmt.Sprint("/api/v1/events/evt_", i), "/api/v1/deliveries?cursor=" + long, "/api/v1/deliveries?cursor=dlv_zzzzzzzzzzzzz_zzzzzzzzzzzzz",
			"/api/v1/subscriptions/..%2f..%2fkeys", "/api/v1/events?limit=500&cursor=evt_0000000000000", fmt.Sprint("/api/v1/audit?cursor=aud_", i), "/api/v1/events?account=*", "/" + long,
		} {
			c.Do(ctx, http.MethodGet, path, nil, nil)
		}
		c.Publish(ctx, api.PublishRequest{Type: "a", Data: 1}, api.Header("Switchhook-Hops", strings.Repeat("9", 8000)), api.Header("Traceparent", long[:8000]))
	})
}

// readSlowly asks for long answers on many connections and reads none of them.
func readSlowly(ctx context.Context, w *hostileWorld) {
	c := w.hostile()
	address := strings.TrimPrefix(w.router.api.URL, "http://")
	var group sync.WaitGroup
	for range 200 {
		group.Go(func() {
			conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
			if err != nil {
				return
			}
			defer conn.Close()
			conn.SetDeadline(time.Now().Add(attackTime(w.T)))
			conn.(*net.TCPConn).SetReadBuffer(1)
			for range 16 { // pipelined
				fmt.Fprintf(conn, "GET /api/v1/events?limit=500 HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer %s\r\n\r\n", c.Key)
			}
			<-ctx.Done()
		})
	}
	group.Wait()
}

// useManyNames publishes lists of events with their own ids, idempotency keys and types.
func useManyNames(ctx context.Context, w *hostileWorld) {
	c := w.hostile()
	concurrently(ctx, 8, func(ctx context.Context, i int) {
		list := make([]api.PublishRequest, 1000)
		for j := range list {
			list[j] = api.PublishRequest{Type: fmt.Sprint("type.", i, ".", j), ID: fmt.Sprint(i, "-", j, strings.Repeat("x", 200)), Data: 1}
		}
		c.PublishList(ctx, list, api.IdempotencyKey(fmt.Sprint(i, strings.Repeat("k", 200))))
	})
}

// configureMuch makes accounts, keys and event types with an admin key.
func configureMuch(ctx context.Context, w *hostileWorld) {
	c := &api.Client{URL: w.router.api.URL, Key: w.router.api.Key, HTTP: &http.Client{Transport: w}, Attempts: 1}
	concurrently(ctx, 16, func(ctx context.Context, i int) {
		c.CreateEventType(ctx, api.EventTypeRequest{Name: fmt.Sprint("made.", i), Description: api.Some(strings.Repeat("x", 1000))})
		c.CreateKey(ctx, api.CreateKeyRequest{Account: fmt.Sprint("made-", i), Name: strings.Repeat("x", 100)})
	})
}
