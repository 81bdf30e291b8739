package manifest

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"switchhook/engine"
	"switchhook/scripts/scripttest"
	"switchhook/server/api"
	"switchhook/server/wire"
)

func TestMain(m *testing.M) {
	fingerprintRounds = 100
	os.Exit(m.Run())
}

// routed returns the state of a router after set was applied.
func routed(t *testing.T, set *Set) *State {
	t.Helper()
	state := &State{}
	for _, e := range set.EventTypes {
		c := e.EventType
		state.EventTypes = append(state.EventTypes, &c)
	}
	for i, s := range set.Scripts {
		state.Scripts = append(state.Scripts, &LiveScript{Script: *s, ID: fmt.Sprintf("scr_%d", i), Managed: true})
	}
	for i, s := range set.Subscriptions {
		live := &api.Subscription{}
		text, err := json.Marshal(s.SubscriptionRequest)
		if err == nil {
			err = json.Unmarshal(text, live)
		}
		if err != nil {
			t.Fatal(err)
		}
		live.ID, live.Active = fmt.Sprintf("sub_%d", i), s.Active.Or(true)
		live.Metadata = map[string]any{NameKey: s.Name, "client": map[string]any{"site_id": 5}}
		for name, value := range s.Metadata.Or(nil) {
			live.Metadata[name] = *value
		}
		if secret := s.HiddenHeaders(); len(secret) > 0 {
			for name := range secret {
				live.Headers[name] = hidden
			}
			live.Metadata[HeadersKey], _ = Fingerprint(secret, "")
		}
		state.Subscriptions = append(state.Subscriptions, live)
	}
	return state
}

func loaded(t *testing.T, token string) *Set {
	t.Helper()
	files := map[string]string{}
	for name, text := range good {
		files[name] = strings.ReplaceAll(text, "{name: text, version: 3}", "text")
	}
	set, err := Load(folder(t, files), "", environment(map[string]string{"ROOM": "r1", "TOKEN": token}))
	if err != nil {
		t.Fatal(err)
	}
	return set
}

func outline(p *Plan) string {
	var b strings.Builder
	for _, s := range p.Steps {
		if s.Action != Unchanged {
			fmt.Fprintf(&b, "%s %s %s\n%s\n", s.Action, s.What, s.Name, s.Diff)
		}
	}
	return strings.TrimSpace(b.String())
}

