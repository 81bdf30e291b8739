package cmd

import (
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"switchhook/server/api"
)

// large is the data of an event of almost the maximum size.
var large = map[string]any{"filler": strings.Repeat("x", 1<<20-200)}

// 300 attempts with large requests, which are then read again and again.
func prepareLargeAttempts(w *hostileWorld) {
	c := w.hostile()
	s := w.subscribe(c, api.SubscriptionRequest{
		Event: api.Some(api.EventNames{"large"}), TargetURL: api.Some(w.down.URL),
		// Each body is another one, so that it is stored with its attempt.
		Transform: api.Some(`export default function transform(event, request) { return {at: Math.random(), filler: event.data.filler} }`),
		Policy:    api.Some(api.Policy{Retries: api.Some(quickRetries(50))}),
	})
	accepted := w.publish(c, "large", large)
	w.keys.Store("large delivery", accepted.ID+":"+s.ID)
}

// quickRetries is the quickest schedule that a router accepts.
func quickRetries(n int) api.Retries {
	return append(api.Retries{0}, slices.Repeat(api.Retries{api.Duration(time.Second)}, n-1)...)
}

func readLargeAttempts(ctx context.Context, w *hostileWorld) {
	c := w.hostile()
	concurrently(ctx, 8, func(ctx context.Context, i int) {
		for d, err := range c.ListDeliveries(ctx, api.ListDeliveriesParams{}) {
			if err != nil {
				return
			}
			c.RetryDelivery(ctx, d.ID)
			c.GetDelivery(ctx, d.ID)
		}
	})
}

func prepareLargeEvents(w *hostileWorld) {
	c := w.hostile()
	for range 100 {
		w.publish(c, "large", large)
	}
}

func readLargeEvents(ctx context.Context, w *hostileWorld) {
	c := w.hostile()
	concurrently(ctx, 48, func(ctx context.Context, i int) {
		c.Do(ctx, http.MethodGet, "/api/v1/events?limit=500", nil, nil)
	})
}

func caseOf(bytes int) json.RawMessage {
	return json.RawMessage(`[{"name": "a", "event": {"type": "a", "data": "` + strings.Repeat("x", bytes) + `"}, "expect": {"body": 1}}]`)
}

func storeLargeScripts(ctx context.Context, w *hostileWorld) {
	c := w.hostile()
	concurrently(ctx, 8, func(ctx context.Context, i int) {
		c.CreateScript(ctx, api.CreateScriptRequest{
			Name: fmt.Sprint("large ", i), Kind: "transform", Cases: caseOf(900 << 10),
			Source: "export default function transform(event, request) { return 1 } //" + strings.Repeat("x", 60<<10),
		})
		c.Do(ctx, http.MethodGet, "/api/v1/scripts", nil, nil)
	})
}

func storeLargeTargets(ctx context.Context, w *hostileWorld) {
	c := w.hostile("publish", "targets")
	concurrently(ctx, 8, func(ctx context.Context, i int) {
		targets := make([]api.EventTarget, 20)
		for j := range targets {
			targets[j] = api.EventTarget{
				TargetURL: fmt.Sprintf("%s/%d/%d", w.sink.URL, i, j),
				Headers:   map[string]string{"X-Filler": strings.Repeat("x", 4000)},
			}
		}
		c.Publish(ctx, api.PublishRequest{Type: "a", Targets: targets})
	})
}

// restartInMemory starts the router again: it must hold what is stored.
func restartInMemory(w *hostileWorld) { w.start() }

const storedQuota = 4 << 20

func limitStoredBytes(w *hostileWorld) {
	_, err := w.router.api.ReplaceAccount(w.Context(), "hostile", api.UpdateAccountRequest{
		Quota: api.Some(api.Quota{StoredBytes: api.Some(int64(storedQuota))}),
	})
	if err != nil {
		w.Fatal(err)
	}
}

