package server_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

const byteOrderMark = "\ufeff"

func TestBody_ByteOrderMarkIsIgnored(t *testing.T) {
	r := start(t)
	r.acme.post("/api/v1/events", byteOrderMark+`{"type":"a","data":1}`).want(202)
	r.acme.post("/api/v1/events", byteOrderMark+`[{"type":"a","data":1}]`).want(202)
	r.acme.post("/api/v1/subscriptions", byteOrderMark+`{"event":"a","target_url":"`+anywhere+`"}`).want(201)
	r.acme.post("/api/v1/subscriptions", byteOrderMark+`{"event":"b","target_url":"`+anywhere+`"}`, "Content-Type", "application/x-www-form-urlencoded").want(201)
	r.admin.do("PUT", "/api/v1/event-types/a", byteOrderMark+`{"description":"x"}`).want(201)
	r.acme.post("/api/v1/events", byteOrderMark+`{"specversion":"1.0","id":"1","source":"/s","type":"a","data":1}`, "Content-Type", "application/cloudevents+json").want(202)
	r.acme.post("/api/v1/events", byteOrderMark+`{"n":1}`, "ce-specversion", "1.0", "ce-id", "2", "ce-source", "/s", "ce-type", "a").want(202)
	r.acme.post("/api/v1/events", byteOrderMark).refused(400, "", "empty")
	r.acme.post("/api/v1/events", byteOrderMark+byteOrderMark+`{"type":"a","data":1}`).refused(400, "", "not JSON")
	r.acme.post("/api/v1/events", `{`+byteOrderMark+`"type":"a","data":1}`).refused(400, "", "not JSON")
}

func TestBody_MediaTypesAndCodings(t *testing.T) {
	r := start(t)
	const event, accented = `{"type":"a","data":1}`, `{"type":"a","data":"é"}`
	for _, test := range []struct {
		kind, coding, body string
		status             int
	}{
		{"application/json", "", event, 202},
		{"APPLICATION/JSON", "", event, 202},
		{"application/json;charset=UTF-8", "", accented, 202},
		{`application/json; charset="utf-8"`, "", accented, 202},
		{"application/json; Charset=utf8", "", accented, 202},
		{"application/json; charset=us-ascii", "", event, 202},
		{"application/json; charset=ISO-8859-1", "", event, 202}, // as Apache's client says of ASCII
		{"application/json; charset=ISO-8859-1", "", accented, 415},
		{"application/json; charset=utf-16", "", "{\x00}\x00", 415},
		{"application/json; charset", "", event, 202},
		{"application/json;", "", event, 202},
		{"application/json; profile=\"x;y\"; version=1", "", event, 202},
		{"application/vnd.api+json", "", event, 202},
		{"application/jsonx", "", event, 415},
		{"text/plain", "", event, 415},
		{"text/json", "", event, 415},
		{"application/xml", "", "<a/>", 415},
		{"multipart/form-data; boundary=x", "", "--x--", 415},
		{"multipart/form-data", "", "--x--", 415},
		{"application/x-www-form-urlencoded", "", "type=a", 415},
		{";", "", event, 415},
		{"application/json, text/plain", "", event, 415},
		{"application/json", "identity", event, 202},
		{"application/json", "Identity", event, 202},
		{"application/json", " IDENTITY , identity", event, 202},
		{"application/json", "gzip", event, 415},
		{"application/json", "identity, gzip", event, 415},
		{"application/json", "x", event, 415},
	} {
		headers := []string{"Content-Type", test.kind}
		if test.coding != "" {
			headers = append(headers, "Content-Encoding", test.coding)
		}
		if a := r.acme.post("/api/v1/events", test.body, headers...); a.status != test.status {
			t.Errorf("%q %q %q: %d %s", test.kind, test.coding, test.body, a.status, a.body)
		}
	}
	r.acme.post("/api/v1/events", event, "Content-Encoding", "identity", "Content-Encoding", "gzip").refused(415, "", "gzip")
}

