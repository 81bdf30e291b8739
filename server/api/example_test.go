package api_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"time"

	"switchhook/server/api"
)

// Subscribe a target, publish an event, and wait for its delivery.
func Example() {
	router, stop := startRouter()
	defer stop()
	target := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer target.Close()

	ctx := context.Background()
	client := api.NewClient(router.URL, router.Key)
	sub, err := client.CreateSubscription(ctx, api.SubscriptionRequest{
		Event:     api.Some(api.EventNames{"order.created"}),
		TargetURL: api.Some(target.URL),
		Filter:    api.Some("data.total > 100"),
	})
	if err != nil {
		log.Fatal(err)
	}
	for _, total := range []int{20, 120} {
		event, err := client.Publish(ctx, api.PublishRequest{Type: "order.created", Data: map[string]any{"total": total}})
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("total %d: matched %d\n", total, event.Matched)
	}
	delivery := waitFor(client, sub.ID, api.DeliverySucceeded)
	fmt.Println(delivery.Status, "after", delivery.AttemptCount, "attempt")
	// Output:
	// total 20: matched 0
	// total 120: matched 1
	// succeeded after 1 attempt
}

// An event with an id of the publisher's is the same event if it is published again. Without an id
// the client sends an Idempotency-Key, so that its own repeats after a broken connection publish
// nothing twice.
func ExampleClient_Publish() {
	router, stop := startRouter()
	defer stop()
	ctx, client := context.Background(), api.NewClient(router.URL, router.Key)

	happened := time.Date(2026, 1, 31, 9, 30, 0, 0, time.UTC)
	for range 2 {
		event, err := client.Publish(ctx, api.PublishRequest{ID: "order-1001-paid", Type: "order.paid", Time: &happened, Data: map[string]any{"id": 1001}})
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(event.ID)
	}
	events, err := api.Collect(client.ListEvents(ctx, api.ListEventsParams{Type: "order.paid"}))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(len(events), "event:", string(events[0].Data))
	// Output:
	// order-1001-paid
	// order-1001-paid
	// 1 event: {"id":1001}
}

// Publish several events at once: all of them are accepted, or none.
func ExampleClient_PublishList() {
	router, stop := startRouter()
	defer stop()
	ctx, client := context.Background(), api.NewClient(router.URL, router.Key)

	accepted, err := client.PublishList(ctx, []api.PublishRequest{
		{Type: "order.created", Data: 1},
		{Type: "order.paid", Data: 1},
	})
	fmt.Println(len(accepted), err)
	_, err = client.PublishList(ctx, []api.PublishRequest{{Type: "order.created", Data: 2}, {Type: "no type", Data: 2}})
	fmt.Println(err != nil)
	// Output:
	// 2 <nil>
	// true
}

// A list is an iterator: it fetches a page when the one before is used up, and none after the loop
// ends.
func ExampleClient_ListDeliveries() {
	router, stop := startRouter()
	defer stop()
	target := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "not now", http.StatusServiceUnavailable) }))
	defer target.Close()
	ctx, client := context.Background(), api.NewClient(router.URL, router.Key)
	sub := subscribe(client, "order.*", target.URL)
	for n := range 3 {
		if _, err := client.Publish(ctx, api.PublishRequest{Type: "order.created", Data: n}); err != nil {
			log.Fatal(err)
		}
	}
	waitFor(client, sub.ID, api.DeliveryRetrying)

	for delivery, err := range client.ListDeliveries(ctx, api.ListDeliveriesParams{SubscriptionID: sub.ID}) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(delivery.EventType, delivery.SubscriptionID == sub.ID)
	}
	// Output:
	// order.created true
	// order.created true
	// order.created true
}

