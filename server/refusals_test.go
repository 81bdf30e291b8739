package server_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
)

func TestBody_InvalidJSONNamesPosition(t *testing.T) {
	r := start(t)
	id := r.admin.subscribe("a", anywhere)
	writes := []struct{ method, path string }{
		{"POST", "/api/v1/subscriptions"}, {"PUT", "/api/v1/subscriptions/" + id}, {"PATCH", "/api/v1/subscriptions/" + id},
		{"POST", "/api/v1/events"}, {"POST", "/api/v1/event-types"}, {"PUT", "/api/v1/event-types/a"}, {"POST", "/api/v1/keys"},
	}
	deep := strings.Repeat("[", 200) + strings.Repeat("]", 200)
	for _, w := range writes {
		for _, bad := range []struct {
			name, body, detail   string
			offset, line, column int
		}{
			{"an empty body", "", "empty", 0, 1, 1},
			{"words", "{\n  \"event\": nope\n}", "unexpected 'n'", 13, 2, 12},
			{"an object cut short", `{"a":1`, "unexpected end of text", 6, 1, 7},
			{"a comma too many", `{"a":1,}`, "member name", 7, 1, 8},
			{"a member named twice", `{"a":1,"a":2}`, `"a" is named twice`, 7, 1, 8},
			{"a member named twice in disguise", `{"a":{"b":1,"\u0062":2}}`, "is named twice", 12, 1, 13},
			{"two values", `{} {}`, "after the value", 3, 1, 4},
			{"a byte that is not UTF-8", "{\"a\":\"\xff\"}", "not valid UTF-8", 6, 1, 7},
			{"two byte order marks", "\xef\xbb\xbf\xef\xbb\xbf{}", "unexpected", 0, 1, 1},
			{"a control character", "{\"a\":\"\x00\"}", "control character", 6, 1, 7},
			{"NaN", `{"a":NaN}`, "unexpected 'N'", 5, 1, 6},
			{"too deep", deep, "nest deeper than 128", 128, 1, 129},
		} {
			t.Run(w.method+" "+strings.Split(w.path, "/")[3]+" "+bad.name, func(t *testing.T) {
				r.admin.in(t).do(w.method, w.path, bad.body).refused(400, "", bad.detail).
					shows(map[string]any{"title": "Bad Request", "offset": bad.offset, "line": bad.line, "column": bad.column})
			})
		}
		for _, bad := range []struct{ name, value, detail string }{
			{"Content-Type", "text/plain", "application/json"}, {"Content-Type", "application/x-www-form-urlencoded", "application/json"},
			{"Content-Type", "json", "application/json"}, {"Content-Type", "multipart/form-data; boundary=x", "application/json"},
			{"Content-Encoding", "gzip", "gzip"}, {"Content-Encoding", "br", "br"},
		} {
			t.Run(w.method+" "+strings.Split(w.path, "/")[3]+" as "+bad.value, func(t *testing.T) {
				if strings.Contains(w.path, "subscriptions") && strings.Contains(bad.value, "form-urlencoded") {
					t.Skip("forms describe subscriptions; see forms_test.go")
				}
				r.admin.in(t).do(w.method, w.path, `{}`, bad.name, bad.value).refused(415, "", bad.detail)
			})
		}
		want := "must be a JSON object"
		if w.path == "/api/v1/events" {
			want = "must be an event"
		}
		r.admin.do(w.method, w.path, `5`).refused(422, "", want)
		r.admin.do(w.method, w.path, `null`).refused(422, "", want)
	}
	for _, good := range []string{"application/json; charset=utf-8", "APPLICATION/JSON", "application/vnd.example+json"} {
		r.admin.post("/api/v1/events", `{"type":"a","data":1}`, "Content-Type", good).want(202)
	}
	r.admin.post("/api/v1/events", `{"type":"a","data":1}`, "Content-Encoding", "identity").want(202)
}

// An error quotes only the beginning of a long name.
func TestBody_LongNamesAreCut(t *testing.T) {
	long := strings.Repeat("é", 100_000)
	c := start(t).acme
	for _, body := range []string{
		`{"` + long + `":1}`, `{"` + long + `":1,"` + long + `":2}`, `{"event":"a","target_url":"` + anywhere + `","headers":{"` + long + `":[]}}`,
	} {
		for _, path := range []string{"/api/v1/subscriptions", "/api/v1/events", "/api/v1/scripts", "/api/v1/preview", "/api/v1/replays"} {
			if a := c.post(path, body); a.status < 400 || len(a.body) > 10_000 {
				t.Errorf("%s %.10s: %d, %d bytes", path, body, a.status, len(a.body))
			}
		}
	}
}

