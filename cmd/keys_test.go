package cmd

import (
	"context"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"switchhook/engine/testkit"
	"testing"
)

func TestServe_FirstStartWritesAdminKey(t *testing.T) {
	t.Parallel()
	data := filepath.Join(t.TempDir(), "made", "here")
	addr := testkit.FreeAddress(t)
	c := command("serve", "--listen", addr, "--data", data, "--log-level", "error")
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Process.Kill(); c.Wait() }) // before its folder is removed
	var text []byte
	testkit.WaitFor(t, "the key works", func() bool {
		var err error
		if text, err = os.ReadFile(filepath.Join(data, "admin.key")); err != nil {
			return false
		}
		return newClient("http://"+addr, strings.TrimSpace(string(text))).call(context.Background(), http.MethodGet, "/api/v1/keys", nil, nil) == nil
	})
	info, err := os.Stat(filepath.Join(data, "admin.key"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}

func TestKeys(t *testing.T) {
	t.Parallel()
	p := serve(t, t.TempDir())
	run := func(args ...string) (string, error) {
		out, err := command(append([]string{"keys", "--server", p.api.URL, "--key", testKey}, args...)...).Output()
		return string(out), err
	}
	made, err := run("create", "for a test", "--account", "acme")
	if err != nil {
		t.Fatal(err)
	}
	made = strings.TrimSpace(made)
	if err := newClient(p.api.URL, made).call(context.Background(), http.MethodGet, "/api/v1/subscriptions", nil, nil); err != nil {
		t.Error(err)
	}
	listed, err := run("list")
	if err != nil || !strings.Contains(listed, "for a test") || strings.Contains(listed, made) {
		t.Errorf("%v\n%s", err, listed)
	}
	for _, line := range strings.Split(listed, "\n") {
		if strings.Contains(line, "for a test") {
			if _, err := run("delete", strings.Fields(line)[0]); err != nil {
				t.Error(err)
			}
		}
	}
	if err := newClient(p.api.URL, made).call(context.Background(), http.MethodGet, "/api/v1/subscriptions", nil, nil); err == nil {
		t.Error("a deleted key still works")
	}
}

func TestKeys_UnreadableKeyFile(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "switchhook-data", "admin.key"), 0o755); err != nil {
		t.Fatal(err)
	}
	_, stderr, status := runIn(t, dir, "", "keys", "list")
	if status != 1 || !strings.Contains(stderr, filepath.Join("switchhook-data", "admin.key")+" can't be read: is a directory") {
		t.Errorf("status %d: %s", status, stderr)
	}
}
