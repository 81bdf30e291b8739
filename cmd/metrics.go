package cmd

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"runtime"
	"runtime/debug"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/net/netutil"

	"switchhook/scripts/sandbox"
	"switchhook/server"
	"switchhook/storage/sqlite"
)

// newRegistry returns the registry of a router with the metrics of the process.
func newRegistry() *prometheus.Registry {
	r := prometheus.NewRegistry()
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Namespace: "switchhook", Name: "build_info", Help: "1; the labels name the running version.",
		ConstLabels: prometheus.Labels{"version": Version, "revision": revision(), "go_version": runtime.Version()},
	})
	build.Set(1)
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), build)
	return r
}

// revision returns the commit that the program was built from; "" if the build did not
// record it.
func revision() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			return s.Value
		}
	}
	return ""
}

// watchCommits registers metrics of the store's commits, and returns the function that the
// store must call after each.
func watchCommits(r prometheus.Registerer) func(sqlite.Commit) {
	took := prometheus.NewHistogram(prometheus.HistogramOpts{
		Namespace: "switchhook", Name: "store_commit_seconds", Help: "Duration of commits, including fsync.",
		Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5},
	})
	rows := prometheus.NewHistogram(prometheus.HistogramOpts{
		Namespace: "switchhook", Name: "store_commit_rows", Help: "Events, deliveries and attempts that commits wrote.",
		Buckets: prometheus.ExponentialBuckets(1, 4, 8), // to 16384
	})
	failed := prometheus.NewCounter(prometheus.CounterOpts{Namespace: "switchhook", Name: "store_commit_errors_total", Help: "Commits that failed: their requests were refused, or are retried."})
	r.MustRegister(took, rows, failed)
	return func(c sqlite.Commit) {
		took.Observe(c.Took.Seconds())
		if c.Err != nil {
			failed.Inc()
			return
		}
		rows.Observe(float64(c.Rows))
	}
}

// componentCollector collects metrics of the store's files and of the sandbox when it is
// scraped.
type componentCollector struct {
	store *sqlite.Store
	pool  *sandbox.Pool
	log   *slog.Logger
}

func figure(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("switchhook_"+name, help, labels, nil)
}

var (
	storeQueue       = figure("store_queue_length", "Calls and outcomes that wait for the next commit; 4096 are taken at most.")
	storeLog         = figure("store_wal_bytes", "Size of the write-ahead log.")
	storeDamaged     = figure("store_damaged", "1 where the database file was found damaged: events are refused, restore a backup.")
	storeUnreadable  = figure("store_unreadable_rows", "Rows that were found to hold something that can't be decoded, since the start; the log names them.")
	sandboxProcesses = figure("sandbox_processes", "Sandbox processes that live.")
	sandboxBusy      = figure("sandbox_processes_busy", "Sandbox processes that have something to run.")
	sandboxRunning   = figure("sandbox_running", "Runs and compilations that a sandbox process was given.")
	sandboxQueue     = figure("sandbox_queue_length", "Runs and compilations that wait for a sandbox process.")
	sandboxMemory    = figure("sandbox_memory_bytes", "Memory that the sandbox processes hold and share with nobody.")
	sandboxStarted   = figure("sandbox_started_total", "Sandbox processes that were started.")
	sandboxEnded     = figure("sandbox_ended_total", "Sandbox processes that ended: timeout, memory, crash (a script's doing), retired (had grown, no run was lost), start (never ready).", "reason")
)

// Describe implements prometheus.Collector.
func (f *componentCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		storeQueue, storeLog, storeDamaged, storeUnreadable,
		sandboxProcesses, sandboxBusy, sandboxRunning, sandboxQueue, sandboxMemory, sandboxStarted, sandboxEnded,
	} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (f *componentCollector) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v int64) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(v))
	}
	gauge(storeQueue, int64(f.store.Waiting()))
	if size, err := f.store.LogSize(); err != nil {
		f.log.Warn("write-ahead log not measured", "error", err)
	} else {
		gauge(storeLog, size)
	}
	damaged := int64(0)
	if f.store.Damaged() != nil {
		damaged = 1
	}
	gauge(storeDamaged, damaged)
	gauge(storeUnreadable, f.store.Unreadable())
	s := f.pool.Stats()
	gauge(sandboxProcesses, int64(s.Processes))
	gauge(sandboxBusy, int64(s.Busy))
	gauge(sandboxRunning, int64(s.Running))
	gauge(sandboxQueue, int64(s.Queued))
	gauge(sandboxMemory, s.Memory)
	ch <- prometheus.MustNewConstMetric(sandboxStarted, prometheus.CounterValue, float64(s.Started))
	for reason, n := range s.Ended {
		ch <- prometheus.MustNewConstMetric(sandboxEnded, prometheus.CounterValue, float64(n), reason)
	}
}

// metricsListener serves only /metrics, on a separate address.
type metricsListener struct {
	server   *http.Server
	listener net.Listener
}

// metricsConns is the maximum number of open connections to the metrics listener: more than
// scrapers need, and too few to exhaust the file descriptors of the process.
const metricsConns = 64

func listenForMetrics(address string, from prometheus.Gatherer, log *slog.Logger) (*metricsListener, error) {
	l, err := listen("--metrics-listen", address, "something else")
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(from, promhttp.HandlerOpts{}))
	return &metricsListener{
		server: &http.Server{
			Handler: mux, ReadTimeout: 10 * time.Second, WriteTimeout: 30 * time.Second, IdleTimeout: 2 * time.Minute,
			MaxHeaderBytes: 16 << 10,
		},
		listener: netutil.LimitListener(server.RetryAccept(l, log), metricsConns),
	}, nil
}

// serve answers until close.
func (m *metricsListener) serve(log *slog.Logger) {
	go func() {
		if err := m.server.Serve(m.listener); !errors.Is(err, http.ErrServerClosed) {
			log.Error("metrics are not served any more", "error", err)
		}
	}()
}

func (m *metricsListener) close(ctx context.Context) error {
	err := m.server.Shutdown(ctx)
	m.listener.Close() // the server does not know the listener before serve
	return err
}
