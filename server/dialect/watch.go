package dialect

import (
	"context"
	"time"

	"github.com/fsnotify/fsnotify"
)

// settle is how long a folder has to be quiet before it is read again: editors write a file
// in several steps.
const settle = 100 * time.Millisecond

// Watch calls taken with each new Set until ctx is over. Without a folder it returns at
// once. The error is that of the system's watcher.
func (l *Loader) Watch(ctx context.Context, taken func(*Set)) error {
	if l.folder == "" {
		return nil
	}
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		return err
	}
	defer watcher.Close()
	if err := watcher.Add(l.folder); err != nil {
		return err
	}
	reload := func() {
		if set := l.Reload(); set != nil {
			taken(set)
		}
	}
	reload() // what changed between Load and the watcher's start
	timer := time.NewTimer(time.Hour)
	timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case _, ok := <-watcher.Events:
			if !ok {
				return nil
			}
			timer.Reset(settle)
		case err, ok := <-watcher.Errors:
			if !ok {
				return nil
			}
			l.log.Error("watch the folder of dialects", "error", err)
			timer.Reset(settle) // events may be lost
		case <-timer.C:
			reload()
		}
	}
}
