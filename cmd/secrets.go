package cmd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"

	"switchhook/storage/sqlite"
	"switchhook/storage/vault"
)

// databaseFile returns the database file of a data folder.
func databaseFile(folder string) string { return filepath.Join(folder, "switchhook.db") }

// databaseTraces lists the files in a data folder that an earlier start created beside a
// database.
func databaseTraces(folder string) (found []string) {
	if _, err := os.Lstat(keyFile(folder)); err == nil {
		found = append(found, keyFile(folder))
	}
	if file := filepath.Join(folder, "encryption.key"); vault.MadeByUs(file) {
		found = append(found, file)
	}
	return found
}

// missingDatabase adds the remedy to the error that a previous database is missing.
func missingDatabase(err error, folder string) error {
	empty, ok := errors.AsType[*sqlite.EmptyError](err)
	if !ok {
		return err
	}
	force := ""
	if empty.Exists {
		force = "--force "
	}
	return fmt.Errorf("%w. Is the right disk mounted at %s? Put the file back, or restore a backup (switchhook restore %s--data %[2]s BACKUP); to begin anew without events, subscriptions and keys, start with --new-database", err, folder, force)
}

type secretsCommand struct {
	Rotate secretsRotateCommand `cmd:"" help:"Encrypt the secrets in a database with a new key, while no router uses it. Run it again to continue after an interruption."`
}

type secretsRotateCommand struct {
	Data            string `help:"Folder of the database." default:"switchhook-data" type:"path" placeholder:"DIR"`
	encryptionFlags `embed:""`
}

// Run creates a key, writes it in front of the others, and reseals all secrets with it.
func (c *secretsRotateCommand) Run(ctx context.Context) error {
	if c.EncryptionKey != "" {
		return usageError("the keys come from SWITCHHOOK_ENCRYPTION_KEY, where a command can't write: put a new key before them (NEW,OLD) and start the router, which seals everything with the first")
	}
	path, file := databaseFile(c.Data), c.file(c.Data)
	if _, err := os.Stat(path); err != nil {
		return fmt.Errorf("there is no database: %w", err)
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	used := ""
	find := func(inUse []string) (*vault.Vault, error) {
		keys, err := c.keys(c.Data, inUse, log)
		if err != nil {
			return nil, err
		}
		// If the first key has not sealed everything, an earlier run was interrupted.
		if slices.Equal(inUse, []string{keys[0].ID()}) {
			keys = append([]vault.Key{vault.NewKey()}, keys...)
			if err := vault.WriteFile(file, true, keys...); err != nil {
				return nil, fmt.Errorf("write the new key: %w", err)
			}
		}
		used = keys[0].ID()
		return vault.New(keys...)
	}
	store, err := sqlite.Open(ctx, sqlite.Options{Path: path, Logger: log, Vault: find, Traces: databaseTraces(c.Data)})
	if err != nil {
		return missingDatabase(err, c.Data)
	}
	if err := store.Close(); err != nil {
		return errors.Join(errors.New("the secrets are sealed, but the database did not close well"), err)
	}
	fmt.Printf("All secrets are sealed with key %s, the first in %s.\nKeep a copy of the file. Earlier keys stay in it, for the backups that they open; delete a line once no backup needs it.\n", used, file)
	return nil
}
