package sqlite

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"switchhook/engine"
)

// openFile is a file as it was when the store was opened.
type openFile struct {
	path string
	info os.FileInfo
}

func openFiles(paths ...string) (files []openFile, err error) {
	for _, path := range paths {
		info, err := os.Stat(path)
		if err != nil {
			return nil, fmt.Errorf("sqlite: %w", err)
		}
		files = append(files, openFile{path, info})
	}
	return files, nil
}

// missing tells what became of a file that is not where it was: SQLite goes on writing to
// it, and what it writes is gone with the process.
func (f openFile) missing() error {
	info, err := os.Stat(f.path)
	switch {
	case err == nil && os.SameFile(info, f.info):
		return nil
	case err == nil:
		return &engine.Error{Code: engine.CodeUnavailable, Message: f.path + " was replaced while the router runs; stop the router, and start it over the right file"}
	case os.IsNotExist(err):
		return &engine.Error{Code: engine.CodeUnavailable, Message: f.path + " was deleted while the router runs; stop the router, and restore the database from a backup"}
	}
	return &engine.Error{Code: engine.CodeUnavailable, Message: "the database can't be looked at: " + err.Error()}
}

// intact fails where what is written now would not be found again.
func (s *Store) intact() error {
	if err := s.damage.err(); err != nil {
		return err
	}
	for _, f := range s.files {
		if err := f.missing(); err != nil {
			return err
		}
	}
	return nil
}

// Room measures the database and its disk: two system calls and two short queries.
func (s *Store) Room(ctx context.Context) (engine.Room, error) {
	if err := s.intact(); err != nil {
		return engine.Room{}, err
	}
	u, err := s.pages(ctx)
	if err != nil {
		return u, err
	}
	var disk unix.Statfs_t
	if err := unix.Statfs(filepath.Dir(s.path), &disk); err != nil {
		return u, fmt.Errorf("measure the disk: %w", err)
	}
	u.DiskFree = int64(disk.Bavail) * disk.Bsize
	return u, nil
}

// pages measures the database alone.
func (s *Store) pages(ctx context.Context) (u engine.Room, err error) {
	var size, count, free int64
	err = s.readers.QueryRowContext(ctx, `
		SELECT page_size, page_count, freelist_count FROM pragma_page_size, pragma_page_count, pragma_freelist_count`).Scan(&size, &count, &free)
	if err != nil {
		return u, fmt.Errorf("measure the database: %w", err)
	}
	return engine.Room{Bytes: (count - free) * size, Free: free * size}, nil
}
