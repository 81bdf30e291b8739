package sqlite

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"switchhook/engine"
	"switchhook/engine/testkit"
)

// TestSnapshot_OpensWithAcknowledged copies the database and its log at many instants while
// events are acknowledged, each time as a file system snapshot would: both at one instant,
// for which the writing process is stopped. Beside each copy is one whose log ends in a
// torn commit. All of them must open, and contain what was acknowledged before.
//
// Copies made one after the other while a process writes (cp) promise nothing, in neither
// order: use a backup, see backup.go.
func TestSnapshot_OpensWithAcknowledged(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "test.db")
	said := &acknowledged{events: map[engine.ID]bool{}, deliveries: map[engine.ID]bool{}}
	child, reading := said.writer(t, path)
	defer func() {
		signal(t, child, syscall.SIGKILL)
		reading.Wait()
		child.Wait()
	}()
	said.await(t, 50)
	count := 12
	if testing.Short() {
		count = 3
	}
	for range count {
		time.Sleep(rand.N(60 * time.Millisecond)) // at a random instant of a commit or a checkpoint
		before := said.copy()
		signal(t, child, syscall.SIGSTOP)
		stopped(t, child)
		dir := t.TempDir()
		whole, torn := filepath.Join(dir, "whole.db"), filepath.Join(dir, "torn.db")
		copyFile(t, path, whole)
		copyFile(t, path+"-wal", whole+"-wal")
		copyFile(t, whole, torn)
		copyFile(t, whole+"-wal", torn+"-wal")
		tear(t, torn+"-wal")
		before.check(t, whole)
		before.check(t, torn)
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
		signal(t, child, syscall.SIGCONT)
	}
}

// copy returns a copy of what was acknowledged so far.
func (a *acknowledged) copy() *acknowledged {
	a.mu.Lock()
	defer a.mu.Unlock()
	c := &acknowledged{events: map[engine.ID]bool{}, deliveries: map[engine.ID]bool{}}
	for id := range a.events {
		c.events[id] = true
	}
	for id := range a.deliveries {
		c.deliveries[id] = true
	}
	return c
}

// stopped waits until every thread of a process is stopped.
func stopped(t *testing.T, c *exec.Cmd) {
	t.Helper()
	testkit.WaitFor(t, "the process is stopped", func() bool {
		tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", c.Process.Pid))
		if err != nil || len(tasks) == 0 {
			t.Fatal(tasks, err)
		}
		return !slices.ContainsFunc(tasks, func(task string) bool {
			stat, err := os.ReadFile(task)
			_, state, _ := strings.Cut(string(stat), ") ")
			return err == nil && !strings.HasPrefix(state, "T") // err: the thread ended
		})
	})
}

// tear makes a log end in the middle of a commit: after its last whole one follow frames of
// which only some were written, as when power fails before the fsync. The layout is that of
// https://sqlite.org/walformat.html.
func tear(t *testing.T, wal string) {
	t.Helper()
	data, err := os.ReadFile(wal)
	if err != nil {
		t.Fatal(err)
	}
	const header, frameHeader = 32, 24
	if len(data) < header {
		return // the log has just restarted
	}
	frame := frameHeader + int(binary.BigEndian.Uint32(data[8:]))
	salts := data[16:24]
	end := header // of the last commit
	for at := header; at+frame <= len(data) && bytes.Equal(data[at+8:at+16], salts); at += frame {
		if binary.BigEndian.Uint32(data[at+4:]) != 0 {
			end = at + frame
		}
	}
	next := make([]byte, 3*frame)
	for i := range next {
		next[i] = byte(rand.Uint32())
	}
	for at := 0; at < len(next); at += frame { // frames that are valid but for their checksum
		binary.BigEndian.PutUint32(next[at:], 1)
		binary.BigEndian.PutUint32(next[at+4:], uint32(at/frame)) // the later ones are marked as the end of a commit
		copy(next[at+8:], salts)
	}
	next = next[:1+rand.N(len(next))]
	torn := append(data[:end:end], next...)
	if rest := end + len(next); rest < len(data) { // the log is longer: old frames follow
		torn = append(torn, data[rest:]...)
	}
	if err := os.WriteFile(wal, torn, 0o600); err != nil {
		t.Fatal(err)
	}
}
