package cmd

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"switchhook/engine/testkit"
	"switchhook/server/api"
	"syscall"
	"testing"
	"time"
)

// writeCertificate creates a certificate for 127.0.0.1 and writes it and its key to files.
func writeCertificate(t *testing.T, certFile, keyFile string, serial int64) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "test"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{certFile: {Type: "CERTIFICATE", Bytes: cert}, keyFile: {Type: "PRIVATE KEY", Bytes: private}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// serial makes a TLS connection and returns the serial number of the presented certificate.
func serial(addr string, maxVersion uint16) (int64, error) {
	conn, err := tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true, MaxVersion: maxVersion})
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	return conn.ConnectionState().PeerCertificates[0].SerialNumber.Int64(), nil
}

func TestServe_ReloadsCertificate(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	certFile, keyFile := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	writeCertificate(t, certFile, keyFile, 1)
	addr := testkit.FreeAddress(t)
	c := command("serve", "--listen", addr, "--data", dir, "--admin-key", testKey, "--log-level", "error", "--tls-cert", certFile, "--tls-key", keyFile)
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	c.Stderr = log
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	gone := make(chan struct{})
	go func() { ended <- c.Wait(); close(gone) }()
	t.Cleanup(func() { c.Process.Kill(); <-gone }) // before its folder is removed
	shows := func(want int64) {
		t.Helper()
		testkit.WaitFor(t, fmt.Sprintf("certificate %d is shown", want), func() bool {
			got, err := serial(addr, 0)
			return err == nil && got == want
		})
	}
	shows(1)
	if _, err := serial(addr, tls.VersionTLS11); err == nil {
		t.Error("TLS 1.1 is spoken")
	}
	writeCertificate(t, certFile, keyFile, 22) // reloaded without a signal
	shows(22)
	if err := os.WriteFile(certFile, []byte("not yet written"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := c.Process.Signal(syscall.SIGHUP); err != nil { // must neither end the process nor replace the current one
		t.Fatal(err)
	}
	testkit.WaitFor(t, "the broken file is told of", func() bool {
		text, _ := os.ReadFile(log.Name())
		return strings.Contains(string(text), "the old one stays in use")
	})
	shows(22)
	writeCertificate(t, certFile, keyFile, 333)
	c.Process.Signal(syscall.SIGHUP)
	shows(333)

	roots := x509.NewCertPool()
	pemText, _ := os.ReadFile(certFile)
	roots.AppendCertsFromPEM(pemText)
	client := http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}, Timeout: testkit.Timeout}
	defer client.CloseIdleConnections()
	res, err := client.Get("https://" + addr + "/healthz")
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != 200 || !strings.Contains(res.Header.Get("Strict-Transport-Security"), "max-age") {
		t.Errorf("%d with %v", res.StatusCode, res.Header)
	}
	if res, err := http.Get("http://" + addr + "/healthz"); err == nil {
		text, _ := io.ReadAll(res.Body)
		res.Body.Close()
		if res.StatusCode == 200 {
			t.Errorf("answers without TLS: %s", text)
		}
	}
	c.Process.Signal(syscall.SIGTERM)
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(testkit.Timeout):
		t.Error("it does not end")
	}
}

func TestServe_InvalidNetworkFlags(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	certFile, keyFile := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	writeCertificate(t, certFile, keyFile, 1)
	other := filepath.Join(dir, "other.pem")
	writeCertificate(t, filepath.Join(dir, "x.pem"), other, 2)
	for _, c := range []struct {
		name string
		args []string
		want string
	}{
		{"a certificate without key", []string{"--tls-cert", certFile}, "without --tls-key"},
		{"a key without certificate", []string{"--tls-key", keyFile}, "without --tls-cert"},
		{"a certificate that is not", []string{"--tls-cert", filepath.Join(dir, "none"), "--tls-key", keyFile}, "--tls-cert: open"},
		{"another certificate's key", []string{"--tls-cert", certFile, "--tls-key", other}, "does not match"},
		{"a key for a certificate", []string{"--tls-cert", keyFile, "--tls-key", keyFile}, "--tls-cert"},
		{"a name that is allowed", []string{"--allow-targets", "intern.example"}, "whose owner can point it"},
		{"a range that is denied", []string{"--deny-targets", "10.0.0.0/99"}, "--deny-targets"},
		{"a proxy without scheme", []string{"--target-proxy", "127.0.0.1:4750"}, "--target-proxy"},
		{"a proxy of another kind", []string{"--target-proxy", "ftp://127.0.0.1"}, "--target-proxy"},
		{"a trusted proxy by name", []string{"--trusted-proxies", "proxy"}, "--trusted-proxies"},
		{"a negative quota", []string{"--max-stored-bytes=-1"}, "--max-stored-bytes"},
	} {
		out, err := command(append([]string{"serve", "--listen", "127.0.0.1:0", "--data", filepath.Join(dir, "data")}, c.args...)...).CombinedOutput()
		if err == nil || !strings.Contains(string(out), c.want) {
			t.Errorf("%s: want %q: %v %s", c.name, c.want, err, out)
		}
	}
}

