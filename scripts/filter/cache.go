package filter

import (
	recency "container/list"
	"crypto/sha256"
	"encoding/binary"
	"sync"
)

// Cache compiles each filter once and returns the same *Filter for the same text and
// schemas, so that the matcher can evaluate a text once for all subscriptions that share it.
// It keeps the most recently used filters.
type Cache struct {
	size int

	mu      sync.Mutex
	entries map[cacheKey]*recency.Element
	recent  *recency.List // of cacheEntry, most recently used first
}

type cacheKey [sha256.Size]byte

type cacheEntry struct {
	key    cacheKey
	filter *Filter
}

// NewCache returns a cache of size filters, at least one.
func NewCache(size int) *Cache {
	return &Cache{size: max(1, size), entries: map[cacheKey]*recency.Element{}, recent: recency.New()}
}

// Compile returns the cached filter or compiles and caches it. Errors are not cached.
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

// put stores f and returns it; if another goroutine stored one first, it returns that one.
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

// keyOf hashes the texts with their lengths, so that different lists have different keys.
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