func TestBody_TooLarge(t *testing.T) {
	event := func(size int) string {
		head, tail := `{"type":"a","data":"`, `"}`
		return head + strings.Repeat("x", size-len(head)-len(tail)) + tail
	}
	// The server answers once it knows the size, and closes: whoever still writes may meet
	// a reset before the answer. So the bodies that are too large are announced only.
	r := start(t)
	r.acme.post("/api/v1/events", event(1<<20)).want(202)
	announce(t, r, "Content-Length: 1048577\r\n\r\n", "1 MiB")
	small := start(t, setup{maxBody: 1000})
	small.acme.post("/api/v1/events", event(1000)).want(202)
	announce(t, small, "Content-Length: 1001\r\n\r\n", "1000 bytes")
	announce(t, small, "Content-Length: 9000000000\r\n\r\n", "1000 bytes")
	announce(t, small, "Transfer-Encoding: chunked\r\n\r\n3e9\r\n", "1000 bytes")
}

// Large bodies of unauthenticated requests are not read.
func TestBody_UnauthenticatedSizeLimit(t *testing.T) {
	r := start(t)
	conn, err := net.Dial("tcp", strings.TrimPrefix(r.url, "http://"))
	must(t, err)
	defer conn.Close()
	must(t, conn.SetDeadline(time.Now().Add(waitTimeout)))
	// The response does not wait for the body.
	_, err = fmt.Fprint(conn, "POST /api/v1/events HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nX-API-Key: nobody\r\nContent-Length: 1000000\r\n\r\n")
	must(t, err)
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	must(t, err)
	defer res.Body.Close()
	if res.StatusCode != 401 {
		t.Errorf("answered %d", res.StatusCode)
	}
}

// announce sends the headers of a body that is too large, and requires a 413.
func announce(t *testing.T, r *testServer, head, limit string) {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(r.url, "http://"))
	must(t, err)
	defer conn.Close()
	must(t, conn.SetDeadline(time.Now().Add(waitTimeout)))
	_, err = fmt.Fprintf(conn, "POST /api/v1/events HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nX-API-Key: %s\r\n%s", r.acme.key, head)
	must(t, err)
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	must(t, err)
	defer res.Body.Close()
	a := &answer{t: t, what: fmt.Sprintf("POST with %q", head), status: res.StatusCode, header: res.Header}
	a.body, err = io.ReadAll(res.Body)
	must(t, err)
	conforms(t, "POST", "/api/v1/events", a)
	a.refused(413, "", limit)
}

func TestFraming_InvalidHTTPIsNotEchoed(t *testing.T) {
	r := start(t)
	r.acme.get("/healthz", "X-Long", strings.Repeat("x", 20<<10)).refused(431, "", "16 KiB")
	conn, err := net.Dial("tcp", strings.TrimPrefix(r.url, "http://"))
	must(t, err)
	defer conn.Close()
	must(t, conn.SetDeadline(time.Now().Add(waitTimeout)))
	_, err = fmt.Fprintf(conn, "POST /api/v1/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer s3cret\r\nContent-Length: -5\r\n\r\n")
	must(t, err)
	text, err := io.ReadAll(conn)
	must(t, err)
	if !strings.Contains(string(text), "400 Bad Request") || !strings.Contains(string(text), "application/problem+json") || strings.Contains(string(text), "s3cret") {
		t.Errorf("the answer is %s", text)
	}
}

