package cmd

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"switchhook/engine/testkit"
	"sync"
	"testing"
)

func jsonLines(w io.Writer) slog.Handler { return slog.NewJSONHandler(w, nil) }

// gatedWriter blocks writes until it is opened.
type gatedWriter struct {
	open chan struct{}
	mu   sync.Mutex
	buf  bytes.Buffer
}

func (g *gatedWriter) Write(text []byte) (int, error) {
	<-g.open
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.buf.Write(text)
}

func (g *gatedWriter) text() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.buf.String()
}

func TestLogWriter_LosesNothingInABurst(t *testing.T) {
	t.Parallel()
	out := &testkit.Buffer{}
	w := newLogWriter(out, jsonLines)
	var want strings.Builder
	for i := range 20 * logQueue {
		fmt.Fprintf(&want, "line %d\n", i)
		fmt.Fprintf(w, "line %d\n", i)
	}
	testkit.WaitFor(t, "all lines are written", func() bool { w.flush(); return len(out.String()) >= want.Len() })
	if out.String() != want.String() {
		t.Error("lines are missing or in another order")
	}
}

func TestLogWriter_CountsDroppedLines(t *testing.T) {
	t.Parallel()
	out := &gatedWriter{open: make(chan struct{})}
	w := newLogWriter(out, jsonLines)
	for i := range logQueue + 101 { // one is being written
		fmt.Fprintf(w, "line %d\n", i)
	}
	w.flush() // times out
	close(out.open)
	testkit.WaitFor(t, "the loss is told", func() bool { return strings.Contains(out.text(), `"lines":100}`) })
}
