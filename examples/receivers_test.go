package examples_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"switchhook/engine/testkit"
	"testing"
)

// receivers are the same receiver in three languages.
var receivers = []struct {
	language string
	program  func(t *testing.T) (name string, args []string)
}{
	{"Go", func(t *testing.T) (string, []string) {
		return buildProgram(t, "./receiver"), []string{"-addr", "127.0.0.1:0"}
	}},
	{"Node", func(t *testing.T) (string, []string) {
		return node(t), []string{absolute(t, "receiver/receiver.mjs")}
	}},
	{"Python", func(t *testing.T) (string, []string) {
		return python(t, "cryptography"), []string{absolute(t, "receiver/receiver.py")}
	}},
}

// TestReceivers_VerifySignature sends each receiver a valid delivery and a forged one.
func TestReceivers_VerifySignature(t *testing.T) {
	t.Parallel()
	url, key := running(t)
	for _, c := range receivers {
		for _, method := range []string{"standard", "ed25519", "hook", "url"} {
			t.Run(c.language+" "+method, func(t *testing.T) {
				name, args := c.program(t)
				verifies(t, url, key, c.language, method, name, args)
			})
		}
	}
}

func verifies(t *testing.T, url, key, language, method, name string, args []string) {
	// The target must exist before it is subscribed, and its secret before it starts.
	body := map[string]any{"event": "verify." + method, "active": false, "target_url": "http://127.0.0.1:9/", "description": language}
	secret := "token-" + method
	switch method {
	case "ed25519":
		body["secret_type"] = "ed25519"
	case "hook":
		body["signatures"] = []string{"x-hook-signature"}
	}
	var made struct {
		ID        string
		Secret    string
		PublicKey string `json:"public_key"`
	}
	post(t, url+"/api/v1/subscriptions?allow_duplicates=true", key, body, &made)
	switch method {
	case "standard", "hook":
		secret = made.Secret
	case "ed25519":
		secret = made.PublicKey
	}
	switch {
	case language == "Go" && (method == "hook" || method == "url"):
		args = append(args, "-verify", method)
	case method == "hook" || method == "url":
		args = append(args, method)
	}
	p := start(t, t.TempDir(), []string{"WEBHOOK_SECRET=" + secret, "PORT=0"}, name, args...)
	p.shows(t, "/webhooks")
	_, target, _ := strings.Cut(p.text(), "receiving on ")
	target, _, _ = strings.Cut(target, "\n")
	token := target
	if method == "url" {
		token += "?token=" + secret
	}
	send(t, http.MethodPatch, url+"/api/v1/subscriptions/"+made.ID, key, map[string]any{"target_url": token, "active": true}, nil)
	post(t, url+"/api/v1/events", key, map[string]any{"type": "verify." + method, "data": map[string]any{"name": "ü"}}, nil)
	p.shows(t, "received evt_")
	send(t, http.MethodDelete, url+"/api/v1/subscriptions/"+made.ID, key, nil, nil)

	forged, err := http.Post(target, "application/json", strings.NewReader(`{"forged":true}`))
	if err != nil {
		t.Fatal(err)
	}
	forged.Body.Close()
	if forged.StatusCode != http.StatusUnauthorized || strings.Contains(p.text(), "forged") && !strings.Contains(p.text(), "refused") {
		t.Errorf("a forged delivery is answered %s:\n%s", forged.Status, p.text())
	}
}

// TestReceivers_RequireSecret starts each receiver without one: it would accept anyone's
// deliveries.
func TestReceivers_RequireSecret(t *testing.T) {
	t.Parallel()
	for _, c := range receivers {
		t.Run(c.language, func(t *testing.T) {
			name, args := c.program(t)
			for _, try := range []struct{ secret, method, says string }{
				{"", "", "a secret is needed"}, {"", "url", "a secret is needed"}, {"x", "hok", `"hok" is not known`},
			} {
				with := args
				if c.language == "Go" && try.method != "" {
					with = append(with, "-verify")
				}
				if try.method != "" {
					with = append(with, try.method)
				}
				ctx, cancel := context.WithTimeout(t.Context(), testkit.Timeout)
				program := exec.CommandContext(ctx, name, with...)
				program.Env = append(os.Environ(), "WEBHOOK_SECRET="+try.secret, "PORT=0")
				out, err := program.CombinedOutput()
				cancel()
				if exit := (*exec.ExitError)(nil); !errors.As(err, &exit) || ctx.Err() == context.DeadlineExceeded || !strings.Contains(string(out), try.says) {
					t.Errorf("%q %q: %v\n%s", try.secret, try.method, err, out)
				}
			}
		})
	}
}

// TestReceivers_ConfirmIntent sends each receiver both intent verification requests before
// events come.
func TestReceivers_ConfirmIntent(t *testing.T) {
	t.Parallel()
	url, key := running(t)
	for _, c := range receivers {
		for _, tc := range []struct{ mode, shown string }{{"hook-secret", "confirmed"}, {"cloudevents", "allowed"}} {
			t.Run(c.language+" "+tc.mode, func(t *testing.T) {
				name, args := c.program(t)
				p := start(t, t.TempDir(), []string{"WEBHOOK_SECRET=whsec_c3dpdGNoaG9vay1leGFtcGxlLXNlY3JldA==", "PORT=0"}, name, args...)
				p.shows(t, "/webhooks")
				_, target, _ := strings.Cut(p.text(), "receiving on ")
				target, _, _ = strings.Cut(target, "\n")
				var made struct{ ID string }
				post(t, url+"/api/v1/subscriptions", key, map[string]any{
					"event": "consent", "target_url": target, "secret": "whsec_c3dpdGNoaG9vay1leGFtcGxlLXNlY3JldA==", "verify": tc.mode,
				}, &made)
				p.shows(t, tc.shown)
				waitFor(t, func() bool {
					var sub struct{ Active bool }
					get(t, url+"/api/v1/subscriptions/"+made.ID, key, &sub)
					return sub.Active
				}, func() string { return "the subscription does not become active" })
				post(t, url+"/api/v1/events", key, map[string]any{"type": "consent", "data": 1}, nil)
				p.shows(t, "received evt_")
				send(t, http.MethodDelete, url+"/api/v1/subscriptions/"+made.ID, key, nil, nil)
			})
		}
	}
}

func absolute(t *testing.T, path string) string {
	t.Helper()
	path, err := filepath.Abs(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Fatal(err)
	}
	return path
}

func post(t *testing.T, url, key string, body, into any) {
	t.Helper()
	send(t, http.MethodPost, url, key, body, into)
}

// send sends a request to the router's API that must succeed.
func send(t *testing.T, method, url, key string, body, into any) {
	t.Helper()
	text, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(t.Context(), method, url, bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+key)
	req.Header.Set("Content-Type", "application/json")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode >= 300 {
		t.Fatalf("%s %s: %s %v\n%s", method, url, res.Status, err, answer)
	}
	if into != nil {
		if err := json.Unmarshal(answer, into); err != nil {
			t.Fatal(err)
		}
	}
}