func TestRoutes_UnknownPathsAndMethods(t *testing.T) {
	r := start(t)
	for _, c := range []*client{r.acme, r.acme.with(t, "")} {
		for _, path := range []string{"/nothing", "/api", "/api/v1", "/api/v1/", "/api/v2/events", "/api/v1/events/a/b", "/api/v1/Subscriptions", "/api/v1/subscriptions/x/y", "/api/v1/%73ubscriptions", "//nothing", "/healthz/x", "/%00"} {
			c.get(path).refused(404, "", "there is no path")
		}
	}
	for _, test := range []struct{ method, path, allow string }{
		{"DELETE", "/api/v1/subscriptions", "GET, HEAD, POST"},
		{"PUT", "/api/v1/events/", "GET, HEAD, POST"},
		{"POST", "/api/v1/subscriptions/sub_x", "GET, HEAD, PUT, DELETE, PATCH"},
		{"POST", "/api/v1/subscription/sub_x/", "GET, HEAD, PUT, DELETE, PATCH"},
		{"GET", "/api/v1/deliveries/x/retry", "POST"},
		{"POST", "/api/v1/deliveries", "GET, HEAD"},
		{"DELETE", "/api/v1/events/x", "GET, HEAD"},
		{"POST", "/healthz", "GET, HEAD"},
		{"TRACE", "/api/v1/keys", "GET, HEAD, POST"},
	} {
		a := r.acme.do(test.method, test.path, nil).refused(405, "", "Allow")
		if got := a.header.Get("Allow"); got != test.allow {
			t.Errorf("%s: Allow is %q", a.what, got)
		}
	}
}

func TestLists_UnknownParametersAreRefused(t *testing.T) {
	r := start(t)
	for path, unknown := range map[string]string{
		"/api/v1/subscriptions": "evnt", "/api/v1/events": "status", "/api/v1/deliveries": "state", "/api/v1/event-types": "name", "/api/v1/keys": "q",
	} {
		r.admin.get(path+"?"+unknown+"=x").refused(422, unknown, "is not a parameter of this list").fieldCode("unknown")
		for _, bad := range []string{"0", "-1", "501", "x", "1.5", "99999999999999999999", "%00"} {
			r.admin.get(path+"?limit="+bad).refused(422, "limit", "from 1 to 500")
		}
		r.admin.get(path + "?limit=500").want(200)
		if path != "/api/v1/event-types" { // whose cursor is a name
			for _, bad := range []string{"x", "sub_", "%00", "evt_zzzzzzzzzzzzz", ones(5000)} {
				r.admin.get(path+"?cursor="+bad).refused(422, "cursor", "")
			}
		}
	}
	for query, field := range map[string]string{
		"subscriptions?active=yes": "active", "deliveries?status=done": "status", "deliveries?subscription_id=x": "subscription_id", "deliveries?subscription=x": "subscription",
		"deliveries?since=yesterday": "since", "deliveries?until=1": "until", "events?since=2026-01-31": "since", "subscriptions?ACTIVE=maybe": "ACTIVE", "subscriptions?event=a&topic=b": "topic", "subscriptions?status=odd": "status", "subscriptions?page=x": "page", "subscriptions?inline=1": "inline",
	} {
		r.admin.get("/api/v1/"+query).refused(422, field, "")
	}
	for _, list := range []string{"subscriptions", "events", "deliveries", "replays", "scripts", "keys", "event-types", "accounts", "audit"} {
		for _, cursor := range []string{"%20", "a%20b", "%3Cscript%3E", "..%2F", strings.Repeat("x", 200)} {
			if a := r.admin.get("/api/v1/"+list+"?cursor="+cursor).refused(422, "cursor", ""); a.text("code") != "invalid_request" {
				t.Errorf("%s: %s", list, a.body)
			}
		}
	}
	r.acme.get("/api/v1/deliveries?event_id=nope").refused(404, "", "there is no event")
	for _, path := range []string{"subscriptions", "events", "deliveries"} {
		for _, account := range []string{"rival", "*", "default"} {
			r.acme.get("/api/v1/"+path+"?account="+account).refused(422, "account", "this key sees its own account only")
		}
	}
}

