package cmd

import (
	"bytes"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"switchhook/storage/vault"
)

// run runs a command to its end and returns its combined output.
func run(args ...string) (string, error) {
	out, err := command(args...).CombinedOutput()
	return string(out), err
}

func subscribe(t *testing.T, p *process) (secret string) {
	t.Helper()
	var made struct{ ID, Secret string }
	if err := p.api.call(t.Context(), http.MethodPost, "/api/v1/subscriptions", map[string]any{"events": []string{"*"}, "target_url": "http://127.0.0.1:9/"}, &made); err != nil {
		t.Fatal(err)
	}
	if made.Secret == "" {
		if err := p.api.call(t.Context(), http.MethodGet, "/api/v1/subscriptions/"+made.ID+"/secret", nil, &made); err != nil {
			t.Fatal(err)
		}
	}
	if made.Secret == "" {
		t.Fatal("the subscription has no secret")
	}
	return made.Secret
}

func TestSecrets_SealRotateAndMissingKey(t *testing.T) {
	t.Parallel()
	data := filepath.Join(t.TempDir(), "data")
	file := filepath.Join(data, "encryption.key")
	p := serve(t, data)
	secret := subscribe(t, p)

	out, err := run("secrets", "rotate", "--data", data)
	if err == nil || !strings.Contains(out, "in use by another process") {
		t.Fatalf("rotated under a running router: %v\n%s", err, out)
	}
	keys, err := vault.ReadFile(file)
	if err != nil || len(keys) != 1 {
		t.Fatalf("%d keys, %v", len(keys), err)
	}
	if err := p.end(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}

	if out, err := run("secrets", "rotate", "--data", data); err != nil || !strings.Contains(out, "sealed with key") {
		t.Fatalf("%v\n%s", err, out)
	}
	rotated, err := vault.ReadFile(file)
	if err != nil || len(rotated) != 2 || rotated[1] != keys[0] {
		t.Fatalf("%d keys, %v", len(rotated), err)
	}
	db, err := os.ReadFile(databaseFile(data))
	if err != nil || bytes.Contains(db, []byte(secret)) || bytes.Contains(db, []byte(keys[0].ID())) || !bytes.Contains(db, []byte(rotated[0].ID())) {
		t.Fatalf("the database holds the secret or the old key's work, or not the new one's: %v", err)
	}

	// Only the new key, from the environment.
	if err := os.Rename(file, file+".away"); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name      string
		env, want string
		flags     []string
	}{
		{"no key", "", rotated[0].ID(), nil},
		{"the old key", encoded(t, file+".away", 1), rotated[0].ID(), nil},
		{"no base64", "SWITCHHOOK_ENCRYPTION_KEY=x", "SWITCHHOOK_ENCRYPTION_KEY", nil},
		{"a missing file", "", "there is no ", []string{"--encryption-key-file", file + ".nowhere"}},
		{"a file and a key", encoded(t, file+".away", 0), "give one", []string{"--encryption-key-file", file + ".away"}},
	} {
		cmd := command(append([]string{"serve", "--listen", "127.0.0.1:0", "--data", data}, c.flags...)...)
		cmd.Env = append(cmd.Env, c.env)
		out, err := cmd.CombinedOutput()
		if err == nil || !strings.Contains(string(out), c.want) {
			t.Errorf("%s: %v\n%s", c.name, err, out)
		}
		if _, err := os.Stat(file); !os.IsNotExist(err) {
			t.Fatalf("%s: a key file was made", c.name)
		}
	}
	p = serve(t, data, "--encryption-key-file", file+".away")
	var list struct{ Data []struct{ ID, Secret string } }
	if err := p.api.call(t.Context(), http.MethodGet, "/api/v1/subscriptions", nil, &list); err != nil || len(list.Data) != 1 {
		t.Fatal(list, err)
	}
	var got struct{ Secret string }
	if err := p.api.call(t.Context(), http.MethodGet, "/api/v1/subscriptions/"+list.Data[0].ID+"/secret", nil, &got); err != nil || got.Secret != secret {
		t.Fatalf("%q, %v", got.Secret, err)
	}
	if err := p.end(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
}

// encoded returns a line of a key file as SWITCHHOOK_ENCRYPTION_KEY.
func encoded(t *testing.T, file string, n int) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var keys []string
	for line := range strings.Lines(string(text)) {
		if key, _, _ := strings.Cut(line, " "); key != "#" {
			keys = append(keys, key)
		}
	}
	return "SWITCHHOOK_ENCRYPTION_KEY=" + keys[n]
}
