package cmd

import "testing"

func TestAccounts_ShowsWhatFillsThem(t *testing.T) {
	t.Parallel()
	p := serve(t, t.TempDir(), "--max-stored-bytes", "1000000", "--max-subscriptions", "7")
	p.expect(0, nil, "send", "order.created", `{"id": 1}`)
	p.expect(0, []string{"ACCOUNT  SUBSCRIPTIONS  STORED BYTES", "default  0 of 7", " of 1000000"}, "accounts")
	p.expect(0, []string{"default  0 of 7"}, "accounts", "default")
	p.expect(1, nil, "accounts", "no/account")
}