func TestLists_SinceAndUntil(t *testing.T) {
	r := start(t)
	hook := receive(t, nil)
	id := r.admin.subscribe("a", hook.URL)
	r.admin.publish("a", 1)
	hook.wait(t, 1)
	off := r.admin.subscribe("off", hook.URL, map[string]any{"active": false})
	r.admin.post("/api/v1/replays", map[string]any{"subscription_ids": []string{off}}).want(202)
	now := time.Now()
	past, future := now.Add(-time.Hour).UTC().Format(time.RFC3339), now.Add(time.Hour).In(time.FixedZone("", 5*3600+45*60)).Format(time.RFC3339Nano)
	for _, list := range []string{"events", "deliveries?subscription_id=" + id, "replays", "audit"} {
		path := "/api/v1/" + list
		if strings.Contains(path, "?") {
			path += "&"
		} else {
			path += "?"
		}
		all := len(r.admin.get(path).column("id"))
		if all == 0 {
			t.Errorf("%s is empty", list)
		}
		for query, want := range map[string]int{
			"since=" + past: all, "until=" + past: 0, "since=" + future: 0, "until=" + future: all, "until=" + url.QueryEscape(future): all, "since=" + past + "&until=" + future: all,
			"since=" + strings.ToLower(past): all, "since=2016-12-31T23:59:60Z": all,
		} {
			if got := len(r.admin.get(path + query).want(200).column("id")); got != want {
				t.Errorf("%s%s: %d entries, want %d", path, query, got, want)
			}
		}
		for _, bad := range []string{"yesterday", "2026-01-31", "2026-01-31T09:30:00", "0001-01-01T00:00:00Z", "2026-01-31T09:30:00,5Z", "1"} {
			r.admin.get(path+"since="+bad).refused(422, "since", "")
			r.admin.get(path+"until="+bad).refused(422, "until", "")
		}
		// Within a page of its own.
		r.admin.get(path + "limit=1&until=" + url.QueryEscape(future)).want(200)
	}
}

func TestBodies_Times(t *testing.T) {
	r := start(t)
	soon := time.Now().Add(24 * time.Hour).UTC().Truncate(time.Second)
	lower := strings.ToLower(soon.Format(time.RFC3339))
	r.acme.post("/api/v1/subscriptions", map[string]any{"event": "a", "target_url": anywhere, "expires_at": lower}).want(201).shows(map[string]any{"expires_at": soon.Format(time.RFC3339)})
	r.admin.post("/api/v1/keys", map[string]any{"expires_at": lower}).want(201).shows(map[string]any{"expires_at": soon.Format(time.RFC3339)})
	id := r.acme.post("/api/v1/events", `{"type":"a","data":1,"time":"2026-01-31t09:30:00.5+01:00"}`).want(202).text("id")
	r.acme.get("/api/v1/events/" + id).shows(map[string]any{"time": "2026-01-31T08:30:00.5Z"})
	off := r.acme.subscribe("off", anywhere, map[string]any{"active": false})
	r.acme.post("/api/v1/replays", map[string]any{"subscription_ids": []string{off}, "since": "2026-01-31t09:30:00z"}).want(202).shows(map[string]any{"since": "2026-01-31T09:30:00Z"})
	for _, bad := range []any{"0001-01-01T00:00:00Z", "2026-01-31T09:30:00,5Z", "2026-01-31 09:30:00Z", "now", 1769851800, true, []string{}} {
		r.acme.post("/api/v1/subscriptions", map[string]any{"event": "a", "target_url": anywhere, "expires_at": bad}).refused(422, "expires_at", "")
		r.admin.post("/api/v1/keys", map[string]any{"expires_at": bad}).refused(422, "expires_at", "")
		r.acme.post("/api/v1/events", map[string]any{"type": "a", "data": 1, "time": bad}).refused(422, "time", "")
		r.acme.post("/api/v1/replays", map[string]any{"subscription_ids": []string{off}, "since": bad}).refused(422, "since", "")
		r.acme.post("/api/v1/replays", map[string]any{"subscription_ids": []string{off}, "until": bad}).refused(422, "until", "")
	}
}

func TestLists_ParametersGivenTwice(t *testing.T) {
	r := start(t)
	for _, list := range []string{"subscriptions", "events", "deliveries", "replays", "scripts", "keys", "event-types", "accounts", "audit"} {
		r.admin.get("/api/v1/"+list+"?limit=5&limit=6").refused(422, "limit", "given twice")
		r.admin.get("/api/v1/" + list + "?limit=5&limit=5").want(200)
	}
	for _, list := range []string{"subscriptions", "events", "deliveries", "scripts"} {
		r.admin.get("/api/v1/"+list+"?account=%00").refused(422, "account", "is not an account name")
	}
}

