package outbound

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"switchhook/engine"
)

func TestBodyTemplate_Render(t *testing.T) {
	s := &engine.Subscription{ID: 1 << 60, TargetURL: "https://example.com/?a=1&b=<2>", Events: []string{"user.*", "order.*"}, Account: "acme"}
	at := time.Date(2026, 1, 31, 9, 30, 0, 250e6, time.UTC)
	cases := []struct{ name, template, data, want string }{
		{"an envelope", `{"hook":{"id":"$subscription.id","event":"$event.type","target":"$subscription.target_url"},"data":"$event.data"}`, `{"a": 1.0}`,
			`{"hook":{"id":"sub_2000000000000","event":"order.created","target":"https://example.com/?a=1&b=<2>"},"data":{"a": 1.0}}`},
		{"members spread in place", `{"id":"$subscription.id","...":"$event.data","z":1}`, `{ "a" : 1e2 , "b":"\u00fc" }`,
			`{"id":"sub_2000000000000","a" : 1e2 , "b":"\u00fc","z":1}`},
		{"an empty object spreads to nothing", `{"...":"$event.data","z":"$event.type"}`, `{ }`, `{"z":"order.created"}`},
		{"an empty object between two", `{"y":"$event.type","...":"$event.data","z":1}`, `{}`, `{"y":"order.created","z":1}`},
		{"an empty object at the end", `{"y":1,"...":"$event.data"}`, `{}`, `{"y":1}`},
		{"data that is not an object is put under data", `{"e":"$event.type","...":"$event.data"}`, `[1, 2]`, `{"e":"order.created","data":[1, 2]}`},
		{"the template's own members win", `{"event":"$event.type","...":"$event.data"}`, `{"a":1,"event":"forged","\u0065vent2":2}`, `{"event":"order.created","a":1,"event2":2}`},
		{"data whose only member is the template's", `{"event":1,"...":"$event.data","z":2}`, `{"event":"forged"}`, `{"event":1,"z":2}`},
		{"data alone", `"$event.data"`, `12345678901234567890.10`, `12345678901234567890.10`},
		{"in arrays", `[["$event.type"],{"a":["$event.data",[],{}]},null]`, `"x"`, `[["order.created"],{"a":["x",[],{}]},null]`},
		{"everything there is", `["$event.id","$event.time","$event.account","$subscription.event","$subscription.account"]`, `1`,
			`["order-17","2026-01-31T09:30:00.25Z","acme","order.*","acme"]`},
		{"an escaped dollar", `{"a":"$$event.data","b":"costs $5"}`, `1`, `{"a":"$event.data","b":"costs $5"}`},
	}
	for _, c := range cases {
		tmpl, err := CompileBodyTemplate([]byte(c.template))
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		ev := &engine.Event{ID: 5, Key: "order-17", Type: "order.created", Account: "acme", Time: at, Data: []byte(c.data)}
		got := string(tmpl.render(ev, s))
		// URLs come as encoding/json quotes them, with "&" and "<" escaped or not.
		if unescape := strings.NewReplacer(`\u0026`, "&", `\u003c`, "<", `\u003e`, ">"); unescape.Replace(got) != c.want {
			t.Errorf("%s:\n got %s\nwant %s", c.name, got, c.want)
		}
		if !json.Valid([]byte(got)) {
			t.Errorf("%s: no JSON: %s", c.name, got)
		}
	}
}

func TestBodyTemplate_RejectsInvalid(t *testing.T) {
	cases := []struct {
		template string
		want     [2]string
	}{
		{`{`, [2]string{"", "not JSON"}},
		{`{"a":1,"a":2}`, [2]string{"", "twice"}},
		{`{"a":{"b":"$event.tpye"}}`, [2]string{"a.b", `did you mean "$event.type"`}},
		{`["$secret"]`, [2]string{"[]", "is not a placeholder; there is $event and $subscription"}},
		{`{"a":"Order $event.id"}`, [2]string{"a", "must be the whole text"}},
		{`{"...":"$event.type"}`, [2]string{"...", "must be"}},
		{`{"...":{}}`, [2]string{"...", "must be"}},
		{`{"...":"$event.data","data":1}`, [2]string{"...", `with a member "data"`}},
		{`"` + strings.Repeat("x", maxTemplateBytes) + `"`, [2]string{"", "are allowed"}},
	}
	for _, c := range cases {
		_, err := CompileBodyTemplate([]byte(c.template))
		e, _ := err.(*engine.Error)
		if e == nil || e.Code != engine.CodeInvalid || e.Field != c.want[0] || !strings.Contains(e.Message, c.want[1]) {
			t.Errorf("%.60s: got %v", c.template, err)
		}
	}
}

// For any data the body is JSON, and the template's members have the template's values.
func FuzzBodyTemplate(f *testing.F) {
	for _, data := range []string{`{}`, `{"event":"x"}`, `[1]`, ` {"a":{"event":1}} `, `"\ud800"`, `null`} {
		f.Add(data)
	}
	tmpl, err := CompileBodyTemplate([]byte(`{"event":"$event.type","...":"$event.data","n":[{"...":"$event.data"}]}`))
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, data string) {
		if !json.Valid([]byte(data)) {
			return
		}
		got := tmpl.render(&engine.Event{Type: "order.created", Data: []byte(data)}, &engine.Subscription{})
		var read struct{ Event string }
		if err := json.Unmarshal(got, &read); err != nil {
			t.Fatalf("%q: %v: %s", data, err, got)
		}
		if read.Event != "order.created" && !strings.Contains(strings.ToLower(data), "event") {
			t.Fatalf("%q: %s", data, got)
		}
	})
}
