package cmd

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"switchhook/engine/signature"
	"switchhook/scripts"
	"switchhook/scripts/filter"
)

// readScriptFile reads a script. An empty file is an error: the router would treat it as no
// script.
func readScriptFile(path string) (string, error) {
	text, err := os.ReadFile(path)
	if err == nil && len(bytes.TrimSpace(text)) == 0 {
		err = fmt.Errorf("%s is empty", path)
	}
	return string(text), err
}

// standardInput is the name of "-" in messages.
const standardInput = "standard input"

// readJSONValue reads the value of a flag that takes JSON: a text that starts as an object
// or a list is the JSON itself, @FILE and FILE are files, and - is standard input. name is
// for messages.
func readJSONValue(flag, value string) (text []byte, name string, err error) {
	switch begin := strings.TrimSpace(value); {
	case strings.HasPrefix(begin, "{") || strings.HasPrefix(begin, "["):
		return []byte(value), flag, nil
	case value == "-":
		text, err = io.ReadAll(os.Stdin)
		return text, standardInput, err
	}
	name = strings.TrimPrefix(value, "@")
	if text, err = os.ReadFile(name); err != nil {
		return nil, name, fmt.Errorf("%s: %w (JSON itself begins with { or [)", flag, err)
	}
	return text, name, nil
}

// checkSecret validates --secret, if it is given.
func checkSecret(s secret) error {
	if s == "" {
		return nil
	}
	if err := signature.CheckSecret(string(s), nil); err != nil {
		return usageError("--secret: %v", err)
	}
	return nil
}

// checkFilter validates --filter, if it is given, as far as possible without the event
// type's schema.
func checkFilter(source string) error {
	if source == "" {
		return nil
	}
	_, err := filter.Compile(source)
	if e, ok := errors.AsType[*scripts.Error](err); ok {
		return usageError("--filter: %s\n%s", printable(e.Error()), indentLines(printable(e.Snippet), "  "))
	}
	return err
}
