package cmd

import (
	"bytes"
	"io"
	"log/slog"
	"sync/atomic"
	"time"
)

const (
	logQueue     = 1024                   // lines that wait to be written
	logStalled   = 250 * time.Millisecond // without progress; from then on lines are dropped
	logFlushTime = time.Second            // the maximum wait for the last lines at exit
)

// logWriter writes log lines from its own goroutine, so that a log whose reader hangs, or
// that cannot be written, delays no delivery. It waits for a slow reader; if a reader
// accepts nothing for logStalled, lines are dropped, and their number is logged as soon as
// it continues.
type logWriter struct {
	out      io.Writer
	queue    chan logLine
	writing  atomic.Int64 // start of the current write in Unix nanoseconds; 0: none
	lost     atomic.Int64
	tellLost func(lines int64)
}

// logLine is a line or, without text, a request to signal that all lines before it are
// written.
type logLine struct {
	text    []byte
	written chan struct{}
}

// newLogWriter starts a writer. handler formats the message about dropped lines.
func newLogWriter(out io.Writer, handler func(io.Writer) slog.Handler) *logWriter {
	w := &logWriter{out: out, queue: make(chan logLine, logQueue)}
	told := slog.New(handler(out))
	w.tellLost = func(lines int64) {
		told.Warn("log lines were dropped: the log was not read, or could not be written", "lines", lines)
	}
	go w.run()
	return w
}

func (w *logWriter) run() {
	for line := range w.queue {
		if line.written != nil {
			close(line.written)
			continue
		}
		w.writing.Store(time.Now().UnixNano())
		_, err := w.out.Write(line.text)
		w.writing.Store(0)
		if err != nil { // a full disk, or a closed pipe
			w.lost.Add(1)
			continue
		}
		if lost := w.lost.Swap(0); lost > 0 {
			w.tellLost(lost)
		}
	}
}

// Write implements io.Writer. It never fails.
func (w *logWriter) Write(text []byte) (int, error) {
	line := logLine{text: bytes.Clone(text)}
	select {
	case w.queue <- line:
		return len(text), nil
	default:
	}
	waitTimeout := logStalled
	if began := w.writing.Load(); began != 0 {
		waitTimeout -= time.Since(time.Unix(0, began))
	}
	stalled := time.NewTimer(waitTimeout)
	defer stalled.Stop()
	select {
	case w.queue <- line:
	case <-stalled.C:
		w.lost.Add(1)
	}
	return len(text), nil
}

// flush waits a limited time until all earlier lines are written.
func (w *logWriter) flush() {
	timer := time.NewTimer(logFlushTime)
	defer timer.Stop()
	line := logLine{written: make(chan struct{})}
	select {
	case w.queue <- line:
	case <-timer.C:
		return
	}
	select {
	case <-line.written:
	case <-timer.C:
	}
}