func TestNewPlan(t *testing.T) {
	both, turned := []string{"standard", "x-hook-signature"}, []string{"x-hook-signature", "standard"}
	cloudEvents, hookSecret := string(engine.VerifyCloudEvents), string(engine.VerifyHookSecret)
	for name, c := range map[string]struct {
		change func(set *Set, state *State) // after set was applied
		prune  bool
		want   string
	}{
		"the same again is nothing":          {func(*Set, *State) {}, true, ""},
		"an empty router gets all, in order": {func(_ *Set, s *State) { *s = State{} }, false, "create event type order.created\n\ncreate event type order.paid\n\ncreate script large\n\ncreate script text\n\ncreate subscription chat\n\ncreate subscription all"},
		"the layout of a schema is nothing":  {func(_ *Set, s *State) { s.EventTypes[1].Schema = []byte("{\n\"type\" : \"object\"}") }, false, ""},
		"a description":                      {func(s *Set, _ *State) { s.EventTypes[1].Description = "Paid" }, false, "change event type order.paid\n+ description: Paid\n  schema:\n"},
		"a source":                           {func(s *Set, _ *State) { s.Scripts[1].Source = "export default e => 1\n" }, false, "change script text\n  source:\n-   export default e => e.data\n+   export default e => 1"},
		"cases":                              {func(s *Set, _ *State) { s.Scripts[0].Cases = nil }, false, "change script large\n"},
		"what is gone stays":                 {func(s *Set, _ *State) { s.Subscriptions, s.Scripts = nil, s.Scripts[1:] }, false, ""},
		"what is gone goes with prune":       {func(s *Set, _ *State) { s.Subscriptions, s.Scripts = nil, s.Scripts[1:] }, true, "delete subscription chat\n\ndelete subscription all\n\ndelete script large"},
		"what others made stays": {func(s *Set, st *State) {
			s.Scripts, s.Subscriptions = nil, s.Subscriptions[1:]
			st.Scripts[0].Managed, st.Scripts[1].Managed, st.Subscriptions[0].Metadata[NameKey] = false, false, ""
		}, true, ""},
		"event types are shared, so they stay":  {func(s *Set, _ *State) { s.EventTypes = nil }, true, ""},
		"deactivated by the router stays so":    {func(_ *Set, s *State) { s.Subscriptions[1].Active = false }, false, ""},
		"active is deactivated":                 {func(_ *Set, s *State) { s.Subscriptions[0].Active = true }, false, "- active: true\n+ active: false"},
		"a hidden header from before":           {func(_ *Set, s *State) { delete(s.Subscriptions[0].Metadata, HeadersKey) }, false, "- headers.authorization: [hidden]\n+ headers.authorization: [hidden; not known to be the same]"},
		"a header that is not there":            {func(_ *Set, s *State) { delete(s.Subscriptions[0].Headers, "authorization") }, false, "+ headers.authorization: [hidden]"},
		"a header that is not visible any more": {func(s *Set, _ *State) { s.Subscriptions[0].VisibleHeaders = api.Null[[]string]() }, false, "+ headers.X-Plain: [hidden"},
		"a header in another case": {func(_ *Set, s *State) {
			s.Subscriptions[0].Headers["X-PLAIN"] = s.Subscriptions[0].Headers["X-Plain"]
			delete(s.Subscriptions[0].Headers, "X-Plain")
		}, false, "- headers.X-PLAIN: costs ${3}\n+ headers.X-Plain: costs ${3}"},
		"another value from the environment": {func(_ *Set, s *State) { s.Subscriptions[0].TargetURL = "https://example.com/secret" }, false, "- target_url: [another value]\n+ target_url: https://example.com/${ROOM}"},
		"other metadata": {func(_ *Set, s *State) {
			s.Subscriptions[0].Metadata = map[string]any{NameKey: "chat", HeadersKey: s.Subscriptions[0].Metadata[HeadersKey], "old": "x"}
		}, false, "- metadata.old: x\n+ metadata.team: north"},
		"a script in place of an inline filter": {func(s *Set, _ *State) {
			s.Subscriptions[1].Filter, s.Subscriptions[1].FilterScript = api.Null[string](), api.Some(api.ScriptRef{Name: "large", Version: new(2)})
		}, false, "- filter: data.total > 1\n+ filter_script: large, version 2"},
		"a policy that is gone": {func(_ *Set, s *State) {
			s.Subscriptions[1].Policy = wire.FromPolicy(&engine.Policy{Timeout: 90 * time.Second, Rate: engine.Rate{Count: 5, Per: time.Second}})
		}, false, "- policy.rate.count: 5\n- policy.rate.per: 1s\n- policy.timeout: 90s"},
		"a policy that is new": {func(s *Set, _ *State) {
			s.Subscriptions[1].Policy = api.Some(wire.FromPolicy(&engine.Policy{Retries: engine.RetrySchedule{0, time.Minute}, InFlight: 3, Ordering: "key", OrderingKey: "data.id", GiveUpAfter: time.Hour}))
		}, false, "- policy.ordering: none\n+ policy.give_up_after: 1h\n+ policy.in_flight: 3\n+ policy.ordering: key\n+ policy.ordering_key: data.id\n+ policy.retries: 0s, 1m"},
		"batches": {func(s *Set, st *State) {
			s.Subscriptions[1].Batch, st.Subscriptions[1].Batch = wire.FromBatch(engine.Batch{Size: 10, Wait: time.Second}), wire.FromBatch(engine.Batch{Size: 10})
		}, false, "  batch.size: 10\n+ batch.wait: 1s"},
		"debouncing": {func(s *Set, _ *State) {
			s.Subscriptions[1].Debounce = wire.FromDebounce(engine.Debounce{Within: time.Second})
		}, false, "+ debounce.within: 1s"},
		"numbers":    {func(s *Set, _ *State) { s.Subscriptions[1].Numbered = api.Some(true) }, false, "+ numbered: true"},
		"signatures": {func(s *Set, _ *State) { s.Subscriptions[1].Signatures = api.Some(both) }, false, "+ signatures: standard, x-hook-signature"},
		"signatures turned": {func(s *Set, st *State) {
			s.Subscriptions[1].Signatures, st.Subscriptions[1].Signatures = api.Some(both), turned
		}, false, ""},
		"the standard signature": {func(_ *Set, st *State) { st.Subscriptions[1].Signatures = both[:1] }, false, ""},
		"a verification":         {func(s *Set, _ *State) { s.Subscriptions[1].Verify = api.Some(cloudEvents) }, false, "+ verify: cloudevents"},
		"a stricter verification stays": {func(s *Set, st *State) {
			s.Subscriptions[1].Verify, st.Subscriptions[1].Verification = api.Some(hookSecret), &api.Verification{Mode: cloudEvents}
		}, false, ""},
		"a verification that is there stays":   {func(_ *Set, st *State) { st.Subscriptions[1].Verification = &api.Verification{Mode: cloudEvents} }, false, ""},
		"a verification of an event type goes": {func(_ *Set, st *State) { st.EventTypes[0].Verify = cloudEvents }, false, "- verify: cloudevents"},
		"who waits for its target is as it should be": {func(s *Set, st *State) {
			s.Subscriptions[1].Active, st.Subscriptions[1].Active = api.Some(true), false
			s.Subscriptions[1].Verify, st.Subscriptions[1].Verification = api.Some(hookSecret), &api.Verification{Mode: hookSecret, State: "pending"}
		}, false, ""},
		"a script of the router":       {func(s *Set, _ *State) { s.Scripts = nil }, false, ""},
		"a script of nowhere":          {func(s *Set, _ *State) { s.Subscriptions[0].FilterScript = api.Some(api.ScriptRef{Name: "lagre"}) }, false, `names no script of this folder or of the router: "lagre": did you mean "large"?`},
		"a script of another kind":     {func(s *Set, _ *State) { s.Subscriptions[0].FilterScript = api.Some(api.ScriptRef{Name: "text"}) }, false, `names "text", which is a transform`},
		"a script of another account":  {func(s *Set, st *State) { s.Subscriptions[0].Account = "acme" }, false, "names no script"},
		"a kind that changes":          {func(_ *Set, s *State) { s.Scripts[0].Kind = "transform" }, false, "a script's kind can't be changed"},
		"one name twice on the router": {func(_ *Set, s *State) { s.Subscriptions[1].Metadata[NameKey] = "chat" }, false, "the router has two subscriptions"},
		"cases that only look different": {func(_ *Set, s *State) {
			s.Scripts[0].Cases = []scripttest.Case{s.Scripts[0].Cases[0]}
			s.Scripts[0].Cases[0].Event.Data = []byte(`{ "id": 1, "total": 2 }`)
		}, false, ""},
	} {
		t.Run(name, func(t *testing.T) {
			set := loaded(t, "secret")
			state := routed(t, set)
			c.change(set, state)
			plan, err := NewPlan(set, state, c.prune)
			got := ""
			if err != nil {
				got = err.Error()
			} else {
				got = outline(plan)
			}
			if c.want == "" && got != "" || !strings.Contains(got, c.want) {
				t.Errorf("%s\nshould be\n%s", got, c.want)
			}
			if strings.Contains(got, "secret") {
				t.Errorf("a credential is shown:\n%s", got)
			}
		})
	}
}

