package scripts

import "context"

// accountKey is the key of the account in a context.
type accountKey struct{}

// ForAccount returns a context whose runs and compilations are on an account: the accounts share the
// sandbox fairly. It is not the Account of the Event, which test cases choose.
func ForAccount(ctx context.Context, account string) context.Context {
	return context.WithValue(ctx, accountKey{}, account)
}

// AccountOf returns the account of ForAccount; "" if there is none.
func AccountOf(ctx context.Context) string {
	account, _ := ctx.Value(accountKey{}).(string)
	return account
}
