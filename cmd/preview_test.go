package cmd

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"switchhook/server/api"
	"testing"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

// writeFiles writes files into a temporary folder.
func writeFiles(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// runIn runs switchhook in a folder.
func runIn(t *testing.T, dir, stdin string, args ...string) (stdout, stderr string, status int) {
	t.Helper()
	c := command(args...)
	var out, problems bytes.Buffer
	c.Dir, c.Stdin, c.Stdout, c.Stderr = dir, strings.NewReader(stdin), &out, &problems
	if err := c.Run(); err != nil && c.ProcessState == nil {
		t.Fatal(err)
	}
	return out.String(), problems.String(), c.ProcessState.ExitCode()
}

var previewFiles = map[string]string{
	"t.ts": "interface Order { total: number }\nexport default function transform(event: { data: Order }, request: any) {\n  console.log(\"total\", event.data.total, \"\\u001b[31m\")\n  if (event.data.total === 2) return drop(\"two\")\n" +
		"  if (event.data.total === 3) throw new Error(\"three\")\n  request.headers[\"x-total\"] = String(event.data.total)\n  request.query.q = \"a b\"\n  request.path += \"/x\"\n  request.method = \"PUT\"\n  return { total: event.data.total, t: \"<é>\" }\n}\n",
	"bad.js":    "export default function (event) {\n  return (\n}\n",
	"twice.js":  "const a = 1; const a = 2; export default () => 1\nexport default 2",
	"f.expr":    "data.total > 1\n  && data.customer.country in [\"US\"]\n",
	"s.json":    `{"properties": {"total": {"type": "number"}}}`,
	"e.json":    `{"type": "order.created", "id": "evt_1", "data": {"total": 120, "customer": {"country": "US"}}}`,
	"no.json":   `{"type": "order.created", "data": {"total": 120}}`,
	"x.json":    `{"type": `,
	"header.js": "export default (event, request) => { request.headers[event.data.name] = event.data.value; return 1 }\n",
	"path.js":   "export default (event, request) => { console.log('here'); request.path = event.data; return 1 }\n",
	"empty.js":  "\n", "bare.json": `{"type": "a.b", "total": 1}`,
}

func TestPreview(t *testing.T) {
	t.Parallel()
	dir := writeFiles(t, previewFiles)
	for _, c := range []struct {
		name   string
		args   string
		stdin  string
		status int
		want   []string // in standard output
		errors string   // in standard error
	}{
		{"a request", "--transform t.ts --event e.json --filter-file f.expr", "", 0, []string{
			"✓ data.total > 1 && data.customer.country in [\"US\"]  true\n  ✓ data.total > 1                                   true\n      data.total                                     120\n",
			"console  log: total 120 \\u001b[31m\n", "PUT /hook/x?q=a+b HTTP/1.1\nHost: example.com\nAccept: */*\nContent-Length: 24\nContent-Type: application/json\nSwitchhook-Hops: 1\nUser-Agent: Switchhook/" + Version + "\nwebhook-id: evt_1\nwebhook-timestamp: ",
			"x-total: 120\n\n{\"total\":120,\"t\":\"<é>\"}\n",
		}, "webhook-signature is left out"},
		{"no match", "--transform t.ts --event no.json --filter-file f.expr", "", 3, []string{"  ✗ data.customer.country in", "data.customer.country ", "missing", "The filter does not match this event"}, ""},
		{"a filter alone", "--event e.json --filter data.total>1", "", 0, []string{"POST /hook HTTP/1.1", `{"type":"order.created","timestamp":"`, `"data":{"total": 120, "customer": {"country": "US"}}}`}, ""},
		{"a payload on stdin", "--event - --filter type=='a.b'&&data==1 --type a.b", " 1 ", 0, []string{`"type":"a.b"`, `"data":1}`}, ""},
		{"a payload without type", "--event - --filter type=='example.event'", "[1]", 0, []string{`"data":[1]}`}, ""},
		{"dropped", "--event - --transform t.ts", `{"total": 2}`, 3, []string{"The transform drops this event: two"}, ""},
		{"an error", "--event - --transform t.ts", `{"total": 3}`, 1, []string{"The transform failed (run): Error: three (line 5, column ", "throw new Error(\"three\")", "console  log: total 3"}, ""},
		{"a filter's error", "--event e.json --filter data.total>'x'", "", 1, []string{"! data.total>'x'", "The filter failed (run)", "takes two numbers or two texts"}, ""},
		{"a filter that is wrong", "--event e.json --filter data.totl>1 --schema s.json", "", 1, []string{`unknown field "totl": did you mean "total"?`, "data.totl>1\n       ^"}, ""},
		{"a script that is wrong", "--event e.json --transform bad.js", "", 1, []string{"The transform failed (compile)", "line 3, column 1"}, ""},
		{"both scripts wrong", "--event e.json --filter data.total> --transform twice.js", "", 1, []string{"The filter failed (compile)", "The transform failed (compile): The symbol \"a\" has already been declared (line 1, column 20)", "Line 2, column 8: Multiple exports"}, ""},
		{"a transform despite it", "--event e.json --filter data.total> --transform t.ts", "", 1, []string{"The filter failed (compile)", "If the filter matched, this would be sent:\n\nPUT /hook/x"}, ""},
		{"a filter despite it", "--event no.json --filter-file f.expr --transform bad.js", "", 1, []string{"✓ data.total > 1", "The transform failed (compile)"}, ""},
		{"an event that is none", "--event x.json --transform t.ts", "", 1, nil, "--event: not valid JSON"},
		{"no such file", "--event none.json --transform t.ts", "", 1, nil, "none.json"},
		{"nothing to preview", "--event e.json", "", 2, nil, "give --transform, --filter or --filter-file"},
		{"no event", "--filter true", "", 2, nil, "missing flags: --event"},
		{"two filters", "--event e.json --filter true --filter-file f.expr", "", 2, nil, "can't be used together"},
		{"a bad secret", "--event e.json --filter true --secret x", "", 2, nil, "--secret: must be"},
		{"a short secret", "--event e.json --filter true --secret whsec_AAAA", "", 2, nil, "--secret: holds 3 bytes, must hold 24 to 64"},
		{"another key pair's half", "--event e.json --filter true --secret whsk_" + strings.Repeat("A", 86) + "==", "", 2, nil, "--secret: holds a public key that does not belong to its seed"},
		{"a header", "--event - --transform header.js", `{"name": "x-a", "value": "b"}`, 0, []string{"x-a: b\n"}, ""},
		{"a header of the router", "--event - --transform header.js", `{"name": "x-forwarded-for", "value": "b"}`, 1, []string{"The transform failed (run): request.headers: ", "is set by the router"}, ""},
		{"a header beside them", "--event - --transform header.js", `{"name": "webhook-sequence", "value": "1"}`, 1, []string{"is set by the router"}, ""},
		{"a header of the hop", "--event - --transform header.js", `{"name": "via", "value": "1"}`, 1, []string{"is set by the router"}, ""},
		{"a long header", "--event - --transform header.js", `{"name": "x-a", "value": "` + strings.Repeat("x", 4097) + `"}`, 1, []string{"has a value that is too long"}, ""},
		{"a long path", "--event - --transform path.js", `"/` + strings.Repeat("x", 9000) + `"`, 1, []string{"The transform failed (run)", "console  log: here"}, ""},
		{"a bad target", "--event e.json --filter true --target example", "", 2, nil, "--target"},
		{"an empty filter", "--event e.json --filter=", "", 2, nil, "--filter is empty"},
		{"an empty transform", "--event e.json --transform empty.js", "", 1, nil, "empty.js is empty"},
		{"a type that is none", "--event - --filter true --type a..b", "1", 2, nil, `--type: "a..b" is not an event type`},
		{"a type with other joints", "--event - --filter true --type a/b-c:d", "1", 0, nil, ""},
		{"an event without data", "--event bare.json --filter true", "", 0, []string{`"data":{"type": "a.b", "total": 1}}`}, `bare.json has no "data", so all of it is the payload`},
		{"an event and more", "--event - --filter true", `{"type": "a.b", "data": 1, "x": 2}`, 0, nil, "standard input holds more than an event does"},
		{"another target", "--event e.json --filter true --target http://localhost:9/a%2Fb?c=d", "", 0, []string{"POST /a%2Fb?c=d HTTP/1.1\nHost: localhost:9\n"}, ""},
		{"what the sandbox does", "--event e.json --transform t.ts --verbose", "", 0, nil, "sandbox ready"},
		{"help on the exit status", "--help", "", 0, []string{"3 the filter\ndoes not match or the transform drops it"}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			stdout, stderr, status := runIn(t, dir, c.stdin, append([]string{"preview"}, strings.Fields(c.args)...)...)
			if status != c.status || !strings.Contains(stderr, c.errors) {
				t.Errorf("status %d, wanted %d\n%s%s", status, c.status, stdout, stderr)
			}
			for _, want := range c.want {
				if !strings.Contains(stdout, want) {
					t.Errorf("%q is missing in\n%s", want, stdout)
				}
			}
			if strings.Contains(stdout, "\x1b") {
				t.Error("a script's escape sequence reaches the terminal")
			}
		})
	}
}

