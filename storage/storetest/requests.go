package storetest

import (
	"fmt"

	"switchhook/engine"
)

func request(account, key string) *engine.IdempotentRequest {
	return &engine.IdempotentRequest{ID: newID(), Account: account, Key: engine.RequestKeyHash(account, key), Digest: engine.RequestDigest(key)}
}

func (t *suite) begin(r *engine.IdempotentRequest, keep int) *engine.IdempotentRequest {
	t.Helper()
	stored, err := t.s.BeginRequest(t.ctx(), r, keep)
	t.must(err)
	return stored
}

var requests = []check{
	{"requests: stored at begin and with the answer", func(t *suite) {
		first, again, other := request("acme", "k"), request("acme", "k"), request("rival", "k")
		again.Digest = engine.RequestDigest("something else")
		t.equal("stored", t.begin(first, 10), (*engine.IdempotentRequest)(nil))
		t.equal("before it has an answer", t.begin(again, 10), first)
		first.Answer = []byte(`{"secret":"whsec_x","n":"\u00e9 é"}`)
		t.must(t.s.FinishRequest(t.ctx(), first))
		t.equal("with its answer", t.begin(again, 10), first)
		t.equal("another account's", t.begin(other, 10), (*engine.IdempotentRequest)(nil))
		t.s = t.reopen()
		t.equal("after a restart", t.begin(again, 10), first)
		t.must(t.s.ForgetRequest(t.ctx(), first.ID))
		t.must(t.s.ForgetRequest(t.ctx(), first.ID))
		t.equal("once it is forgotten", t.begin(again, 10), (*engine.IdempotentRequest)(nil))
	}},
	{"requests: concurrent begins under one key store one", func(t *suite) {
		won := make(chan bool)
		const many = 16
		for range many {
			go func() {
				stored, err := t.s.BeginRequest(t.ctx(), request("acme", "k"), 10)
				won <- err == nil && stored == nil
			}()
		}
		n := 0
		for range many {
			if <-won {
				n++
			}
		}
		t.equal("stored", n, 1)
	}},
	{"requests: pruned by number and age", func(t *suite) {
		var list []*engine.IdempotentRequest
		for i := range 8 {
			r := request("acme", fmt.Sprint(i))
			list = append(list, r)
			t.begin(r, 5)
		}
		rival := request("rival", "0")
		t.begin(rival, 5)
		kept := func(r *engine.IdempotentRequest, key string) bool {
			again := request(r.Account, key)
			if t.begin(again, 100) != nil {
				return true
			}
			t.must(t.s.ForgetRequest(t.ctx(), again.ID))
			return false
		}
		for i, r := range list {
			t.equal(fmt.Sprint("kept ", i), kept(r, fmt.Sprint(i)), i >= 3)
		}
		more, err := t.s.PruneRequests(t.ctx(), list[6].ID)
		t.must(err)
		t.equal("more", more, false)
		for i, r := range list {
			t.equal(fmt.Sprint("young enough ", i), kept(r, fmt.Sprint(i)), i >= 6)
		}
		t.equal("another account's", kept(rival, "0"), true)
	}},
}
