package dispatch

import "math"

// shareOfFree is how many times what is free an account may hold: alone it may take three of four units;
// then another one three of four of the rest, and so on. So accounts whose targets are down or slow
// leave room for the others, and nothing must be taken from them for it.
// (These are the dynamic thresholds of shared switch buffers, by Choudhury and Hahne.)
const shareOfFree = 3

// budget is an amount of memory that accounts share, in deliveries or in bytes. Its owner locks.
type budget struct {
	limit    int64
	held     int64
	accounts map[string]int64 // what each holds; without those that hold nothing
}

func newBudget(limit int64) budget {
	return budget{limit: min(limit, math.MaxInt64/8), accounts: map[string]int64{}} // room multiplies it
}

// room returns how much more an account may hold.
func (b *budget) room(account string) int64 {
	free := b.limit - b.held
	return max(0, min(free, shareOfFree*free-b.accounts[account]))
}

// add changes what an account holds.
func (b *budget) add(account string, n int64) {
	if n == 0 {
		return
	}
	b.held += n
	if n += b.accounts[account]; n == 0 {
		delete(b.accounts, account)
	} else {
		b.accounts[account] = n
	}
}