func TestPath_DoubledSlashesAreOne(t *testing.T) {
	r := start(t)
	for _, path := range []string{"//api/v1/events", "/api//v1/events", "/api/v1///events//", "////api/v1/events?limit=1", "//example.com/../api/v1/events"} {
		status, body := rawAs(t, r, r.acme.key, "GET", path)
		if want := 200; status != want && !strings.Contains(path, "..") || strings.Contains(path, "..") && status != 404 {
			t.Errorf("GET %s: %d %s", path, status, body)
		}
	}
	id := r.acme.subscribe("a", anywhere)
	if status, body := rawAs(t, r, r.acme.key, "GET", "//api/v1//subscriptions//"+id); status != 200 {
		t.Errorf("%d %s", status, body)
	}
	// The query is unchanged, and there is no redirect.
	if status, body := rawAs(t, r, r.acme.key, "GET", "//api/v1/events?type=a//b"); status != 200 {
		t.Errorf("%d %s", status, body)
	}
	if status, body := rawAs(t, r, r.acme.key, "GET", "//example.com//"); status != 404 || !strings.Contains(body, "there is no path /example.com/") {
		t.Errorf("%d %s", status, body)
	}
	if status, _ := rawAs(t, r, r.acme.key, "GET", "//"); status != 200 {
		t.Errorf("the page: %d", status)
	}
	// A dialect's path, and its key.
	r.legacy("authcode", r.acme.key).call("GET", "//hooks//subscribe", "", 200)
}

// rawAs sends a path verbatim, and returns the status and the body of the response.
func rawAs(t *testing.T, r *testServer, key, method, path string) (int, string) {
	t.Helper()
	conn := r.dial(t)
	_, err := fmt.Fprintf(conn, "%s %s HTTP/1.1\r\nHost: x\r\nX-API-Key: %s\r\nConnection: close\r\nContent-Length: 0\r\n\r\n", method, path, key)
	must(t, err)
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	must(t, err)
	body, err := io.ReadAll(res.Body)
	must(t, err)
	return res.StatusCode, string(body)
}

// A URL that is too long and headers that are too large have different statuses.
func TestRequestLineAndHeaders_TooLong(t *testing.T) {
	r := start(t)
	long := strings.Repeat("x", 20<<10)
	for name, test := range map[string]struct {
		request string
		status  int
	}{
		"a path":                     {"GET /" + long + " HTTP/1.1\r\nHost: x\r\n\r\n", 414},
		"a query":                    {"GET /api/v1/events?type=" + long + " HTTP/1.1\r\nHost: x\r\n\r\n", 414},
		"a method":                   {strings.ToUpper(long) + " / HTTP/1.1\r\nHost: x\r\n\r\n", 414},
		"a header":                   {"GET / HTTP/1.1\r\nHost: x\r\nX-A: " + long + "\r\n\r\n", 431},
		"a header's name":            {"GET / HTTP/1.1\r\nHost: x\r\n" + long + ": a\r\n\r\n", 431},
		"many headers":               {"GET / HTTP/1.1\r\nHost: x\r\n" + strings.Repeat("X-A: b\r\n", 4000) + "\r\n", 431},
		"cookies":                    {"GET /healthz HTTP/1.1\r\nHost: x\r\nCookie: " + long + "\r\n\r\n", 431},
		"an address and its headers": {"GET /" + long[:10<<10] + " HTTP/1.1\r\nHost: x\r\nX-A: " + long[:10<<10] + "\r\n\r\n", 431},
		"a trailer":                  {"POST /api/v1/events HTTP/1.1\r\nHost: x\r\nX-API-Key: " + r.acme.key + "\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\nX-A: " + long + "\r\n\r\n", 431},
	} {
		t.Run(name, func(t *testing.T) {
			for _, before := range []string{"", "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"} {
				conn := r.dial(t)
				answers := bufio.NewReader(conn)
				if before != "" {
					_, err := io.WriteString(conn, before)
					must(t, err)
					res, err := http.ReadResponse(answers, nil)
					must(t, err)
					_, err = io.Copy(io.Discard, res.Body)
					must(t, err)
				}
				_, err := io.WriteString(conn, test.request)
				must(t, err)
				res, err := http.ReadResponse(answers, nil)
				must(t, err)
				body, err := io.ReadAll(res.Body)
				must(t, err)
				if res.StatusCode != test.status || res.Header.Get("Content-Type") != "application/problem+json" || !res.Close || len(body) > 1000 {
					t.Errorf("%d %v %s", res.StatusCode, res.Header, body)
				}
			}
		})
	}
}

