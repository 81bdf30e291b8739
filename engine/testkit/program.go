package testkit

import (
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/gofrs/flock"
)

// Program builds a main package, without the race detector, and returns the path of the
// program. It stays in the user's cache, so that the packages of one run share it: go build
// does nothing if it is up to date.
func Program(pkg string) (path string, err error) {
	out, err := exec.Command("go", "list", "-f", "{{.ImportPath}} {{.Dir}}", pkg).Output()
	if err != nil {
		return "", fmt.Errorf("go list %s: %w", pkg, err)
	}
	folder, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	name, source, _ := strings.Cut(strings.TrimSpace(string(out)), " ")
	folder = filepath.Join(folder, "switchhook-test", fmt.Sprintf("%x", sha256.Sum256([]byte(source)))[:16])
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return "", err
	}
	lock := flock.New(filepath.Join(folder, "lock"))
	if err := lock.Lock(); err != nil {
		return "", err
	}
	defer lock.Close()
	path = filepath.Join(folder, filepath.Base(name))
	if out, err := exec.Command("go", "build", "-o", path, pkg).CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build %s: %w\n%s", pkg, err, out)
	}
	return path, nil
}
