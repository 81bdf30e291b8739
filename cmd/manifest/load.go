package manifest

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"switchhook/scripts/scripttest"
	"switchhook/scripts/yamljson"
)

const (
	maxFile    = 4 << 20  // bytes of a file that the YAML names
	maxFiles   = 64 << 20 // bytes of all files
	maxEntries = 100_000  // files and folders that are examined
)

// Load reads the YAML files in a folder and the files that they name. account is the
// default account; getenv returns the values for ${NAME}. All paths must be within the
// folder, also after symbolic links: nothing outside is read. The error is Problems unless
// the folder itself cannot be read.
func Load(dir, account string, getenv func(string) (string, bool)) (*Set, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	l := &loader{dir: dir, root: root, account: account, getenv: getenv, set: &Set{}, positions: map[string]Position{}}
	files, err := l.find()
	if err != nil {
		return nil, err
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("there is no .yaml file in %s", dir)
	}
	for _, name := range files {
		l.file(name)
	}
	if len(l.problems) > 0 {
		return nil, l.problems
	}
	return l.set, nil
}

type loader struct {
	dir       string
	root      *os.Root
	account   string
	getenv    func(string) (string, bool)
	set       *Set
	positions map[string]Position // by kind, account and name
	read      int                 // bytes read so far
	problems  Problems
}

// isManifest reports whether a file name is that of a manifest: YAML, but not a test case
// file.
func isManifest(name string) bool {
	return (strings.HasSuffix(name, ".yaml") || strings.HasSuffix(name, ".yml")) && !scripttest.IsFile(name)
}

// find lists the YAML files. It skips hidden ones, node_modules, and folders that are
// symbolic links.
func (l *loader) find() (files []string, err error) {
	entries := 0
	err = fs.WalkDir(l.root.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		if entries++; entries > maxEntries {
			return fmt.Errorf("%s holds more than %d files: is it the right folder?", l.dir, maxEntries)
		}
		hidden := name != "." && strings.HasPrefix(d.Name(), ".") || d.Name() == "node_modules"
		switch {
		case err != nil:
			return err
		case d.IsDir() && hidden:
			return fs.SkipDir
		case !d.IsDir() && !hidden && isManifest(name):
			files = append(files, name)
		}
		return nil
	})
	return files, err
}

func (l *loader) shown(name string) string { return filepath.Join(l.dir, filepath.FromSlash(name)) }

func (l *loader) wrong(file string, line int, format string, args ...any) {
	l.problems = append(l.problems, &Problem{l.shown(file), line, fmt.Sprintf(format, args...)})
}

func (l *loader) file(name string) {
	text, err := l.bytes(name, yamljson.MaxBytes)
	if err != nil {
		l.wrong(name, 0, "%v", err)
		return
	}
	doc, wrong := yamljson.Parse(text, yamljson.Limits{})
	if wrong != nil {
		l.wrong(name, wrong.Line, "%v", wrong)
		return
	}
	d := &decoder{loader: l, name: name, lineAt: doc.Line}
	if root, ok := d.parse(doc.JSON); ok {
		d.top(root)
	}
}

// beside resolves a path relative to the file that names it.
func beside(file, named string) (string, error) {
	slashed := strings.ReplaceAll(named, `\`, "/")
	if named == "" || path.IsAbs(slashed) || filepath.IsAbs(named) {
		return "", errors.New("must be a path relative to this file")
	}
	name := path.Join(path.Dir(file), slashed)
	if !filepath.IsLocal(filepath.FromSlash(name)) {
		return "", errors.New("leads out of the folder")
	}
	return name, nil
}

// bytes reads a regular file in the folder.
func (l *loader) bytes(name string, most int64) ([]byte, error) {
	local := filepath.FromSlash(name)
	info, err := l.root.Stat(local)
	switch {
	case err != nil:
		return nil, reason(err)
	case !info.Mode().IsRegular(): // reading a pipe might block forever
		return nil, errors.New("is not a regular file")
	case info.Size() > most:
		return nil, fmt.Errorf("is larger than %d KiB", most>>10)
	}
	f, err := l.root.Open(local)
	if err != nil {
		return nil, reason(err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, most+1))
	if err != nil {
		return nil, reason(err)
	}
	if l.read += len(text); l.read > maxFiles || int64(len(text)) > most {
		return nil, fmt.Errorf("is too large: all files together may have %d MiB", maxFiles>>20)
	}
	return text, nil
}

// reason returns the error without the path, which the message already contains.
func reason(err error) error {
	if at, ok := errors.AsType[*fs.PathError](err); ok {
		if at.Err.Error() == "path escapes from parent" { // os.Root does not export this error
			return errors.New("leads out of the folder")
		}
		return at.Err
	}
	return err
}

// claim registers a name, and returns its position if it is already registered.
func (l *loader) claim(kind, account, name string, at Position) (Position, bool) {
	key := strings.Join([]string{kind, account, name}, "\x00")
	if first, taken := l.positions[key]; taken {
		return first, false
	}
	l.positions[key] = at
	return at, true
}

// KindOf returns the kind of script that the suffix of a file name stands for, or "".
func KindOf(file string) string {
	switch ending := path.Ext(filepath.ToSlash(file)); {
	case ending == ".expr":
		return "filter"
	case slices.Contains([]string{".js", ".ts", ".mjs", ".mts"}, ending):
		return "transform"
	}
	return ""
}
