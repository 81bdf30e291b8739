package cmd

import (
	"errors"
	"fmt"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/alecthomas/kong"

	"switchhook/scripts/suggest"
)

// secret is a key or a signing secret. From whatever source, checkValues and readSecret
// trim white space around it and refuse text that cannot be sent in a header.
type secret string

// maxValue is the maximum length of a flag or argument without a tag "maxlen".
const maxValue = 4096

// cleanSecret trims what editors, shells and mounted files put around a secret. The error
// never quotes the secret.
func cleanSecret(text string) (secret, error) {
	text = strings.TrimSpace(strings.TrimPrefix(text, "\ufeff"))
	if text == "" {
		return "", errors.New("is empty")
	}
	for i, r := range text {
		if r <= ' ' || r > '~' {
			return "", fmt.Errorf("holds %s after %s: a secret is one line of ASCII letters, digits and signs", characterName(r), countedNoun(i, "byte"))
		}
	}
	return secret(text), nil
}

func characterName(r rune) string {
	switch {
	case r == '\n' || r == '\r':
		return "a line break"
	case unicode.IsSpace(r):
		return "white space"
	case unicode.IsControl(r):
		return "a control character"
	}
	return "a character that is not ASCII"
}

// readSecret reads a secret from a file.
func readSecret(file string) (secret, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	s, err := cleanSecret(string(text))
	if err != nil {
		return "", fmt.Errorf("%s %w", file, err)
	}
	return s, nil
}

// variablePrefix starts the names of all environment variables of flags.
const variablePrefix = "SWITCHHOOK_"

// unsetEmptyVariables treats empty variables as not set, as in compose files that name a
// variable without a value.
func unsetEmptyVariables() {
	for _, entry := range os.Environ() {
		name, value, _ := strings.Cut(entry, "=")
		if strings.HasPrefix(name, variablePrefix) && strings.TrimSpace(value) == "" {
			os.Unsetenv(name)
		}
	}
}

// kubernetesService matches the variables that Kubernetes sets in every container for
// services whose names start with "switchhook".
var kubernetesService = regexp.MustCompile(`_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\d+_\w+)?)$`)

// unknownVariables describes the variables with the prefix that no flag of any command
// reads.
func unknownVariables(model *kong.Node, environment []string) (unknown []string) {
	var known []string
	kong.Visit(model, func(v kong.Visitable, next kong.Next) error {
		if flag, ok := v.(*kong.Flag); ok {
			known = append(known, flag.Envs...)
		}
		return next(nil)
	})
	for _, entry := range environment {
		name, _, _ := strings.Cut(entry, "=")
		if !strings.HasPrefix(name, variablePrefix) || slices.Contains(known, name) || kubernetesService.MatchString(name) {
			continue
		}
		if meant := suggest.Closest(name, known); meant != "" {
			name += ", did you mean " + meant + "?"
		}
		unknown = append(unknown, name)
	}
	slices.Sort(unknown)
	return unknown
}

// checkValues checks the values of the selected command against their types and tags: texts
// are not empty, not longer than "maxlen" and without control characters, unless tagged
// "multiline"; numbers and durations are between "min" and "max". It trims secrets.
func checkValues(parsed *kong.Context) error {
	given := map[*kong.Value]bool{}
	for _, p := range parsed.Path {
		switch {
		case p.Resolved:
		case p.Flag != nil:
			given[p.Flag.Value] = true
		case p.Positional != nil:
			given[p.Positional] = true
		}
	}
	for node := parsed.Selected(); node != nil; node = node.Parent {
		for _, v := range node.Values() {
			name := valueName(v)
			if !given[v] {
				variable := variableOf(v)
				if variable == "" {
					continue // its default
				}
				name += " (" + variable + ")"
			}
			if err := checkValue(v, v.Target); err != nil {
				return usageError("%s %w", name, err)
			}
		}
	}
	return nil
}

// decodePath makes paths absolute as kong does, but leaves an empty one to checkValues: it
// would become the working folder.
func decodePath(ctx *kong.DecodeContext, target reflect.Value) error {
	var text string
	if err := ctx.Scan.PopValueInto("file", &text); err != nil {
		return err
	}
	if strings.TrimSpace(text) != "" {
		text = kong.ExpandPath(text)
	}
	target.SetString(text)
	return nil
}

// valueName returns the name of a flag or an argument for messages.
func valueName(v *kong.Value) string {
	if v.Flag != nil {
		return "--" + v.Name
	}
	return strings.ToUpper(v.Name)
}

// variableOf returns the environment variable that a flag's value comes from, or "".
func variableOf(v *kong.Value) string {
	for _, name := range v.Tag.Envs {
		if _, set := os.LookupEnv(name); set {
			return name
		}
	}
	return ""
}

func checkValue(v *kong.Value, value reflect.Value) error {
	switch {
	case value.Kind() == reflect.Pointer:
		return checkValue(v, value.Elem())
	case value.Kind() == reflect.Slice:
		if value.Len() == 0 {
			return errors.New("is empty: give a value, or leave it out")
		}
		for i := range value.Len() {
			if err := checkValue(v, value.Index(i)); err != nil {
				return err
			}
		}
	case value.Type() == reflect.TypeFor[secret]():
		s, err := cleanSecret(value.String())
		if err != nil {
			return err
		}
		value.Set(reflect.ValueOf(s))
	case value.Kind() == reflect.String:
		return checkText(v, value.String())
	case value.CanInt() || value.CanUint():
		return checkNumber(v, value)
	}
	return nil
}

func checkText(v *kong.Value, text string) error {
	longest := maxValue
	if v.Tag.Has("maxlen") {
		longest, _ = strconv.Atoi(v.Tag.Get("maxlen"))
	}
	control := strings.IndexFunc(text, unicode.IsControl)
	switch {
	case strings.TrimSpace(text) == "":
		return errors.New("is empty: give a value, or leave it out")
	case len(text) > longest:
		return fmt.Errorf("is %d bytes long, must be %d at most", len(text), longest)
	case control >= 0 && !v.Tag.Has("multiline"):
		return fmt.Errorf("holds a control character or line break after %s", countedNoun(control, "byte"))
	}
	return nil
}

func checkNumber(v *kong.Value, value reflect.Value) error {
	if !v.Tag.Has("min") {
		return nil // not a number but a level
	}
	least, most := v.Tag.Get("min"), v.Tag.Get("max")
	if value.Type() == reflect.TypeFor[time.Duration]() {
		low, _ := time.ParseDuration(least)
		high, _ := time.ParseDuration(most)
		if d := time.Duration(value.Int()); d < low || d > high {
			return fmt.Errorf("is %s, must be %s to %s", d, least, most)
		}
		return nil
	}
	low, _ := strconv.ParseInt(least, 10, 64)
	high, _ := strconv.ParseInt(most, 10, 64)
	var n int64
	if value.CanUint() {
		n = int64(value.Uint()) // 16 bits
	} else {
		n = value.Int()
	}
	if n < low || n > high {
		return fmt.Errorf("is %d, must be %s to %s", n, least, most)
	}
	return nil
}
