package cmd

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"switchhook/server/api"
)

// scriptAccounts are the accounts that attack what all share to run scripts, each with several keys.
var scriptAccounts = []string{"hostile", "hostile2", "hostile3", "hostile4", "hostile5"}

const endless = "export default function transform(event, request) { for (;;) {} }"

// Each account has events and a script, so that it can compare.
func prepareComparisons(w *hostileWorld) {
	for _, account := range scriptAccounts {
		c := w.account(account)
		for i := range 100 {
			w.publish(c, "a", i)
		}
		_, err := c.CreateScript(w.Context(), api.CreateScriptRequest{
			Name: "compared", Kind: "transform", Source: "export default function transform(event, request) { return 1 }",
		})
		if err != nil {
			w.Fatal(err)
		}
	}
}

// compareEndless compares with candidates that the sandbox must stop for every second event: after 20
// in a row a comparison ends.
func compareEndless(ctx context.Context, w *hostileWorld) {
	concurrently(ctx, 20, func(ctx context.Context, i int) {
		w.account(scriptAccounts[i%len(scriptAccounts)]).CompareScript(ctx, "compared", api.CompareScriptRequest{
			Source: fmt.Sprintf("export default function transform(event, request) { while (event.data %% 2); return %d }", i),
		}, nil, nil)
	})
}

// previewOfManyAccounts previews endless scripts with many keys, so that none replaces another.
func previewOfManyAccounts(ctx context.Context, w *hostileWorld) {
	scopes := [][]string{{"scripts"}, {"scripts", "read"}, {"scripts", "publish"}, {"scripts", "subscribe"}}
	concurrently(ctx, 40, func(ctx context.Context, i int) {
		transform := fmt.Sprintf("%s // %d", endless, i)
		account := scriptAccounts[i%len(scriptAccounts)]
		w.account(account, scopes[i/len(scriptAccounts)%len(scopes)]...).Preview(ctx, api.PreviewRequest{
			Transform: &transform, Event: json.RawMessage(`{"type": "a", "data": {}}`),
		})
	})
}

// Each event has a costly key for every subscription, and its queue is ordered.
func prepareCostlyKeys(w *hostileWorld) {
	c := w.hostile()
	for i := range 100 {
		w.subscribe(c, api.SubscriptionRequest{
			Event: api.Some(api.EventNames{"order.created"}), TargetURL: api.Some(w.sink.URL),
			Policy: api.Some(api.Policy{
				Ordering:    api.Some("key"),
				OrderingKey: api.Some(fmt.Sprintf(`any(data.list, any(data.list, # == %d)) ? "a" : "b"`, -i-1)),
			}),
		})
	}
	// The account beside the attack has an ordered subscription, too.
	w.subscribe(w.account("neighbour"), api.SubscriptionRequest{
		Event: api.Some(api.EventNames{"order.created"}), TargetURL: api.Some(w.sink.URL),
		Policy: api.Some(api.Policy{Ordering: api.Some("key"), OrderingKey: api.Some("data.number")}),
	})
}

// prepareManyTinyBatches makes batches whose events are tiny: what is kept for each delivery is larger.
func prepareManyTinyBatches(w *hostileWorld) {
	for i := range 50 {
		w.subscribe(w.hostile(), api.SubscriptionRequest{
			Event: api.Some(api.EventNames{"many"}), TargetURL: api.Some(fmt.Sprint(w.slow.URL, "/", i)),
			Batch: api.Some(api.Batch{Size: api.Some(1000), Wait: api.Some(api.Duration(time.Second))}),
		})
	}
}

// prepareManySubscriptions makes so many subscriptions that a list of events leads to 600,000 deliveries.
func prepareManySubscriptions(w *hostileWorld) {
	var group sync.WaitGroup
	for i := range 8 {
		group.Go(func() {
			for j := range 75 {
				w.subscribe(w.hostile(), api.SubscriptionRequest{
					Event: api.Some(api.EventNames{"many"}), TargetURL: api.Some(fmt.Sprint(w.sink.URL, "/", i, "/", j)),
				})
			}
		})
	}
	group.Wait()
}

// publishLists publishes the longest lists of tiny events.
func publishLists(ctx context.Context, w *hostileWorld) {
	list := make([]api.PublishRequest, 1000)
	for i := range list {
		list[i] = api.PublishRequest{Type: "many", Data: 1}
	}
	concurrently(ctx, 8, func(ctx context.Context, i int) { w.hostile().PublishList(ctx, list[i%2*800:]) })
}
