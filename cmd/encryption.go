package cmd

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"switchhook/storage/vault"
)

// encryptionFlags name the source of the encryption keys for secrets in the database.
type encryptionFlags struct {
	EncryptionKeyFile string `help:"File of the keys that encrypt the secrets in the database; the first line encrypts, the others only decrypt. By default encryption.key in the data folder, created at the first start." type:"path" placeholder:"FILE"`
	EncryptionKey     string `help:"The keys themselves, 32 bytes in base64 each, separated by commas. Set them in the environment: other users can see a command line." placeholder:"KEYS" multiline:"" maxlen:"65536"`
}

// file returns the path of the key file, unless the keys themselves were given.
func (f *encryptionFlags) file(folder string) string {
	if f.EncryptionKeyFile != "" {
		return f.EncryptionKeyFile
	}
	return filepath.Join(folder, "encryption.key")
}

// keys reads the keys. If no flag names them and the database has sealed nothing yet, it
// creates the key file with a first key.
func (f *encryptionFlags) keys(folder string, inUse []string, log *slog.Logger) ([]vault.Key, error) {
	if f.EncryptionKey != "" && f.EncryptionKeyFile != "" {
		return nil, errors.New("--encryption-key and --encryption-key-file were both given: give one")
	}
	if f.EncryptionKey != "" {
		keys, err := vault.ParseKeys(f.EncryptionKey)
		if err != nil {
			return nil, fmt.Errorf("--encryption-key (SWITCHHOOK_ENCRYPTION_KEY): %w", err)
		}
		return keys, nil
	}
	file := f.file(folder)
	keys, err := vault.ReadFile(file)
	switch {
	case err == nil:
		return keys, nil
	case !errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("read the encryption key: %w", err)
	case len(inUse) > 0:
		return nil, fmt.Errorf("the secrets in the database are sealed with the encryption key %s, and there is no %s: put the file back, or name the one that holds this key with --encryption-key-file; nothing was changed", strings.Join(inUse, " and "), file)
	case f.EncryptionKeyFile != "":
		return nil, fmt.Errorf("--encryption-key-file: there is no %s; make one: (umask 077; openssl rand -base64 32 > %[1]s)", file)
	}
	// The file first: a secret that is sealed with an unsaved key is lost.
	key := vault.NewKey()
	if err := vault.WriteFile(file, false, key); err != nil {
		return nil, fmt.Errorf("write the encryption key: %w", err)
	}
	log.Info("encryption key created: keep a copy of it elsewhere, secrets can't be read without it", "file", file, "key_id", key.ID())
	return []vault.Key{key}, nil
}

// vault returns a function that finds the keys for a database in folder, as sqlite.Options
// require.
func (f *encryptionFlags) vault(folder string, log *slog.Logger) func([]string) (*vault.Vault, error) {
	return func(inUse []string) (*vault.Vault, error) {
		keys, err := f.keys(folder, inUse, log)
		if err != nil {
			return nil, err
		}
		if info, err := os.Stat(f.file(folder)); err == nil && f.EncryptionKey == "" && info.Mode().Perm()&0o077 != 0 {
			log.Warn("others than its owner can read the encryption key: chmod 600 it", "file", f.file(folder), "mode", info.Mode().Perm().String())
		}
		return vault.New(keys...)
	}
}