// Look at the attempts of a delivery that failed, and make the next attempt now.
func ExampleClient_RetryDelivery() {
	router, stop := startRouter()
	defer stop()
	var up atomic.Bool
	target := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if !up.Load() {
			http.Error(w, "not now", http.StatusServiceUnavailable)
		}
	}))
	defer target.Close()
	ctx, client := context.Background(), api.NewClient(router.URL, router.Key)
	sub := subscribe(client, "order.paid", target.URL)
	if _, err := client.Publish(ctx, api.PublishRequest{Type: "order.paid", Data: map[string]any{"id": 1001}}); err != nil {
		log.Fatal(err)
	}

	delivery := waitFor(client, sub.ID, api.DeliveryRetrying)
	attempt, err := client.GetAttempt(ctx, delivery.ID, 1)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(attempt.Outcome, attempt.Response.Status, *attempt.Response.Body)
	up.Store(true)
	if _, err := client.RetryDelivery(ctx, delivery.ID); err != nil {
		log.Fatal(err)
	}
	delivery = waitFor(client, sub.ID, api.DeliverySucceeded)
	fmt.Println(delivery.Status, "after", delivery.AttemptCount, "attempts")
	// Output:
	// rejected 503 not now
	//
	// succeeded after 2 attempts
}

// An Error has a code for programs, and names every member that is wrong.
func ExampleError() {
	router, stop := startRouter()
	defer stop()
	ctx, client := context.Background(), api.NewClient(router.URL, router.Key)

	_, err := client.CreateSubscription(ctx, api.SubscriptionRequest{
		Event:     api.Some(api.EventNames{"no type"}),
		TargetURL: api.Some("ftp://example.com"),
	})
	var problem *api.Error
	if !errors.As(err, &problem) {
		log.Fatal(err)
	}
	fmt.Println(problem.Status, problem.Code)
	for _, member := range problem.Errors {
		fmt.Println(member.Field, member.Code)
	}
	_, err = client.GetSubscription(ctx, "sub_0dkwa9ap8h00g")
	if errors.As(err, &problem) && problem.Code == api.CodeNotFound {
		fmt.Println("there is no such subscription")
	}
	// Output:
	// 422 invalid_request
	// event[0] invalid
	// target_url not_allowed
	// there is no such subscription
}

// A change with IfMatch is made only if nobody else has changed the resource since it was read.
func ExampleIfMatch() {
	router, stop := startRouter()
	defer stop()
	ctx, client := context.Background(), api.NewClient(router.URL, router.Key)
	if _, err := client.CreateEventType(ctx, api.EventTypeRequest{Name: "order.created"}); err != nil {
		log.Fatal(err)
	}

	read, err := client.GetEventType(ctx, "order.created")
	if err != nil {
		log.Fatal(err)
	}
	describe := func(text string) {
		change := api.EventTypeRequest{Description: api.Some(text)}
		_, err := client.UpdateEventType(ctx, "order.created", change, api.IfMatch(read.ETag))
		var problem *api.Error
		if errors.As(err, &problem) {
			fmt.Println(text, "-", problem.Code)
			return
		}
		fmt.Println(text, "-", err)
	}
	describe("first")
	describe("second")
	// Output:
	// first - <nil>
	// second - precondition_failed
}

// Poll a resource without transferring what has not changed.
func ExampleIfNoneMatch() {
	router, stop := startRouter()
	defer stop()
	ctx, client := context.Background(), api.NewClient(router.URL, router.Key)
	if _, err := client.CreateEventType(ctx, api.EventTypeRequest{Name: "order.created"}); err != nil {
		log.Fatal(err)
	}

	read, err := client.GetEventType(ctx, "order.created")
	if err != nil {
		log.Fatal(err)
	}
	_, err = client.GetEventType(ctx, "order.created", api.IfNoneMatch(read.ETag))
	fmt.Println(errors.Is(err, api.ErrNotModified))
	// Output:
	// true
}

func subscribe(client *api.Client, event, url string) *api.Subscription {
	sub, err := client.CreateSubscription(context.Background(), api.SubscriptionRequest{
		Event: api.Some(api.EventNames{event}), TargetURL: api.Some(url),
	})
	if err != nil {
		log.Fatal(err)
	}
	return sub
}

// waitFor returns the newest delivery of a subscription, with its attempts, when it has a status.
func waitFor(client *api.Client, subscription string, status api.DeliveryStatus) *api.Delivery {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for {
		for delivery, err := range client.ListDeliveries(ctx, api.ListDeliveriesParams{SubscriptionID: subscription}) {
			if err != nil {
				log.Fatal(err)
			}
			if delivery.Status != status {
				break
			}
			found, err := client.GetDelivery(ctx, delivery.ID)
			if err != nil {
				log.Fatal(err)
			}
			return found
		}
		time.Sleep(5 * time.Millisecond)
	}
}