func TestPATCH_NullResets(t *testing.T) {
	r := start(t)
	r.admin.do("PUT", "/api/v1/accounts/acme", `{"quota":{"subscriptions":5},"retention":{"dead":"1h","succeeded":"2h"},"verify":"hook-secret"}`).want(201)
	patch := func(body string, want map[string]any) {
		t.Helper()
		r.admin.do("PATCH", "/api/v1/accounts/acme", body).want(200).shows(want)
	}
	patch(`{"verify":null}`, map[string]any{"verify": "", "quota.subscriptions": 5})
	patch(`{"retention":{"dead":null}}`, map[string]any{"retention.dead": nil, "retention.succeeded": "2h"})
	patch(`{"quota":{"subscriptions":null}}`, map[string]any{"quota.subscriptions": nil})
	patch(`{"retention":null}`, map[string]any{"retention.succeeded": nil})

	made := r.acme.post("/api/v1/subscriptions", map[string]any{"event": "a", "target_url": anywhere, "verify": "hook-secret", "headers": map[string]string{"Authorization": "x"}}).want(201)
	r.acme.do("PATCH", made.text("href"), `{"target_url":null}`).refused(422, "target_url", "is missing")
	r.acme.do("PATCH", made.text("href"), `{"description":"d"}`).want(200).shows(map[string]any{"verification.mode": "hook-secret"})
	r.acme.do("PATCH", made.text("href"), `{"verify":null}`).want(200).shows(map[string]any{"verification": nil, "active": true})
}

func TestBodies_MisspeltMembersAreRefused(t *testing.T) {
	r := start(t)
	id := r.acme.subscribe("a", anywhere)
	for misspelt, meant := range map[string]string{
		"traget_url": "target_url", "evnt": "event", "filtr": "filter", "transfrom": "transform", "header": "headers", "payloadFormat": "payload_format", "DESCRIPTION": "description",
	} {
		body := map[string]any{"event": "a", "target_url": anywhere, misspelt: "x"}
		r.acme.post("/api/v1/subscriptions", body).refused(422, misspelt, "did you mean \""+meant+"\"?").fieldCode("unknown")
		r.acme.do("PATCH", "/api/v1/subscriptions/"+id, map[string]any{misspelt: "x"}).refused(422, misspelt, "did you mean \""+meant+"\"?")
	}
	r.acme.post("/api/v1/subscriptions", map[string]any{"event": "zapier", "target_url": anywhere, "zapier_version": 3}).want(201)
	r.acme.post("/api/v1/events", `{"type":"a","data":1,"payload":2}`).refused(422, "payload", "is not known").fieldCode("unknown")
	r.admin.post("/api/v1/keys", `{"accunt":"acme"}`).refused(422, "accunt", `did you mean "account"?`).fieldCode("unknown")
	r.admin.post("/api/v1/event-types", `{"name":"a","shema":{}}`).refused(422, "shema", `did you mean "schema"?`)
}

