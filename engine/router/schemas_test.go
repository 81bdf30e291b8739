package router_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"switchhook/engine"
	"switchhook/engine/catalog"
	"switchhook/engine/ingest"
	"switchhook/engine/router/routertest"
	"switchhook/storage/sqlite"
)

// doubling is a schema whose references double 40 times.
func doubling() string {
	var b strings.Builder
	for i := range 40 {
		fmt.Fprintf(&b, `"d%d":{"allOf":[{"$ref":"#/$defs/d%d"},{"$ref":"#/$defs/d%d"}]},`, i, i+1, i+1)
	}
	return `{"$ref":"#/$defs/d0","$defs":{` + b.String() + `"d40":{}}}`
}

// A schema that an earlier version accepted must neither occupy a core nor prevent the start.
func TestSchema_StoredCostlySchemas(t *testing.T) {
	t.Parallel()
	r := start(t, nil)
	ctx := context.Background()
	r.stop()
	store, err := sqlite.Open(ctx, sqlite.Options{Path: r.Path, Logger: routertest.Quiet})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, source string }{{"doubling.one", doubling()}, {"broken.one", `{"maximum":1e999999999}`}, {"good.one", `{"type":"object"}`}} {
		if err := store.PutEventType(ctx, &engine.EventType{Name: c.name, Schema: []byte(c.source), Version: 1}); err != nil {
			t.Fatal(err)
		}
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	r.Open()
	for _, c := range []struct{ name, want string }{{"doubling.one", "too many steps"}, {"broken.one", "can't be used"}} {
		if _, err := r.Publish(ctx, []engine.EventInput{event(c.name, `{"a":1}`)}); engine.ErrorCode(err) != engine.CodeInvalid || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	r.publish("good.one", `{}`)
	if _, _, err := r.PutEventType(ctx, &engine.EventType{Name: "doubling.two", Schema: []byte(doubling())}, false, catalog.AnyVersion); engine.ErrorCode(err) != engine.CodeInvalid || !strings.Contains(err.Error(), "more than 10000 subschemas") {
		t.Errorf("registered: %v", err)
	}
	if _, _, err := r.PutEventType(ctx, &engine.EventType{Name: "broken.one", Schema: []byte(`{"maximum":1e9}`)}, false, catalog.AnyVersion); err != nil {
		t.Error(err)
	}
	r.publish("broken.one", `7`)

	// All events of a request share the time, and a stop waits for none of it.
	many := make([]engine.EventInput, ingest.MaxBatch)
	for i := range many {
		many[i] = event("doubling.one", `{"a":1}`)
	}
	if _, err := r.Publish(ctx, many); engine.ErrorCode(err) != engine.CodeInvalid {
		t.Error(err)
	}
	ended, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := r.Publish(ended, []engine.EventInput{event("good.one", `{}`)}); engine.ErrorCode(err) != engine.CodeUnavailable {
		t.Errorf("of a request that has ended: %v", err)
	}
}
