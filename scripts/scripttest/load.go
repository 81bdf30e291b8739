package scripttest

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"switchhook/scripts/jsonindex"
	"switchhook/scripts/yamljson"
)

// File is a file of cases with the scripts that it tests.
type File struct {
	Path          string // of the cases
	FilterPath    string // empty if the source is inline in the file, or there is none
	TransformPath string
	Sources       []string // every file that was read, Path among them
	Suite         Suite

	text     []byte
	document *yamljson.Doc // nil for JSON
}

// extensions are the extensions of files of cases.
var extensions = []string{".test.json", ".test.yaml", ".test.yml"}

const largestFile = 16 << 20 // bytes

// IsFile reports whether path has the name of a file of cases.
func IsFile(name string) bool {
	return slices.ContainsFunc(extensions, func(e string) bool { return strings.HasSuffix(name, e) })
}

// Find returns the files of cases at paths: a path of a file is returned, a folder is walked.
// Hidden folders and node_modules are skipped.
func Find(paths ...string) (files []string, err error) {
	for _, root := range paths {
		err := filepath.WalkDir(root, func(file string, d fs.DirEntry, err error) error {
			switch {
			case errors.Is(err, fs.ErrNotExist) && file == root:
				return fmt.Errorf("there is no %s", root)
			case err != nil:
				return err
			case d.IsDir() && file != root && (strings.HasPrefix(d.Name(), ".") || d.Name() == "node_modules"):
				return filepath.SkipDir
			case !d.IsDir() && (file == root || IsFile(file)):
				files = append(files, file)
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	slices.Sort(files)
	return slices.Compact(files), nil
}

// Load reads a file of cases and its scripts. The error for a mistake in the file wraps a
// *ParseError. The File is not nil even then: its Sources list the files that were read.
func Load(path string) (*File, error) {
	f := &File{Path: path}
	if err := f.load(); err != nil {
		if wrong, ok := errors.AsType[*ParseError](err); ok && wrong.Line > 0 {
			return f, fmt.Errorf("%s:%d: %w", path, wrong.Line, err)
		}
		return f, fmt.Errorf("%s: %w", path, err)
	}
	return f, nil
}

func (f *File) load() (err error) {
	if f.text, err = f.read(f.Path); err != nil {
		return err
	}
	err = f.decodeText()
	if _, marked := f.base(); err != nil && marked == "" && !bytes.Contains(f.text, []byte("cases")) {
		return errors.New(`this is not a file of cases; those are named *.test.json, *.test.yaml or *.test.yml and hold {"cases": […]}`)
	}
	return err
}

func (f *File) decodeText() error { return f.decodeWith(f.readNamed, f.decode) }

// decodeWith decodes the text, which is YAML unless the file's name ends in .json.
func (f *File) decodeWith(files func(name string) ([]byte, error), decode func(*decoder, field)) (err error) {
	text := f.text
	if !strings.HasSuffix(f.Path, ".json") {
		yaml, wrong := yamljson.Parse(f.text, yamljson.Limits{Bytes: largestFile, JSONBytes: largestFile})
		if wrong != nil {
			return &ParseError{Line: wrong.Line, Message: wrong.Message}
		}
		f.document = yaml
		text = f.document.JSON
	}
	doc, err := parse(text)
	if err != nil {
		return err
	}
	d := &decoder{files: files}
	if root := (field{doc.Root(), ""}); d.object(root, "filter", "filter_source", "transform", "transform_source", "schema", "cases") {
		decode(d, root)
	}
	err = d.done(text)
	if wrong, ok := errors.AsType[*ParseError](err); ok && f.document != nil {
		wrong.Line = f.document.Line(wrong.offset)
	}
	return err
}

// ReadCases reads the cases of a file's text, which is YAML unless its name ends in .json. It ignores
// the scripts that the file names. files reads the files of events. The error is a *ParseError.
func ReadCases(name string, text []byte, files func(name string) ([]byte, error)) (cases []Case, err error) {
	f := &File{Path: name, text: text}
	err = f.decodeWith(files, func(d *decoder, root field) { cases = d.cases(root.get("cases")) })
	return cases, err
}

func (f *File) decode(d *decoder, root field) {
	base, extension := f.base()
	own := []string{base + ".expr", base + ".js", base + ".ts"}
	candidates := [2][]string{{"filter.expr"}, {"transform.js", "transform.ts"}}
	if extension != "" && slices.ContainsFunc(own, f.exists) {
		candidates = [2][]string{own[:1], own[1:]}
	}
	s := &f.Suite
	s.Filter, f.FilterPath = f.script(d, root, "filter", candidates[0])
	s.Transform, f.TransformPath = f.script(d, root, "transform", candidates[1])
	if s.Filter == "" && s.Transform == "" {
		d.wrong(root, "there is no script to test: neither %s nor %s lies in the folder; name one in filter or transform", candidates[0][0], strings.Join(candidates[1], " or "))
	}
	if at := root.get("schema"); at.Exists() {
		schema, err := f.readNamed(d.text(at))
		if err != nil {
			d.wrong(at, "can't be read: %v", err)
		}
		s.Schemas = [][]byte{schema}
	}
	s.Cases = d.cases(root.get("cases"))
}

// base returns the file's name without its extension; extension is empty if the name has
// none of extensions.
func (f *File) base() (base, extension string) {
	name := filepath.Base(f.Path)
	for _, e := range extensions {
		if base, ok := strings.CutSuffix(name, e); ok {
			return base, e
		}
	}
	return name, ""
}

// script returns the source of one of the two scripts: inline, from the named file, or from
// the first candidate that exists. Null means that there is none.
func (f *File) script(d *decoder, root field, kind string, candidates []string) (source, path string) {
	named, inline := root.get(kind), root.get(kind+"_source")
	switch {
	case named.Exists() && inline.Exists():
		d.wrong(inline, "can't be given together with %s", kind)
	case inline.Exists():
		return d.text(inline), ""
	case named.Kind() == jsonindex.Null:
		return "", ""
	case named.Exists():
		text, err := f.readNamed(d.text(named))
		if err != nil {
			d.wrong(named, "can't be read: %v", err)
		}
		return string(text), f.resolve(named.Text())
	}
	there := slices.DeleteFunc(slices.Clone(candidates), func(name string) bool { return !f.exists(name) })
	if len(there) == 0 {
		return "", ""
	}
	if len(there) > 1 {
		d.wrong(root, "%s and %s both lie in the folder: say which in %s", there[0], there[1], kind)
	}
	text, err := f.readNamed(there[0])
	if err != nil {
		d.wrong(root, "%v", err)
	}
	return string(text), f.resolve(there[0])
}

// resolve returns the path of a file named in f, relative to the folder of f.
func (f *File) resolve(name string) string {
	if filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(filepath.Dir(f.Path), filepath.FromSlash(name))
}

func (f *File) exists(name string) bool {
	info, err := os.Stat(f.resolve(name))
	return err == nil && !info.IsDir()
}

// readNamed reads a file that is named in f.
func (f *File) readNamed(name string) ([]byte, error) { return f.read(f.resolve(name)) }

func (f *File) read(path string) ([]byte, error) {
	if !slices.Contains(f.Sources, path) {
		f.Sources = append(f.Sources, path)
	}
	if info, err := os.Stat(path); err != nil {
		return nil, err
	} else if !info.Mode().IsRegular() { // a device never ends, a pipe may never begin
		return nil, fmt.Errorf("%s is not a regular file", path)
	} else if info.Size() > largestFile {
		return nil, fmt.Errorf("%s is larger than %d MiB", path, largestFile>>20)
	}
	return os.ReadFile(path)
}
