package manifest

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"

	"switchhook/scripts/jsonindex"
	"switchhook/scripts/scripttest"
	"switchhook/scripts/suggest"
)

// caseFile lists the members of a test case file. Those that name scripts are for
// "switchhook test".
var caseFile = []string{"filter", "filter_source", "transform", "transform_source", "schema", "cases", "script cases"}

// readCases reads the cases of a file whose text, as JSON, is given.
func readCases(file string, text []byte, lineAt func(int) int, read func(string) ([]byte, error)) ([]scripttest.Case, error) {
	doc, err := jsonindex.Parse(text, jsonindex.Limits{NoDuplicates: true})
	if err != nil {
		line := 0
		if at, ok := errors.AsType[*jsonindex.SyntaxError](err); ok {
			line = lineAt(at.Offset)
		}
		return nil, &Problem{file, line, "not valid JSON: " + err.Error()}
	}
	root := doc.Root()
	if root.Kind() != jsonindex.Object {
		return nil, &Problem{file, 1, "must be an object with cases"}
	}
	for name, v := range root.Members() {
		if slices.Contains(caseFile, name) {
			continue
		}
		hint := ""
		if meant := suggest.Closest(name, caseFile); meant != "" {
			hint = fmt.Sprintf(": did you mean %q?", meant)
		}
		return nil, &Problem{file, lineAt(v.Offset()), fmt.Sprintf("%s is not known%s", name, hint)}
	}
	list := root.Get("cases")
	if !list.Exists() {
		list = root.Get("script cases")
	}
	if list.Kind() != jsonindex.Array {
		return nil, &Problem{file, 1, "cases is missing: give a list of them"}
	}
	whole := []byte{'['}
	for i, c := range list.Elements() {
		if i > 0 {
			whole = append(whole, ',')
		}
		one, err := withEventFile(c, read)
		if err != nil {
			return nil, &Problem{file, lineAt(c.Offset()), fmt.Sprintf("cases[%d].event.file %v", i, err)}
		}
		whole = append(whole, one...)
	}
	cases, err := scripttest.ParseCases(append(whole, ']'))
	if err == nil {
		return cases, nil
	}
	wrong := &Problem{File: file, Line: 1, Message: err.Error()}
	if at, ok := errors.AsType[*scripttest.ParseError](err); ok {
		if found := caseNumber.FindStringSubmatch(at.Path); found != nil {
			number, _ := strconv.Atoi(found[1])
			for i, c := range list.Elements() {
				if i == number {
					wrong.Line = lineAt(c.Offset())
				}
			}
		}
	}
	return nil, wrong
}

var caseNumber = regexp.MustCompile(`^cases\[(\d+)\]`)

// withEventFile returns a case with the event of the file that it names inserted.
func withEventFile(c jsonindex.Value, read func(string) ([]byte, error)) ([]byte, error) {
	named := c.Get("event").Get("file")
	if !named.Exists() {
		return c.Raw(), nil
	}
	text, err := read(named.Text())
	if err != nil {
		return nil, err
	}
	event, err := scripttest.ReadEvent(text)
	if err != nil {
		return nil, err
	}
	whole, members := map[string]json.RawMessage{}, map[string]json.RawMessage{}
	for name, v := range c.Members() {
		whole[name] = v.Raw()
	}
	stored, err := json.Marshal(event)
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(stored, &members); err != nil {
		return nil, err
	}
	for name, v := range c.Get("event").Members() {
		members[name] = v.Raw()
	}
	delete(members, "file")
	if event.Type == "" && !c.Get("event").Get("type").Exists() {
		delete(members, "type") // so that it is reported as missing
	}
	if whole["event"], err = json.Marshal(members); err != nil {
		return nil, err
	}
	return json.Marshal(whole)
}