// storeEverything stores what it can beside the data of events: headers, results, sources, test
// cases, versions, keys, metadata.
func storeEverything(ctx context.Context, w *hostileWorld) {
	c := w.hostile()
	w.subscribe(c, api.SubscriptionRequest{
		Event: api.Some(api.EventNames{"small"}), TargetURL: api.Some(w.down.URL),
		Transform: api.Some(`export default function transform(event, request) { return String(Math.random()).repeat(40000) }`),
		Policy:    api.Some(api.Policy{Retries: api.Some(quickRetries(50))}),
	})
	script, err := c.CreateScript(ctx, api.CreateScriptRequest{Name: "versions", Kind: "transform"})
	if err != nil {
		w.Error(err)
		return
	}
	filler, metadata := strings.Repeat("x", 4000), strings.Repeat("x", 400)
	concurrently(ctx, 8, func(ctx context.Context, i int) {
		c.Publish(ctx, api.PublishRequest{Type: "small", Headers: map[string]string{"X-A": filler, "X-B": filler}}, api.IdempotencyKey(fmt.Sprint(i, filler[:200])))
		c.CreateScriptVersion(ctx, script.ID, api.CreateScriptVersionRequest{
			Source: fmt.Sprintf("export default function transform(event, request) { return 1 } // %d %s", i, strings.Repeat("x", 60<<10)), Cases: caseOf(500 << 10)})
		c.CreateSubscription(ctx, api.SubscriptionRequest{
			Event: api.Some(api.EventNames{fmt.Sprint("event.", i)}), TargetURL: api.Some(w.sink.URL),
			Headers:  api.Some(map[string]*string{"X-A": &filler}),
			Metadata: api.Some(map[string]*string{"a": &metadata}),
		})
	})
}

// diskIsBounded checks that the files are not many times larger than the quota: the write-ahead log has 16 MiB or so.
func diskIsBounded(w *hostileWorld) {
	var size int64
	err := filepath.WalkDir(w.data, func(_ string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			if info, err := d.Info(); err == nil {
				size += info.Size()
			}
		}
		return err
	})
	if err != nil {
		w.Error(err)
	}
	w.Logf("%d MiB on disk", size>>20)
	if size > 64<<20 {
		w.Errorf("an account with a quota of %d MiB filled %d MiB", storedQuota>>20, size>>20)
	}
}

// publishLargeFailing publishes large events that no target takes.
func publishLargeFailing(ctx context.Context, w *hostileWorld) {
	c := w.hostile()
	w.subscribe(c, api.SubscriptionRequest{Event: api.Some(api.EventNames{"large"}), TargetURL: api.Some(w.down.URL)})
	concurrently(ctx, 4, func(ctx context.Context, i int) {
		c.Publish(ctx, api.PublishRequest{Type: "large", Data: large})
	})
}

// prepareLoop subscribes to an event with the router's own publish endpoint as the target, twice.
func prepareLoop(w *hostileWorld) {
	for range 2 {
		subscribeToRouter(w, "loop", "/api/v1/events", `export default (event) => ({type: "loop", data: {at: Math.random()}})`)
	}
}

func publishToLoop(ctx context.Context, w *hostileWorld) {
	w.publish(w.hostile(), "loop", map[string]any{})
	<-ctx.Done()
}

// loopHasEnded checks that the events of the loop have stopped at the limit of hops: 2 + 4 + 8 and
// so on.
func loopHasEnded(w *hostileWorld) {
	if n := w.hits.Load(); n == 0 || n > 2<<6 {
		w.Errorf("the router sent %d requests to itself", n)
	}
}

// prepareWideLoop subscribes to an event as prepareLoop does, 20 times: it would lead to 3 million.
func prepareWideLoop(w *hostileWorld) {
	for range 20 {
		subscribeToRouter(w, "loop", "/api/v1/events", `export default (event) => ({type: "loop", data: {at: Math.random()}})`)
	}
}

