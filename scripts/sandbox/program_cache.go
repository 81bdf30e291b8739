package sandbox

import (
	"container/list"

	"switchhook/scripts"
)

// programCache says which programs a child has. What is too much makes room at the expense of the
// account that has most, so that an account with many programs drives out its own. The zero value is
// empty.
type programCache struct {
	programs map[string]*list.Element // of *cachedProgram, by hash
	accounts map[string]*cachedAccount
	bytes    int
}

// cachedProgram is a program of the account that was the first to need it.
type cachedProgram struct {
	hash    string
	number  uint64
	bytes   int
	account string
}

// cachedAccount holds an account's programs; it has at least one.
type cachedAccount struct {
	recent list.List // of *cachedProgram, most recently used first
	bytes  int
}

// use returns the child's number for a program.
func (c *programCache) use(hash string) (number uint64, ok bool) {
	e := c.programs[hash]
	if e == nil {
		return 0, false
	}
	p := e.Value.(*cachedProgram)
	c.accounts[p.account].recent.MoveToFront(e)
	return p.number, true
}

// add adds a program and returns the numbers of those that the child must forget.
func (c *programCache) add(account string, p *scripts.Program, number uint64) (forget []uint64) {
	if c.programs == nil {
		c.programs, c.accounts = map[string]*list.Element{}, map[string]*cachedAccount{}
	}
	fresh := &cachedProgram{p.Hash, number, len(p.Source) + len(p.Code) + len(p.Map) + programOverhead, account}
	for c.bytes > 0 && c.bytes+fresh.bytes > maxProgramBytes {
		forget = append(forget, c.evict(fresh))
	}
	a := c.accounts[account]
	if a == nil {
		a = &cachedAccount{}
		c.accounts[account] = a
	}
	c.programs[p.Hash] = a.recent.PushFront(fresh)
	a.bytes += fresh.bytes
	c.bytes += fresh.bytes
	return forget
}

// evict removes the least recently used program of the account that would have most with fresh.
func (c *programCache) evict(fresh *cachedProgram) (number uint64) {
	var largest *cachedAccount
	most := 0
	for name, a := range c.accounts {
		bytes := a.bytes
		if name == fresh.account {
			bytes += fresh.bytes
		}
		if bytes > most {
			largest, most = a, bytes
		}
	}
	old := largest.recent.Remove(largest.recent.Back()).(*cachedProgram)
	delete(c.programs, old.hash)
	c.bytes -= old.bytes
	if largest.bytes -= old.bytes; largest.bytes == 0 {
		delete(c.accounts, old.account)
	}
	return old.number
}
