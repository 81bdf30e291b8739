package sqlite

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"switchhook/engine"
	"switchhook/storage/vault"
)

// with returns Options whose vault has keys.
func with(path string, keys ...vault.Key) Options {
	return Options{Path: path, Logger: slog.New(slog.DiscardHandler), Vault: func([]string) (*vault.Vault, error) { return vault.New(keys...) }}
}

func openSealed(t testing.TB, path string, keys ...vault.Key) *Store {
	t.Helper()
	s, err := Open(context.Background(), with(path, keys...))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func closed(t testing.TB, s *Store) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// secretive returns a subscription with every kind of secret; each contains "n-hush!",
// which no sealed text can.
func secretive(n int, version int64) *engine.Subscription {
	hush := func(kind string) string { return fmt.Sprintf("%s-%d-hush!", kind, n) }
	return &engine.Subscription{
		ID: engine.ID(n), Account: "acme", Events: []string{"*"}, TargetURL: "https://example.com/", Active: true, Version: version,
		Secret: "whsec_" + hush("secret"), OldSecrets: []engine.OldSecret{{Secret: hush("old"), Until: time.Unix(2e9, 0).UTC()}},
		Headers:      map[string]string{"Authorization": hush("header")},
		Verification: engine.Verification{Mode: engine.VerifyHookSecret, Secret: hush("verification")},
	}
}

func put(t testing.TB, s *Store, u *engine.Subscription) {
	t.Helper()
	if err := s.PutSubscription(t.Context(), u); err != nil {
		t.Fatal(err)
	}
}

// mustHold checks that the subscriptions 1 to n exist with their secrets.
func mustHold(t testing.TB, s *Store, n int) {
	t.Helper()
	list, err := s.Subscriptions(t.Context())
	if err != nil || len(list) != n {
		t.Fatalf("%d subscriptions, %v", len(list), err)
	}
	for i, u := range list {
		want := secretive(i+1, u.Version)
		if u.Secret != want.Secret || u.OldSecrets[0] != want.OldSecrets[0] || u.Headers["Authorization"] != want.Headers["Authorization"] || u.Verification != want.Verification {
			t.Fatalf("subscription is %+v", u)
		}
	}
}

// mustNotHold checks that no file of a folder contains a text.
func mustNotHold(t testing.TB, dir, text string) {
	t.Helper()
	files, err := os.ReadDir(dir)
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, f := range files {
		data, err := os.ReadFile(filepath.Join(dir, f.Name()))
		if err != nil {
			t.Fatal(err)
		}
		if n := bytes.Count(data, []byte(text)); n > 0 {
			t.Errorf("%s holds %q %d times", f.Name(), text, n)
		}
	}
}

func TestEncryption_NoPlainSecretInFiles(t *testing.T) {
	t.Parallel()
	path, key := filepath.Join(t.TempDir(), "test.db"), vault.NewKey()
	s := openSealed(t, path, key)
	for n := range 40 {
		put(t, s, secretive(n+1, 1))
		put(t, s, secretive(n+1, 2))
	}
	mustHold(t, s, 40)
	mustNotHold(t, filepath.Dir(path), "hush!")
	closed(t, s)
	mustNotHold(t, filepath.Dir(path), "hush!")
	s = openSealed(t, path, key)
	mustHold(t, s, 40)
}

// TestEncryption_SealsPlainSecretsAtOpen opens a database of a program without encryption,
// with its remains: rows that were replaced and deleted, free pages, and a log that was not
// moved into the database.
func TestEncryption_SealsPlainSecretsAtOpen(t *testing.T) {
	t.Parallel()
	dir, old := t.TempDir(), filepath.Join(t.TempDir(), "old.db")
	path := filepath.Join(dir, "test.db")
	const count = sealBatchSize + 30
	s := open(t, old)
	for n := range count {
		put(t, s, secretive(n+1, 1))
	}
	for n := range count {
		u := secretive(n+1, 2)
		u.Description = strings.Repeat("x", n*50%20_000)
		put(t, s, u)
		u = secretive(n+1, 3)
		put(t, s, u)
	}
	for n := count; n < count+300; n++ {
		put(t, s, secretive(n+1, 1))
		if err := s.DeleteSubscription(t.Context(), engine.ID(n+1)); err != nil {
			t.Fatal(err)
		}
	}
	copyFile(t, old, path)
	copyFile(t, old+"-wal", path+"-wal")
	if data, err := os.ReadFile(path + "-wal"); err != nil || !bytes.Contains(data, []byte("hush!")) {
		t.Fatal("the log holds no plain secret to begin with", err)
	}

	key := vault.NewKey()
	s = openSealed(t, path, key)
	mustNotHold(t, dir, "hush!")
	mustHold(t, s, count)
	put(t, s, secretive(1, 4))
	integrity(t, s)
	closed(t, s)
	mustNotHold(t, dir, "hush!")
	mustHold(t, openSealed(t, path, key), count)
}

// TestEncryption_ResumesInterruptedSealing interrupts it after each number of steps.
func TestEncryption_ResumesInterruptedSealing(t *testing.T) {
	t.Parallel()
	old := filepath.Join(t.TempDir(), "old.db")
	const count = 2*sealBatchSize + 1
	s := open(t, old)
	var wait sync.WaitGroup
	for n := range count {
		wait.Go(func() { put(t, s, secretive(n+1, 1)) })
	}
	wait.Wait()
	closed(t, s)
	first, second := vault.NewKey(), vault.NewKey()
	for steps := range 6 {
		dir := t.TempDir()
		path := filepath.Join(dir, "test.db")
		copyFile(t, old, path)
		for _, keys := range [][]vault.Key{{first}, {second, first}} {
			_, err := Open(&endingContext{Context: context.Background(), left: steps}, with(path, keys...))
			if err != nil && !errors.Is(err, context.Canceled) {
				t.Fatal(err)
			}
		}
		mustHold(t, openSealed(t, path, second, first), count)
		mustNotHold(t, dir, "hush!")
		for _, id := range []string{first.ID(), second.ID()} {
			if id == first.ID() {
				mustNotHold(t, dir, "sealed:1:"+id)
			}
		}
	}
}

// endingContext is cancelled after its Err was called n times.
type endingContext struct {
	context.Context
	left int
}

func (c *endingContext) Err() error {
	if c.left--; c.left < 0 {
		return context.Canceled
	}
	return nil
}

func TestEncryption_RotationRemovesOldKey(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path, first, second := filepath.Join(dir, "test.db"), vault.NewKey(), vault.NewKey()
	s := openSealed(t, path, first)
	put(t, s, secretive(1, 1))
	put(t, s, secretive(2, 1))
	put(t, s, secretive(2, 2))
	closed(t, s)
	closed(t, openSealed(t, path, second, first))
	mustNotHold(t, dir, first.ID())
	mustHold(t, openSealed(t, path, second), 2)
}

func TestEncryption_MissingKeyChangesNothing(t *testing.T) {
	t.Parallel()
	path, key, other := filepath.Join(t.TempDir(), "test.db"), vault.NewKey(), vault.NewKey()
	s := openSealed(t, path, key)
	put(t, s, secretive(1, 1))
	closed(t, s)
	content := func() []byte {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		clear(data[24:28]) // the file change counter and the version-valid-for number
		clear(data[92:96])
		return data
	}
	before := content()
	for _, c := range []struct {
		name string
		o    Options
	}{
		{"another key", with(path, other)},
		{"no key", Options{Path: path}},
		{"no key found", Options{Path: path, Vault: func(inUse []string) (*vault.Vault, error) {
			return nil, fmt.Errorf("asked for %v", inUse)
		}}},
	} {
		_, err := Open(context.Background(), c.o)
		if err == nil || !strings.Contains(err.Error(), key.ID()) {
			t.Errorf("%s: error is %v", c.name, err)
		}
		if !bytes.Equal(before, content()) {
			t.Errorf("%s: the database was changed", c.name)
		}
	}
	mustHold(t, openSealed(t, path, key), 1)
}

func TestEncryption_RefusesMovedOrPlainValue(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, change string }{
		{"another row's", `UPDATE subscription SET secret = (SELECT secret FROM subscription WHERE id = 2) WHERE id = 1`},
		{"another column's", `UPDATE subscription SET headers = secret WHERE id = 1`},
		{"a plain one", `UPDATE subscription SET secret = 'whsec_mine' WHERE id = 1`},
		{"a changed one", `UPDATE subscription SET old_secrets = substr(old_secrets, 1, length(old_secrets) - 3) || 'AAA' WHERE id = 1`},
	} {
		path, key := filepath.Join(t.TempDir(), "test.db"), vault.NewKey()
		s := openSealed(t, path, key)
		put(t, s, secretive(1, 1))
		put(t, s, secretive(2, 1))
		if err := s.write(t.Context(), func(tx *tx) error {
			_, err := tx.exec(c.change)
			return err
		}); err != nil {
			t.Fatal(err)
		}
		list, err := s.Subscriptions(t.Context())
		if err != nil || len(list) != 2 || len(list[0].Unreadable) != 1 || list[1].Unreadable != nil {
			t.Errorf("%s: subscriptions are %+v, %v", c.name, list, err)
			continue
		}
		column := list[0].Unreadable[0]
		if value := map[string]any{"secret": list[0].Secret, "headers": list[0].Headers, "old_secrets": list[0].OldSecrets}[column]; !reflect.ValueOf(value).IsZero() {
			t.Errorf("%s was opened: %s is %v", c.name, column, value)
		}
	}
}

// BenchmarkSealAtStart opens a database of 10,000 subscriptions whose secrets are plain.
func BenchmarkSealAtStart(b *testing.B) {
	old := filepath.Join(b.TempDir(), "old.db")
	s := open(b, old)
	var wait sync.WaitGroup
	for n := range 10_000 {
		wait.Go(func() { put(b, s, secretive(n+1, 1)) })
	}
	wait.Wait()
	closed(b, s)
	for range b.N {
		b.StopTimer()
		path := filepath.Join(b.TempDir(), "bench.db")
		data, err := os.ReadFile(old)
		if err == nil {
			err = os.WriteFile(path, data, 0o600)
		}
		if err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
		s := openSealed(b, path, vault.NewKey())
		b.StopTimer()
		closed(b, s)
	}
}