func TestConditionalGet(t *testing.T) {
	r := start(t)
	r.admin.post("/api/v1/event-types", `{"name":"a"}`).want(201)
	script := "/api/v1/scripts/" + r.acme.script("filter", "f", "true")
	for _, path := range []string{"/api/v1/subscriptions/" + r.acme.subscribe("a", anywhere, map[string]any{"active": false}), "/api/v1/event-types/a", script} {
		got := r.acme.get(path).want(200)
		tag := got.header.Get("ETag")
		for _, method := range []string{"GET", "HEAD"} {
			for _, known := range []string{tag, "W/" + tag, `"x", ` + tag, "*"} {
				same := r.acme.do(method, path, nil, "If-None-Match", known).want(304)
				if same.header.Get("ETag") != tag || len(same.body) > 0 || same.header.Get("Content-Type") != "" {
					t.Errorf("%s %s: %v %q", method, path, same.header, same.body)
				}
			}
		}
		if other := r.acme.get(path+"?pretty", "If-None-Match", tag).want(200).header.Get("ETag"); other == tag {
			t.Errorf("%s: two forms have the ETag %s", path, tag)
		}
		r.acme.get(path, "If-None-Match", `"1", W/"2"`).want(200)
	}
	// An event, a delivery and a replay have no version, but an answer that may be the same.
	sub, hook := "", receive(t, nil)
	sub = r.acme.subscribe("b", hook.URL)
	event := r.acme.publish("b", 1)
	delivery := r.acme.delivered(sub, "succeeded").text("id")
	replay := r.acme.post("/api/v1/replays", map[string]any{"subscription_ids": []string{sub}}).want(202).text("id")
	eventually(t, "the replay is completed", func() bool { return r.acme.get("/api/v1/replays/"+replay).text("status") == "completed" })
	for _, path := range []string{"/api/v1/events/" + event, "/api/v1/deliveries/" + delivery, "/api/v1/replays/" + replay} {
		tag := r.acme.get(path).want(200).header.Get("ETag")
		if same := r.acme.get(path, "If-None-Match", tag).want(304); len(same.body) > 0 {
			t.Errorf("%s: %q", path, same.body)
		}
		r.acme.get(path, "If-None-Match", `"0011223344556677"`).want(200)
	}
	if tag := r.acme.get("/api/v1/replays/rpl_0dkwa9ap8h00g").want(404).header.Get("ETag"); tag != "" {
		t.Errorf("a 404 has the ETag %s", tag)
	}
	// A member that changes without a change of the resource is in the ETag too, and makes no change stale.
	before := r.acme.get(script).want(200).header.Get("ETag")
	r.acme.subscribe("a", anywhere, map[string]any{"filter_script": "f"})
	after := r.acme.get(script, "If-None-Match", before).want(200).shows(map[string]any{"used_by": 1}).header.Get("ETag")
	if after == before {
		t.Errorf("the ETag is still %s", after)
	}
	r.acme.do("PATCH", script, `{"description":"d"}`, "If-Match", before).want(200)
	r.acme.do("PATCH", script, `{"description":"e"}`, "If-Match", after).refused(412, "", "")
}

func TestPreconditions(t *testing.T) {
	r := start(t)
	path := "/api/v1/subscriptions/" + r.acme.subscribe("a", anywhere)
	patch := func(headers ...string) *answer {
		return r.acme.do("PATCH", path, map[string]any{"description": fmt.Sprint(headers)}, headers...)
	}
	patch("If-Match", `"1"`).want(200)
	patch("If-Match", `"1"`).refused(412, "", "")
	patch("If-Match", `"1", "2"`).want(200)                     // now 3
	patch("If-Match", `"1","2" , W/"3",`).want(200)             // now 4
	patch("If-Match", `"x,y", "4"`).want(200)                   // now 5
	patch("If-Match", `"9"`, "If-Match", `"5"`).want(200)       // now 6, two lines
	patch("If-Match", `"1", "2"`).refused(412, "", "")          // none of them
	patch("If-Match", `"other", "x"`).refused(412, "", "")      // no versions
	patch("If-Match", `"9", *`).want(200)                       // now 7: one that fits whatever it is
	patch("If-Match", `*`).want(200)                            // now 8
	patch("If-Match", `7`).refused(412, "", "is not a version") // not quoted
	patch("If-Match", strings.Repeat(`"1",`, 33)).refused(400, "", "32 are allowed")
	patch("If-None-Match", `*`).refused(412, "", "If-None-Match")
	if got := r.acme.get(path).want(200).header.Get("ETag"); !strings.HasPrefix(got, `"8.`) {
		t.Errorf("the version is %s", got)
	}
	r.acme.do("DELETE", path, nil, "If-Match", `"1", "8.0011223344556677"`).want(204)

	for path, body := range map[string]string{"/api/v1/event-types/x.y": `{"description":"d"}`, "/api/v1/accounts/fresh": `{"verify":""}`} {
		put := func(headers ...string) *answer { return r.admin.do("PUT", path, body, headers...) }
		put("If-Match", "*").refused(412, "", "does not exist")
		put("If-None-Match", "*").want(201)
		put("If-None-Match", "*").refused(412, "", "exists already")
		put("If-Match", "*").want(200)
		put("If-Match", `"1", "2"`).want(200)
		put("If-Match", `"1", "2"`).refused(412, "", "")
	}
}

