package vault

import (
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// ParseKeys parses keys: each is 32 bytes in base64, one a line or separated by commas; the
// first one seals. Text after a "#" is a comment. Errors never quote a key.
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
				return nil, fmt.Errorf("line %d is not base64", n+1)
			}
			if len(raw) != keyBytes {
				return nil, fmt.Errorf("line %d holds %d bytes, a key has %d: openssl rand -base64 32 makes one", n+1, len(raw), keyBytes)
			}
			keys = append(keys, Key(raw))
		}
	}
	if len(keys) == 0 {
		return nil, errors.New("it contains no key")
	}
	return keys, nil
}

// ReadFile reads the keys of a file. The error is fs.ErrNotExist if there is no file.
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

// MadeByUs reports whether WriteFile wrote the file at path.
func MadeByUs(path string) bool {
	text, err := os.ReadFile(path)
	return err == nil && strings.HasPrefix(string(text), fileHead)
}

// WriteFile writes a key file with mode 0600, whole or not at all: when it returns without
// an error, the file is on disk. If replace is false, an existing file is left alone, and
// the error is fs.ErrExist.
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

// SyncDir syncs a directory to disk.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
