package engine

import (
	"context"
	"time"
)

// The idempotency of API requests. (Events have their own, which costs them no write: see
// EventLog.Append.) A request is stored when it begins and again, with its answer, when it
// has done something. So a request with the same key is carried out once, even if the router
// is killed in between.

const (
	// IdempotencyWindow is how long the answer to a request with an idempotency key is kept.
	IdempotencyWindow = 24 * time.Hour
	// MaxIdempotentRequests is how many of an account are kept, the newest.
	MaxIdempotentRequests = 10_000
)

// IdempotentRequest is an API request that carries an idempotency key.
type IdempotentRequest struct {
	ID      ID // made when it begins, so ids grow with time
	Account string
	Key     KeyHash // one within the account
	Digest  KeyHash // of what is asked for, to tell a repeat from another request
	Answer  []byte  // empty: it has no answer yet. It may hold secrets
}

// RequestLog keeps requests that carry an idempotency key.
type RequestLog interface {
	// BeginRequest stores r, without an answer, and returns nil; if there is a request under
	// its key it stores nothing and returns that one. Of the account's requests it keeps the
	// newest keep.
	BeginRequest(ctx context.Context, r *IdempotentRequest, keep int) (stored *IdempotentRequest, err error)
	// FinishRequest stores the answer of a request that was begun.
	FinishRequest(ctx context.Context, r *IdempotentRequest) error
	// ForgetRequest removes a request.
	ForgetRequest(ctx context.Context, id ID) error
	// PruneRequests removes requests with ids below one, the oldest first: one small step,
	// as Prune. more tells whether there are others.
	PruneRequests(ctx context.Context, before ID) (more bool, err error)
}

// RequestKeyHash is the KeyHash of an API request's idempotency key.
func RequestKeyHash(account, key string) KeyHash { return hashParts("request", account, key) }

// RequestDigest is the Digest of a request that is the same if all parts are.
func RequestDigest(parts ...string) KeyHash { return hashParts(parts...) }

// BeginRequest registers a request of an account. If one with the same key was answered,
// stored has its answer and r is nil; otherwise r must be given to FinishRequest or
// ForgetRequest. Errors: CodeInvalid; CodeConflict if the key was used for something else,
// while a request with it is being handled, or if the router stopped while it handled one, so
// that nobody knows what came of it.
func (e *Engine) BeginRequest(ctx context.Context, account, key string, digest KeyHash) (r, stored *IdempotentRequest, err error) {
	const field = "Idempotency-Key"
	if !validKey(key) {
		return nil, nil, Invalid(field, "must be 1 to %d visible ASCII characters", maxEventKey)
	}
	r = &IdempotentRequest{ID: e.ids.Next(), Account: account, Key: RequestKeyHash(account, key), Digest: digest}
	if _, busy := e.requests.LoadOrStore(r.Key, r.ID); busy {
		return nil, nil, &Error{Code: CodeConflict, Field: field, Message: "belongs to a request that is being handled now: send this one again in a second"}
	}
	stored, err = e.store.BeginRequest(ctx, r, MaxIdempotentRequests)
	if stored == nil && err == nil {
		return r, nil, nil
	}
	e.requests.Delete(r.Key)
	switch {
	case err != nil:
		return nil, nil, err
	case stored.Digest != digest:
		return nil, nil, &Error{Code: CodeConflict, Field: field, Message: "was used for another request: give every request a key of its own"}
	case len(stored.Answer) == 0:
		return nil, nil, &Error{Code: CodeConflict, Field: field, Message: "belongs to a request during which the router stopped: look whether it was carried out, and send it with a new key if not"}
	}
	return nil, stored, nil
}

// FinishRequest stores the answer of r.
func (e *Engine) FinishRequest(ctx context.Context, r *IdempotentRequest) error {
	defer e.requests.Delete(r.Key)
	return e.store.FinishRequest(ctx, r)
}

// AbandonRequest ends a request of which nobody knows whether it changed something: its key
// stays in use.
func (e *Engine) AbandonRequest(r *IdempotentRequest) { e.requests.Delete(r.Key) }

// ForgetRequest removes r, which has changed nothing: its key is free again.
func (e *Engine) ForgetRequest(ctx context.Context, r *IdempotentRequest) error {
	defer e.requests.Delete(r.Key)
	return e.store.ForgetRequest(ctx, r.ID)
}
