package sandbox

import (
	"strings"
	"testing"

	"switchhook/scripts"
)

func TestStartFailure_ThreadLimitIsNotScriptMemory(t *testing.T) {
	memory := scripts.DefaultLimits().MemoryError()
	for said, want := range map[string]string{
		"runtime/cgo: pthread_create failed: Resource temporarily unavailable\n": "limit of processes",
		"runtime: failed to create new OS thread (have 5 already; errno=11)":     "limit of processes",
		"fatal error: out of memory":                                             memory.Message,
	} {
		if got := startFailure(memory, said); !strings.Contains(got.Message, want) {
			t.Errorf("%q: %s", said, got.Message)
		}
	}
}
