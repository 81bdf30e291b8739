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
	maxFile    = 4 << 20  // bytes of a file that is named in the YAML
	maxFiles   = 64 << 20 // bytes of all files
	maxEntries = 100_000  // files and folders that are looked at
)

// Load reads the YAML files in a folder and what they name. account is the one for what
// names none; getenv gives the values for ${NAME}. All paths are within the folder, symbolic links followed: nothing outside is
// read. The error is Mistakes unless the folder itself can't be read.
func Load(dir, account string, getenv func(string) (string, bool)) (*Set, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	l := &loader{dir: dir, root: root, account: account, getenv: getenv, set: &Set{}, places: map[string]Position{}}
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
	if len(l.mistakes) > 0 {
		return nil, l.mistakes
	}
	return l.set, nil
}

type loader struct {
	dir      string
	root     *os.Root
	account  string
	getenv   func(string) (string, bool)
	set      *Set
	places   map[string]Position // by kind, account and name
	read     int                 // bytes so far
	mistakes Problems
}

// isManifest tells by its name whether a file is one: YAML, and no test cases.
func isManifest(name string) bool {
	return (strings.HasSuffix(name, ".yaml") || strings.HasSuffix(name, ".yml")) && !scripttest.IsFile(name)
}

// find lists the YAML files. Hidden ones and node_modules are left out, folders that are
// symbolic links too.
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
	l.mistakes = append(l.mistakes, &Problem{l.shown(file), line, fmt.Sprintf(format, args...)})
}

func (l *loader) file(name string) {
	text, err := l.bytes(name, yamljson.MaxBytes)
	if err != nil {
		l.wrong(name, 0, "%v", err)
		return
	}
	doc, err := yamljson.Parse(text, yamljson.Limits{})
	if err != nil {
		line := 0
		if wrong, ok := errors.AsType[*yamljson.Error](err); ok {
			line = wrong.Line
		}
		l.wrong(name, line, "%v", err)
		return
	}
	d := &decoder{loader: l, name: name, lineAt: doc.Line}
	if root, ok := d.parse(doc.JSON); ok {
		d.top(root)
	}
}

// beside resolves a path that stands in a file.
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
	case !info.Mode().IsRegular(): // a pipe would be waited for without end
		return nil, errors.New("is no file")
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

// reason leaves the path out, which stands before it already.
func reason(err error) error {
	if at, ok := errors.AsType[*fs.PathError](err); ok {
		if at.Err.Error() == "path escapes from parent" { // os.Root has no exported error for it
			return errors.New("leads out of the folder")
		}
		return at.Err
	}
	return err
}

// claim notes a name, and tells where it stands already.
func (l *loader) claim(kind, account, name string, at Position) (Position, bool) {
	key := strings.Join([]string{kind, account, name}, "\x00")
	if first, taken := l.places[key]; taken {
		return first, false
	}
	l.places[key] = at
	return at, true
}

// ReadCases reads a file of test cases as "switchhook test" knows them, and leaves the
// scripts that it names alone. read reads the files of its events; their names are as
// they stand in the file.
func ReadCases(file string, text []byte, read func(name string) ([]byte, error)) ([]scripttest.Case, error) {
	json, lineAt := text, func(offset int) int { return 1 + strings.Count(string(text[:min(offset, len(text))]), "\n") }
	if !strings.HasSuffix(file, ".json") {
		doc, err := yamljson.Parse(text, yamljson.Limits{})
		if err != nil {
			line := 0
			if wrong, ok := errors.AsType[*yamljson.Error](err); ok {
				line = wrong.Line
			}
			return nil, &Problem{file, line, err.Error()}
		}
		json, lineAt = doc.JSON, doc.Line
	}
	return readCases(file, json, lineAt, read)
}

// KindOf is the kind of script that a file name's ending tells, "" where it tells none.
func KindOf(file string) string {
	switch ending := path.Ext(filepath.ToSlash(file)); {
	case ending == ".expr":
		return "filter"
	case slices.Contains([]string{".js", ".ts", ".mjs", ".mts"}, ending):
		return "transform"
	}
	return ""
}
