// Package sandbox compiles and runs transforms in child processes of the same binary,
// so that no script can hang, kill or read the router.
//
// A child is started with an empty environment, two pipes and one page of memory that it
// shares with its parent. Before it reads anything it bounds its own memory, files and
// system calls (see Protections). Runs are written to it in batches and answered in
// order; the child writes the current run and the CPU time at its start to the shared page,
// and reads from it which runs to skip. A run that takes too long is first interrupted inside
// the child; if that does not help, the child is killed. When a child dies, the current run is
// the cause and fails; its other runs are repeated in other children, which is safe because
// transforms are pure.
//
// In the parent, dispatch.go assigns runs, a few milliseconds of CPU time at once to each
// child by the estimates of cost_estimate.go; process.go manages one child; watchdog.go finds
// runs that take too long and reclaims the jobs behind them. child.go is the child's main loop,
// harden_*.go its limits; protocol.go is the format of the pipes.
//
// The package knows scripts and scripts/transform, but not the storage or delivery of events.
package sandbox
