// Switchhook routes events to webhooks: one binary that takes events in, runs each
// subscriber's filter and transform over them and POSTs the result, losing nothing.
package main

import (
	"os"

	"switchhook/cmd"
	"switchhook/scripts/sandbox"
)

func main() {
	sandbox.RunIfChild()
	os.Exit(cmd.Main(os.Args[1:]))
}
