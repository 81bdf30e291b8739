package cmd

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"switchhook/scripts"
	"switchhook/scripts/suite"
)

// client talks to a running router over its API.
type client struct {
	url  string // without a path
	key  string
	http http.Client
}

// clientFlags say which router a command talks to, and as whom.
type clientFlags struct {
	Server string `help:"The router's address." default:"http://127.0.0.1:8080" placeholder:"URL"`
	Key    string `help:"API key; by default the one in ./switchhook-data/admin.key, if it is there." placeholder:"KEY"`
}

func (f *clientFlags) client() (*client, error) {
	key := f.Key
	if key == "" {
		text, err := os.ReadFile(filepath.Join("switchhook-data", "admin.key"))
		if err != nil {
			return nil, errors.New("an API key is needed: give --key, or set SWITCHHOOK_KEY")
		}
		key = strings.TrimSpace(string(text))
	}
	return newClient(f.Server, key), nil
}

func newClient(url, key string) *client {
	return &client{url: strings.TrimSuffix(url, "/"), key: key, http: http.Client{Timeout: time.Minute}}
}

// call makes a request and reads the answer into out; nil bodies are left out. An answer
// other than 2xx is an error with the problem's detail.
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
	if out == nil || len(answer) == 0 {
		return nil
	}
	return json.Unmarshal(answer, out)
}

// refusalError is an answer other than 2xx.
type refusalError struct {
	request string // method and path
	status  string
	code    int
	Detail  string         `json:"detail"`
	Script  *scripts.Error `json:"script"` // where a filter or transform is to blame
	Tests   *suite.Report  `json:"tests"`  // where test cases failed
}

// Error names the request and gives the problem's detail.
func (e *refusalError) Error() string {
	text := fmt.Sprintf("%s: %s: %s", e.request, e.status, printable(e.Detail))
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

// all reads every page of a list. path may have a query.
func all[T any](ctx context.Context, c *client, path string) (list []T, err error) {
	separator := "?"
	if strings.Contains(path, "?") {
		separator = "&"
	}
	for cursor := ""; ; {
		var page struct {
			Data       []T
			NextCursor *string `json:"next_cursor"`
		}
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

// subscriptionBody is what the commands send and read of a subscription.
type subscriptionBody struct {
	ID        string `json:"id,omitempty"`
	Event     string `json:"event"`
	TargetURL string `json:"target_url"`
	Filter    string `json:"filter,omitempty"`
	Transform string `json:"transform,omitempty"`
	Secret    string `json:"secret,omitempty"`
}

func (c *client) subscribe(ctx context.Context, s subscriptionBody) (made subscriptionBody, err error) {
	return made, c.call(ctx, http.MethodPost, "/api/v1/subscriptions", s, &made)
}

func (c *client) unsubscribe(ctx context.Context, id string) error {
	return c.call(ctx, http.MethodDelete, "/api/v1/subscriptions/"+id, nil, nil)
}
