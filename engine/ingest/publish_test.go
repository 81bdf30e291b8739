package ingest

import (
	"errors"
	"slices"
	"testing"

	"switchhook/engine"
	"switchhook/scripts/jsonindex"
)

func TestValidateEvents_AllFieldsOfAllEvents(t *testing.T) {
	doc, err := jsonindex.Parse([]byte(`1`), jsonindex.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name   string
		inputs []engine.EventInput
		want   []string
	}{
		{"one event", []engine.EventInput{{ID: "a b"}}, []string{"type required", "data required", "id invalid"}},
		{"valid", []engine.EventInput{{Type: "a", Data: doc.Root()}}, nil},
		{
			"list",
			[]engine.EventInput{{Type: "a b", Data: doc.Root()}, {Type: "a", Data: doc.Root()}, {Type: "switchhook.x"}},
			[]string{"events[0].type invalid", "events[2].data required", "events[2].type not_allowed"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got []string
			var wrong *engine.Error
			if errors.As(validateEvents(c.inputs), &wrong) {
				for _, f := range wrong.Fields() {
					got = append(got, f.Field+" "+string(f.Code))
				}
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}
