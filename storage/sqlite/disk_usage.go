package sqlite

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"switchhook/engine"
)

// openFile identifies a file as it was when the store was opened.
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

// missing describes the fate of a file that is no longer at its path; "" if it is. SQLite
// continues to write to a deleted file, and those writes are lost when the process ends.
func (f openFile) missing() string {
	info, err := os.Stat(f.path)
	switch {
	case err == nil && os.SameFile(info, f.info):
		return ""
	case err == nil:
		return "was replaced"
	case os.IsNotExist(err):
		return "was deleted"
	}
	return "can't be examined (" + errors.Unwrap(err).Error() + ")"
}

// checkFiles returns an error if writes would not be found after a restart.
func (s *Store) checkFiles() error {
	if err := s.damage.err(); err != nil {
		return err
	}
	for _, f := range s.files {
		if state := f.missing(); state != "" {
			s.logMissing(f.path, state)
			return &engine.Error{Code: engine.CodeUnavailable, Message: "a file of the database " + state + " while the router runs: events are refused until its operator has put it back"}
		}
	}
	s.logMissing("", "")
	return nil
}

// logMissing logs that a file is missing and the remedy, once until that changes.
func (s *Store) logMissing(path, state string) {
	text := path + " " + state
	if before := s.missing.Swap(&text); before != nil && *before == text || before == nil && path == "" {
		return
	}
	if path == "" {
		s.log.Info("the database's files are back in place", "file", s.path)
		return
	}
	s.log.Error("a file of the database "+state+" while the router runs: events are refused from now on. Move the file back, which needs no restart; or else stop the router, and put the database back or restore a backup. What the router wrote since is lost when it ends",
		"file", path, "command", restoreCommand(s.path))
}

// Room measures the database and its disk: two system calls and two short queries.
func (s *Store) Room(ctx context.Context) (engine.Room, error) {
	if err := s.checkFiles(); err != nil {
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

// pages measures the database without its disk.
func (s *Store) pages(ctx context.Context) (u engine.Room, err error) {
	var size, count, free int64
	err = s.readers.QueryRowContext(ctx, `
		SELECT page_size, page_count, freelist_count FROM pragma_page_size, pragma_page_count, pragma_freelist_count`).Scan(&size, &count, &free)
	if err != nil {
		return u, fmt.Errorf("measure the database: %w", err)
	}
	return engine.Room{Bytes: (count - free) * size, Free: free * size}, nil
}