// wideLoopIsSlow checks that the events of the loop keep to the rate of those with two hops.
func wideLoopIsSlow(w *hostileWorld) {
	events := 0
	for _, err := range w.hostile().ListEvents(w.Context(), api.ListEventsParams{}) {
		if err != nil {
			w.Error(err)
			return
		}
		events++
	}
	w.Logf("%d events, %d requests of the router to itself", events, w.hits.Load())
	if most := 1 + 20 + 1000 + 100*int(attackTime(w.T).Seconds()+10); events < 200 || events > most {
		w.Errorf("the loop made %d events, want at most %d", events, most)
	}
}

// subscribeManyToOneHost subscribes a host that fails 300 times.
func subscribeManyToOneHost(w *hostileWorld) {
	for i := range 300 {
		w.subscribe(w.hostile(), api.SubscriptionRequest{
			Event: api.Some(api.EventNames{"many"}), TargetURL: api.Some(fmt.Sprintf("%s/%d", w.down.URL, i)),
			Policy: api.Some(api.Policy{Retries: api.Some(quickRetries(50)), InFlight: api.Some(512)}),
		})
	}
}

// publishToOneHost makes one event reach a host as often as it can.
func publishToOneHost(ctx context.Context, w *hostileWorld) {
	before := w.hits.Load()
	w.publish(w.hostile(), "many", map[string]any{})
	<-ctx.Done()
	sent := w.hits.Load() - before
	w.Logf("%d requests to one host in %v", sent, attackTime(w.T))
	if most := int64(attackTime(w.T).Seconds()) + 110; sent == 0 || sent > most { // 100 before it is probed, then one a second
		w.Errorf("one event caused %d requests to one host, %d at most are right", sent, most)
	}
}

func verifyManyTargets(ctx context.Context, w *hostileWorld) {
	c, before := w.hostile(), w.hits.Load()
	concurrently(ctx, 8, func(ctx context.Context, i int) {
		c.CreateSubscription(ctx, api.SubscriptionRequest{
			Event: api.Some(api.EventNames{"a"}), TargetURL: api.Some(fmt.Sprintf("%s/%d", w.down.URL, i)),
			Verify: api.Some("hook-secret"),
		})
	})
	sent := w.hits.Load() - before
	w.Logf("%d verification requests in %v", sent, attackTime(w.T))
	if sent > 100 {
		w.Errorf("%d verification requests to one host", sent)
	}
}

func previewEndless(ctx context.Context, w *hostileWorld) {
	c, transform := w.hostile(), "export default function transform(event, request) { for (;;) {} }"
	concurrently(ctx, 16, func(ctx context.Context, i int) {
		c.Preview(ctx, api.PreviewRequest{Transform: &transform, Event: json.RawMessage(`{"type": "a", "data": {}}`)})
	})
}

// saveSlowScripts saves scripts whose compilation takes long.
func saveSlowScripts(ctx context.Context, w *hostileWorld) {
	c := w.hostile()
	deep := strings.Repeat(strings.Repeat("(x=>", 200)+"1"+strings.Repeat(")", 200)+";", 50)
	wide := strings.Repeat("[a,b,c]=[d,e,f];", 3500)
	concurrently(ctx, 8, func(ctx context.Context, i int) {
		source := []string{deep, wide}[i%2]
		c.CreateScript(ctx, api.CreateScriptRequest{
			Name: fmt.Sprint("slow ", i), Kind: "transform",
			Source: fmt.Sprintf("export default function transform(event, request) { let a,b,c,d,e,f; %s; return %d }", source, i),
		})
	})
}

func prepareCostlyFilters(w *hostileWorld) {
	c := w.hostile()
	for i := range 100 {
		w.subscribe(c, api.SubscriptionRequest{
			Event: api.Some(api.EventNames{"order.created"}), TargetURL: api.Some(w.sink.URL),
			Filter: api.Some(fmt.Sprintf(`any(data.list, any(data.list, # == %d))`, -i-1)),
		})
	}
}