func TestPreview_JSONSignatureVerifies(t *testing.T) {
	t.Parallel()
	const secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	stdout, stderr, status := runIn(t, writeFiles(t, previewFiles), "", "preview", "--json", "--event", "e.json", "--transform", "t.ts", "--filter", "data.total > 1", "--secret", secret)
	var got preview
	if err := json.Unmarshal([]byte(stdout), &got); err != nil || status != 0 || stderr != "" {
		t.Fatalf("%v, status %d\n%s%s", err, status, stdout, stderr)
	}
	if !got.Matched || len(got.Explanation.Terms) != 2 || got.Request.URL != "https://example.com/hook/x?q=a+b" || len(got.Console) != 1 || got.DurationMS <= 0 {
		t.Errorf("%+v", got)
	}
	w, err := standardwebhooks.NewWebhook(secret)
	if err != nil {
		t.Fatal(err)
	}
	headers := http.Header{}
	for name, value := range got.Request.Headers {
		headers.Set(name, value)
	}
	if err := w.Verify([]byte(got.Request.Body), headers); err != nil {
		t.Error(err)
	}
	stdout, _, status = runIn(t, writeFiles(t, previewFiles), `{"total": 3}`, "preview", "--json", "--event", "-", "--transform", "t.ts")
	if err := json.Unmarshal([]byte(stdout), &got); err != nil || status != 1 || got.Error.Line != 5 || got.ErrorIn != "transform" {
		t.Errorf("%v, status %d\n%s", err, status, stdout)
	}
}

