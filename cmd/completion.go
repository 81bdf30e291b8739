package cmd

import (
	"fmt"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
)

// completeWord is the hidden first argument of the shells' completion scripts. The words of
// the command line follow it; the last one may be incomplete.
const completeWord = "__complete"

type completionCommand struct {
	Shell string `arg:"" help:"bash, zsh or fish." enum:"bash,zsh,fish"`
}

// Help implements kong.HelpProvider.
func (*completionCommand) Help() string {
	return `The first command is for this shell only, the second for every new one:

  bash: source <(switchhook completion bash)
        switchhook completion bash > ~/.local/share/bash-completion/completions/switchhook
  zsh:  source <(switchhook completion zsh)
        switchhook completion zsh > "${fpath[1]}/_switchhook"
  fish: switchhook completion fish | source
        switchhook completion fish > ~/.config/fish/completions/switchhook.fish`
}

var completionScripts = map[string]string{
	"bash": `_switchhook() {
  local IFS=$'\n'
  COMPREPLY=($(switchhook __complete "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null))
}
complete -o bashdefault -o default -F _switchhook switchhook
`,
	"zsh": `#compdef switchhook
_switchhook() {
  local -a found
  found=("${(@f)$(switchhook __complete "${(@)words[2,CURRENT]}" 2>/dev/null)}")
  if [[ -n "${found[*]}" ]]; then compadd -- $found; else _files; fi
}
if [[ "${funcstack[1]}" = _switchhook ]]; then _switchhook "$@"; else compdef _switchhook switchhook; fi
`,
	"fish": `function __switchhook_complete
    switchhook __complete (commandline -opc)[2..] (commandline -ct) 2>/dev/null
end
complete -c switchhook -n 'count (__switchhook_complete) >/dev/null' -f -a '(__switchhook_complete)'
`,
}

// Run prints the script.
func (c *completionCommand) Run() error {
	fmt.Print(completionScripts[c.Shell])
	return nil
}

// completions returns the possible values of the last word; none if it is free text or a
// file.
func completions(model *kong.Node, words []string) (found []string) {
	if len(words) == 0 {
		words = []string{""}
	}
	node, current, before := model, words[len(words)-1], words[:len(words)-1]
	for _, word := range before {
		for _, child := range node.Children {
			if child.Name == word && !child.Hidden {
				node = child
			}
		}
	}
	flags := map[string]*kong.Flag{}
	for _, group := range node.AllFlags(true) {
		for _, f := range group {
			flags["--"+f.Name] = f
		}
	}
	var all []string
	flag, _, _ := strings.Cut(current, "=")
	switch f, isFlag := flags[flag]; {
	case isFlag && flag != current: // --flag=val
		for _, value := range enumOf(f.Value) {
			all = append(all, flag+"="+value)
		}
	case strings.HasPrefix(current, "-"):
		for name := range flags {
			all = append(all, name)
		}
	default:
		if len(before) > 0 {
			if f := flags[before[len(before)-1]]; f != nil && !f.IsBool() {
				all = enumOf(f.Value)
				break
			}
		}
		for _, child := range node.Children {
			if !child.Hidden {
				all = append(all, child.Name)
			}
		}
		for _, p := range node.Positional {
			all = append(all, enumOf(p)...)
		}
	}
	for _, text := range all {
		if strings.HasPrefix(text, current) {
			found = append(found, text)
		}
	}
	slices.Sort(found)
	return found
}

// enumOf returns the values that a flag or argument allows, if it is an enum.
func enumOf(v *kong.Value) (values []string) {
	if v.Enum == "" {
		return nil
	}
	for _, value := range v.EnumSlice() {
		if value != "" {
			values = append(values, value)
		}
	}
	return values
}
