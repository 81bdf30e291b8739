// Package transform compiles and runs the JavaScript and TypeScript with which a
// subscription makes its request from an event.
//
// Nothing here protects the process it runs in: goja bounds neither memory nor the time
// a built-in takes, so a transform can hang or kill its process. Only scripts/sandbox,
// in a child process, and tests may call Compile, Load and Run. Check alone is for
// everyone.
//
// A transform is a pure function of its source, the event and the request: it has no
// files, no network, no timers, and its clock and random numbers come from the event.
package transform