// The output of preview equals what a receiver gets.
func TestPreview_EqualsDelivery(t *testing.T) {
	t.Parallel()
	dir := writeFiles(t, previewFiles)
	p := serve(t, t.TempDir())
	got := make(chan received, 1)
	r, err := startReceiver("127.0.0.1:0", func(d received) int { got <- d; return http.StatusOK })
	if err != nil {
		t.Fatal(err)
	}
	defer r.close()
	const secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	event := []byte(`{"type": "order.created", "time": "2026-02-03T04:05:06.789Z", "data": {"total":120,"t":"\u00e9"}}`)
	for _, transform := range []string{"", previewFiles["t.ts"]} {
		sub, err := p.api.CreateSubscription(context.Background(), api.SubscriptionRequest{
			Event: api.Some(api.EventNames{"*"}), TargetURL: api.Some(r.url() + "/hook?a=b"), Transform: api.Some(transform), Secret: api.Some(secret),
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := p.api.call(context.Background(), http.MethodPost, "/api/v1/events", json.RawMessage(event), nil); err != nil {
			t.Fatal(err)
		}
		args := []string{"preview", "--json", "--event", "-", "--filter", "true", "--target", r.url() + "/hook?a=b", "--secret", secret}
		if transform != "" {
			args = append(args, "--transform", "t.ts")
		}
		stdout, stderr, _ := runIn(t, dir, string(event), args...)
		var shown preview
		if err := json.Unmarshal([]byte(stdout), &shown); err != nil {
			t.Fatalf("%v\n%s%s", err, stdout, stderr)
		}
		sent := <-got
		if string(sent.body) != shown.Request.Body || !strings.HasSuffix(shown.Request.URL, sent.path) {
			t.Errorf("sent  %s %s\nshown %s %s", sent.path, sent.body, shown.Request.URL, shown.Request.Body)
		}
		for name, value := range shown.Request.Headers {
			if name = http.CanonicalHeaderKey(name); strings.HasPrefix(name, "Webhook-") { // these differ with id and time
				if sent.header.Get(name) == "" {
					t.Errorf("%s is shown but not sent", name)
				}
			} else if sent.header.Get(name) != value && name != "Content-Length" {
				t.Errorf("%s is %q, but shown as %q", name, sent.header.Get(name), value)
			}
		}
		for name := range sent.header {
			known := name == "Accept-Encoding"
			for shown := range shown.Request.Headers {
				known = known || http.CanonicalHeaderKey(shown) == name
			}
			if !known {
				t.Errorf("%s is sent but not shown", name)
			}
		}
		if err := p.api.DeleteSubscription(context.Background(), sub.ID); err != nil {
			t.Fatal(err)
		}
	}
}

func TestPreview_SignsEd25519(t *testing.T) {
	t.Parallel()
	const secret = "whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbfVKIDij2HKpMKkioLlX0dRqSKJp4AJ6p9lMicMFs6Kvg=="
	stdout, stderr, status := runIn(t, writeFiles(t, previewFiles), "", "preview", "--json", "--event", "e.json", "--transform", "t.ts", "--secret", secret)
	var got preview
	if err := json.Unmarshal([]byte(stdout), &got); err != nil || status != 0 {
		t.Fatalf("%v, status %d\n%s%s", err, status, stdout, stderr)
	}
	headers := http.Header{}
	for name, value := range got.Request.Headers {
		headers.Set(name, value)
	}
	if err := verifyEd25519(publicKey(secret), []byte(got.Request.Body), headers); err != nil {
		t.Errorf("%v: %v", err, headers)
	}
}
