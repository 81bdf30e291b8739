package engine

import (
	"context"
	"time"
)

// The idempotency of API requests. (Events have their own, which costs no extra write: see
// EventLog.Append.) A request is stored when it begins and again, with its response, when it has
// taken effect. So a request with the same key is executed once, even if the router is killed in
// between.

const (
	// IdempotencyWindow is how long the response to a request with an idempotency key is stored.
	IdempotencyWindow = 24 * time.Hour
	// MaxIdempotentRequests is how many requests of an account are stored, the newest.
	MaxIdempotentRequests = 10_000
)

// IdempotentRequest is an API request that carries an idempotency key.
type IdempotentRequest struct {
	ID      ID // created when the request begins, so ids grow with time
	Account string
	Key     KeyHash // unique within the account
	Digest  KeyHash // of the request's content, to tell a repeat from another request
	Answer  []byte  // empty: no response yet. It may contain secrets
}

// RequestLog stores requests that carry an idempotency key.
type RequestLog interface {
	// BeginRequest stores r, without a response, and returns nil; if its key has a request already,
	// BeginRequest stores nothing and returns that request. It retains the newest keep requests of
	// the account.
	BeginRequest(ctx context.Context, r *IdempotentRequest, keep int) (stored *IdempotentRequest, err error)
	// FinishRequest stores the response of a request that was begun.
	FinishRequest(ctx context.Context, r *IdempotentRequest) error
	// ForgetRequest removes a request.
	ForgetRequest(ctx context.Context, id ID) error
	// PruneRequests removes requests with ids below before, the oldest first, in one small step, as
	// Prune does. more reports whether others remain.
	PruneRequests(ctx context.Context, before ID) (more bool, err error)
}

// RequestKeyHash returns the KeyHash of an API request's idempotency key.
func RequestKeyHash(account, key string) KeyHash { return HashParts("request", account, key) }

// RequestDigest returns the Digest of a request, which is equal if all parts are.
func RequestDigest(parts ...string) KeyHash { return HashParts(parts...) }
