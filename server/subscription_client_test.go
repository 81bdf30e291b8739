package server_test

import (
	"context"
	"errors"
	"reflect"
	"testing"
	"time"

	"switchhook/server/api"
)

// The Go client sends and reads what the server understands and shows.
func TestClient_Subscriptions(t *testing.T) {
	r := start(t)
	ctx, c := context.Background(), api.NewClient(r.url, r.acme.key)
	duration := func(d time.Duration) api.Optional[api.Duration] { return api.Some(api.Duration(d)) }
	in := api.SubscriptionRequest{
		Event: api.Some(api.EventNames{"a.*"}), TargetURL: api.Some(anywhere), Filter: api.Some("data.n > 1"),
		Policy: api.Some(api.Policy{
			Retries: api.Some((&api.Backoff{First: api.Duration(time.Second), Attempts: 3}).Retries()), Timeout: duration(5 * time.Second),
			Rate: api.Some(api.Rate{Count: api.Some(10), Per: duration(time.Minute)}),
		}),
		Batch: api.Some(api.Batch{Size: api.Some(5)}),
	}
	made, err := c.CreateSubscription(ctx, in)
	must(t, err)
	if made.Secret == "" || made.ETag == "" || made.Filter != "data.n > 1" || made.Policy.Rate.Or(api.Rate{}).Count.Or(0) != 10 || !made.Policy.InFlight.IsNull() {
		t.Errorf("%+v", made)
	}
	if got := made.Policy.Retries.Or(nil); !reflect.DeepEqual(got, api.Retries{0, api.Duration(time.Second), api.Duration(2 * time.Second)}) {
		t.Errorf("retries: %v", got)
	}
	again, err := c.CreateSubscription(ctx, in)
	must(t, err)
	second, err := c.CreateSubscription(ctx, in, api.AllowDuplicates())
	must(t, err)
	if again.ID != made.ID || again.SecretHref == "" || second.ID == made.ID {
		t.Errorf("%s, %s, %s", made.ID, again.ID, second.ID)
	}

	patched, err := c.UpdateSubscription(ctx, made.ID, api.SubscriptionRequest{
		Policy: api.Some(api.Policy{Timeout: api.Null[api.Duration](), InFlight: api.Some(3)}), Batch: api.Null[api.Batch](), Active: api.Some(false),
	}, api.IfMatch(made.ETag))
	must(t, err)
	if p := patched.Policy; !p.Timeout.IsNull() || p.InFlight.Or(0) != 3 || p.Rate.IsNull() || !patched.Batch.IsNull() || patched.Active {
		t.Errorf("%+v", patched)
	}
	var problem *api.Error
	_, err = c.UpdateSubscription(ctx, made.ID, api.SubscriptionRequest{}, api.IfMatch(made.ETag))
	if !errors.As(err, &problem) || problem.Code != api.CodePreconditionFailed {
		t.Errorf("a stale change: %v", err)
	}
	replaced, err := c.ReplaceSubscription(ctx, made.ID, api.SubscriptionRequest{Description: api.Some("new")})
	must(t, err)
	if !replaced.Policy.InFlight.IsNull() || replaced.Filter != made.Filter || replaced.TargetURL != anywhere || !replaced.Active || replaced.Description != "new" {
		t.Errorf("%+v", replaced)
	}

	rotated, err := c.RotateSubscriptionSecret(ctx, made.ID, api.RotateSubscriptionSecretRequest{SecretType: "ed25519"})
	must(t, err)
	secret, err := c.GetSubscriptionSecret(ctx, made.ID)
	must(t, err)
	if secret.Secret != rotated.Secret || secret.PublicKey == "" || len(secret.OldSecrets) != 1 || secret.OldSecrets[0].Secret != made.Secret {
		t.Errorf("%+v", secret)
	}
	must(t, c.DeleteSubscription(ctx, second.ID))
	list, err := api.Collect(c.ListSubscriptions(ctx, api.ListSubscriptionsParams{Event: "a.b", Active: new(true)}))
	must(t, err)
	if len(list) != 1 || list[0].ID != made.ID {
		t.Errorf("%+v", list)
	}
	_, err = c.CreateSubscription(ctx, api.SubscriptionRequest{Events: api.Some(api.EventNames{"a", "b c"}), TargetURL: api.Some("ftp://x")})
	if !errors.As(err, &problem) || len(problem.Errors) != 2 || problem.Errors[0].Field != "events[1]" || problem.Errors[1].Field != "target_url" {
		t.Errorf("%v", err)
	}
}
