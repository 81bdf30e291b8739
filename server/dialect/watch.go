package dialect

import (
	"context"
	"time"

	"github.com/fsnotify/fsnotify"
)

// settle is how long a folder must be unchanged before it is read again: editors write a file in several
// steps.
const settle = 100 * time.Millisecond

// Watch calls taken with each new Set until ctx ends: when files of the folder change, and when again
// receives. Without a folder it returns at once.
func (l *Loader) Watch(ctx context.Context, again <-chan struct{}, taken func(*Set)) {
	if l.folder == "" {
		return
	}
	var events chan fsnotify.Event
	var failures chan error
	watcher, err := fsnotify.NewWatcher()
	if err == nil {
		defer watcher.Close()
		events, failures = watcher.Events, watcher.Errors
		err = watcher.Add(l.folder)
	}
	if err != nil {
		l.log.Error("changes of the folder of dialects are not noticed: send SIGHUP after a change", "error", err)
	}
	reload := func() {
		if set := l.Reload(); set != nil {
			taken(set)
		}
	}
	reload() // for changes between Load and the watcher's start
	timer := time.NewTimer(time.Hour)
	timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-again:
			reload()
		case _, ok := <-events:
			if !ok {
				return
			}
			timer.Reset(settle)
		case err, ok := <-failures:
			if !ok {
				return
			}
			l.log.Error("watch the folder of dialects", "error", err)
			timer.Reset(settle) // events may be lost
		case <-timer.C:
			reload()
		}
	}
}
