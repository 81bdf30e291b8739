package cmd

import (
	"bytes"
	"io"
	"log/slog"
	"sync/atomic"
	"time"
)

const (
	logQueue     = 1024                   // lines that wait for the log's reader
	logStalled   = 250 * time.Millisecond // without one line taken; from then on lines are dropped
	logFlushTime = time.Second            // how long the end waits for the last lines
)

// logWriter writes log lines from a goroutine of its own, so that a log that nobody reads
// or that can't be written holds up no delivery. A reader that is slow is waited for, one
// that takes nothing for logStalled loses lines; how many is logged as soon as it reads on.
type logWriter struct {
	out      io.Writer
	queue    chan logLine
	writing  atomic.Int64 // when the write that is on began, in Unix nanoseconds; 0: none is
	lost     atomic.Int64
	tellLost func(lines int64)
}

// logLine is a line, or without text a request to be told that all before it is written.
type logLine struct {
	text    []byte
	written chan struct{}
}

// newLogWriter starts a writer. handler makes the form in which lost lines are told.
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
		if err != nil { // a full disk, a pipe that was closed
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
	patience := logStalled
	if began := w.writing.Load(); began != 0 {
		patience -= time.Since(time.Unix(0, began))
	}
	stalled := time.NewTimer(patience)
	defer stalled.Stop()
	select {
	case w.queue <- line:
	case <-stalled.C:
		w.lost.Add(1)
	}
	return len(text), nil
}

// flush waits until what was written before is out, but not for long.
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