// Every member of a body is used or refused: none is lost, and an empty one does not pass for an
// omitted one if that means something else.
func TestBodies_UnknownEmptyAndZeroMembersAreRefused(t *testing.T) {
	r := start(t)
	r.admin.post("/api/v1/event-types", `{"name":"order.created"}`).want(201)
	r.admin.script("filter", "f", "true", "false")
	sub := r.admin.subscribe("a", anywhere, map[string]any{"active": false})
	for _, test := range []struct{ method, path, body, field string }{
		{"POST", "keys", `{"permissions":["publish"]}`, "permissions"},
		{"POST", "keys", `{"key":""}`, "key"},
		{"POST", "keys", `{"account":""}`, "account"},
		{"POST", "replays", `{"subscription_ids":["` + sub + `"],"speed":5}`, "speed"},
		{"POST", "replays", `{"subscription_ids":["` + sub + `"],"rate":0}`, "rate"},
		{"POST", "replays", `{"subscription_ids":["` + sub + `"],"target_subscription_id":""}`, "target_subscription_id"},
		{"POST", "replays", `{"subscription":"` + sub + `"}`, "subscription"},
		{"POST", "event-types", `{"name":"x","schemas":1,"json":{}}`, "schemas"},
		{"PUT", "event-types/order.created", `{"json_schema":{}}`, "json_schema"},
		{"POST", "scripts", `{"name":"x","kind":"filter","code":"true"}`, "code"},
		{"POST", "scripts", `{"name":"x","kind":"filter","account":""}`, "account"},
		{"PATCH", "scripts/f", `{"nme2":"y"}`, "nme2"},
		{"POST", "scripts/f/versions", `{"source":"true","live":true}`, "live"},
		{"POST", "scripts/f/versions/2/activate", `{"forced":true}`, "forced"},
		{"POST", "scripts/f/shadow", `{"version":2,"seconds":60}`, "seconds"},
		{"POST", "scripts/f/test", `{"version":0}`, "version"},
		{"POST", "scripts/f/compare", `{"version":0}`, "version"},
		{"POST", "scripts/f/compare", `{"version":2,"last":0}`, "last"},
		{"POST", "subscriptions", `{"event":"a","url":"` + anywhere + `","policy":{"max_attempts":3}}`, "policy.max_attempts"},
		{"POST", "subscriptions", `{"event":"a","url":"` + anywhere + `","policy":{"rate":{"count":1,"per":"1s","burst":5}}}`, "policy.rate.burst"},
		{"POST", "subscriptions", `{"event":"a","url":"` + anywhere + `","policy":{"retries":{"first":"1s","attempts":2,"jitter":0.2}}}`, "policy.retries.jitter"},
		{"POST", "subscriptions", `{"event":"a","url":"` + anywhere + `","batch":{"size":2,"bytes":100}}`, "batch.bytes"},
		{"POST", "subscriptions", `{"event":"a","url":"` + anywhere + `","debounce":{"within":"5s","leading":true}}`, "debounce.leading"},
		{"POST", "subscriptions", `{"event":"a","url":"` + anywhere + `","signatures":[]}`, "signatures"},
		{"POST", "subscriptions", `{"event":"a","url":"` + anywhere + `","filter_script":{"name":"f","version":0}}`, "filter_script.version"},
		{"POST", "subscriptions", `{"event":"a","url":"` + anywhere + `","account":""}`, "account"},
		{"PUT", "accounts/acme", `{"quotas":{},"plan":"x"}`, "quotas"},
		{"PUT", "accounts/acme", `{"quota":{"subscriptions":"5"}}`, "quota.subscriptions"},
		{"POST", "preview", `{"event":{"type":"a","data":1},"target_url":"x"}`, "target_url"},
		{"POST", "preview", `{"subscription_id":"","event":{"type":"a","data":1}}`, "subscription_id"},
		{"POST", "subscriptions/" + sub + "/test", `{"events":{}}`, "events"},
		{"POST", "events", `{"type":"a","data":1,"id":""}`, "id"},
		{"POST", "events", `{"type":"a","data":1,"account":""}`, "account"},
		{"POST", "events", `{"type":"a","data":1,"time":""}`, "time"},
	} {
		r.admin.do(test.method, "/api/v1/"+test.path, test.body).refused(422, test.field, test.field)
	}
	for _, path := range []string{"events", "subscriptions", "replays"} {
		r.admin.post("/api/v1/"+path, `{"type":"a","data":1}`, once, "").refused(422, once, "is empty")
	}
	// Members of responses can be sent back.
	for _, path := range []string{"event-types/order.created", "accounts/acme", "subscriptions/" + sub} {
		r.admin.do("PUT", "/api/v1/"+path, string(r.admin.get("/api/v1/"+path).body))
		r.admin.do("PUT", "/api/v1/"+path, string(r.admin.get("/api/v1/"+path).body)).want(200)
	}
	for _, method := range []string{"PUT", "PATCH"} {
		r.admin.do(method, "/api/v1/scripts/f", string(r.admin.get("/api/v1/scripts/f").body)).want(200)
	}
}

func TestBodies_WholeNumberForms(t *testing.T) {
	r := start(t)
	for i, number := range []string{"100", "100.0", "1e2", "1E+2", "1000e-1"} {
		body := fmt.Sprintf(`{"event":"a","url":"%s/%d","batch":{"size":%s},"policy":{"in_flight":%s,"rate":{"count":%s,"per":%s}}}`, anywhere, i, number, number, number, number)
		r.acme.post("/api/v1/subscriptions", body).want(201).shows(map[string]any{"batch.size": 100, "policy.in_flight": 100, "policy.rate": map[string]any{"count": 100, "per": "100s"}})
		if a := r.admin.do("PATCH", "/api/v1/accounts/rival", `{"quota":{"stored_bytes":`+number+`,"subscriptions":null}}`); a.status > 201 || fmt.Sprint(a.at("quota.stored_bytes")) != "100" {
			t.Errorf("a quota of %s: %d %s", number, a.status, a.body)
		}
	}
	for _, number := range []string{"100.5", "1e-1", "1e400", "12345678901234567890", "1e30", `"100"`, "true", strings.Repeat("1", 5000) + ".0"} {
		r.acme.post("/api/v1/subscriptions", fmt.Sprintf(`{"event":"a","url":"%s/x","batch":{"size":%s}}`, anywhere, number)).refused(422, "batch.size", "")
	}
}

