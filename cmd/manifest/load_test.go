package manifest

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"switchhook/server/api"
	"testing"
)

// folder writes files into a temporary folder.
func folder(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func environment(values map[string]string) func(string) (string, bool) {
	return func(name string) (string, bool) {
		v, ok := values[name]
		return v, ok
	}
}

var good = map[string]string{
	"types.yaml": `
event_types:
  - name: order.created
    description: An order came in
    schema: schemas/order.json
    samples:
      - schemas/sample.json
      - {id: 9007199254740993, total: 1.10}
  - name: order.paid
    schema: {type: object}
`,
	"schemas/order.json":  `{"type": "object", "properties": {"id": {"type": "integer"}, "total": {"type": "number"}}}`,
	"schemas/sample.json": `{"id": 1, "total": 2}`,
	"team/north.yml": `
scripts:
  - name: large
    file: large.expr
    tests: large.test.yaml
  - name: text
    kind: transform
    source: |
      export default e => e.data
subscriptions:
  - name: chat
    event: order.created
    target_url: https://example.com/${ROOM}
    filter_script: large
    transform_script: {name: text, version: 3}
    headers:
      authorization: Bearer ${TOKEN}
      X-Plain: costs $${3}
    visible_headers: [x-plain]
    metadata: {team: north}
    active: false
  - name: all
    events: [order.*, "*"]
    target_url: https://example.com/
    filter: |
      data.total > 1
    payload_format: data
`,
	"team/large.expr":      "data.total > 100",
	"team/large.test.yaml": "cases:\n  - name: small\n    event: {file: ../schemas/sample.json, type: order.created}\n    expect: {matches: false}\n",
	"team/ignored.txt":     "{{{",
	".hidden/a.yaml":       "{{{",
	"node_modules/a.yaml":  "{{{",
	"empty.yaml":           "# nothing\n",
}

func TestLoad_WholeFolder(t *testing.T) {
	set, err := Load(folder(t, good), "acme", environment(map[string]string{"ROOM": "r1", "TOKEN": "secret"}))
	if err != nil {
		t.Fatal(err)
	}
	if len(set.EventTypes) != 2 || len(set.Scripts) != 2 || len(set.Subscriptions) != 2 {
		t.Fatalf("%d, %d, %d", len(set.EventTypes), len(set.Scripts), len(set.Subscriptions))
	}
	order := set.EventTypes[0]
	if string(order.Samples[1]) != `{"id":9007199254740993,"total":1.10}` || !strings.Contains(string(order.Schema), "properties") || order.Place.Line != 3 {
		t.Errorf("%+v", order)
	}
	large, text := set.Scripts[0], set.Scripts[1]
	if large.Kind != "filter" || large.Source != "data.total > 100" || large.Account != "acme" || len(large.Cases) != 1 || string(large.Cases[0].Event.Data) != `{"id": 1, "total": 2}` {
		t.Errorf("%+v", large)
	}
	if text.Kind != "transform" || text.SourceFile != "" || text.Source != "export default e => e.data\n" {
		t.Errorf("%+v", text)
	}
	chat, all := set.Subscriptions[0], set.Subscriptions[1]
	if chat.TargetURL.Or("") != "https://example.com/r1" || *chat.Headers.Or(nil)["authorization"] != "Bearer secret" || *chat.Headers.Or(nil)["X-Plain"] != "costs ${3}" ||
		!maps.Equal(chat.templates, map[string]string{"target_url": "https://example.com/${ROOM}", "headers.authorization": "Bearer ${TOKEN}"}) {
		t.Errorf("%+v", chat)
	}
	transform, _ := chat.TransformScript.Get()
	if active, ok := chat.Active.Get(); active || !ok || transform.Name != "text" || *transform.Version != 3 || chat.FilterScript != api.Some(api.ScriptRef{Name: "large"}) || chat.PayloadFormat.Or("") != "standard" {
		t.Errorf("%+v", chat)
	}
	if all.Filter.Or("") != "data.total > 1" || !all.Active.IsZero() || len(all.Events.Or(nil)) != 2 {
		t.Errorf("%+v", all)
	}
}

func TestLoad_ProblemsHavePositions(t *testing.T) {
	script := func(rest string) string { return "scripts:\n  - name: a\n" + rest }
	sub := func(rest string) string {
		return "subscriptions:\n  - name: a\n    event: a.b\n    target_url: https://example.com\n" + rest
	}
	files := map[string]string{
		"a.expr": "true", "a.js": "x", "bad.json": "{\n\"a\": }", "bad.test.json": "{\"cases\": [\n{\"name\": \"x\", \"event\": {\"type\": \"a\", \"data\": 1},\n\"expct\": {}}]}",
		"typo.test.yaml": "cases: []\nfliter: x\n", "away.test.json": `{"cases": [{"name": "x", "event": {"file": "../../etc/passwd"}, "expect": {"matches": true}}]}`,
		"empty.expr": " \n",
	}
	for name, c := range map[string]struct{ text, want string }{
		"no YAML":                    {"a: [", "m.yaml:1: not valid YAML"},
		"a list":                     {"- a", "m.yaml:1: must have members"},
		"an unknown key":             {"subscription: []", `m.yaml:1: subscription is not known: did you mean "subscriptions"?`},
		"an unknown key below":       {sub("    headres: {}"), `m.yaml:5: subscriptions[0].headres is not known: did you mean "headers"?`},
		"a key far from all":         {sub("    zzzzz: 1"), "m.yaml:5: subscriptions[0].zzzzz is not known: the members are name"},
		"no list":                    {"scripts:\n  a: 1", "m.yaml:2: scripts must be a list"},
		"a number as text":           {"scripts:\n  - name: 12\n    file: a.expr", "m.yaml:2: scripts[0].name must be a text, but is a number: put it in quotes"},
		"no name":                    {"scripts:\n  - file: a.expr", "m.yaml:2: scripts[0].name is missing"},
		"a name with a slash":        {"scripts:\n  - name: a/b\n    file: a.expr", "m.yaml:2: scripts[0].name \"a/b\" must be"},
		"a name like an id":          {"scripts:\n  - name: scr_1\n    file: a.expr", "not begin with scr_"},
		"twice the same name":        {script("    file: a.expr\n  - name: a\n    file: a.expr"), `m.yaml:4: scripts[1].name "a" is the name of another script: `},
		"no source":                  {script("    kind: filter"), "m.yaml:2: scripts[0].file is missing or empty"},
		"an empty file":              {script("    file: empty.expr"), "scripts[0].file is missing or empty"},
		"two sources":                {script("    file: a.expr\n    source: x"), "m.yaml:4: scripts[0].source and file are both given"},
		"no kind":                    {script("    source: x"), `m.yaml:2: scripts[0].kind must be "filter" or "transform"`},
		"a wrong kind":               {script("    source: x\n    kind: fitler"), `m.yaml:4: scripts[0].kind must be`},
		"a file that is not there":   {script("    file: b.expr"), `m.yaml:3: scripts[0].file "b.expr": no such file`},
		"a folder as a file":         {script("    file: ."), `m.yaml:3: scripts[0].file ".": is not a regular file`},
		"tests with a mistake":       {script("    file: a.expr\n    tests: bad.test.json"), `bad.test.json:3: cases[0].expct is not known: did you mean "expect"?`},
		"tests with an unknown key":  {script("    file: a.expr\n    tests: typo.test.yaml"), `typo.test.yaml:2: fliter is not known: did you mean "filter"?`},
		"tests that name a file out": {script("    file: a.expr\n    tests: away.test.json"), `away.test.json:1: cases[0].event.file can't be used: "../../etc/passwd": leads out of the folder`},
		"a bad event type":           {"event_types:\n  - name: order..x", "m.yaml:2: event_types[0].name \"order..x\" is not an event type"},
		"the same type twice":        {"event_types: [{name: a.b}, {name: a.b}]", "is the name of another event type"},
		"a bad schema":               {"event_types:\n  - name: a.b\n    schema: {type: strnig}", "m.yaml:3: event_types[0].schema "},
		"a schema that is not JSON":  {"event_types:\n  - name: a.b\n    schema: bad.json", "bad.json:2: not valid JSON"},
		"a sample against it":        {"event_types:\n  - name: a.b\n    schema: {type: string}\n    samples:\n      - {a: 1}", "m.yaml:5: event_types[0].samples[0] does not follow the schema"},
		"no event":                   {"subscriptions:\n  - name: a\n    target_url: https://a.example", "subscriptions[0].event is missing"},
		"event and events":           {sub("    events: [a.c]"), "m.yaml:3: subscriptions[0].event and events are both given"},
		"a bad event":                {"subscriptions:\n  - {name: a, target_url: 'https://a.example', events: [a.b, '*.c']}", `subscriptions[0].events[1] "*.c" is neither`},
		"an event twice":             {"subscriptions:\n  - {name: a, target_url: 'https://a.example', events: [a.b, a.b]}", `is named twice`},
		"no target":                  {"subscriptions:\n  - name: a\n    event: a.b", "m.yaml:2: subscriptions[0].target_url is missing"},
		"a bad target":               {"subscriptions:\n  - name: a\n    event: a.b\n    target_url: ftp://x", "m.yaml:4: subscriptions[0].target_url is not an address"},
		"two filters":                {sub("    filter: 'true'\n    filter_script: x"), "m.yaml:6: subscriptions[0].filter_script and filter are both given"},
		"a bad version":              {sub("    filter_script: {name: x, version: 0}"), "m.yaml:5: subscriptions[0].filter_script.version is 0; give a value"},
		"a missing variable":         {sub("    headers:\n      Authorization: ${NOT_SET}"), "m.yaml:6: subscriptions[0].headers.Authorization needs the environment variable NOT_SET"},
		"an empty variable":          {sub("    headers:\n      Authorization: ${EMPTY}"), "needs the environment variable EMPTY"},
		"a bad variable":             {sub("    headers:\n      Authorization: ${a-b}"), `m.yaml:6: subscriptions[0].headers.Authorization has "${a-b}"`},
		"an open variable":           {sub("    headers:\n      Authorization: ${A"), `has "${A", which is no ${NAME}`},
		"the same header twice":      {sub("    headers:\n      X-A: a\n      x-a: b"), "m.yaml:7: subscriptions[0].headers.x-a is given twice"},
		"a hidden value":             {sub("    headers: {Authorization: '[hidden]'}"), "give the value by ${NAME}"},
		"a bad format":               {sub("    payload_format: xml"), `m.yaml:5: subscriptions[0].payload_format "xml" is not known: use "standard", "data", "cloudevents", "cloudevents-binary" or "skinny"`},
		"a policy that is none":      {sub("    policy: fast"), "m.yaml:5: subscriptions[0].policy must be an object, not a string"},
		"a slip in a policy":         {sub("    policy:\n      in_flight: 1\n      timeuot: 5s"), `m.yaml:7: subscriptions[0].policy.timeuot is not known here; did you mean "timeout"?`},
		"a word far from all":        {sub("    policy: {zzzzzzz: 1}"), "subscriptions[0].policy.zzzzzzz is not known here; the members are retries, timeout, in_flight"},
		"a length of nothing":        {sub("    policy:\n      timeout: 5 seconds"), `m.yaml:6: subscriptions[0].policy.timeout "5 seconds" is not a duration`},
		"a length without unit":      {sub("    policy:\n      timeout: '5'"), `is not a duration`},
		"a length of zero":           {sub("    policy:\n      timeout: 0s"), `m.yaml:6: subscriptions[0].policy.timeout is 0; give a value`},
		"too long a timeout":         {sub("    policy:\n      timeout: 2h"), "m.yaml:6: subscriptions[0].policy.timeout is 2h; 100ms to 1m are allowed"},
		"too many at a time":         {sub("    policy:\n      in_flight: 1000"), "m.yaml:6: subscriptions[0].policy.in_flight is 1000; 1 to 512 are allowed"},
		"a number that is a text":    {sub("    policy:\n      in_flight: many"), "m.yaml:6: subscriptions[0].policy.in_flight must be a number, not a string"},
		"a bad wait":                 {sub("    policy:\n      retries:\n        - 0s\n        - soon"), `m.yaml:8: subscriptions[0].policy.retries[1] "soon" is not a duration`},
		"a first wait":               {sub("    policy:\n      retries: [5s]"), "m.yaml:6: subscriptions[0].policy.retries begins with 5s"},
		"a slip in a backoff":        {sub("    policy:\n      retries:\n        first: 5s\n        atempts: 3"), `m.yaml:8: subscriptions[0].policy.retries.atempts is not known here; did you mean "attempts"?`},
		"half a backoff":             {sub("    policy:\n      retries: {first: 5s}"), `m.yaml:6: subscriptions[0].policy.retries.attempts is missing`},
		"half a rate":                {sub("    policy:\n      rate:\n        count: 5"), `m.yaml:7: subscriptions[0].policy.rate.per is missing`},
		"a slip in a rate":           {sub("    policy:\n      rate: {cuont: 5, per: 1s}"), `subscriptions[0].policy.rate.cuont is not known here; did you mean "count"?`},
		"an unknown ordering":        {sub("    policy:\n      ordering: lifo"), `m.yaml:6: subscriptions[0].policy.ordering "lifo" is not known`},
		"an ordering without key":    {sub("    policy:\n      ordering: key"), `m.yaml:6: subscriptions[0].policy.ordering_key is missing`},
		"a key that is none":         {sub("    policy:\n      ordering: key\n      ordering_key: data."), `m.yaml:7: subscriptions[0].policy.ordering_key `},
		"a batch of one":             {sub("    batch:\n      size: 1"), "m.yaml:6: subscriptions[0].batch.size is 1; 2 to 1000 are allowed"},
		"a batch of no size":         {sub("    batch: {wait: 5s}"), "subscriptions[0].batch.size is missing"},
		"a slip in a batch":          {sub("    batch: {siez: 5}"), `subscriptions[0].batch.siez is not known here; did you mean "size"?`},
		"a debounce of no time":      {sub("    debounce: {key: data.id}"), "subscriptions[0].debounce.within is missing"},
		"a debounce and a batch":     {sub("    batch: {size: 5}\n    debounce:\n      within: 5s"), "m.yaml:7: subscriptions[0].debounce can't go with batch"},
		"an unknown signature":       {sub("    signatures: [hmac]"), `m.yaml:5: subscriptions[0].signatures "hmac" is not known: use "standard"`},
		"a signature that is a text": {sub("    signatures: standard"), "m.yaml:5: subscriptions[0].signatures must be a list, not a string"},
		"numbered that is none":      {sub("    numbered: 'yes'"), "m.yaml:5: subscriptions[0].numbered must be true or false"},
		"a verification of no kind":  {sub("    verify: hook_secret"), `m.yaml:5: subscriptions[0].verify "hook_secret" is not known: use "hook-secret"`},
		"one of an event type":       {"event_types:\n  - name: a.b\n    verify: no", `m.yaml:3: event_types[0].verify "no" is not known: use "hook-secret"`},
		"a header of the router":     {sub("    headers:\n      Webhook-Id: x"), `m.yaml:6: subscriptions[0].headers "Webhook-Id" is set by the router`},
		"metadata of apply":          {sub("    metadata: {switchhook/name: b}"), `belong to apply`},
		"active that is none":        {sub("    active: 'yes'"), "m.yaml:5: subscriptions[0].active must be true or false"},
	} {
		t.Run(name, func(t *testing.T) {
			all := map[string]string{"m.yaml": c.text}
			for n, text := range files {
				all[n] = text
			}
			dir := folder(t, all)
			_, err := Load(dir, "", environment(map[string]string{"EMPTY": ""}))
			var mistakes Problems
			if !errors.As(err, &mistakes) {
				t.Fatalf("%v", err)
			}
			if text := strings.ReplaceAll(err.Error(), dir+string(filepath.Separator), ""); !strings.Contains(text, c.want) {
				t.Errorf("%s\nshould have\n%s", text, c.want)
			}
		})
	}
}

func TestLoad_ReportsProblemOnce(t *testing.T) {
	_, err := Load(folder(t, map[string]string{"a.yaml": "subscriptions:\n  - name: a\n    event: a.b\n    target_url: https://example.com\n    policy: {timeuot: 5s, rate: {cuont: 1}}\n"}), "", environment(nil))
	var mistakes Problems
	if !errors.As(err, &mistakes) || len(mistakes) != 2 {
		t.Errorf("%d: %v", len(mistakes), err)
	}
}

func TestLoad_ReportsAllProblems(t *testing.T) {
	_, err := Load(folder(t, map[string]string{"a.yaml": "scrpts: []\nsubscriptions:\n  - name: a\n", "b.yaml": "{"}), "", environment(nil))
	var mistakes Problems
	if !errors.As(err, &mistakes) || len(mistakes) != 4 {
		t.Errorf("%d: %v", len(mistakes), err)
	}
}

// A folder may come from an untrusted source, and apply sends its content to a router.
func TestLoad_RefusesHostileFolder(t *testing.T) {
	outside := folder(t, map[string]string{"secret": "true", "secret.yaml": "scripts: []"})
	named := func(file string) string { return "scripts:\n  - name: a\n    kind: filter\n    file: '" + file + "'\n" }
	for name, c := range map[string]struct {
		files map[string]string
		links map[string]string
		want  string
	}{
		"a path upwards":        {files: map[string]string{"m.yaml": named("../secret")}, want: "leads out of the folder"},
		"a path up and down":    {files: map[string]string{"m.yaml": named("x/../../secret")}, want: "leads out of the folder"},
		"a path with backslash": {files: map[string]string{"m.yaml": named(`..\secret`)}, want: "leads out of the folder"},
		"an absolute path":      {files: map[string]string{"m.yaml": named(outside + "/secret")}, want: "must be a path relative to this file"},
		"a device":              {files: map[string]string{"m.yaml": named("/dev/zero")}, want: "must be a path relative to this file"},
		"a link to a file":      {files: map[string]string{"m.yaml": named("link")}, links: map[string]string{"link": outside + "/secret"}, want: "leads out of the folder"},
		"a link to a folder":    {files: map[string]string{"m.yaml": named("link/secret")}, links: map[string]string{"link": outside}, want: "leads out of the folder"},
		"a relative link":       {files: map[string]string{"m.yaml": named("link")}, links: map[string]string{"link": "../../../../../../etc/passwd"}, want: "leads out of the folder"},
		"a link to a device":    {files: map[string]string{"m.yaml": named("link")}, links: map[string]string{"link": "/dev/zero"}, want: "leads out of the folder"},
		"a link in a circle":    {files: map[string]string{"m.yaml": named("link")}, links: map[string]string{"link": "link"}, want: "link"},
		"a linked manifest":     {files: map[string]string{"m.yaml": "scripts: []"}, links: map[string]string{"n.yaml": outside + "/secret.yaml"}, want: "n.yaml: leads out of the folder"},
		"a huge manifest":       {files: map[string]string{"m.yaml": "# " + strings.Repeat("x", 600<<10)}, want: "larger than 512 KiB"},
		"a huge source":         {files: map[string]string{"m.yaml": named("a.expr"), "a.expr": strings.Repeat("x", 5<<20)}, want: "larger than 4096 KiB"},
		"a bomb of aliases":     {files: map[string]string{"m.yaml": "a: &a [x,x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: &f [*e,*e,*e,*e,*e,*e,*e,*e,*e]\ng: &g [*f,*f,*f,*f,*f,*f,*f,*f,*f]\nh: [*g,*g,*g,*g,*g,*g,*g,*g,*g]\n"}, want: "aliases make it too large"},
		"deep nesting":          {files: map[string]string{"m.yaml": strings.Repeat("[", 500_000)}, want: "nested too deep"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := folder(t, c.files)
			for link, to := range c.links {
				if err := os.Symlink(to, filepath.Join(dir, link)); err != nil {
					t.Skip(err)
				}
			}
			if _, err := Load(dir, "", environment(nil)); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%.300v\nshould have\n%s", err, c.want)
			}
		})
	}
}

