package cmd

import (
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// TestServe_OverSchema10 starts a router on a database of schema 10 whose router was
// killed; storage/sqlite/testdata/v10.sh shows how it was made.
func TestServe_OverSchema10(t *testing.T) {
	t.Setenv("SWITCHHOOK_ENCRYPTION_KEY", "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=")
	dump, err := os.ReadFile("../storage/sqlite/testdata/v10.sql")
	if err != nil {
		t.Fatal(err)
	}
	data := t.TempDir()
	db, err := sql.Open("sqlite3", "file:"+databaseFile(data))
	if err != nil {
		t.Fatal(err)
	}
	_, err = db.Exec(string(dump))
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		p := serve(t, data, "--keep-dead", "0s", "--keep-succeeded", "0s")
		for _, path := range []string{"/subscriptions?account=acme", "/events?account=acme", "/deliveries?account=acme", "/scripts?account=acme", "/replays?account=acme", "/keys?", "/accounts?", "/event-types?", "/audit?"} {
			var list struct{ Data []any }
			if err := p.api.call(t.Context(), "GET", "/api/v1"+path+"&limit=500", nil, &list); err != nil || len(list.Data) == 0 {
				t.Errorf("%s: %d entries, %v", path, len(list.Data), err)
			}
		}
		p.expect(0, []string{"shape  transform  2"}, "scripts", "--account", "acme", "list")
		p.expect(0, []string{"version 1 is live; it was version 2"}, "scripts", "--account", "acme", "rollback", "shape")
		p.expect(0, []string{"version 2 is live; it was version 1"}, "scripts", "--account", "acme", "live", "shape", "2")
		p.expect(1, []string{"1 of its 1 tests fail"}, "scripts", "--account", "acme", "live", "shape", "3")
		if err := p.end(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := os.Stat(filepath.Join(data, "encryption.key")); err == nil {
		t.Error("a key was made")
	}
}
