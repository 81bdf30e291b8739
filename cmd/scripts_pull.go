package cmd

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"regexp"
	"slices"
	"strings"
	"unicode"

	"switchhook/scripts/scripttest"
	"switchhook/server/api"
)

type scriptsPullCommand struct {
	Names []string `arg:"" optional:"" name:"name" help:"Names of scripts; by default all."`
	Out   string   `help:"Folder to write to; created if it is missing." placeholder:"DIR" required:""`
	Force bool     `env:"-" help:"Overwrite files that are different."`
}

// Help implements kong.HelpProvider.
func (*scriptsPullCommand) Help() string {
	return `NAME.expr, NAME.js or NAME.ts gets the source of the live version, or of the newest if none is live, and NAME.test.json the version's test cases, as "switchhook test" reads them. Characters that don't suit file names become "-". Whether a transform is TypeScript is guessed, unless one of the two files is there.

Exit status: 0 the files are as on the router; 1 a file is different and --force is not given (nothing is written then), or another error; 2 the command line is wrong.`
}

// pulledFile is a file with its desired content.
type pulledFile struct {
	name string
	text []byte
	same func(there []byte) bool
}

// Run writes the scripts to files.
func (c *scriptsPullCommand) Run(ctx context.Context, root *commands) error {
	router, err := root.Scripts.client()
	if err != nil {
		return err
	}
	list, err := api.Collect(router.ListScripts(ctx, api.ListScriptsParams{Account: root.Scripts.Account}))
	if err != nil {
		return err
	}
	if err := os.MkdirAll(c.Out, 0o755); err != nil {
		return err
	}
	out, err := os.OpenRoot(c.Out) // a symbolic link in the folder must not lead out of it
	if err != nil {
		return err
	}
	defer out.Close()
	bases := fileNames(list)
	var files []pulledFile
	for i := range list {
		if len(c.Names) > 0 && !slices.Contains(c.Names, list[i].Name) && !slices.Contains(c.Names, list[i].ID) {
			continue
		}
		pulled, err := pullScript(ctx, router, &list[i], bases[i], out)
		if err != nil {
			return err
		}
		files = append(files, pulled...)
	}
	for _, name := range c.Names {
		if !slices.ContainsFunc(list, func(s api.Script) bool { return s.Name == name || s.ID == name }) {
			return fmt.Errorf("there is no script %q; nothing was written", name)
		}
	}
	return c.write(out, files)
}

func (c *scriptsPullCommand) write(out *os.Root, files []pulledFile) error {
	var news []pulledFile
	different := 0
	for _, f := range files {
		there, err := out.ReadFile(f.name)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			news = append(news, f)
		case err != nil:
			return err
		case f.same(there):
		default:
			news = append(news, f)
			if different++; !c.Force {
				fmt.Fprintf(os.Stderr, "%s is different\n", f.name)
			}
		}
	}
	if different > 0 && !c.Force {
		return fmt.Errorf("%s different from the router's version; nothing was written, --force overwrites", countedNoun(different, "file"))
	}
	for _, f := range news {
		if err := out.WriteFile(f.name, f.text, 0o644); err != nil {
			return err
		}
		fmt.Println("wrote", f.name)
	}
	fmt.Printf("%s written, %d unchanged\n", countedNoun(len(news), "file"), len(files)-len(news))
	return nil
}

func pullScript(ctx context.Context, router *client, s *api.Script, base string, out *os.Root) ([]pulledFile, error) {
	named := api.LatestVersion
	if s.LiveVersion != nil {
		named = api.LiveVersion
	}
	v, err := router.version(ctx, s, named)
	if err != nil {
		return nil, err
	}
	if v == nil {
		fmt.Fprintf(os.Stderr, "%s has no version yet; it is left out\n", printable(s.Name))
		return nil, nil
	}
	source := v.Source
	ending := ".expr"
	if s.Kind == "transform" {
		ending = transformEnding(source, func(ending string) bool { _, err := out.Stat(base + ending); return err == nil })
	}
	text := []byte(source)
	files := []pulledFile{{base + ending, text, func(there []byte) bool { return bytes.Equal(there, text) }}}
	cases, err := scripttest.ParseCases(v.Cases)
	if err != nil {
		return nil, fmt.Errorf("the cases of %s: %w", s.Name, err)
	}
	if len(cases) == 0 {
		return files, nil
	}
	var indented bytes.Buffer
	if err := json.Indent(&indented, v.Cases, "", "  "); err != nil {
		return nil, err
	}
	whole := []byte(`{"cases": ` + indented.String() + "}\n")
	return append(files, pulledFile{base + ".test.json", whole, func(there []byte) bool { return sameCases(there, cases) }}), nil
}

// sameCases reports whether a file contains these cases, in any layout.
func sameCases(file []byte, cases []scripttest.Case) bool {
	var there struct {
		Cases []scripttest.Case `json:"cases"`
	}
	if json.Unmarshal(file, &there) != nil {
		return false
	}
	a, errA := json.Marshal(there.Cases)
	b, errB := json.Marshal(cases)
	return errA == nil && errB == nil && bytes.Equal(a, b)
}

// typescript matches syntax that only TypeScript has: declarations of types, and types
// after parameters and variables.
var typescript = regexp.MustCompile(`(?m)^\s*(export\s+)?(interface|type|enum|declare)\s+\w|^\s*import\s+type\b|[\w)\]?]\s*:\s*((string|number|boolean|any|unknown|void|never|bigint|Event|Request)(\[\])*\s*([,;)=|}{]|$)|(Record|Array|Promise)<)|\bas\s+(const|any|unknown|string|number)\b|\bsatisfies\s+\w`)

func transformEnding(source string, there func(ending string) bool) string {
	js, ts := there(".js"), there(".ts")
	switch {
	case js != ts && ts, js == ts && typescript.MatchString(source):
		return ".ts"
	}
	return ".js"
}

const longestBase = 80 // bytes

// Names that Windows reserves for devices.
var deviceName = regexp.MustCompile(`(?i)^(con|prn|aux|nul|com\d|lpt\d)(\.|$)`)

// fileNames returns a file name without suffix for each script. A name that had to be
// changed, or that differs from another one only in case, gets part of a hash.
func fileNames(list []api.Script) []string {
	taken := map[string]int{}
	for _, s := range list {
		taken[strings.ToLower(s.Name)]++
	}
	names := make([]string, len(list))
	for i, s := range list {
		name := strings.Map(func(r rune) rune {
			if unicode.IsLetter(r) || unicode.IsDigit(r) || strings.ContainsRune("._-", r) {
				return r
			}
			return '-'
		}, s.Name)
		name = strings.Trim(name, ".-")
		if len(name) > longestBase {
			name = strings.ToValidUTF8(name[:longestBase], "")
		}
		if name != s.Name || taken[strings.ToLower(s.Name)] > 1 || deviceName.MatchString(name) || scripttest.IsFile(name+".json") {
			hash := sha256.Sum256([]byte(s.Name))
			name = strings.TrimLeft(name+"-"+hex.EncodeToString(hash[:3]), "-")
			if deviceName.MatchString(name) {
				name = "script-" + name
			}
		}
		names[i] = name
	}
	return names
}