func TestPathPrefix_BeginsThePathsOfAnswers(t *testing.T) {
	r := start(t, setup{prefix: "/hooks"})
	made := r.acme.post("/api/v1/subscriptions", map[string]any{"event": "a", "target_url": anywhere}, "Idempotency-Key", "k").want(201)
	path := "/hooks/api/v1/subscriptions/" + made.text("id")
	if made.header.Get("Location") != path || made.text("href") != path {
		t.Errorf("Location %q, href %q", made.header.Get("Location"), made.text("href"))
	}
	again := r.acme.post("/api/v1/subscriptions", map[string]any{"event": "a", "target_url": anywhere}, "Idempotency-Key", "k").want(201)
	if again.header.Get("Location") != path {
		t.Errorf("the repeat's Location is %q", again.header.Get("Location"))
	}
	r.acme.subscribe("b", anywhere)
	if got := r.acme.get("/api/v1/subscriptions?limit=1").want(200).header.Get("Link"); !strings.HasPrefix(got, "</hooks/api/v1/subscriptions?") {
		t.Errorf("Link is %q", got)
	}
	if got := r.admin.do("PUT", "/api/v1/event-types/x", `{}`).want(201).header.Get("Location"); got != "/hooks/api/v1/event-types/x" {
		t.Errorf("Location is %q", got)
	}
	if page := string(r.acme.get("/").want(200).body); strings.Contains(page, `href="/`) {
		t.Error("the page has links that leave out the prefix")
	}
}

func TestParameters_GivenTwiceAreRefused(t *testing.T) {
	r := start(t)
	r.acme.get("/api/v1/events?type=a&type=b").refused(422, "type", "is given twice")
	r.acme.get("/api/v1/events?limit=1&limit=2").refused(422, "limit", "is given twice")
	r.acme.get("/api/v1/events?limit=1&limit=1").want(200)
	r.acme.get("/api/v1/subscriptions?events[]=a&events[]=a").want(200)
	r.admin.get("/api/v1/deliveries?account=acme&account=rival").refused(422, "account", "is given twice")
	r.admin.post("/api/v1/events?account=acme&account=rival", `{"type":"a","data":1}`).refused(422, "account", "is given twice")
	r.acme.get("/api/v1/events?since=2026-01-31T09:30:00+02:00").want(200)
	r.acme.get("/api/v1/events?since=").want(200)
}

// HEAD answers as GET does, without a body; OPTIONS lists the methods.
func TestMethods_HeadAndOptionsOnEveryRoute(t *testing.T) {
	r := start(t)
	sub := r.acme.subscribe("a", anywhere)
	for _, op := range r.server.Operations() {
		for _, path := range append(op.Aliases, op.Path) {
			path = op.Fill(path, sub)
			a := r.admin.do("OPTIONS", path, nil).want(204)
			if allow := strings.Split(a.header.Get("Allow"), ", "); !slices.Contains(allow, op.Method) || !slices.Contains(allow, "OPTIONS") || len(a.body) > 0 {
				t.Errorf("OPTIONS %s: Allow is %q", path, a.header.Get("Allow"))
			}
			if op.Method != "GET" || op.Path == "/metrics" {
				continue
			}
			get, head := r.admin.get(path), r.admin.do("HEAD", path, nil)
			if head.status != get.status || len(head.body) > 0 {
				t.Errorf("HEAD %s: %d with %d bytes, GET %d", path, head.status, len(head.body), get.status)
			}
			for _, name := range []string{"Content-Type", "Content-Length", "ETag", "Cache-Control", "X-Content-Type-Options"} {
				if g, h := get.header.Get(name), head.header.Get(name); g != h {
					t.Errorf("HEAD %s: %s is %q, of GET %q", path, name, h, g)
				}
			}
		}
	}
}

