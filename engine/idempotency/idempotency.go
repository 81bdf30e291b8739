// Package idempotency stores the responses to requests with an idempotency key.
package idempotency

import (
	"context"
	"sync"

	"switchhook/engine"
	"switchhook/engine/catalog"
	"switchhook/engine/snowflake"
)

// Requests stores the responses to requests with an idempotency key, so that a repeated request
// takes effect once.
type Requests struct {
	store   engine.Store
	ids     *snowflake.Maker
	catalog *catalog.Catalog

	requests sync.Map // KeyHash of the requests in progress
}

// New returns a Requests over a store.
func New(store engine.Store, ids *snowflake.Maker, catalog *catalog.Catalog) *Requests {
	return &Requests{store: store, ids: ids, catalog: catalog}
}

// BeginRequest registers a request of an account. If one with the same key has a response, stored
// has it and r is nil; otherwise r must be passed to FinishRequest, AbandonRequest or
// ForgetRequest. Errors: CodeInvalid; CodeConflict if the key was used for another request, while a
// request with it is in progress, or if the router stopped during one, so that its result is
// unknown; CodeStorageFull.
func (i *Requests) BeginRequest(ctx context.Context, account, key string, digest engine.KeyHash) (r, stored *engine.IdempotentRequest, err error) {
	const field = "Idempotency-Key"
	if !engine.ValidKey(key) {
		return nil, nil, engine.Invalid(field, "must be 1 to %d visible ASCII characters", engine.MaxEventKey)
	}
	r = &engine.IdempotentRequest{ID: i.ids.Next(), Account: account, Key: engine.RequestKeyHash(account, key), Digest: digest}
	if _, busy := i.requests.LoadOrStore(r.Key, r.ID); busy {
		return nil, nil, &engine.Error{Code: engine.CodeConflict, Field: field, Message: "belongs to a request that is being handled now: send this one again in a second"}
	}
	stored, err = i.store.BeginRequest(i.catalog.WithStorageLimit(ctx, account), r, engine.MaxIdempotentRequests)
	if stored == nil && err == nil {
		return r, nil, nil
	}
	i.requests.Delete(r.Key)
	switch {
	case err != nil:
		return nil, nil, err
	case stored.Digest != digest:
		return nil, nil, &engine.Error{Code: engine.CodeConflict, Field: field, Message: "was used for another request: give every request a key of its own"}
	case len(stored.Answer) == 0:
		return nil, nil, &engine.Error{Code: engine.CodeConflict, Field: field, Message: "belongs to a request during which the router stopped: look whether it was carried out, and send it with a new key if not"}
	}
	return nil, stored, nil
}

// FinishRequest stores the response of r.
func (i *Requests) FinishRequest(ctx context.Context, r *engine.IdempotentRequest) error {
	defer i.requests.Delete(r.Key)
	return i.store.FinishRequest(ctx, r)
}

// AbandonRequest ends a request with an unknown result: its key stays in use.
func (i *Requests) AbandonRequest(r *engine.IdempotentRequest) { i.requests.Delete(r.Key) }

// ForgetRequest removes r, which has changed nothing: its key can be used again.
func (i *Requests) ForgetRequest(ctx context.Context, r *engine.IdempotentRequest) error {
	defer i.requests.Delete(r.Key)
	return i.store.ForgetRequest(ctx, r.ID)
}