func TestScripts_CompileErrorNamesPosition(t *testing.T) {
	c := start(t).acme
	path := "/api/v1/subscriptions/" + c.subscribe("a", anywhere)
	for _, test := range []struct {
		field, source string
		line, column  int
		snippet       string
	}{
		{"filter", `data.total >`, 1, 13, "data.total >\n"},
		{"filter", "data.total > 100 and\n  daat.x == 1", 2, 3, "  daat.x == 1\n  ^"},
		{"filter", `len(type) + 1`, 1, 0, "len(type) + 1\n"},
		{"transform", "export default (event) => {\n  return event.data.;\n}", 2, 21, "  return event.data.;\n"},
		{"transform", `const x = 1`, 0, 0, ""},
		{"transform", "import fs from 'fs'\nexport default () => fs.x", 1, 0, ""},
	} {
		for _, a := range []*answer{
			c.post("/api/v1/subscriptions", map[string]any{"event": "a", "target_url": anywhere, test.field: test.source}),
			c.do("PATCH", path, map[string]any{test.field: test.source}),
		} {
			a.refused(422, test.field, test.field+": ")
			if test.line > 0 {
				a.shows(map[string]any{"script.line": test.line})
			}
			if test.column > 0 {
				a.shows(map[string]any{"script.column": test.column})
			}
			if got, _ := a.at("script.snippet").(string); !strings.HasPrefix(got, test.snippet) {
				t.Errorf("%s %q: snippet %q", test.field, test.source, got)
			}
			if a.at("script.message") == nil {
				t.Errorf("%s %q: no message: %s", test.field, test.source, a.body)
			}
		}
	}
	c.get(path).shows(map[string]any{"filter": "", "transform": ""})
	c.post("/api/v1/subscriptions", map[string]any{"event": "a", "target_url": anywhere, "transform": "//" + strings.Repeat("x", 70<<10)}).refused(422, "transform", "larger than")
}

func TestTargets_BlockedByGuard(t *testing.T) {
	c := start(t, setup{closed: true}).acme
	for target, detail := range map[string]string{
		"http://169.254.169.254/latest/meta-data/": "private or special", "http://127.0.0.1:8080/": "private or special", "http://[::1]/": "private or special",
		"http://localhost/": "private or special", "http://10.0.0.1/": "private or special", "http://2130706433/": "", "http://0x7f.1/": "",
		"ftp://example.com/": "https:// or http://", "example.com/hook": "https:// or http://", "http://u:p@8.8.8.8/": "user name", "https://8.8.8.8/#x": "fragment",
		"http://8.8.8.8:22/": "port 22", "https://8.8.8.8/a\r\nX: y": "control character", "": "is missing", "https://8.8.8.8/" + ones(2050): "longer than",
	} {
		a := c.post("/api/v1/subscriptions", map[string]any{"event": "a", "target_url": target})
		if detail == "" && a.status == 201 {
			continue // the system's resolver does not know the spelling; the dialer asks the same one
		}
		a.refused(422, "target_url", detail)
	}
	id := c.subscribe("a", "https://8.8.8.8/hook")
	c.do("PATCH", "/api/v1/subscriptions/"+id, `{"target_url":"http://169.254.169.254/"}`).refused(422, "target_url", "private or special")
	c.get("/api/v1/subscriptions/" + id).shows(map[string]any{"target_url": "https://8.8.8.8/hook"})
}

func TestHeaders_InvalidAreRefused(t *testing.T) {
	c := start(t).acme
	many := map[string]string{}
	for i := range 33 {
		many[fmt.Sprintf("X-%d", i)] = "x"
	}
	for name, headers := range map[string]any{
		"line break":                 map[string]string{"X-A": "a\r\nX-B: b"},
		"another control":            map[string]string{"X-A": "a\x00b"},
		"is not a header name":       map[string]string{"X A": "a"},
		"X-B\" is not a header name": map[string]string{"X-A\r\nX-B": "a"},
		"set by the router":          map[string]string{"Webhook-Signature": "v1,x"},
		"is set by the router":       map[string]string{"host": "example.com"},
		"set by the router and":      map[string]string{"transfer-encoding": "chunked"},
		"too long":                   map[string]string{"X-A": strings.Repeat("x", 5000)},
		"is given twice":             map[string]string{"X-A": "1", "x-a": "2"},
		"33 headers":                 many,
		"must be":                    map[string]any{"X-A": 5},
		"router and can't be giv":    map[string]string{"Content-Length": "1"},
	} {
		a := c.post("/api/v1/subscriptions", map[string]any{"event": "a", "target_url": anywhere, "headers": headers})
		if a.status != 422 || !strings.Contains(a.text("detail"), name) || !strings.HasPrefix(a.text("field"), "headers") {
			t.Errorf("%s: %d %.300s", name, a.status, a.body)
		}
	}
}