func TestAddress_ForwardedInAllForms(t *testing.T) {
	clock := newClock()
	r := start(t, setup{now: clock.now, proxies: loopback})
	wrong := r.acme.with(t, "swk_wrong")
	shut := func(forwarded ...string) bool {
		var headers []string
		for _, f := range forwarded {
			headers = append(headers, "X-Forwarded-For", f)
		}
		return r.rival.get("/api/v1/me", headers...).status == 429
	}
	for range 20 { // of one address, written in every way
		for _, f := range []string{"192.0.2.1", "192.0.2.1:4711", `"192.0.2.1:4711"`, "::ffff:192.0.2.1", "[::ffff:192.0.2.1]:4711"} {
			wrong.get("/api/v1/me", "X-Forwarded-For", f)
		}
		for _, f := range []string{"2001:db8::1", "[2001:db8::2]", "[2001:db8::3]:4711", `"[2001:db8::4]:4711"`} {
			wrong.get("/api/v1/me", "X-Forwarded-For", f)
		}
	}
	for _, f := range [][]string{{"192.0.2.1"}, {"192.0.2.1:1"}, {"203.0.113.9, 192.0.2.1"}, {"203.0.113.9", "192.0.2.1"}, {"192.0.2.1, 127.0.0.1"}, {"192.0.2.1", "127.0.0.1:80"}, {"unknown, 192.0.2.1"}, {"2001:db8::ffff"}, {"[2001:db8::1]:9"}} {
		if !shut(f...) {
			t.Errorf("%q is not taken for the address that sent wrong keys", f)
		}
	}
	for _, f := range [][]string{{"192.0.2.2"}, {"192.0.2.1, 192.0.2.2:80"}, {"192.0.2.1", "192.0.2.2"}, {"192.0.2.1, unknown"}, {"192.0.2.1, _hidden"}, {"192.0.2.1, "}, {"192.0.2.1, 192.0.2.256"}, {"[2001:db8:1::1]"}, {""}, nil} {
		if shut(f...) {
			t.Errorf("%q is taken for the address that sent wrong keys", f)
		}
	}
}

// Pipelined requests are answered in order; a client that has half-closed its connection still gets
// its response.
func TestConnection_PipelinedAndHalfClosed(t *testing.T) {
	r := start(t)
	var requests bytes.Buffer
	for i := range 50 {
		body := fmt.Sprintf(`{"type":"a","id":"e%d","data":1}`, i)
		fmt.Fprintf(&requests, "POST /api/v1/events HTTP/1.1\r\nHost: x\r\nX-API-Key: %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", r.acme.key, len(body), body)
	}
	conn := r.dial(t)
	_, err := conn.Write(requests.Bytes())
	must(t, err)
	must(t, conn.(interface{ CloseWrite() error }).CloseWrite())
	answers := bufio.NewReader(conn)
	for i := range 50 {
		res, err := http.ReadResponse(answers, nil)
		must(t, err)
		body, err := io.ReadAll(res.Body)
		must(t, err)
		if res.StatusCode != 202 || !bytes.Contains(body, fmt.Appendf(nil, `"e%d"`, i)) {
			t.Fatalf("answer %d: %d %s", i, res.StatusCode, body)
		}
	}
	if more, err := io.ReadAll(answers); len(more) > 0 || err != nil {
		t.Errorf("then %q %v", more, err)
	}
	// A truncated request stores nothing.
	for _, part := range []string{"POST /api/v1/events HTTP/1.1\r\nHost", "POST /api/v1/events HTTP/1.1\r\nHost: x\r\nX-API-Key: " + r.acme.key + "\r\nContent-Length: 100\r\n\r\n{", "POST /api/v1/events HTTP/1.1\r\nHost: x\r\nX-API-Key: " + r.acme.key + "\r\nTransfer-Encoding: chunked\r\n\r\n15\r\n{\"type\":\"a\",\"data\":1}\r\n"} {
		conn := r.dial(t)
		_, err := io.WriteString(conn, part)
		must(t, err)
		must(t, conn.(interface{ CloseWrite() error }).CloseWrite())
		began := time.Now()
		res, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err == nil && res.StatusCode != 400 {
			t.Errorf("%q: %d", part, res.StatusCode)
		}
		if took := time.Since(began); took > 20*time.Second {
			t.Errorf("%q: answered after %s", part, took)
		}
	}
	if got := len(r.acme.get("/api/v1/events?limit=500").want(200).column("id")); got != 50 {
		t.Errorf("%d events are stored", got)
	}
}
