package cmd

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"switchhook/engine/testkit"
	"syscall"
	"testing"
	"time"

	"github.com/alecthomas/kong"
)

// parseValues parses a command line as Main does, but runs nothing.
func parseValues(parser *kong.Kong, args []string) error {
	kong.Visit(parser.Model, func(v kong.Visitable, next kong.Next) error {
		if flag, ok := v.(*kong.Flag); ok {
			flag.Set = false // by the previous parse
		}
		return next(nil)
	})
	parsed, err := parser.Parse(args)
	if err == nil {
		err = checkValues(parsed)
	}
	return err
}

// commandLines calls each with every value of every command, and a function that returns
// the command line with a text for that value.
func commandLines(model *kong.Application, each func(name string, v *kong.Value, args func(text string) []string)) {
	for _, leaf := range model.Leaves(false) {
		path := strings.Fields(leaf.Path())
		var values []*kong.Value
		for node := leaf; node != nil; node = node.Parent {
			values = append(values, node.Values()...)
		}
		for _, v := range values {
			if v.Name == "help" {
				continue
			}
			each(leaf.Path()+" "+valueName(v), v, func(text string) []string {
				args := slices.Clone(path)
				for _, p := range leaf.Positional {
					switch {
					case p == v:
						args = append(args, "--", text)
					case p.Required || v.Flag == nil && p.Position < v.Position:
						args = append(args, sample(p))
					}
				}
				for _, other := range values {
					if other != v && other.Flag != nil && other.Required {
						args = append(args[:len(path):len(path)], append([]string{"--" + other.Name + "=" + sample(other)}, args[len(path):]...)...)
					}
				}
				if v.Flag != nil {
					args = append(args, "--"+v.Name+"="+text)
				}
				return args
			})
		}
	}
}

func sample(v *kong.Value) string {
	if v.Target.CanInt() {
		return "1"
	}
	return "x"
}

// badValues returns texts that no value of this type may have.
func badValues(t *testing.T, name string, v *kong.Value) []string {
	kind := v.Target.Type()
	for kind.Kind() == reflect.Slice || kind.Kind() == reflect.Pointer {
		kind = kind.Elem()
	}
	bad := []string{"", " "}
	switch {
	case kind == reflect.TypeFor[time.Duration]():
		least, err1 := time.ParseDuration(v.Tag.Get("min"))
		most, err2 := time.ParseDuration(v.Tag.Get("max"))
		if err1 != nil || err2 != nil || least < 0 || most <= least {
			t.Errorf("%s has no bounds: min:%q max:%q", name, v.Tag.Get("min"), v.Tag.Get("max"))
		}
		return append(bad, "x", "5", "-1s", "-1ns", "999999999h", "-9223372036854775808ns", "9223372036854775807ns", (least - 1).String(), (most + 1).String(), "1e999h", "NaNs")
	case v.Tag.Has("min") || kind.Kind() == reflect.Int || kind.Kind() == reflect.Int64 || kind.Kind() == reflect.Uint16:
		if kind.String() == "slog.Level" {
			return append(bad, "loud", "info+x")
		}
		least, err1 := strconv.ParseInt(v.Tag.Get("min"), 10, 64)
		most, err2 := strconv.ParseInt(v.Tag.Get("max"), 10, 64)
		if err1 != nil || err2 != nil || least < 0 || most <= least {
			t.Errorf("%s has no bounds: min:%q max:%q", name, v.Tag.Get("min"), v.Tag.Get("max"))
		}
		return append(bad, "x", "-1", "1.5", "1e999", "99999999999999999999", "-9223372036854775808", strconv.FormatInt(least-1, 10), strconv.FormatInt(most+1, 10), "٣")
	case kind.Kind() == reflect.Bool:
		return append(bad, "maybe", "2", strings.Repeat("x", 100_000))
	case kind == reflect.TypeFor[secret]():
		return append(bad, "\n", "abc\ndef", "a b", "a\tb", "a\x7fb", "clé", "\u200babc")
	}
	longest := maxValue
	if v.Tag.Has("maxlen") {
		longest, _ = strconv.Atoi(v.Tag.Get("maxlen"))
	}
	bad = append(bad, "\n", "\t ", strings.Repeat("x", longest+1))
	if !v.Tag.Has("multiline") {
		bad = append(bad, "a\nb", "a\x1b[31mb", "a\x00b")
	}
	if v.Enum != "" {
		bad = append(bad, "x")
	}
	return bad
}

