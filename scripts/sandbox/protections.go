package sandbox

import "strings"

// Protections says what stands between a script and the machine in this pool's children.
// Each is tried; what a kernel or platform refuses is false.
type Protections struct {
	MemoryLimit      bool // a process that takes more than its budget of writable memory ends
	NoCoreDumps      bool // no memory is written to disk when a child crashes
	NoFileWrites     bool // files can't grow, whatever is open
	FewDescriptors   bool // nothing more can be opened
	DiesWithParent   bool // the kernel kills the child when the router's process ends
	NoNewPrivileges  bool // no set-uid program could raise its rights
	SystemCalls      bool // only those the Go runtime needs are let through: no files, sockets, processes
	NetworkNamespace bool // the child has a network of its own, without any interface

	MemoryBase int64    // bytes of writable memory the child had before its first script
	Problems   []string // why something is missing
}

// Missing names what is not in force, for a loud warning at the start.
func (p Protections) Missing() []string { return p.list(false) }

// String lists what is in force.
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
