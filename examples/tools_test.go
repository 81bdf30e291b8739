package examples_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"switchhook/engine/testkit"
	"testing"
)

// missing skips a test whose tool is not on this machine, with a hint on how to install it.
// In an environment that must have all tools, it fails.
func missing(t *testing.T, what, howTo string) {
	t.Helper()
	if os.Getenv("TEST_TOOLS") == "required" {
		t.Fatalf("%s is not here: %s", what, howTo)
	}
	t.Skipf("%s is not here: %s", what, howTo)
}

// node finds Node.
func node(t *testing.T) string {
	t.Helper()
	path, err := exec.LookPath("node")
	if err != nil {
		missing(t, "node", "apt install nodejs npm")
	}
	return path
}

// python finds a Python that has a module.
func python(t *testing.T, module string) string {
	t.Helper()
	for _, name := range []string{"python3", "/usr/bin/python3"} {
		if path, err := exec.LookPath(name); err == nil && exec.Command(path, "-c", "import "+module).Run() == nil {
			return path
		}
	}
	missing(t, "python3 with "+module, "apt install python3 python3-cryptography")
	return ""
}

// running starts a router in development mode and returns its address and admin key.
func running(t *testing.T, flags ...string) (url, key string) {
	t.Helper()
	folder, address := t.TempDir(), testkit.FreeAddress(t)
	binary := buildProgram(t, "switchhook")
	start(t, folder, nil, binary, append([]string{"serve", "--dev", "--listen", address}, flags...)...).shows(t, "INF listening")
	return "http://" + address, strings.TrimSpace(string(read(t, filepath.Join(folder, "switchhook-data", "admin.key"))))
}
