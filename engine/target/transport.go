package target

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"net/url"
	"time"
)

// connectTimeout is how long a connection may take, and a TLS handshake after it.
const connectTimeout = 10 * time.Second

// Transport is the one HTTP transport for everything that goes out. It follows no
// redirects (it is a RoundTripper), uses no proxy from the environment, which would
// carry requests past the guard, keeps connections alive and speaks HTTP/2 where offered.
// Through a Policy's Proxy, names are looked up and checked here before each request; which
// address the proxy then connects to is the proxy's to check.
func Transport(g *Guard, perHost int) *http.Transport {
	dialer := net.Dialer{Timeout: connectTimeout, KeepAlive: 30 * time.Second, Resolver: g.policy.Resolver}
	dial := func(ctx context.Context, network, address string) (net.Conn, error) {
		d := dialer
		if g.policy.Proxy == nil { // otherwise it connects to the proxy and to nothing else
			host, _, err := net.SplitHostPort(address)
			if err != nil {
				return nil, err
			}
			d.Control = g.controlOf(host)
		}
		c, err := d.DialContext(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return newConn(c), nil
	}
	var proxy func(*http.Request) (*url.URL, error)
	if g.policy.Proxy != nil {
		proxy = func(req *http.Request) (*url.URL, error) {
			return g.policy.Proxy, g.CheckURL(req.Context(), req.URL.Scheme+"://"+req.URL.Host)
		}
	}
	return &http.Transport{
		Proxy: proxy,
		OnProxyConnectResponse: func(_ context.Context, _ *url.URL, _ *http.Request, res *http.Response) error {
			if res.StatusCode != http.StatusOK {
				return &proxyError{res.StatusCode}
			}
			return nil
		},
		DialContext:         dial,
		ForceAttemptHTTP2:   true, // a DialContext of one's own switches HTTP/2 off otherwise
		TLSClientConfig:     &tls.Config{MinVersion: tls.VersionTLS12, ClientSessionCache: tls.NewLRUClientSessionCache(4096)},
		TLSHandshakeTimeout: connectTimeout,
		MaxIdleConns:        4096,
		// Reuse is worth ten times more than anything else here: a fresh TLS connection
		// costs 825 µs of CPU, a kept one 73.
		MaxIdleConnsPerHost:    perHost,
		IdleConnTimeout:        90 * time.Second,
		MaxResponseHeaderBytes: 64 << 10,
		DisableCompression:     true, // no answer may grow while it is read
		// A connection of HTTP/2 outlives the requests that time out on it, so it is asked
		// whether it is still there.
		HTTP2:           &http.HTTP2Config{SendPingTimeout: 15 * time.Second, PingTimeout: 10 * time.Second},
		WriteBufferSize: 4 << 10,
		ReadBufferSize:  4 << 10,
	}
}
