package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// arrows says which of the project's rooms a room may import, itself aside, and which
// libraries are at home in one room only.
var arrows = map[string][]string{
	".":        {"cmd", "scripts/sandbox"},
	"cmd":      {"server", "engine", "storage", "scripts"},
	"server":   {"engine", "scripts"},
	"engine":   {"scripts"},
	"storage":  {"engine"},
	"scripts":  {},
	"examples": {"server/api"},
}

var homes = map[string]string{
	"github.com/gofiber/":         "server",
	"github.com/valyala/":         "server",
	"github.com/mattn/go-sqlite3": "storage/sqlite",
	"github.com/dop251/goja":      "scripts",
	"github.com/evanw/esbuild":    "scripts",
	"github.com/expr-lang/":       "scripts",
	"github.com/alecthomas/kong":  "cmd",
	"github.com/fsnotify/":        "server/dialect",
	"go.yaml.in/yaml/":            "scripts/yamljson",

	"go.opentelemetry.io/otel":           "engine cmd",
	"go.opentelemetry.io/otel/sdk":       "cmd",
	"go.opentelemetry.io/otel/exporters": "cmd",
}

func within(dir, room string) bool { return dir == room || strings.HasPrefix(dir, room+"/") }

func TestImportsFollowTheArrows(t *testing.T) {
	files := 0
	err := filepath.WalkDir(".", func(file string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(file, ".go") || strings.HasSuffix(file, "_test.go") || within(file, ".git") {
			return err
		}
		files++
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		dir := path.Dir(filepath.ToSlash(file))
		for _, spec := range parsed.Imports {
			imported, _ := strconv.Unquote(spec.Path.Value)
			if problem := forbidden(dir, imported); problem != "" {
				t.Errorf("%s imports %s: %s", file, imported, problem)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if files < 20 {
		t.Fatalf("only %d files were looked at", files)
	}
}

// testPackages may import everything below them, and only tests import them.
var testPackages = []string{
	"engine/testkit", "engine/router/routertest", "engine/target/targettest", "scripts/scriptstest", "storage/storetest",
}

func forbidden(dir, imported string) string {
	if slices.Contains(testPackages, dir) {
		return ""
	}
	if slices.Contains(testPackages, strings.TrimPrefix(imported, "switchhook/")) {
		return "only tests may"
	}
	for library, home := range homes {
		atHome := slices.ContainsFunc(strings.Fields(home), func(room string) bool { return within(dir, room) })
		if strings.HasPrefix(imported, library) && !atHome {
			return "it is at home in " + home
		}
	}
	local, ours := strings.CutPrefix(imported, "switchhook/")
	if !ours {
		return ""
	}
	room, _, _ := strings.Cut(dir, "/")
	allowed, known := arrows[room]
	if !known {
		return "a room that the arrows do not know"
	}
	for _, to := range append(allowed, room) {
		if within(local, to) {
			return ""
		}
	}
	return "the arrows go the other way"
}

func TestTheArrowsForbid(t *testing.T) {
	for _, c := range [][2]string{
		{"engine", "switchhook/storage/sqlite"}, {"engine", "github.com/gofiber/fiber/v2"}, {"scripts/filter", "switchhook/engine"},
		{"storage/sqlite", "switchhook/scripts"}, {"server", "github.com/mattn/go-sqlite3"}, {"server", "switchhook/storage"}, {"engine/x", "switchhook/cmd"},
		{"engine", "go.opentelemetry.io/otel/sdk/trace"}, {"server", "go.opentelemetry.io/otel/trace"},
		{"engine/router", "switchhook/engine/testkit"}, {"cmd", "switchhook/storage/storetest"},
	} {
		if forbidden(c[0], c[1]) == "" {
			t.Errorf("%s may import %s", c[0], c[1])
		}
	}
}

// parts are the packages of engine that hold state, in the order of their locks: a part may
// import only those before it, and a leaf package of engine imports none of them.
var parts = []string{
	"settings", "lifecycle", "telemetry", "resources", "catalog", "idempotency", "outbox", "monitor",
	"outbound", "dispatch", "ingest", "jobs", "evaluate", "router",
}

func TestImports_OrderOfEngineParts(t *testing.T) {
	files, err := filepath.Glob("engine/*/*.go")
	if err != nil || len(files) < 50 {
		t.Fatal(len(files), err)
	}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
		if err != nil {
			t.Fatal(err)
		}
		own := slices.Index(parts, path.Base(path.Dir(filepath.ToSlash(file))))
		for _, spec := range parsed.Imports {
			imported, _ := strconv.Unquote(spec.Path.Value)
			name, ok := strings.CutPrefix(imported, "switchhook/engine/")
			if !ok {
				continue
			}
			if other := slices.Index(parts, name); other >= 0 && other >= own {
				t.Errorf("%s imports engine/%s, which comes after it", file, name)
			}
		}
	}
}

// A type of engine has one receiver name in all its methods.
func TestReceivers_OneNamePerType(t *testing.T) {
	names := map[string]string{} // package and type → receiver
	err := filepath.WalkDir("engine", func(file string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(file, ".go") {
			return err
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		for _, decl := range parsed.Decls {
			method, ok := decl.(*ast.FuncDecl)
			if !ok || method.Recv == nil || len(method.Recv.List[0].Names) == 0 {
				continue
			}
			receiver := method.Recv.List[0]
			of := path.Dir(filepath.ToSlash(file)) + " " + parsed.Name.Name + "." + strings.TrimPrefix(types.ExprString(receiver.Type), "*")
			name := receiver.Names[0].Name
			if other := names[of]; other != "" && other != name {
				t.Errorf("%s: %s is called %s in one method and %s in another", file, of, other, name)
			}
			names[of] = name
		}
		return nil
	})
	if err != nil || len(names) < 50 {
		t.Errorf("%d types: %v", len(names), err)
	}
}
