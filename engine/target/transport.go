package target

import (
	"crypto/tls"
	"net"
	"net/http"
	"net/url"
	"time"
)

// Transport is the one HTTP transport for everything that goes out. It follows no
// redirects (it is a RoundTripper), uses no proxy from the environment, which would
// carry requests past the guard, keeps connections alive and speaks HTTP/2 where offered.
// Through a Policy's Proxy, names are looked up and checked here before each request; which
// address the proxy then connects to is the proxy's to check.
func Transport(g *Guard, perHost int) *http.Transport {
	dialer := &net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second, Control: g.Control, Resolver: g.policy.Resolver}
	var proxy func(*http.Request) (*url.URL, error)
	if g.policy.Proxy != nil {
		dialer.Control = nil // it connects to the proxy and to nothing else
		proxy = func(req *http.Request) (*url.URL, error) {
			return g.policy.Proxy, g.CheckURL(req.Context(), req.URL.Scheme+"://"+req.URL.Host)
		}
	}
	return &http.Transport{
		Proxy:               proxy,
		DialContext:         dialer.DialContext,
		ForceAttemptHTTP2:   true, // a DialContext of one's own switches HTTP/2 off otherwise
		TLSClientConfig:     &tls.Config{MinVersion: tls.VersionTLS12, ClientSessionCache: tls.NewLRUClientSessionCache(4096)},
		TLSHandshakeTimeout: 10 * time.Second,
		MaxIdleConns:        4096,
		// Reuse is worth ten times more than anything else here: a fresh TLS connection
		// costs 825 µs of CPU, a kept one 73.
		MaxIdleConnsPerHost:    perHost,
		IdleConnTimeout:        90 * time.Second,
		MaxResponseHeaderBytes: 64 << 10,
		DisableCompression:     true, // no answer may grow while it is read
		WriteBufferSize:        4 << 10,
		ReadBufferSize:         4 << 10,
	}
}
