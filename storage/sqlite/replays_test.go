package sqlite

import (
	"path/filepath"
	"sync"
	"testing"
	"time"

	"switchhook/engine"
)

func TestReplays_OldFinishedOnesAreRemoved(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "test.db"))
	put := func(id int, account string, finished bool) {
		r := &engine.Replay{ID: engine.ID(id), Account: account, CreatedAt: time.Now(), Subscriptions: []engine.ID{1}}
		if finished {
			r.FinishedAt = time.Now()
		}
		if err := s.PutReplay(t.Context(), r); err != nil {
			t.Error(err)
		}
	}
	put(1, "many", false)
	put(2, "few", true)
	var group sync.WaitGroup
	const first, last = 3, engine.MaxReplays + 10
	for id := first; id <= last; id++ {
		group.Go(func() { put(id, "many", true) })
	}
	group.Wait()
	put(last+1, "many", true)
	for _, want := range []struct {
		account string
		ids     int
		oldest  engine.ID
	}{{"many", engine.MaxReplays + 1, 1}, {"few", 1, 2}} {
		list, _, err := s.Replays(t.Context(), engine.ReplayQuery{Account: want.account, Limit: last + 10})
		if err != nil {
			t.Fatal(err)
		}
		if len(list) != want.ids || list[len(list)-1].ID != want.oldest || want.ids > 1 && list[0].ID != last+1 {
			t.Errorf("%s has %d replays, the oldest %d; want %d from %d", want.account, len(list), list[len(list)-1].ID, want.ids, want.oldest)
		}
	}
}
