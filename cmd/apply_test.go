package cmd

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"switchhook/cmd/manifest"
	"switchhook/engine"
	"switchhook/engine/testkit"
	"switchhook/server/api"
)

// routing writes a folder as a team would keep it.
func routing(t *testing.T, target string) string {
	t.Helper()
	dir := t.TempDir()
	write(t, dir, "types.yaml", `event_types:
  - name: order.created
    description: An order came in
    schema: order.schema.json
    samples: [order.json]
`)
	write(t, dir, "order.schema.json", `{"type": "object", "properties": {"id": {"type": "integer"}, "total": {"type": "number"}}}`)
	write(t, dir, "order.json", `{"id": 9007199254740993, "total": 120.50}`)
	write(t, dir, "scripts/all.yml", `scripts:
  - {name: large, file: large.expr, tests: large.test.yaml}
  - name: text
    description: Tells it to people
    file: text.ts
    tests: text.test.json
`)
	write(t, dir, "scripts/large.expr", "data.total > 100\n")
	write(t, dir, "scripts/large.test.yaml", "cases:\n- name: small ones stay\n  event: {type: order.created, data: {total: 5}}\n  expect: {matches: false}\n")
	write(t, dir, "scripts/text.ts", firstText)
	write(t, dir, "scripts/text.test.json", `{"cases": [{"name": "the id is told", "event": {"file": "../order.json", "type": "order.created"}, "expect": {"body": {"text": "Order 9007199254740993"}}}]}`)
	write(t, dir, "subscriptions.yaml", `subscriptions:
  - name: chat
    event: order.created
    target_url: `+target+`
    filter_script: large
    transform_script: text
    headers: {Authorization: "Bearer ${CHAT_TOKEN}", x-team: north}
    metadata: {team: north}
    visible_headers: [X-Team]
  - name: archive
    events: [order.*]
    target_url: `+target+`/archive
    filter: data.total > 0
    payload_format: data
`)
	return dir
}

func edit(t *testing.T, path, old, new string) {
	t.Helper()
	text := read(t, path)
	if !strings.Contains(text, old) {
		t.Fatalf("%s has no %q", path, old)
	}
	if err := os.WriteFile(path, []byte(strings.Replace(text, old, new, 1)), 0o644); err != nil {
		t.Fatal(err)
	}
}

func (p *process) subscriptions() (list []api.Subscription) {
	p.t.Helper()
	list, err := api.Collect(p.api.ListSubscriptions(context.Background(), api.ListSubscriptionsParams{}))
	if err != nil {
		p.t.Fatal(err)
	}
	return list
}

func (p *process) liveVersions() string {
	p.t.Helper()
	list, err := api.Collect(p.api.ListScripts(context.Background(), api.ListScriptsParams{}))
	if err != nil {
		p.t.Fatal(err)
	}
	text := ""
	for _, s := range list {
		newest, err := p.api.newest(context.Background(), &s)
		if err != nil {
			p.t.Fatal(err)
		}
		text += s.Name + " " + strings.Repeat("v", newest.Version)
		if s.LiveVersion == nil || *s.LiveVersion != newest.Version {
			text += " (not live)"
		}
		text += "; "
	}
	return text
}

