package filter

import (
	recency "container/list"
	"crypto/sha256"
	"encoding/binary"
	"sync"
)

// Cache compiles each filter once and gives the same *Filter for the same text and
// schemas, so that whoever matches events can evaluate a text once however many
// subscriptions share it. It keeps the filters that were asked for last.
type Cache struct {
	size int

	mu      sync.Mutex
	entries map[cacheKey]*recency.Element
	recent  *recency.List // of cacheEntry, the latest in front
}

type cacheKey [sha256.Size]byte

type cacheEntry struct {
	key    cacheKey
	filter *Filter
}

// NewCache makes a cache of that many filters, at least one.
func NewCache(size int) *Cache {
	return &Cache{size: max(1, size), entries: map[cacheKey]*recency.Element{}, recent: recency.New()}
}

// Compile is the package's Compile, remembered. Errors are not.
func (c *Cache) Compile(source string, schemas ...[]byte) (*Filter, error) {
	key := keyOf(source, schemas)
	if f := c.get(key); f != nil {
		return f, nil
	}
	f, err := Compile(source, schemas...)
	if err != nil {
		return nil, err
	}
	return c.put(key, f), nil
}

func (c *Cache) get(key cacheKey) *Filter {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.entries[key]
	if !ok {
		return nil
	}
	c.recent.MoveToFront(e)
	return e.Value.(cacheEntry).filter
}

// put keeps f, unless another goroutine was faster: then its filter is the one.
func (c *Cache) put(key cacheKey, f *Filter) *Filter {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e, ok := c.entries[key]; ok {
		return e.Value.(cacheEntry).filter
	}
	c.entries[key] = c.recent.PushFront(cacheEntry{key, f})
	if c.recent.Len() > c.size {
		oldest := c.recent.Back()
		delete(c.entries, oldest.Value.(cacheEntry).key)
		c.recent.Remove(oldest)
	}
	return f
}

// keyOf hashes the texts with their lengths, so that no two lists of them look alike.
func keyOf(source string, schemas [][]byte) cacheKey {
	h := sha256.New()
	part := func(b []byte) {
		var n [8]byte
		binary.LittleEndian.PutUint64(n[:], uint64(len(b)))
		h.Write(n[:])
		h.Write(b)
	}
	part([]byte(source))
	for _, s := range schemas {
		part(s)
	}
	return cacheKey(h.Sum(nil))
}
