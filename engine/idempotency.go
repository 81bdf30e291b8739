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
func RequestKeyHash(account, key string) KeyHash { return HashParts("request", account, key) }

// RequestDigest is the Digest of a request that is the same if all parts are.
func RequestDigest(parts ...string) KeyHash { return HashParts(parts...) }
