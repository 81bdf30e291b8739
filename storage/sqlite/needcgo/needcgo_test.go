package needcgo

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

func TestBuild_WithoutCgoSaysWhatToDo(t *testing.T) {
	build := exec.Command("go", "build", ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := build.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "install_gcc_and_build_with_CGO_ENABLED_1") {
		t.Errorf("%v\n%s", err, out)
	}
}
