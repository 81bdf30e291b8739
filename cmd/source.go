package cmd

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strings"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

// readSource reads a script. An empty one is a mistake: to the router it would be none.
func readSource(path string) (string, error) {
	text, err := os.ReadFile(path)
	if err == nil && len(bytes.TrimSpace(text)) == 0 {
		err = fmt.Errorf("%s is empty", path)
	}
	return string(text), err
}

// newSigner is what signs and verifies with the secret of --secret; nil without one.
func newSigner(secret string) (*standardwebhooks.Webhook, error) {
	if secret == "" {
		return nil, nil
	}
	signer, err := standardwebhooks.NewWebhook(secret)
	if err != nil || !strings.HasPrefix(secret, "whsec_") || secret == "whsec_" {
		return nil, &statusError{wrongUsage, errors.New(`--secret: must be "whsec_" and the key in base64`)}
	}
	return signer, nil
}
