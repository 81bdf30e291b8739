package examples_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// TestZapier_IntegrationRunsUnmodified runs the integration with Zapier's own test runner
// against a real router.
func TestZapier_IntegrationRunsUnmodified(t *testing.T) {
	t.Parallel()
	node := node(t)
	if _, err := os.Stat(filepath.Join("zapier", "node_modules", "zapier-platform-core")); err != nil {
		missing(t, "zapier-platform-core", "npm ci --prefix examples/zapier")
	}
	url, key := running(t)
	cmd := exec.Command(node, "--test")
	cmd.Dir = "zapier"
	cmd.Env = append(os.Environ(), "SWITCHHOOK_URL="+url, "SWITCHHOOK_KEY="+key)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}