func publishMany(ctx context.Context, w *hostileWorld) {
	c := w.hostile()
	concurrently(ctx, 128, func(ctx context.Context, i int) {
		c.Publish(ctx, api.PublishRequest{Type: "order.created", Data: map[string]any{"total": 1, "note": strings.Repeat("x", 400)}})
	})
}

// publishCostly publishes events whose filters take long.
func publishCostly(ctx context.Context, w *hostileWorld) {
	c, list := w.hostile(), make([]int, 300)
	concurrently(ctx, 16, func(ctx context.Context, i int) {
		c.Publish(ctx, api.PublishRequest{Type: "order.created", Data: map[string]any{"list": list}})
	})
}

func prepareManyPrograms(w *hostileWorld) {
	c := w.hostile()
	for i := range 380 {
		w.subscribe(c, api.SubscriptionRequest{
			Event: api.Some(api.EventNames{"order.created"}), TargetURL: api.Some(w.sink.URL),
			Transform: api.Some(fmt.Sprintf(`const table%d = Array.from({length: 2000}, (_, i) => ({i}));
export default function transform(event, request) { return table%[1]d.length }`, i)),
		})
	}
}

// sendUnfinished opens n connections and sends the beginning of a request with a body of 1 MiB.
func sendUnfinished(ctx context.Context, w *hostileWorld, n int, key string) {
	address := strings.TrimPrefix(w.router.api.URL, "http://")
	body := strings.Repeat("x", 1<<20-1000)
	var group sync.WaitGroup
	for range n {
		group.Go(func() {
			conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
			if err != nil {
				return
			}
			defer conn.Close()
			conn.SetDeadline(time.Now().Add(attackTime(w.T)))
			fmt.Fprintf(conn, "POST /api/v1/events HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", key, 1<<20, body)
			<-ctx.Done()
		})
	}
	group.Wait()
}

func sendUnfinishedBodies(ctx context.Context, w *hostileWorld) {
	sendUnfinished(ctx, w, 1000, w.hostile().Key)
}

func sendUnfinishedBodiesWithoutKey(ctx context.Context, w *hostileWorld) {
	sendUnfinished(ctx, w, 1000, "whk_unknown")
}

func prepareSlowTargets(w *hostileWorld) {
	c := w.hostile()
	for i := range 100 {
		w.subscribe(c, api.SubscriptionRequest{Event: api.Some(api.EventNames{"slow"}), TargetURL: api.Some(fmt.Sprintf("%s/%d", w.slow.URL, i))})
	}
}

// publishSteadily keeps the slow targets of an account as busy as it may.
func publishSteadily(ctx context.Context, w *hostileWorld) {
	c := w.hostile()
	for tick := time.NewTicker(50 * time.Millisecond); ctx.Err() == nil; {
		c.Publish(ctx, api.PublishRequest{Type: "slow", Data: 1})
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
}

func prepareSink(w *hostileWorld) {
	for range 3 {
		w.subscribe(w.hostile(), api.SubscriptionRequest{Event: api.Some(api.EventNames{"order.created"}), TargetURL: api.Some(w.sink.URL)})
	}
}

// prepareTwo prepares what attackWithTwo needs: the second account has large events.
func prepareTwo(w *hostileWorld) {
	prepareCostlyFilters(w)
	prepareLargeEvents(w)
}

// attackWithTwo attacks with two accounts in two ways.
func attackWithTwo(ctx context.Context, w *hostileWorld) {
	second := w.account("hostile2")
	var group sync.WaitGroup
	group.Go(func() { publishCostly(ctx, w) })
	group.Go(func() { readLargeEvents(ctx, w) })
	group.Go(func() { sendUnfinished(ctx, w, 300, second.Key) })
	group.Wait()
}
