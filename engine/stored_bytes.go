package engine

import "context"

// RowBytes is what each stored row counts in addition to its texts: its numbers, and its entries in
// indexes.
const RowBytes int64 = 100

// KeyBytes is what each idempotency key of an event counts.
const KeyBytes = RowBytes + int64(2*len(KeyHash{}))

// StoredBytes is the size of what is stored for an account, in bytes: the texts, headers and bodies of
// its rows, and RowBytes for each row.
type StoredBytes struct {
	Events        int64 // with their idempotency keys, and RowBytes for each target
	Deliveries    int64 // attempts: requests, responses, console output, errors
	Configuration int64 // subscriptions, scripts with versions and cases, keys, replays, answers to idempotent requests
	Audit         int64
}

// Total returns the sum.
func (b StoredBytes) Total() int64 { return b.Events + b.Deliveries + b.Configuration + b.Audit }

// StorageLimit is the maximum of what an account may store.
type StorageLimit struct {
	Account string
	Bytes   int64
}

type storageLimitKey struct{}

// WithStorageLimit returns a context whose changes the store refuses, with CodeStorageFull, if they add
// to what the account stores and take it beyond the limit.
func WithStorageLimit(ctx context.Context, limit StorageLimit) context.Context {
	return context.WithValue(ctx, storageLimitKey{}, limit)
}

// StorageLimitOf returns the limit of changes under ctx; ok is false if there is none.
func StorageLimitOf(ctx context.Context) (limit StorageLimit, ok bool) {
	limit, ok = ctx.Value(storageLimitKey{}).(StorageLimit)
	return limit, ok
}
