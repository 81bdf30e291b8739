package cmd

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestClient_RefusesOtherServersAnswers(t *testing.T) {
	t.Parallel()
	for _, answer := range []string{"", "<html>", "{}", "[]", "null"} {
		other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, answer) }))
		for _, args := range [][]string{{"send", "a.b"}, {"keys", "list"}, {"keys", "create", "x"}, {"scripts", "list"}, {"subscriptions", "list"}, {"replays", "list"}, {"replays", "show", "rpl_1"}, {"listen", "--addr", "127.0.0.1:0", "--subscribe", "*"}} {
			_, stderr, status := runIn(t, t.TempDir(), "", append(args, "--server", other.URL, "--key", "x")...)
			if status != 1 || !strings.Contains(stderr, other.URL+": the answer does not come from a Switchhook router") {
				t.Errorf("%q to %q: status %d, %s", answer, args, status, stderr)
			}
		}
		other.Close()
	}
}

// A terminal must not interpret what another server, or another user of the router, wrote.
func TestClient_TerminalControlsAreEscaped(t *testing.T) {
	t.Parallel()
	const evil = `\u001b]0;evil\u0007\u009b2J\u202e`
	entry := strings.ReplaceAll(`{"id":"EVIL","account":"EVIL","name":"EVIL","prefix":"EVIL","kind":"EVIL","status":"EVIL","scopes":["EVIL"],
		"subscription_ids":["EVIL"],"error":"EVIL","health":{"state":"EVIL"},"description":"EVIL","created_at":"2026-01-01T00:00:00Z"}`, "EVIL", evil)
	for _, args := range [][]string{{"send", "a.b"}, {"keys", "list"}, {"scripts", "list"}, {"subscriptions", "list"}, {"replays", "list"}, {"replays", "show", "rpl_1"}} {
		for _, status := range []int{200, 422} {
			other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.WriteHeader(status)
				switch {
				case status != 200:
					io.WriteString(w, `{"status":422,"code":"invalid_request","detail":"`+evil+`"}`)
				case r.Method == "GET" && args[len(args)-1] == "list":
					io.WriteString(w, `{"data":[`+entry+`],"next_cursor":null}`)
				default:
					io.WriteString(w, entry)
				}
			}))
			stdout, stderr, _ := runIn(t, t.TempDir(), "", append(args, "--server", other.URL, "--key", "x")...)
			other.Close()
			if out := stdout + stderr; strings.ContainsAny(out, "\x1b\x07\u009b\u202e") || !strings.Contains(out, `2J\u202e`) {
				t.Errorf("%q, status %d: %q", args, status, out)
			}
		}
	}
}

func TestCommandLine_UsageErrors(t *testing.T) {
	t.Parallel()
	used, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer used.Close()
	for _, c := range []struct {
		name string
		args []string
		want string
		code int
	}{
		{"no command", nil, "Usage: switchhook", 0},
		{"help", []string{"--help"}, "switchhook demo", 0},
		{"help of a command", []string{"serve", "--help"}, "SWITCHHOOK_ALLOW_TARGETS", 0},
		{"an unknown command", []string{"serv"}, "did you mean", 2},
		{"an unknown flag", []string{"serve", "--prot", "1"}, "unknown flag", 2},
		{"a bad address range", []string{"serve", "--allow-targets", "10.0.0.0/99"}, "--allow-targets", 2},
		{"a bad number", []string{"serve", "--subscription-in-flight", "0"}, "--subscription-in-flight is 0, must be 1 to", 2},
		{"a bad port", []string{"serve", "--listen", "127.0.0.1:99999", "--data", "/nonexistent/x"}, "--listen: \"127.0.0.1:99999\" has the port", 2},
		{"nothing to send", []string{"send", "--key", "x"}, "give an event type", 1},
		{"no router", []string{"send", "a.b", "--key", "x", "--server", "http://127.0.0.1:1"}, "is the router running?", 1},
		{"a bad payload", []string{"send", "a.b", "{", "--key", "x"}, "not JSON", 1},
		{"version, as a flag", []string{"--version"}, "switchhook " + Version, 0},
		{"version, in short", []string{"-v"}, "switchhook " + Version, 0},
		{"help, as a command", []string{"help"}, "switchhook demo", 0},
		{"help on a command", []string{"help", "keys", "create"}, "Purpose of the key", 0},
		{"a key without name", []string{"keys", "create"}, `"switchhook keys create --help"`, 2},
		{"no key", []string{"keys", "list"}, "switchhook-data/admin.key)", 1},
		{"no scheme", []string{"send", "a.b", "--key", "x", "--server", "localhost:8080"}, "write http://localhost:8080", 2},
		{"listen, no port", []string{"listen", "--addr", "127.0.0.1"}, "--addr: \"127.0.0.1\" is not an address with a port", 2},
		{"a filter of nothing", []string{"listen", "--filter", "true"}, "give --subscribe too", 2},
		{"a bad secret", []string{"listen", "--secret", "x"}, "--secret: must be", 2},
		{"a port in use", []string{"serve", "--listen", used.Addr().String()}, "is in use: is a router running already? --listen gives another address", 1},
		{"listen, in use", []string{"listen", "--addr", used.Addr().String()}, "is in use: is another receiver running already? --addr gives", 1},
		{"--listen of listen", []string{"listen", "--listen", "127.0.0.1"}, "--addr: \"127.0.0.1\" is not an address with a port", 2},
		{"--event-type", []string{"subscriptions", "list", "--event-type", "a.b", "--key", "x", "--server", "http://127.0.0.1:1"}, "is the router running?", 1},
		{"--event", []string{"replays", "start", "sub_1", "--event", "a.b", "--key", "x", "--server", "http://127.0.0.1:1"}, "is the router running?", 1},
		{"version", []string{"version"}, "switchhook " + Version, 0},
	} {
		cmd := command(c.args...)
		cmd.Dir = t.TempDir()
		out, err := cmd.CombinedOutput()
		if cmd.ProcessState.ExitCode() != c.code || !strings.Contains(string(out), c.want) {
			t.Errorf("%s: %v\n%s", c.name, err, out)
		}
	}
}

// A variable that is left in the environment must not overwrite files.
func TestForce_NotFromEnvironment(t *testing.T) {
	for _, args := range [][]string{{"backup", "b.db"}, {"restore", "b.db"}} {
		cmd := command(args...)
		cmd.Dir = t.TempDir()
		cmd.Env = append(cmd.Environ(), "SWITCHHOOK_FORCE=no-boolean") // if it is read, this is an invalid command line: 2
		if out, _ := cmd.CombinedOutput(); cmd.ProcessState.ExitCode() != 1 {
			t.Errorf("%s: %d\n%s", args, cmd.ProcessState.ExitCode(), out)
		}
	}
}
