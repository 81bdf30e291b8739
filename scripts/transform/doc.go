// Package transform compiles and runs the JavaScript and TypeScript that convert an event to a
// subscription's request.
//
// The package does not protect the process it runs in: goja bounds neither memory nor the
// time of a built-in, so a transform can hang or kill its process. Only scripts/sandbox, in a
// child process, and tests may call Compile, Load and Run. Check is safe in any process.
//
// A transform is a pure function of its source, the event and the request: it has no
// files, no network, no timers, and its clock and random numbers come from the event.
package transform
