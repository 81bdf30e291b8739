package vault

import (
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// ParseKeys reads keys: each 32 bytes in base64, one a line or with commas between them,
// the one that seals first. What follows a "#" is a comment. Errors never quote a key.
func ParseKeys(text string) ([]Key, error) {
	var keys []Key
	for n, line := range strings.Split(text, "\n") {
		line, _, _ = strings.Cut(line, "#")
		for part := range strings.SplitSeq(line, ",") {
			if part = strings.TrimSpace(part); part == "" {
				continue
			}
			raw, err := base64.StdEncoding.DecodeString(part)
			if err != nil {
				return nil, fmt.Errorf("line %d is no base64", n+1)
			}
			if len(raw) != KeyBytes {
				return nil, fmt.Errorf("line %d holds %d bytes, a key has %d: openssl rand -base64 32 makes one", n+1, len(raw), KeyBytes)
			}
			keys = append(keys, Key(raw))
		}
	}
	if len(keys) == 0 {
		return nil, errors.New("there is no key in it")
	}
	return keys, nil
}

// ReadFile reads the keys of a file. An error is fs.ErrNotExist where there is none.
func ReadFile(path string) ([]Key, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	keys, err := ParseKeys(string(text))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return keys, nil
}

const fileHead = `# Switchhook's encryption keys. The first line seals, the others only open what they sealed.
# Without them the secrets in the database and in its backups are lost: keep a copy elsewhere.
`

// MadeByUs tells whether path is a file that WriteFile wrote.
func MadeByUs(path string) bool {
	text, err := os.ReadFile(path)
	return err == nil && strings.HasPrefix(string(text), fileHead)
}

// WriteFile writes a file of keys that only its owner can read, whole or not at all: when
// it returns without an error, the file is on disk. Where replace is false, a file that
// exists is left alone, and the error is fs.ErrExist.
func WriteFile(path string, replace bool, keys ...Key) (err error) {
	text := fileHead
	for _, k := range keys {
		text += k.encode() + " # " + k.ID() + "\n"
	}
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, ".encryption-*") // mode 0600
	if err != nil {
		return err
	}
	defer func() {
		if remove := os.Remove(f.Name()); err == nil && !errors.Is(remove, os.ErrNotExist) {
			err = remove
		}
	}()
	_, err = f.WriteString(text)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if replace {
		err = os.Rename(f.Name(), path)
	} else {
		err = os.Link(f.Name(), path) // unlike a rename, it replaces nothing
	}
	if err != nil {
		return err
	}
	return SyncDir(dir)
}

// SyncDir brings to disk which files a folder holds.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
