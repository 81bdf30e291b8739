package examples_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestTypeScript_GeneratedClient generates a client from the OpenAPI document, compiles the example
// that uses it under "strict", and runs it against a real router.
func TestTypeScript_GeneratedClient(t *testing.T) {
	t.Parallel()
	node := node(t)
	modules, err := filepath.Abs(filepath.Join("typescript", "node_modules"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(modules, "openapi-typescript")); err != nil {
		missing(t, "openapi-typescript", "npm ci --prefix examples/typescript")
	}
	folder := t.TempDir()
	if err := os.CopyFS(filepath.Join(folder, "src"), os.DirFS(filepath.Join("typescript", "src"))); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"package.json", "tsconfig.json"} {
		if err := os.WriteFile(filepath.Join(folder, name), read(t, filepath.Join("typescript", name)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(modules, filepath.Join(folder, "node_modules")); err != nil {
		t.Fatal(err)
	}
	document, err := filepath.Abs(filepath.Join("..", "server", "openapi.json"))
	if err != nil {
		t.Fatal(err)
	}
	run := func(env []string, args ...string) string {
		t.Helper()
		cmd := exec.Command(node, args...)
		cmd.Dir, cmd.Env = folder, append(os.Environ(), env...)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("node %s: %v\n%s", strings.Join(args, " "), err, out)
		}
		return string(out)
	}
	run(nil, "node_modules/openapi-typescript/bin/cli.js", document, "--default-non-nullable=false", "--output", "src/api.d.ts")
	run(nil, "node_modules/typescript/bin/tsc")

	received := make(chan string, 10)
	target := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		received <- string(body)
	}))
	defer target.Close()
	url, key := running(t)
	out := run([]string{"SWITCHHOOK_URL=" + url, "SWITCHHOOK_KEY=" + key, "TARGET_URL=" + target.URL}, "dist/main.js")
	for _, line := range []string{"subscribed: sub_", "to order.*\n", "delivered: order.created in attempt 1\n", `event: {"id":1001,"total":129.5}`, "unsubscribed\n"} {
		if !strings.Contains(out, line) {
			t.Errorf("no %q in\n%s", line, out)
		}
	}
	if len(received) != 1 || !strings.Contains(<-received, `"total":129.5`) {
		t.Errorf("the target did not receive the event once")
	}
	var left struct{ Data []any }
	if get(t, url+"/api/v1/subscriptions", key, &left); len(left.Data) != 0 {
		t.Errorf("%d subscriptions are left", len(left.Data))
	}
}
