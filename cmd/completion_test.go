package cmd

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestCompletions(t *testing.T) {
	t.Parallel()
	parser := newParser(new(commands))
	for _, c := range []struct{ line, want string }{
		{"", "accounts apply backup completion demo keys listen preview replays restore scripts secrets send serve subscriptions test types version"},
		{"s", "scripts secrets send serve subscriptions"},
		{"scripts ", "compare diff list live pull push rollback shadow"},
		{"scripts --key x sh", "shadow"},
		{"scripts shadow ", "show start stop"},
		{"serve --log-f", "--log-format"},
		{"serve --log-format ", "console json text"},
		{"serve --log-format=j", "--log-format=json"},
		{"serve --dev --log-level", "--log-level"},
		{"serve --data ", ""},
		{"completion ", "bash fish zsh"},
		{"keys create x --acc", "--account"},
		{"scripts push a b --se", "--server"},
		{"serve --dev ", ""},
		{"nothing ", "accounts apply backup completion demo keys listen preview replays restore scripts secrets send serve subscriptions test types version"},
		{"send order.created -- --x", ""},
	} {
		if got := strings.Join(completions(parser.Model.Node, strings.Split(c.line, " ")), " "); got != c.want {
			t.Errorf("%q: %s", c.line, got)
		}
	}
}

func TestCompletionScripts(t *testing.T) {
	t.Parallel()
	bin := t.TempDir()
	if err := os.WriteFile(filepath.Join(bin, "switchhook"), fmt.Appendf(nil, "#!/bin/sh\nexec %s \"$@\"\n", program), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct{ shell, lines string }{
		{"bash", `eval "$(switchhook completion bash)"; COMP_WORDS=(switchhook scripts sh); COMP_CWORD=2; _switchhook; echo "${COMPREPLY[@]}"`},
		{"zsh", `autoload -U compinit; compinit -u -D; source <(switchhook completion zsh); words=(switchhook scripts sh) CURRENT=3; compadd() { shift; echo $@ }; _switchhook`},
		{"fish", `switchhook completion fish | source; complete -C "switchhook scripts sh"`},
	} {
		if _, err := exec.LookPath(tc.shell); err != nil {
			t.Logf("%s is not installed", tc.shell)
			continue
		}
		c := exec.Command(tc.shell, "-c", tc.lines)
		c.Env = append(os.Environ(), asSwitchhook+"=1", "PATH="+bin+":"+os.Getenv("PATH"), "HOME="+bin)
		if out, err := c.CombinedOutput(); err != nil || strings.TrimSpace(string(out)) != "shadow" {
			t.Errorf("%s: %v %q", tc.shell, err, out)
		}
	}
}
