package cmd

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync"
	"time"
)

// certificateAge is how long a certificate is used before its files are checked again.
const certificateAge = time.Second

// certificate is a TLS certificate in two files that another program renews.
type certificate struct {
	certFile, keyFile string
	log               *slog.Logger

	mu      sync.Mutex
	current *tls.Certificate
	version [2]fileVersion // of the current certificate
	looked  time.Time
}

// fileVersion changes when a file does.
type fileVersion struct {
	modified time.Time
	size     int64
}

// loadCertificate reads a certificate for the first time; the error names the flags.
func loadCertificate(certFile, keyFile string) (*certificate, error) {
	c := &certificate{certFile: certFile, keyFile: keyFile, log: slog.Default()}
	if err := c.load(); err != nil {
		return nil, err
	}
	return c, nil
}

func (c *certificate) load() error {
	version := c.versions()
	for flag, file := range map[string]string{"--tls-cert": c.certFile, "--tls-key": c.keyFile} {
		if _, err := os.ReadFile(file); err != nil {
			return fmt.Errorf("%s: %w", flag, err)
		}
	}
	pair, err := tls.LoadX509KeyPair(c.certFile, c.keyFile)
	if err != nil {
		return fmt.Errorf("--tls-cert %s, --tls-key %s: %w", c.certFile, c.keyFile, err)
	}
	if pair.Leaf != nil && time.Now().After(pair.Leaf.NotAfter) {
		c.log.Warn("the TLS certificate has expired", "file", c.certFile, "expired_at", pair.Leaf.NotAfter)
	}
	c.current, c.version = &pair, version
	return nil
}

func (c *certificate) versions() (v [2]fileVersion) {
	for i, file := range []string{c.certFile, c.keyFile} {
		if info, err := os.Stat(file); err == nil {
			v[i] = fileVersion{info.ModTime(), info.Size()}
		}
	}
	return v
}

// get returns the certificate, reloaded if its files have changed. If it cannot be read,
// since it is being written, the old one stays in use.
func (c *certificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Since(c.looked) < certificateAge {
		return c.current, nil
	}
	c.looked = time.Now()
	if c.versions() != c.version {
		c.reload()
	}
	return c.current, nil
}

// reload reads the files if they have changed; mu is held.
func (c *certificate) reload() {
	if err := c.load(); err != nil {
		c.log.Error("TLS certificate not read again; the old one stays in use", "error", err)
		return
	}
	c.log.Info("TLS certificate read again", "file", c.certFile)
}

// forceReload reads the files unconditionally.
func (c *certificate) forceReload() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.reload()
}

// listen wraps a listener with TLS.
func (c *certificate) listen(l net.Listener) net.Listener {
	return tls.NewListener(l, &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}, GetCertificate: c.get})
}
