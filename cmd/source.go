package cmd

import (
	"bytes"
	"fmt"
	"os"

	"switchhook/engine/signature"
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
func checkSecret(secret string) error {
	if secret == "" {
		return nil
	}
	if err := signature.CheckSecret(secret, nil); err != nil {
		return wrongCommand("--secret: %v", err)
	}
	return nil
}