func TestRoutes_MalformedIDsAreNotFound(t *testing.T) {
	r := start(t)
	for _, id := range []string{
		"x", "%00", "%zz", "%", "%2F", "%2e%2e", "..%2f..%2fetc", "%E2%80%AE", "%F0%9F%92%A9", "%ff%fe", "%C3%28", "%0d%0aX:y", "'", "\"", "%22%27%3B--", "*", ":id", "sub_",
		"sub_0000000000000", "sub_zzzzzzzzzzzzz", "evt_0000000000000", "dlv_00000000000000000000000000", "SUB_0DKWA9AP8H00G", "%2520", ones(4000), strings.Repeat("%41", 1500),
	} {
		for _, path := range []string{"subscriptions/%s", "subscriptions/%s/secret", "events/%s", "deliveries/%s", "event-types/%s", "subscription/%s/", "event/%s/"} {
			status, body := raw(t, r, "GET", "/api/v1/"+fmt.Sprintf(path, id))
			if status != 404 || !strings.Contains(body, `"status":404`) {
				t.Errorf("GET %s with %.60q: %d %.300s", path, id, status, body)
			}
		}
		for _, line := range []string{"POST deliveries/%s/retry", "DELETE subscriptions/%s", "DELETE keys/%s", "DELETE event-types/%s"} {
			method, path, _ := strings.Cut(line, " ")
			if status, body := raw(t, r, method, "/api/v1/"+fmt.Sprintf(path, id)); status != 404 {
				t.Errorf("%s with %.60q: %d %.300s", line, id, status, body)
			}
		}
	}
	for _, name := range []string{"%00", "%zz", "a%20b", "a%2Fb%2F", "%C3%B6", ones(200)} {
		if status, body := raw(t, r, "PUT", "/api/v1/event-types/"+name); status != 422 && status != 404 {
			t.Errorf("PUT event-types/%.60s: %d %.300s", name, status, body)
		}
	}
}

func TestRoutes_UnknownHTTPMethods(t *testing.T) {
	r := start(t)
	for _, method := range []string{"FOO", "get", "PRI", "G'T"} {
		for _, path := range []string{"/api/v1/events", "/healthz", "*"} {
			if status, body := raw(t, r, method, path); status != 501 || !strings.Contains(body, "method") {
				t.Errorf("%s %s: %d %s", method, path, status, body)
			}
		}
	}
}

// raw sends a path verbatim, which net/http would not.
func raw(t *testing.T, r *testServer, method, path string) (status int, body string) {
	t.Helper()
	u, err := url.Parse(r.url)
	must(t, err)
	conn, err := net.Dial("tcp", u.Host)
	must(t, err)
	defer conn.Close()
	must(t, conn.SetDeadline(time.Now().Add(waitTimeout)))
	content := ""
	if method == "PUT" {
		content = "{}"
	}
	_, err = fmt.Fprintf(conn, "%s %s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s", method, path, r.admin.key, len(content), content)
	must(t, err)
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	must(t, err)
	defer res.Body.Close()
	if got := res.Header.Get("Content-Type"); got != "application/problem+json" {
		t.Errorf("%s %.100s: %d of type %q", method, path, res.StatusCode, got)
	}
	text, err := io.ReadAll(res.Body)
	must(t, err)
	return res.StatusCode, string(text)
}

func TestPublish_RefusedWhenDiskIsFull(t *testing.T) {
	r := start(t, setup{full: true})
	a := r.acme.post("/api/v1/events", `{"type":"a","data":1}`).refused(503, "", "disk")
	if got := a.header.Get("Retry-After"); got != "30" {
		t.Errorf("Retry-After is %q", got)
	}
	r.admin.get("/readyz").refused(503, "", "disk")
	r.admin.get("/healthz").want(200)
	if list := r.acme.get("/api/v1/events").want(200); strings.Contains(string(list.body), "evt_") {
		t.Errorf("an event was stored: %s", list.body)
	}
	r.acme.subscribe("*", "http://127.0.0.1:9/")
}