func TestApply_CreatesUpdatesAndReverts(t *testing.T) {
	t.Parallel()
	p, sink := serve(t, t.TempDir()), testkit.NewReceiver(t, nil)
	dir := routing(t, sink.URL)
	in := func(name string) string { return filepath.Join(dir, filepath.FromSlash(name)) }
	p.expect(1, []string{"subscriptions.yaml:7: subscriptions[0].headers.Authorization needs the environment variable CHAT_TOKEN"}, "apply", "-f", dir, "--yes")
	p.env = []string{"CHAT_TOKEN=first-token"}
	nothing := func() {
		t.Helper()
		before := p.liveVersions()
		p.expect(0, []string{"nothing to change", "5 unchanged"}, "apply", "-f", dir, "--yes", "--prune")
		if now := p.liveVersions(); now != before {
			t.Errorf("%s instead of %s", now, before)
		}
	}
	changes := func(texts ...string) {
		t.Helper()
		out := p.expect(0, append(texts, "made"), "apply", "-f", dir, "--yes", "--prune")
		if strings.Contains(out, "-token") {
			t.Errorf("a credential is printed:\n%s", out)
		}
		nothing()
	}

	p.expect(1, []string{"give --yes, or --dry-run"}, "apply", "-f", dir)
	p.expect(3, []string{"+ create event type order.created", "+ create script text (transform, 1 test case)", "+ create subscription chat (order.created)", "2 passed, 0 failed", "5 changes to make; this was a dry run"}, "apply", "-f", dir, "--dry-run")
	if n := len(p.subscriptions()); n != 0 || p.liveVersions() != "" {
		t.Errorf("a dry run made %d subscriptions", n)
	}
	changes("created event type order.created", "created script large, version 1 is live", "created subscription chat (sub_", "/secret")
	p.expect(0, []string{"nothing to change"}, "apply", "-f", dir, "--dry-run")

	// The applied configuration works.
	p.expect(0, []string{"matched 2"}, "send", "order.created", `{"id": 1, "total": 150}`)
	p.expect(0, []string{"matched 1"}, "send", "order.created", `{"id": 2, "total": 50}`)
	testkit.WaitFor(t, "both arrive", func() bool {
		return sink.Missing([]string{`{"text":"Order 1"}`, `{"id":2,"total":50}`}) == 0
	})

	// Each kind of change, and no further change afterwards.
	edit(t, in("scripts/text.ts"), "Order ${e", "Order no. ${e")
	edit(t, in("scripts/text.test.json"), "Order 9", "Order no. 9")
	changes("~ change script text", "    -   export default e => ({text: `Order ${e.data.id}`})", "    +   export default e => ({text: `Order no. ${e.data.id}`})", "changed script text, version 2 is live")
	edit(t, in("scripts/all.yml"), "Tells it to people", "Tells people")
	changes("- description: Tells it to people", "+ description: Tells people")
	if got := p.liveVersions(); got != "large v; text vv; " {
		t.Errorf("a description made a version: %s", got)
	}
	edit(t, in("types.yaml"), "An order came in", "An order was placed")
	changes("~ change event type order.created", "+ description: An order was placed")
	edit(t, in("subscriptions.yaml"), "x-team: north", "x-team: south")
	edit(t, in("subscriptions.yaml"), "metadata: {team: north}", "metadata: {owner: ada}")
	edit(t, in("subscriptions.yaml"), "filter: data.total > 0\n", "transform: 'export default e => 1'\n    active: false\n")
	changes("- headers.x-team: north", "+ headers.x-team: south", "- metadata.team: north", "+ metadata.owner: ada", "- filter: data.total > 0", "+ transform: export default e => 1", "- active: true")
	p.env = []string{"CHAT_TOKEN=second-token"}
	changes("~ change subscription chat", "+ headers.Authorization: [hidden; not known to be the same]")
	edit(t, in("subscriptions.yaml"), `Authorization: "Bearer ${CHAT_TOKEN}", `, "")
	changes("- headers.Authorization: [hidden]")
	chat := p.subscriptions()[0]
	if len(chat.Headers) != 1 || chat.Text("owner") != "ada" || chat.Text("team") != "" || chat.Text(manifest.HeadersKey) != "" {
		t.Errorf("%+v", chat)
	}

	// A change by another user is reverted, with the existing version.
	p.expect(0, nil, "scripts", "live", "text", "1", "--force")
	changes("changed script text, version 2 is live")
	if got := p.liveVersions(); got != "large v; text vv; " {
		t.Errorf("going forth to the newest version made another: %s", got)
	}
	if err := p.api.call(context.Background(), http.MethodPatch, "/api/v1/subscriptions/"+chat.ID, map[string]any{"target_url": "http://127.0.0.1:9/"}, nil); err != nil {
		t.Fatal(err)
	}
	changes("- target_url: http://127.0.0.1:9/", "+ target_url: "+sink.URL)
}