func TestNewPlan_DetectsChangedHiddenHeader(t *testing.T) {
	state := routed(t, loaded(t, "secret"))
	plan, err := NewPlan(loaded(t, "rotated"), state, false)
	if err != nil || plan.Changes() != 1 || strings.Contains(outline(plan), "rotated") {
		t.Errorf("%v\n%s", err, outline(plan))
	}
}

func TestFingerprint_IsSalted(t *testing.T) {
	headers := map[string]string{"Authorization": "x"}
	a, _ := Fingerprint(headers, "")
	b, _ := Fingerprint(headers, "")
	if a == b || !SameFingerprint(headers, a) || !SameFingerprint(headers, b) {
		t.Error(a, b)
	}
	for _, kept := range []string{"", ":", "x", a + "0", ":" + a} {
		if SameFingerprint(headers, kept) {
			t.Errorf("%q passes", kept)
		}
	}
}

// Equal settings may be written in many ways.
func TestNewPlan_EquivalentSettingsAreEqual(t *testing.T) {
	load := func(terms string) *Set {
		t.Helper()
		set, err := Load(folder(t, map[string]string{"a.yaml": "subscriptions:\n  - name: a\n    event: a.b\n    target_url: https://example.com\n" + terms}), "", environment(nil))
		if err != nil {
			t.Fatal(err)
		}
		return set
	}
	was := load("    policy: {timeout: 1m, retries: [0s, 90s, 3m, 360], rate: {count: 60, per: 1m}, ordering: none}\n    batch: {size: 2, wait: 1500ms}\n    signatures: [standard]\n    numbered: false\n    debounce:\n")
	for terms, same := range map[string]bool{
		"    policy: {timeout: 60, retries: [0, 1m30s, 180s, 6m], rate: {count: 60, per: 60s}}\n    batch: {size: 2, wait: 1.5s}\n":                    true,
		"    policy: {timeout: 60000ms, retries: {first: 1m30s, attempts: 4}, rate: {per: 60, count: 60}}\n    batch: {size: 2, wait: 1.5}\n":          true,
		"    policy: {timeout: 60000ms, retries: {first: 1m30s, attempts: 5}, rate: {per: 60, count: 60}}\n    batch: {size: 2, wait: 1.5}\n":          false,
		"    policy: {timeout: 60000ms, retries: {first: 1m30s, attempts: 4, cap: 2m}, rate: {per: 60, count: 60}}\n    batch: {size: 2, wait: 1.5}\n": false,
		"": false,
	} {
		plan, err := NewPlan(load(terms), routed(t, was), false)
		if err != nil || (plan.Changes() == 0) != same {
			t.Errorf("%v: %s\n%s", err, terms, outline(plan))
		}
	}
}
