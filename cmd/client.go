package cmd

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"switchhook/server/api"
)

// client calls the API of a running router.
type client struct{ *api.Client }

// clientFlags name the router that a command calls, and its key.
type clientFlags struct {
	Server string `help:"The router's address." default:"http://127.0.0.1:8080" placeholder:"URL"`
	Key    secret `help:"API key; by default the one in ./switchhook-data/admin.key, if it is there." placeholder:"KEY"`
}

func (f *clientFlags) client() (*client, error) {
	if u, err := url.Parse(f.Server); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		if !strings.Contains(f.Server, "://") && f.Server != "" {
			return nil, usageError("--server: %q has no scheme: write http://%s", f.Server, f.Server)
		}
		return nil, usageError("--server: %q is not a URL such as http://127.0.0.1:8080", f.Server)
	}
	if u, _ := url.Parse(f.Server); u.RawQuery != "" || u.ForceQuery || u.Fragment != "" || u.User != nil {
		return nil, usageError("--server: give the address without user, query and fragment, such as http://127.0.0.1:8080")
	} else if _, err := strconv.ParseUint(cmp.Or(u.Port(), "80"), 10, 16); err != nil {
		return nil, usageError("--server: %.100q has an invalid port: use 1 to 65535", f.Server)
	}
	key := f.Key
	if key == "" {
		var err error
		if key, err = readKeyFile(); err != nil {
			return nil, fmt.Errorf("an API key is needed: give --key, or set SWITCHHOOK_KEY (%w)", err)
		}
	}
	return newClient(f.Server, string(key)), nil
}

// readKeyFile reads the key that serve wrote, if the command is run in the same folder. The
// error names the file and the problem.
func readKeyFile() (secret, error) {
	file := keyFile("switchhook-data")
	if whole, err := filepath.Abs(file); err == nil {
		file = whole
	}
	key, err := readSecret(file)
	broken, isPath := errors.AsType[*fs.PathError](err)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", fmt.Errorf("there is no %s", file)
	case isPath:
		return "", fmt.Errorf("%s can't be read: %w", file, broken.Err)
	}
	return key, err
}

// maxRetryWait limits how long a command waits before it repeats a request. After a longer
// Retry-After the user sees at once why the router refuses.
const maxRetryWait = 5 * time.Second

func newClient(url, key string) *client {
	c := api.NewClient(url, key)
	c.MaxWait = maxRetryWait
	return &client{c}
}

// asFlags replaces the names of request members by those of flags.
var asFlags = strings.NewReplacer(`send "force": true`, "give --force", `"force": true`, "--force")

// errorText returns the text of an error for a terminal. The router's own errors may quote what
// others sent, so control characters are escaped.
func errorText(err error) string {
	text := err.Error()
	if _, ok := errors.AsType[*api.Error](err); ok {
		return printable(asFlags.Replace(text))
	}
	return text
}