func TestKeys_ScopesAndRotation(t *testing.T) {
	t.Parallel()
	p := serve(t, t.TempDir())
	keys := func(args ...string) string {
		t.Helper()
		out, err := command(append([]string{"keys", "--server", p.api.URL, "--key", testKey}, args...)...).Output()
		if err != nil {
			t.Fatalf("keys %v: %v %s", args, err, out)
		}
		return strings.TrimSpace(string(out))
	}
	publish := func(key string) error {
		return newClient(p.api.URL, key).call(context.Background(), http.MethodPost, "/api/v1/events", api.PublishRequest{Type: "a", Data: json.RawMessage("1")}, nil)
	}
	month := func() string { return time.Now().UTC().Add(720 * time.Hour).Format("2006-01") }
	before := month()
	first := keys("create", "till", "--account", "acme", "--scopes", "publish,targets", "--expires-in", "720h")
	if err := publish(first); err != nil {
		t.Error(err)
	}
	if err := newClient(p.api.URL, first).call(context.Background(), http.MethodGet, "/api/v1/events", nil, nil); err == nil || !strings.Contains(err.Error(), "403") {
		t.Errorf("a key for publishing reads: %v", err)
	}
	line := ""
	for l := range strings.Lines(keys("list")) {
		if strings.Contains(l, "till") {
			line = l
		}
	}
	id, _, _ := strings.Cut(line, " ")
	if !strings.Contains(line, "publish,targets") || !strings.Contains(line, before) && !strings.Contains(line, month()) {
		t.Errorf("listed as %q", line)
	}
	second := keys("rotate", id, "--grace-period", "1h")
	for _, key := range []string{first, second} {
		if err := publish(key); err != nil {
			t.Error(err)
		}
	}
	third := keys("rotate", id, "--grace-period", "0s")
	if err := publish(third); err != nil || publish(first) == nil || publish(second) == nil {
		t.Errorf("the last key: %v; the others still work: %v %v", err, publish(first) == nil, publish(second) == nil)
	}
}

// The router refuses itself as a target, even if its whole machine is allowed.
func TestServe_RefusesItselfAsTarget(t *testing.T) {
	t.Parallel()
	p := serve(t, t.TempDir(), "--dev")
	err := p.api.call(context.Background(), http.MethodPost, "/api/v1/subscriptions", map[string]any{"event": "*", "target_url": p.api.URL + "/api/v1/events"}, nil)
	if err == nil || !strings.Contains(err.Error(), "where this router itself answers") {
		t.Errorf("it was accepted: %v", err)
	}
	sink := testkit.NewReceiver(t, nil)
	if err := p.api.call(context.Background(), http.MethodPost, "/api/v1/subscriptions", map[string]any{"event": "*", "target_url": sink.URL}, nil); err != nil {
		t.Error(err)
	}
}

// The host of --public-url counts as the router's own, unless the operator says otherwise.
func TestServe_RefusesPublicURLAsTarget(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		flags   []string
		refused bool
	}{
		{[]string{"--public-url", "https://router.example"}, true},
		{[]string{"--public-url", "https://router.example", "--allow-public-host"}, false},
		{[]string{"--public-url", "https://router.example/hooks"}, false},
		{nil, false},
	} {
		p := serve(t, t.TempDir(), c.flags...)
		err := p.api.call(context.Background(), http.MethodPost, "/api/v1/subscriptions", map[string]any{"event": "*", "target_url": "https://router.example/api/v1/events"}, nil)
		if (err != nil) != c.refused || err != nil && !strings.Contains(err.Error(), "--public-url") {
			t.Errorf("%v: %v", c.flags, err)
		}
	}
}
