package sandbox

import (
	"strings"
	"testing"

	"switchhook/scripts"
)

func TestStartFailure_ThreadLimitIsNotScriptMemory(t *testing.T) {
	memory := scripts.DefaultLimits().MemoryError()
	cases := []struct{ said, want string }{
		{"runtime/cgo: pthread_create failed: Resource temporarily unavailable\n", "limit of processes"},
		{"runtime: failed to create new OS thread (have 5 already; errno=11)", "limit of processes"},
		{"fatal error: out of memory", memory.Message},
	}
	for _, c := range cases {
		if got := startFailure(memory, c.said); !strings.Contains(got.Message, c.want) {
			t.Errorf("%q: %s", c.said, got.Message)
		}
	}
}
