package catalog

import (
	"testing"
	"time"

	"switchhook/engine"
)

// Creating, changing and finding a key takes no longer with many keys.
func TestKeyRegistry_ManyKeys(t *testing.T) {
	reg := &KeyRegistry{byText: map[[32]byte]*credential{}, byID: map[engine.ID]*credential{}}
	const n = 200_000
	began := time.Now()
	for id := engine.ID(1); id <= n; id++ {
		reg.setKey(&engine.Key{ID: id, Hash: [32]byte{1, byte(id), byte(id >> 8), byte(id >> 16)}})
	}
	for id := engine.ID(1); id <= n; id += 10 { // rotated, with the old text still good
		reg.setKey(&engine.Key{ID: id, Hash: [32]byte{2, byte(id), byte(id >> 8), byte(id >> 16)}, OldHash: [32]byte{1, byte(id), byte(id >> 8), byte(id >> 16)}, OldUntil: began})
	}
	if keys, texts := len(reg.byID), len(reg.byText); keys != n || texts != n+n/10 {
		t.Errorf("%d keys, %d texts", keys, texts)
	}
	for id := engine.ID(1); id <= n; id++ {
		reg.dropKey(id)
	}
	if keys, texts := len(reg.byID), len(reg.byText); keys != 0 || texts != 0 {
		t.Errorf("%d keys and %d texts are left", keys, texts)
	}
	if took := time.Since(began); took > 30*time.Second { // each by each it would be an hour
		t.Errorf("took %s", took)
	}
}