// Delivery settings round-trip between the files and the router.
func TestApply_DeliverySettingsRoundTrip(t *testing.T) {
	t.Parallel()
	p, sink := serve(t, t.TempDir()), testkit.NewReceiver(t, nil)
	dir := t.TempDir()
	file := filepath.Join(dir, "all.yaml")
	write(t, dir, "all.yaml", `event_types:
  - name: order.created
    schema: {type: object, properties: {id: {type: integer}}}
subscriptions:
  - name: chat
    event: order.created
    target_url: `+sink.URL+`
    payload_format: cloudevents
    policy:
      retries: {first: 5s, factor: 2, cap: 1m, attempts: 6}
      timeout: 5s
      in_flight: 4
      rate: {count: 600, per: 60s}
      ordering: key
      ordering_key: data.id
      give_up_after: 90m
    batch: {size: 10, wait: 90s}
    signatures: [x-hook-signature, standard]
    numbered: true
  - name: archive
    event: order.created
    target_url: `+sink.URL+`
    payload_format: skinny
    debounce: {key: data.id, within: 2s}
`)
	nothing := func() {
		t.Helper()
		p.expect(0, []string{"nothing to change", "3 unchanged"}, "apply", "-f", dir, "--yes", "--prune")
	}
	changes := func(texts ...string) {
		t.Helper()
		p.expect(0, append(texts, "1 change made"), "apply", "-f", dir, "--yes")
		nothing()
	}
	p.expect(0, []string{"3 changes made"}, "apply", "-f", dir, "--yes")
	nothing()
	var chat struct {
		Policy     map[string]any
		Batch      map[string]any
		Signatures []string
		Numbered   bool
	}
	id := p.subscriptions()[0].ID
	if err := p.api.call(context.Background(), http.MethodGet, "/api/v1/subscriptions/"+id, nil, &chat); err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(chat); got != "{map[give_up_after:90m in_flight:4 ordering:key ordering_key:data.id rate:map[count:600 per:1m] retries:[0s 5s 10s 20s 40s 1m] timeout:5s] map[size:10 wait:90s] [x-hook-signature standard] true}" {
		t.Error(got)
	}

	edit(t, file, "wait: 90s", "wait: 1m30s")
	edit(t, file, "give_up_after: 90m", "give_up_after: 1h30m")
	nothing()
	edit(t, file, "timeout: 5s", "timeout: 6s")
	changes("~ change subscription chat", "- policy.timeout: 5s", "+ policy.timeout: 6s")
	edit(t, file, "    batch: {size: 10, wait: 1m30s}\n", "")
	changes("- batch.size: 10", "- batch.wait: 90s")
	edit(t, file, "    numbered: true\n", "")
	changes("- numbered: true")
	edit(t, file, "within: 2s", "within: 3s")
	changes("~ change subscription archive", "+ debounce.within: 3s")
	edit(t, file, "      ordering: key\n      ordering_key: data.id\n", "")
	changes("- policy.ordering: key", "- policy.ordering_key: data.id")

	// Manual changes: those that the files cover are reverted, others stay.
	hand := map[string]any{"policy": map[string]any{"timeout": "9s"}, "expires_in": "240h"}
	if err := p.api.call(context.Background(), http.MethodPatch, "/api/v1/subscriptions/"+id, hand, nil); err != nil {
		t.Fatal(err)
	}
	changes("- policy.timeout: 9s", "+ policy.timeout: 6s")
	var left struct {
		ExpiresAt *string `json:"expires_at"`
	}
	if err := p.api.call(context.Background(), http.MethodGet, "/api/v1/subscriptions/"+id, nil, &left); err != nil || left.ExpiresAt == nil {
		t.Errorf("the expiry is lost: %v", err)
	}

	edit(t, file, "debounce: {key: data.id,", "debounce: {key: data.ib,")
	p.expect(1, []string{"subscription archive: debounce.key: ", `did you mean "id"?`, "so nothing was changed"}, "apply", "-f", dir, "--yes")
}