func TestFlags_BadValuesAreRefusedByName(t *testing.T) {
	parser := newParser(new(commands), kong.Exit(func(int) {}))
	seen := 0
	commandLines(parser.Model, func(name string, v *kong.Value, args func(string) []string) {
		for _, text := range badValues(t, name, v) {
			seen++
			if err := parseValues(parser, args(text)); err == nil || !strings.Contains(err.Error(), valueName(v)) && !strings.Contains(err.Error(), "<"+v.Name+">") {
				t.Errorf("%s with %.60q: %v", name, text, err)
			} else if len(err.Error()) > 200_000 {
				t.Errorf("%s with %.60q: a message of %d bytes", name, text, len(err.Error()))
			}
			for _, variable := range v.Tag.Envs {
				if strings.ContainsRune(text, 0) {
					continue
				}
				os.Setenv(variable, text)
				unsetEmptyVariables()
				_, set := os.LookupEnv(variable)
				err := parseValues(parser, args("x")[:len(args("x"))-1])
				os.Unsetenv(variable)
				switch {
				case !set && err != nil && !v.Required:
					t.Errorf("%s with an empty %s: %v", name, variable, err)
				case set && (err == nil || !strings.Contains(err.Error(), variable) && !strings.Contains(err.Error(), valueName(v))):
					t.Errorf("%s from %s with %.60q: %v", name, variable, text, err)
				case set && v.Target.Type() == reflect.TypeFor[secret]() && strings.Contains(err.Error(), strings.TrimSpace(text)):
					t.Errorf("%s from %s: the message quotes the secret: %v", name, variable, err)
				}
			}
		}
	})
	if seen < 1000 {
		t.Errorf("only %d values were tried", seen)
	}
}

