package cmd

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestTypes_WritesDeclarations(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/api/v1/event-types" || r.Header.Get("Authorization") != "Bearer k" {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		page := `{"data":[{"name":"a.one","description":"First.","schema":{"type":"object","properties":{"n":{"type":"number"}}},"samples":[]}],"next_cursor":"a.one"}`
		if r.URL.Query().Get("cursor") == "a.one" {
			page = `{"data":[{"name":"b.two","description":"","schema":null}],"next_cursor":null}`
		}
		fmt.Fprint(w, page)
	}))
	defer server.Close()
	dir := filepath.Join(t.TempDir(), "scripts")
	read := func(name string) string {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	c := typesCommand{Out: dir}
	if err := c.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(read("switchhook.d.ts"), "declare function drop") || !strings.Contains(read("tsconfig.json"), "es2022") {
		t.Error("the declarations are not there")
	}
	if err := os.WriteFile(filepath.Join(dir, "tsconfig.json"), []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	c = typesCommand{Out: dir, Server: server.URL, Key: "k"}
	if err := c.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	want := "interface SwitchhookEvents {\n  /** First. */\n  \"a.one\": {\n    n?: number\n  }\n  /** no schema is registered */\n  \"b.two\": any\n}\n"
	if got := read("events.d.ts"); !strings.HasSuffix(got, want) {
		t.Errorf("got %s", got)
	}
	if read("tsconfig.json") != "mine" {
		t.Error("the author's tsconfig.json was overwritten")
	}
	c.Key = "wrong"
	if err := c.Run(t.Context()); err == nil {
		t.Error("a refused key went unnoticed")
	}
}