func TestApply_TargetVerification(t *testing.T) {
	t.Parallel()
	p := serve(t, t.TempDir())
	target := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/willing" {
			w.Header().Set("X-Hook-Secret", r.Header.Get("X-Hook-Secret"))
		}
	}))
	defer target.Close()
	dir := t.TempDir()
	write(t, dir, "all.yaml", `event_types:
  - name: order.created
    verify: hook-secret
subscriptions:
  - {name: willing, event: order.paid, verify: hook-secret, active: true, target_url: "`+target.URL+`/willing"}
  - {name: silent, event: order.created, active: true, target_url: "`+target.URL+`/silent"}
`)
	out := p.expect(0, []string{"created subscription silent", "; it waits for its target to confirm"}, "apply", "-f", dir, "--yes")
	if strings.Count(out, "waits for") != 1 {
		t.Error(out)
	}
	p.expect(0, []string{"nothing to change"}, "apply", "-f", dir, "--yes")
	for i, want := range []string{"confirmed", "pending"} {
		if sub := p.subscriptions()[i]; sub.Verification.State != want || sub.Active != (want == "confirmed") {
			t.Errorf("%+v", sub)
		}
	}

	// A later change of the event type, or of the subscription, loses nothing.
	file := filepath.Join(dir, "all.yaml")
	edit(t, file, "verify: hook-secret", "verify: hook-secret\n    description: An order came in")
	edit(t, file, "order.paid, verify: hook-secret", "order.paid, description: x")
	p.expect(0, []string{"2 changes made"}, "apply", "-f", dir, "--yes")
	types, err := api.Collect(p.api.ListEventTypes(context.Background()))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range types {
		if e.Name == "order.created" && e.Verify != string(engine.VerifyHookSecret) {
			t.Errorf("%+v", e)
		}
	}
	if sub := p.subscriptions()[0]; sub.Verification.State != "confirmed" {
		t.Errorf("%+v", sub)
	}
}

func TestApply_PruneDeletesOnlyManaged(t *testing.T) {
	t.Parallel()
	p := serve(t, t.TempDir())
	dir := routing(t, "http://127.0.0.1:9")
	p.env = []string{"CHAT_TOKEN=x"}
	if err := p.api.call(context.Background(), http.MethodPost, "/api/v1/subscriptions", map[string]any{"event": "*", "target_url": "http://127.0.0.1:9", "metadata": map[string]string{"by": "hand"}}, nil); err != nil {
		t.Fatal(err)
	}
	p.expect(0, nil, "scripts", "push", "by-hand", filepath.Join(dir, "scripts", "large.expr"), "--live")
	p.expect(0, nil, "apply", "-f", dir, "--yes", "--prune")

	text := read(t, filepath.Join(dir, "subscriptions.yaml"))
	write(t, dir, "subscriptions.yaml", text[:strings.Index(text, "    filter_script")]+text[strings.Index(text, "    headers"):strings.Index(text, "  - name: archive")])
	write(t, dir, "scripts/all.yml", "scripts: []\n")
	p.expect(3, []string{"1 change to make"}, "apply", "-f", dir, "--dry-run")
	p.expect(3, []string{"- delete subscription archive", "- delete script large", "- delete script text", "4 changes to make"}, "apply", "-f", dir, "--dry-run", "--prune")
	p.expect(0, []string{"deleted subscription archive", "deleted script large", "4 changes made"}, "apply", "-f", dir, "--yes", "--prune")
	if got := p.liveVersions(); got != "by-hand v; " || len(p.subscriptions()) != 2 {
		t.Errorf("left are %s and %d subscriptions", got, len(p.subscriptions()))
	}
	p.expect(0, []string{"nothing to change"}, "apply", "-f", dir, "--yes", "--prune")
}

