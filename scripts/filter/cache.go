package filter

import (
	"crypto/sha256"
	"encoding/binary"
	"math"
	"sync"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

// BytesPerSourceByte is about how much memory a compiled filter takes for each byte of its source, as
// measured.
const BytesPerSourceByte = 45

// filterBytes is the memory of a filter in a Cache besides what follows from its source.
const filterBytes = 1 << 10

// Cache compiles each filter once and returns the same *Filter for the same text and
// schemas, so that the matcher can evaluate a text once for all subscriptions that share it.
// It keeps the most recently used filters.
type Cache struct {
	maxBytes int

	mu      sync.Mutex
	filters *simplelru.LRU[cacheKey, cachedFilter]
	bytes   int
}

type cacheKey [sha256.Size]byte

type cachedFilter struct {
	filter *Filter
	bytes  int
}

// NewCache returns a cache of filters that take up to maxBytes of memory; one filter always fits.
func NewCache(maxBytes int) *Cache {
	c := &Cache{maxBytes: maxBytes}
	c.filters, _ = simplelru.NewLRU(math.MaxInt, func(_ cacheKey, old cachedFilter) { c.bytes -= old.bytes }) // fails for sizes below 1
	return c
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
	return c.put(key, cachedFilter{f, filterBytes + BytesPerSourceByte*len(source)}), nil
}

func (c *Cache) get(key cacheKey) *Filter {
	c.mu.Lock()
	defer c.mu.Unlock()
	found, _ := c.filters.Get(key)
	return found.filter
}

// put stores a filter and returns it; if another goroutine stored one first, it returns that one.
func (c *Cache) put(key cacheKey, fresh cachedFilter) *Filter {
	c.mu.Lock()
	defer c.mu.Unlock()
	if found, ok := c.filters.Peek(key); ok {
		return found.filter
	}
	c.filters.Add(key, fresh)
	for c.bytes += fresh.bytes; c.bytes > c.maxBytes && c.filters.Len() > 1; {
		c.filters.RemoveOldest()
	}
	return fresh.filter
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
