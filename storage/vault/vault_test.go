package vault

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var place = Place{"subscription", "5", "secret"}

func newVault(t testing.TB, keys ...Key) *Vault {
	t.Helper()
	v, err := New(keys...)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestVault_OpensOnlyInItsPlace(t *testing.T) {
	v := newVault(t, NewKey())
	for _, plain := range []string{"", "whsec_x", "ü\x00", strings.Repeat("x", 1<<16)} {
		sealed := v.Seal(place, plain)
		if got, err := v.Open(place, sealed); err != nil || got != plain {
			t.Fatalf("%q came back as %q, %v", plain, got, err)
		}
		if len(plain) > 3 && strings.Contains(sealed, plain) {
			t.Fatalf("%q can be read", sealed)
		}
		if sealed == v.Seal(place, plain) {
			t.Fatal("a value is sealed the same way twice")
		}
		for _, other := range []Place{
			{"subscription", "6", "secret"}, {"subscription", "5", "headers"}, {"account", "5", "secret"}, {"subscription", "5s", "ecret"}, {},
		} {
			if got, err := v.Open(other, sealed); err == nil || !strings.Contains(err.Error(), "moved") {
				t.Errorf("opened as %q at %s, %v", got, other, err)
			}
		}
	}
}

func TestVault_RefusesChangedValue(t *testing.T) {
	v := newVault(t, NewKey())
	sealed := v.Seal(place, "whsec_x")
	for i := range sealed {
		changed := sealed[:i] + string(sealed[i]^1) + sealed[i+1:]
		if got, err := v.Open(place, changed); err == nil {
			t.Errorf("byte %d changed: opened as %q", i, got)
		}
	}
	for _, text := range []string{"", "whsec_x", sealed[:len(sealed)-1], prefix, prefix + v.KeyID(), prefix + v.KeyID() + ":", sealed + "A"} {
		if got, err := v.Open(place, text); err == nil {
			t.Errorf("%q opened as %q", text, got)
		}
	}
}

func TestVault_OldKeyOpensFirstKeySeals(t *testing.T) {
	old, current := NewKey(), NewKey()
	sealed := newVault(t, old).Seal(place, "x")
	v := newVault(t, current, old)
	if got, err := v.Open(place, sealed); err != nil || got != "x" {
		t.Fatal(got, err)
	}
	if id, ok := SealedWith(v.Seal(place, "x")); !ok || id != current.ID() || id != v.KeyID() {
		t.Fatalf("sealed with %s", id)
	}
	_, err := newVault(t, current).Open(place, sealed)
	if err == nil || !strings.Contains(err.Error(), old.ID()) {
		t.Fatalf("the error does not name the key: %v", err)
	}
	if _, ok := SealedWith("whsec_x"); ok {
		t.Fatal("a plain value counts as sealed")
	}
	if _, err := New(); err == nil {
		t.Fatal("a vault without a key")
	}
}

func TestParseKeys(t *testing.T) {
	a, b := NewKey(), NewKey()
	for _, text := range []string{
		a.encode() + "\n" + b.encode(), "# x\n\n " + a.encode() + " # new\r\n" + b.encode() + "\n", a.encode() + "," + b.encode() + ",",
	} {
		if keys, err := ParseKeys(text); err != nil || len(keys) != 2 || keys[0] != a || keys[1] != b {
			t.Errorf("%q: %v, %v", text, keys, err)
		}
	}
	for _, c := range []struct{ text, want string }{
		{"", "no key"}, {"# a", "no key"}, {"\nnot base64!", "line 2 is not base64"}, {"c2hvcnQ=", "5 bytes"}, {a.encode()[:40] + "secret", "line 1"},
	} {
		_, err := ParseKeys(c.text)
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: %v", c.text, err)
		}
	}
}

func TestWriteFile_AtomicAndExplicitReplace(t *testing.T) {
	path := filepath.Join(t.TempDir(), "encryption.key")
	if _, err := ReadFile(path); !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	a, b := NewKey(), NewKey()
	if err := WriteFile(path, false, a); err != nil {
		t.Fatal(err)
	}
	if err := WriteFile(path, false, b); !errors.Is(err, fs.ErrExist) {
		t.Fatalf("a key file was overwritten: %v", err)
	}
	if keys, err := ReadFile(path); err != nil || len(keys) != 1 || keys[0] != a {
		t.Fatal(keys, err)
	}
	if err := WriteFile(path, true, b, a); err != nil {
		t.Fatal(err)
	}
	if keys, err := ReadFile(path); err != nil || len(keys) != 2 || keys[0] != b || keys[1] != a {
		t.Fatal(keys, err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatal(info, err)
	}
	left, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(left) != 1 {
		t.Fatalf("%v is left, %v", left, err)
	}
	if err := os.WriteFile(path, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadFile(path); err == nil || !strings.Contains(err.Error(), path) {
		t.Fatal(err)
	}
}