func TestApply_ValidatesBeforeChanging(t *testing.T) {
	t.Parallel()
	p := serve(t, t.TempDir())
	p.env = []string{"CHAT_TOKEN=x"}
	for _, c := range []struct {
		name           string
		file, old, new string
		texts          []string
	}{
		{"a test that fails", "scripts/large.expr", "100", "1", []string{"large.test.yaml: script large", "✗ small ones stay", "a script is wrong, so nothing was changed"}},
		{"a transform that does not compile", "scripts/text.ts", "=>", "= >", []string{"text.ts:1: ", "^"}},
		{"a filter that does not", "scripts/large.expr", ">", "=", []string{"large.expr:1: ", "^"}},
		{"a filter against the schema", "scripts/large.expr", "data.total > 100", "data.totl > 100", []string{"subscription chat: filter_script large: ", `did you mean "total"?`}},
		{"an inline filter", "subscriptions.yaml", "data.total > 0", "data.total >", []string{"subscriptions.yaml:10: subscription archive: filter: "}},
		{"an inline transform", "subscriptions.yaml", "filter: data.total > 0", "transform: 'export default (e'", []string{"subscriptions.yaml:10: subscription archive: transform: "}},
		{"a script of nowhere", "subscriptions.yaml", "filter_script: large", "filter_script: lagre", []string{`subscriptions.yaml:2: subscription "chat": filter_script names no script`, `did you mean "large"?`}},
		{"a slip of the pen", "subscriptions.yaml", "metadata", "metdata", []string{`did you mean "metadata"?`, "1 mistake in the files"}},
		{"a way out of the folder", "scripts/all.yml", "file: large.expr", "file: ../../large.expr", []string{"leads out of the folder"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := routing(t, "http://127.0.0.1:9")
			edit(t, filepath.Join(dir, filepath.FromSlash(c.file)), c.old, c.new)
			p.expect(1, c.texts, "apply", "-f", dir, "--yes")
			if n := len(p.subscriptions()); n != 0 || p.liveVersions() != "" {
				t.Errorf("something was made")
			}
		})
	}
}

func TestApply_StopsAtFirstErrorAndResumes(t *testing.T) {
	t.Parallel()
	p := serve(t, t.TempDir())
	dir := routing(t, "http://169.254.169.254") // the router refuses it
	p.env = []string{"CHAT_TOKEN=x"}
	p.expect(1, []string{"created script text, version 1 is live", "subscription chat: POST /api/v1/subscriptions?allow_duplicates=true: 422", "stopped: 3 of 5 changes made"}, "apply", "-f", dir, "--yes")
	text := read(t, filepath.Join(dir, "subscriptions.yaml"))
	write(t, dir, "subscriptions.yaml", strings.ReplaceAll(text, "169.254.169.254", "127.0.0.1:9"))
	p.expect(0, []string{"2 changes made"}, "apply", "-f", dir, "--yes")
}

func TestApply_OtherAccount(t *testing.T) {
	t.Parallel()
	p := serve(t, t.TempDir())
	dir := routing(t, "http://127.0.0.1:9")
	p.env = []string{"CHAT_TOKEN=x"}
	p.expect(0, []string{"created subscription chat of acme"}, "apply", "-f", dir, "--yes", "--account", "acme", "--prune")
	p.expect(0, []string{"nothing to change"}, "apply", "-f", dir, "--yes", "--account", "acme", "--prune")
	if len(p.subscriptions()) != 0 {
		t.Error("made in the key's own account")
	}

	// The account's own key can apply a set that changes no event type.
	made, status := p.switchhook("keys", "create", "team", "--account", "acme")
	if status != 0 {
		t.Fatal(made)
	}
	key := strings.Fields(made)[0]
	if !strings.HasPrefix(key, "swk_") {
		key = strings.Fields(made[strings.Index(made, "swk_"):])[0]
	}
	edit(t, filepath.Join(dir, "subscriptions.yaml"), "data.total > 0", "data.total > 1")
	p.expect(0, []string{"1 change made"}, "apply", "-f", dir, "--yes", "--key", key)
	edit(t, filepath.Join(dir, "types.yaml"), "An order", "The order")
	p.expect(1, []string{"403", "stopped: 0 of 1 change made"}, "apply", "-f", dir, "--yes", "--key", key)
}

func TestConfirmPrompt(t *testing.T) {
	for _, c := range []struct {
		answer string
		want   bool
	}{{"y\n", true}, {"YES\n", true}, {"yes", true}, {"n\n", false}, {"", false}, {"\n", false}, {"yep\n", false}} {
		if confirmed(strings.NewReader(c.answer), "") != c.want {
			t.Errorf("%q", c.answer)
		}
	}
}
