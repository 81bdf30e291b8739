package sandbox

import "strings"

// Protections reports which measures isolate scripts in this pool's children from the machine.
// Each is tried; those that the kernel or platform refuses are false.
type Protections struct {
	MemoryLimit      bool // a process that exceeds its budget of writable memory ends
	NoCoreDumps      bool // no memory is written to disk when a child crashes
	NoFileWrites     bool // files can't grow, even open ones
	FewDescriptors   bool // nothing more can be opened
	DiesWithParent   bool // the kernel kills the child when the router's process ends
	NoNewPrivileges  bool // no set-uid program can raise its privileges
	SystemCalls      bool // only those the Go runtime needs are allowed: no files, sockets, processes
	NetworkNamespace bool // the child has its own network namespace, without any interface

	MemoryBase int64    // bytes of writable memory the child had before its first script
	Problems   []string // why protections are missing
}

// Missing returns the names of protections that are not in force, for a warning at start.
func (p Protections) Missing() []string { return p.list(false) }

// String lists the protections in force.
func (p Protections) String() string { return strings.Join(p.list(true), ", ") }

func (p Protections) list(inForce bool) []string {
	var names []string
	for _, x := range []struct {
		name string
		on   bool
	}{
		{"memory limit", p.MemoryLimit},
		{"no core dumps", p.NoCoreDumps},
		{"no file writes", p.NoFileWrites},
		{"few descriptors", p.FewDescriptors},
		{"dies with parent", p.DiesWithParent},
		{"no new privileges", p.NoNewPrivileges},
		{"system calls filtered", p.SystemCalls},
		{"network namespace", p.NetworkNamespace},
	} {
		if x.on == inForce {
			names = append(names, x.name)
		}
	}
	return names
}
