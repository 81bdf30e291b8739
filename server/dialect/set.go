package dialect

import (
	"cmp"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"switchhook/engine/outbound"
)

//go:embed builtin/*.yaml
var builtin embed.FS

// BuiltIn returns the names of the built-in dialects.
func BuiltIn() []string {
	var names []string
	files, _ := fs.Glob(builtin, "builtin/*.yaml")
	for _, f := range files {
		names = append(names, strings.TrimSuffix(path.Base(f), ".yaml"))
	}
	return names
}

// Set holds the served dialects. It is immutable.
type Set struct{ dialects []*Dialect }

// Bodies are the delivery templates, by dialect.
func (s *Set) Bodies() map[string]*outbound.BodyTemplate {
	bodies := map[string]*outbound.BodyTemplate{}
	for _, d := range s.dialects {
		if d.Delivery != nil {
			bodies[d.Name] = d.Delivery
		}
	}
	return bodies
}

// Names returns the names of the dialects.
func (s *Set) Names() []string {
	names := []string{}
	for _, d := range s.dialects {
		names = append(names, d.Name)
	}
	return names
}

// At returns the dialect that has a path, with its operations there; nil if none has.
func (s *Set) At(path string) (d *Dialect, operations []*Operation, id string) {
	path = strings.TrimSuffix(path, "/")
	for _, d := range s.dialects {
		if !strings.HasPrefix(path, d.Path) {
			continue
		}
		for _, op := range d.Operations {
			if value, ok := match(op.Path, path); ok {
				operations = append(operations, op)
				id = cmp.Or(id, value)
			}
		}
		if operations != nil {
			return d, operations, id
		}
	}
	return nil, nil, ""
}

// match reports whether a path matches a pattern, and returns its {id}.
func match(pattern, path string) (id string, ok bool) {
	for pattern != "" && path != "" {
		var want, got string
		want, pattern, _ = strings.Cut(pattern[1:], "/")
		got, path, _ = strings.Cut(path[1:], "/")
		if pattern != "" {
			pattern = "/" + pattern
		}
		if path != "" {
			path = "/" + path
		}
		if want == "{id}" && got != "" {
			id = got
		} else if want != got {
			return "", false
		}
	}
	return id, pattern == "" && path == ""
}

// Loader loads the built-in dialects and those of a folder, and reloads them when they change.
type Loader struct {
	folder  string // empty: none
	builtIn []string
	words   Words
	log     *slog.Logger
	good    map[string]*Dialect // by file: the last valid content
}

// NewLoader makes a Loader. It returns an error for an unknown built-in dialect.
func NewLoader(folder string, builtIn []string, words Words, log *slog.Logger) (*Loader, error) {
	for _, name := range builtIn {
		if !slices.Contains(BuiltIn(), name) {
			return nil, fmt.Errorf("there is no built-in dialect %.60q; the built-in dialects are %s", name, strings.Join(BuiltIn(), ", "))
		}
	}
	return &Loader{folder: folder, builtIn: builtIn, words: words, log: log, good: map[string]*Dialect{}}, nil
}

// Load reads everything for the first time; any invalid file is an error.
func (l *Loader) Load() (*Set, error) {
	read, mistakes := l.read()
	if mistakes != nil {
		return nil, errors.Join(mistakes...)
	}
	set, err := l.put(read)
	if err != nil {
		return nil, err
	}
	l.good = read
	return set, nil
}

// Reload reads the folder again. It logs an invalid file and keeps its previous content; if the files
// contradict each other, all keep theirs, and the Set is nil.
func (l *Loader) Reload() *Set {
	read, mistakes := l.read()
	for _, err := range mistakes {
		at, ok := errors.AsType[*Error](err)
		if !ok {
			l.log.Error("dialects not read again", "error", err)
			return nil
		}
		kept := l.good[at.File]
		l.log.Error("dialect not taken", "error", err, "kept_as_it_was", kept != nil)
		if kept != nil {
			read[at.File] = kept
		}
	}
	set, err := l.put(read)
	if err != nil {
		l.log.Error("dialects stay as they were", "error", err)
		return nil
	}
	l.good = read
	return set
}

const maxFiles = 100

// read reads all files and returns the valid ones.
func (l *Loader) read() (read map[string]*Dialect, mistakes []error) {
	read = map[string]*Dialect{}
	add := func(file string, text []byte, err error) {
		var d *Dialect
		if err != nil {
			err = &Error{File: file, Message: err.Error()}
		} else {
			d, err = Parse(file, text, l.words)
		}
		if err != nil {
			mistakes = append(mistakes, err)
			return
		}
		read[file] = d
	}
	if l.folder != "" {
		files, err := os.ReadDir(l.folder)
		if err != nil {
			return nil, []error{err}
		}
		for _, f := range files {
			if ext := filepath.Ext(f.Name()); ext != ".yaml" && ext != ".yml" || strings.HasPrefix(f.Name(), ".") {
				continue
			}
			if len(read) == maxFiles {
				return nil, []error{fmt.Errorf("%s holds more than %d dialects", l.folder, maxFiles)}
			}
			file := filepath.Join(l.folder, f.Name())
			text, err := os.ReadFile(file)
			add(file, text, err)
		}
	}
	for _, name := range l.builtIn {
		text, err := builtin.ReadFile("builtin/" + name + ".yaml")
		add("built-in "+name, text, err)
	}
	return read, mistakes
}

// put makes a Set of dialects without conflicts. A file of the folder replaces the built-in dialect of the
// same name.
func (l *Loader) put(read map[string]*Dialect) (*Set, error) {
	byName := map[string]*Dialect{}
	files := make([]string, 0, len(read))
	for file := range read {
		files = append(files, file)
	}
	slices.Sort(files)
	for _, file := range files {
		d := read[file]
		if other := byName[d.Name]; other != nil {
			switch {
			case isBuiltIn(file):
				continue
			case !isBuiltIn(other.file):
				return nil, &Error{File: file, Member: "name", Message: fmt.Sprintf("%q is the name of the dialect in %s, too", d.Name, other.file)}
			}
		}
		byName[d.Name] = d
	}
	set := &Set{}
	for _, file := range files {
		if d := read[file]; byName[d.Name] == d {
			set.dialects = append(set.dialects, d)
		}
	}
	for i, d := range set.dialects {
		for _, other := range set.dialects[:i] {
			if a, b := clash(d, other); a != nil {
				hint := ""
				if isBuiltIn(d.file) || isBuiltIn(other.file) {
					hint = "; --dialects-builtin says which built-in dialects are served"
				}
				return nil, &Error{File: d.file, Member: "operations." + string(a.Action) + ".path", Message: fmt.Sprintf("%s is a path of the dialect %s (%s), too%s", b.Path, other.Name, other.file, hint)}
			}
		}
	}
	return set, nil
}

func isBuiltIn(file string) bool { return strings.HasPrefix(file, "built-in ") }

// clash returns operations of two dialects with a common path.
func clash(a, b *Dialect) (*Operation, *Operation) {
	for _, x := range a.Operations {
		for _, y := range b.Operations {
			if overlap(x.Path, y.Path) {
				return x, y
			}
		}
	}
	return nil, nil
}
