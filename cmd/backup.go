package cmd

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"switchhook/storage/sqlite"
	"switchhook/storage/vault"
)

type backupCommand struct {
	File  string `arg:"" help:"File to write." type:"path"`
	Data  string `help:"Folder of the database." default:"switchhook-data" type:"path" placeholder:"DIR"`
	Force bool   `env:"-" help:"Overwrite the file if it exists."`
}

// Run copies the database, with or without a running router.
func (c *backupCommand) Run(ctx context.Context) error {
	made, err := sqlite.Backup(ctx, databaseFile(c.Data), c.File, c.Force)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s is there already; --force replaces it", c.File)
	}
	if _, missing := os.Stat(databaseFile(c.Data)); errors.Is(missing, fs.ErrNotExist) {
		return fmt.Errorf("%w; --data names the folder", err)
	}
	if err != nil {
		return err
	}
	fmt.Printf("%s: %s, schema version %d, checked\n", c.File, megabytes(made.Bytes), made.Version)
	if len(made.Keys) > 0 {
		fmt.Printf("The secrets in it are sealed with key %s, which is not in it: keep a copy of the key as well.\n", strings.Join(made.Keys, " and "))
	}
	return nil
}

type restoreCommand struct {
	File            string `arg:"" help:"Backup to restore." type:"path"`
	Data            string `help:"Folder of the database; created if it is missing." default:"switchhook-data" type:"path" placeholder:"DIR"`
	Force           bool   `env:"-" help:"Replace an existing database; it is kept under another name."`
	encryptionFlags `embed:""`
}

// Run restores a backup.
func (c *restoreCommand) Run(ctx context.Context) error {
	made, kept, err := sqlite.Restore(ctx, c.File, databaseFile(c.Data), c.Force)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("there is a database in %s already; --force replaces it, and keeps it under another name", c.Data)
	}
	if err != nil {
		return err
	}
	fmt.Printf("restored to %s: %s, schema version %d, checked\n", databaseFile(c.Data), megabytes(made.Bytes), made.Version)
	if kept != "" {
		fmt.Printf("The database that was there is %s now; delete it, and its -wal if there is one, once you don't need it.\n", kept)
	}
	if missing := c.missing(made.Keys); len(missing) > 0 {
		fmt.Printf("The secrets in it are sealed with key %s, which is not among the keys found (%s): put it there before you start the router.\n", strings.Join(missing, " and "), c.file(c.Data))
	}
	return nil
}

// missing returns the ids whose keys are not found on this machine.
func (c *restoreCommand) missing(ids []string) []string {
	keys, err := vault.ReadFile(c.file(c.Data))
	if c.EncryptionKey != "" {
		keys, err = vault.ParseKeys(c.EncryptionKey)
	}
	if err != nil { // the next start reports the error
		return ids
	}
	return slices.DeleteFunc(slices.Clone(ids), func(id string) bool {
		return slices.ContainsFunc(keys, func(k vault.Key) bool { return k.ID() == id })
	})
}

func megabytes(n int64) string { return fmt.Sprintf("%.1f MB", float64(n)/1e6) }
