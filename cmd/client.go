package cmd

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"switchhook/scripts"
	"switchhook/scripts/scripttest"
)

// client calls the API of a running router.
type client struct {
	url  string // without a path
	key  string
	http http.Client
}

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

func newClient(url, key string) *client {
	return &client{url: strings.TrimSuffix(url, "/"), key: key, http: http.Client{Timeout: time.Minute}}
}

// completer is an answer that can report whether it has the members that the API always
// sends.
type completer interface{ whole() bool }

// call makes a request and decodes the answer into out; nil bodies are left out. An answer
// other than 2xx is an error with the problem's detail, and so is an answer that is not
// this API's: another program may listen at that address.
func (c *client) call(ctx context.Context, method, path string, in, out any) error {
	var body io.Reader
	if in != nil {
		encoded, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(encoded)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.url+path, body)
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+c.key)
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	res, err := c.http.Do(req)
	if err != nil {
		return fmt.Errorf("no answer from %s; is the router running? (%w)", c.url, err)
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(res.Body)
	if err != nil {
		return err
	}
	if res.StatusCode < 200 || res.StatusCode > 299 {
		return refusal(req, res, answer)
	}
	if !decodeAnswer(res.StatusCode, answer, out) {
		return fmt.Errorf("%s answered, but is not a Switchhook router", c.url)
	}
	return nil
}

// decodeAnswer decodes a 2xx answer into out and reports whether it is one of this API's.
func decodeAnswer(status int, answer []byte, out any) bool {
	switch {
	case out == nil && len(answer) == 0:
		return status == http.StatusNoContent
	case out == nil:
		return json.Valid(answer)
	case json.Unmarshal(answer, out) != nil:
		return false
	}
	w, asks := out.(completer)
	return !asks || w.whole()
}

// refusalError is an answer other than 2xx.
type refusalError struct {
	request string // method and path
	status  string
	code    int
	Detail  string             `json:"detail"`
	Script  *scripts.Error     `json:"script"` // if a filter or transform caused it
	Tests   *scripttest.Report `json:"tests"`  // if test cases failed
}

// asFlags replaces the names of request members by those of flags.
var asFlags = strings.NewReplacer(`send "force": true`, "give --force", `"force": true`, "--force")

// Error returns the request and the problem's detail.
func (e *refusalError) Error() string {
	text := fmt.Sprintf("%s: %s: %s", e.request, e.status, printable(asFlags.Replace(e.Detail)))
	if e.Script != nil && e.Script.Snippet != "" {
		text += "\n" + printable(e.Script.Snippet)
	}
	return text
}

func refusal(req *http.Request, res *http.Response, answer []byte) error {
	e := &refusalError{}
	if json.Unmarshal(answer, e) != nil || e.Detail == "" {
		e.Detail = fmt.Sprintf("%.200s", answer)
	}
	e.request, e.status, e.code = req.Method+" "+req.URL.RequestURI(), res.Status, res.StatusCode
	return e
}

// page is one page of a list.
type page[T any] struct {
	Data       []T
	NextCursor *string `json:"next_cursor"`
}

func (p *page[T]) whole() bool { return p.Data != nil }

// all reads every page of a list. path may have a query.
func all[T any](ctx context.Context, c *client, path string) (list []T, err error) {
	separator := "?"
	if strings.Contains(path, "?") {
		separator = "&"
	}
	for cursor := ""; ; {
		var page page[T]
		if err := c.call(ctx, http.MethodGet, path+separator+"limit=500"+cursor, nil, &page); err != nil {
			return nil, err
		}
		list = append(list, page.Data...)
		if page.NextCursor == nil {
			return list, nil
		}
		cursor = "&cursor=" + url.QueryEscape(*page.NextCursor)
	}
}

// accepted is the answer to a published event.
type accepted struct {
	ID      string `json:"id"`
	Matched int    `json:"matched"`
}

func (a *accepted) whole() bool { return a.ID != "" }

// subscriptionBody holds the fields of a subscription that the commands send and read.
type subscriptionBody struct {
	ID        string `json:"id,omitempty"`
	Event     string `json:"event"`
	TargetURL string `json:"target_url"`
	Filter    string `json:"filter,omitempty"`
	Transform string `json:"transform,omitempty"`
	Secret    string `json:"secret,omitempty"`
}

func (s *subscriptionBody) whole() bool { return s.ID != "" }

func (c *client) subscribe(ctx context.Context, s subscriptionBody) (made subscriptionBody, err error) {
	return made, c.call(ctx, http.MethodPost, "/api/v1/subscriptions", s, &made)
}

func (c *client) unsubscribe(ctx context.Context, id string) error {
	return c.call(ctx, http.MethodDelete, "/api/v1/subscriptions/"+id, nil, nil)
}
