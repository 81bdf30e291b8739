package cmd

import (
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"switchhook/engine/testkit"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// The metrics listener allows a few connections, and accepts a new one for each that ends.
func TestMetricsListener_BoundsItsConnections(t *testing.T) {
	t.Parallel()
	m, err := listenForMetrics("127.0.0.1:0", prometheus.NewRegistry(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	m.serve(slog.New(slog.DiscardHandler))
	defer m.close(t.Context())
	var conns []net.Conn
	for range metricsConns + 1 {
		conn, err := net.Dial("tcp", m.listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := io.WriteString(conn, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		conns = append(conns, conn)
	}
	one := make([]byte, 1)
	for i, conn := range conns[:metricsConns] {
		if _, err := conn.Read(one); err != nil {
			t.Fatalf("connection %d: %v", i, err)
		}
	}
	last := conns[metricsConns]
	last.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
	if _, err := last.Read(one); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("one connection more than %d is served: %v", metricsConns, err)
	}
	conns[0].Close()
	last.SetReadDeadline(time.Now().Add(testkit.Timeout))
	if _, err := last.Read(one); err != nil {
		t.Errorf("it is not served when another has ended: %v", err)
	}
}