func TestLoad_FollowsLinksWithinFolder(t *testing.T) {
	dir := folder(t, map[string]string{"m.yaml": "scripts: [{name: a, file: b.expr}]", "a.expr": "true"})
	if err := os.Symlink("a.expr", filepath.Join(dir, "b.expr")); err != nil {
		t.Skip(err)
	}
	if _, err := Load(dir, "", environment(nil)); err != nil {
		t.Error(err)
	}
}

func TestLoad_EmptyFolder(t *testing.T) {
	if _, err := Load(folder(t, map[string]string{"a.test.yaml": "cases: []"}), "", environment(nil)); err == nil || !strings.Contains(err.Error(), "no .yaml file") {
		t.Error(err)
	}
}

func TestLoad_DocsExample(t *testing.T) {
	text, err := os.ReadFile("../../docs/apply.md")
	if err != nil {
		t.Fatal(err)
	}
	_, example, _ := strings.Cut(string(text), "```yaml\n")
	example, _, _ = strings.Cut(example, "```")
	const cases = `{"cases": []}`
	set, err := Load(folder(t, map[string]string{
		"a.yaml": example, "schemas/order.json": `{"type": "object"}`, "samples/order.json": `{}`, "large-orders.expr": "true", "large-orders.test.json": cases, "order-text.ts": "x", "order-text.test.yaml": cases,
	}), "", environment(map[string]string{"CHAT_ROOM": "1", "CHAT_TOKEN": "2"}))
	if err != nil || len(set.EventTypes)+len(set.Scripts)+len(set.Subscriptions) != 5 {
		t.Error(err)
	}
}
