package cmd

import (
	"bytes"
	"errors"
	"fmt"
	"os"

	"switchhook/engine/signature"
	"switchhook/scripts"
	"switchhook/scripts/filter"
)

// readSource reads a script. An empty one is a mistake: to the router it would be none.
func readSource(path string) (string, error) {
	text, err := os.ReadFile(path)
	if err == nil && len(bytes.TrimSpace(text)) == 0 {
		err = fmt.Errorf("%s is empty", path)
	}
	return string(text), err
}

// checkSecret tells what is wrong with --secret, if it is given.
func checkSecret(s secret) error {
	if s == "" {
		return nil
	}
	if err := signature.CheckSecret(string(s), nil); err != nil {
		return wrongCommand("--secret: %v", err)
	}
	return nil
}

// checkFilter tells what is wrong with --filter, if it is given, as far as that is known
// without the event type's schema.
func checkFilter(source string) error {
	if source == "" {
		return nil
	}
	_, err := filter.Compile(source)
	if e, ok := errors.AsType[*scripts.Error](err); ok {
		return wrongCommand("--filter: %s\n%s", printable(e.Error()), indentLines(printable(e.Snippet), "  "))
	}
	return err
}