// Values that pass their types, but that no command can use.
func TestFlags_MalformedValuesAreRefusedByName(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"serve", "--listen", "8080"}, `--listen: "8080" is a port only: write 127.0.0.1:8080`},
		{[]string{"serve", "--listen", "::1"}, `--listen: "::1" is not an address with a port: write [::1]:8080`},
		{[]string{"serve", "--listen", "[::1]"}, `write [::1]:8080`},
		{[]string{"serve", "--listen", "localhost"}, `--listen: "localhost" is not an address with a port`},
		{[]string{"serve", "--listen", "http://127.0.0.1:8080"}, "--listen: "},
		{[]string{"serve", "--listen", "127.0.0.1:-1"}, "--listen: "},
		{[]string{"serve", "--listen", "127.0.0.1:"}, "--listen: "},
		{[]string{"serve", "--listen", "127.0.0.1:65536"}, "--listen: "},
		{[]string{"serve", "--listen", "127.0.0.1:http"}, "--listen: "},
		{[]string{"serve", "--listen", "nowhere.invalid:8080"}, "--listen: "},
		{[]string{"serve", "--metrics-listen", "9090"}, "--metrics-listen: "},
		{[]string{"serve", "--allow-targets", "10.0.0.0/8,,127.0.0.0/8"}, "--allow-targets is empty"},
		{[]string{"serve", "--allow-targets", "10.0.0.0/8,x"}, "--allow-targets: "},
		{[]string{"serve", "--deny-targets", "10.0.0.0/33"}, "--deny-targets: "},
		{[]string{"serve", "--trusted-proxies", "x"}, "--trusted-proxies: "},
		{[]string{"serve", "--target-proxy", "x"}, "--target-proxy: "},
		{[]string{"serve", "--cors-origins", "x"}, "--cors-origins: "},
		{[]string{"serve", "--dialects-builtin", "x"}, "--dialects-builtin: "},
		{[]string{"serve", "--dialects", filepath.Join(dir, "none")}, "--dialects: "},
		{[]string{"serve", "--retries", "1s,2s"}, "--retries "},
		{[]string{"serve", "--retries", "0s,1s,999ms"}, "--retries "},
		{[]string{"serve", "--retries", strings.Repeat("0s,", 50) + "0s"}, "--retries "},
		{[]string{"serve", "--keep-bytes", "5"}, "--keep-bytes "},
		{[]string{"serve", "--public-url", "x"}, "--public-url: "},
		{[]string{"serve", "--cloudevents-source", "a b"}, "--cloudevents-source: "},
		{[]string{"serve", "--webhook-origin", "a b"}, "--webhook-origin "},
		{[]string{"serve", "--otlp-endpoint", "x"}, "--otlp-endpoint"},
		{[]string{"serve", "--tls-cert", filepath.Join(dir, "none"), "--tls-key", "x"}, "--tls-"},
		{[]string{"serve", "--encryption-key", "x"}, "--encryption-key"},
		{[]string{"serve", "--encryption-key-file", filepath.Join(dir, "none")}, "--encryption-key-file"},
		{[]string{"serve", "--admin-key", "short"}, "--admin-key"},
		{[]string{"serve", "--data", "/dev/null/x"}, "--data"},
		{[]string{"serve", "--data", "/" + strings.Repeat("x", 4000)}, "--data"},
		{[]string{"listen", "--subscribe", "a", "--filter", "(("}, "--filter: "},
		{[]string{"listen", "--transform", filepath.Join(dir, "none")}, "--transform: "},
		{[]string{"listen", "--secret", "x"}, "--secret: "},
		{[]string{"listen", "--addr", "9000"}, "--addr: "},
		{[]string{"replays", "start", "sub_1", "--filter", "(("}, "--filter: "},
		{[]string{"replays", "start", "sub_1", "--since", "x"}, "--since: "},
		{[]string{"replays", "start", "sub_1", "--until", "-2h"}, "--until"},
		{[]string{"send", "a.b", "--server", "127.0.0.1:8080"}, "--server: "},
		{[]string{"send", "a.b", "--server", "http://127.0.0.1:99999"}, "--server: "},
		{[]string{"send", "a.b", "--server", "http://127.0.0.1:8080?x"}, "--server: "},
		{[]string{"send", "a.b", "--server", "http://"}, "--server: "},
		{[]string{"preview", "--filter", "true", "--event", "{}", "--target", "x"}, "--target: "},
		{[]string{"preview", "--filter", "true", "--event", "{}", "--type", "a b"}, "--type: "},
		{[]string{"test", "--run", "("}, "--run: "},
	} {
		args := c.args
		if args[0] == "serve" {
			if !slices.Contains(args, "--listen") {
				args = append(args, "--listen", "127.0.0.1:0")
			}
			if !slices.Contains(args, "--data") {
				args = append(args, "--data", filepath.Join(dir, "data"))
			}
		}
		cmd := command(args...)
		cmd.Dir = dir
		cmd.Env = append(cmd.Env, "SWITCHHOOK_KEY=test-key-0123456789")
		stop := time.AfterFunc(20*time.Second, func() { cmd.Process.Kill() }) // it serves
		out, err := cmd.CombinedOutput()
		stop.Stop()
		if code := cmd.ProcessState.ExitCode(); err == nil || code != 1 && code != usageStatus || !strings.Contains(string(out), c.want) {
			t.Errorf("%.200q: want %q: %v\n%.2000s", c.args, c.want, err, out)
		}
	}
}

// Secrets are read in the same way from every source.
func TestSecrets_TrimsWhiteSpace(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	c := command("serve", "--listen", "127.0.0.1:0", "--data", data)
	c.Env = append(c.Env, "SWITCHHOOK_ADMIN_KEY=test admin\nkey 0123456789")
	out, err := c.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "--admin-key (SWITCHHOOK_ADMIN_KEY) holds white space after 4 bytes") || strings.Contains(string(out), "0123456789") {
		t.Errorf("%v\n%s", err, out)
	}
	addr := testkit.FreeAddress(t)
	c = command("serve", "--listen", addr, "--data", data)
	c.Env, c.Stderr = append(c.Env, "SWITCHHOOK_ADMIN_KEY=\ufeff "+testKey+"\r\n", "SWITCHHOOK_DEV=", "SWITCHHOOK_TARGET_PORTS=", "SWITCHHOOK_KEEP_DEAD= "), os.Stderr
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	p := &process{Cmd: c, t: t, api: newClient("http://"+addr, testKey), ends: make(chan error, 1)}
	go func() { p.ends <- c.Wait() }()
	t.Cleanup(func() { c.Process.Kill() })
	testkit.WaitFor(t, "the router is ready", p.ready)

	folder := t.TempDir()
	if err := os.MkdirAll(filepath.Join(folder, "switchhook-data"), 0o700); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(folder, "switchhook-data", "admin.key")
	for _, call := range []struct{ variable, file, want string }{
		{"SWITCHHOOK_KEY=" + testKey + "\n", "", ""},
		{"SWITCHHOOK_KEY=\t" + testKey, "", ""},
		{"SWITCHHOOK_KEY=", " " + testKey + "\r\n", ""},
		{"SWITCHHOOK_KEY=", "\ufeff" + testKey, ""},
		{"SWITCHHOOK_KEY=" + testKey + "\n" + testKey, "", "--key (SWITCHHOOK_KEY) holds a line break after"},
		{"SWITCHHOOK_KEY=", testKey + "\n" + testKey, "admin.key holds a line break after"},
		{"SWITCHHOOK_KEY=", " \n", "admin.key is empty"},
	} {
		if err := os.WriteFile(file, []byte(call.file), 0o600); err != nil {
			t.Fatal(err)
		}
		c := command("keys", "list", "--server", p.api.URL)
		c.Dir, c.Env = folder, append(c.Env, call.variable)
		out, err := c.CombinedOutput()
		if (call.want == "") != (err == nil) || !strings.Contains(string(out), call.want) || strings.Contains(string(out), "is the router running") || call.want != "" && strings.Contains(string(out), testKey) {
			t.Errorf("%q, file %q: want %q: %v\n%s", call.variable, call.file, call.want, err, out)
		}
	}
	if err := p.end(syscall.SIGTERM); err != nil {
		t.Error(err)
	}
}

