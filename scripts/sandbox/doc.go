// Package sandbox compiles and runs transforms in child processes of the same binary,
// so that no script can hang, kill or read the router.
//
// A child is started with an empty environment, two pipes and one page of memory that it
// shares with its parent. Before it reads anything it bounds its own memory, files and
// system calls (see Protections). Runs are written to it in batches and answered in
// order; in the shared page it notes which run it is at and how much CPU time its
// process had used when that run began, and reads there which runs it need not do. A run
// that takes too long is interrupted inside the child first and, if that does not help,
// the child is killed. When a child dies, the run that was on is to blame and fails; the
// others it had are run again elsewhere, which is safe because transforms are pure.
//
// pool.go hands out runs, a few milliseconds of CPU time at once to each child, as
// estimate.go expects them to take; process.go looks after one child from the outside,
// watch.go looks for runs that take too long, and takes back what waits behind them;
// child.go is the inside, harden_*.go its limits; wire.go is what goes over the pipes.
//
// It knows scripts and scripts/transform, and nothing of events' storage or delivery.
package sandbox