func TestServe_WarnsOfUnknownVariables(t *testing.T) {
	t.Parallel()
	log := &testkit.Buffer{}
	addr := testkit.FreeAddress(t)
	c := command("serve", "--listen", addr, "--data", t.TempDir())
	c.Env = append(c.Env, "SWITCHHOOK_ALOW_TARGETS=127.0.0.0/8", "SWITCHHOOK_QQQQQQQQQQQQ=1", "SWITCHHOOK_KEY=x", "SWITCHHOOK_EMPTY=",
		"SWITCHHOOK_SERVICE_HOST=10.0.0.1", "SWITCHHOOK_PORT=tcp://10.0.0.1:8080", "SWITCHHOOK_PORT_8080_TCP_ADDR=10.0.0.1", "SWITCHHOOK_METRICS_SERVICE_PORT_HTTP=1")
	c.Stderr = log
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	p := &process{Cmd: c, t: t, api: newClient("http://"+addr, testKey), ends: make(chan error, 1)}
	go func() { p.ends <- c.Wait() }()
	t.Cleanup(func() { c.Process.Kill() })
	testkit.WaitFor(t, "the router is ready", p.ready)
	if err := p.end(syscall.SIGTERM); err != nil {
		t.Error(err)
	}
	for _, want := range []string{`"variable":"SWITCHHOOK_ALOW_TARGETS, did you mean SWITCHHOOK_ALLOW_TARGETS?"`, `"variable":"SWITCHHOOK_QQQQQQQQQQQQ"`} {
		if !log.Contains(want) {
			t.Errorf("missing %s in\n%s", want, log)
		}
	}
	if n := strings.Count(log.String(), "environment variable without effect"); n != 2 {
		t.Errorf("%d warnings\n%s", n, log)
	}
}

// The allowed extremes work without an overflow.
func TestServe_LargestValuesWork(t *testing.T) {
	t.Parallel()
	var c commands
	for _, extreme := range []string{"min", "max"} {
		var flags []string
		for _, leaf := range newParser(&c).Model.Leaves(false) {
			if leaf.Name != "serve" {
				continue
			}
			for _, f := range leaf.Flags {
				// With this little free space nothing is accepted, and this many processes
				// cannot be started.
				if !f.Tag.Has("min") || f.Name == "min-free-disk" && extreme == "max" || f.Name == "sandbox-processes" {
					continue
				}
				value := f.Tag.Get(extreme)
				switch {
				case f.Name == "retries" && extreme == "min":
					value = "0s,1s"
				case f.Name == "retries":
					value = "0s," + value
				case f.Name == "target-ports":
					value = "80," + value
				}
				flags = append(flags, fmt.Sprintf("--%s=%s", f.Name, value))
			}
		}
		sink := testkit.NewReceiver(t, nil)
		p := serve(t, t.TempDir(), flags...)
		subscribeCounter(t, p, sink)
		deliver(t, p, sink, 10)
		if extreme == "max" { // the drain time is 1 ms with the minimum values
			if err := p.end(syscall.SIGTERM); err != nil {
				t.Errorf("%s: %v", extreme, err)
			}
		}
	}
}
