package server_test

import (
	"bufio"
	"context"
	"errors"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/valyala/fasthttp"
	"golang.org/x/net/http/httpguts"

	"switchhook/engine"
	"switchhook/server"
)

// nowhere resolves no name, so that fuzzing sends no DNS queries for invented hosts.
var nowhere = &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
	return nil, errors.New("no names here")
}}

// Whatever comes as a body or header is accepted or refused, as openapi.json says (do holds
// every answer against it), and never a failure of the router.

func FuzzSubscriptionBody(f *testing.F) {
	r := start(f, setup{names: nowhere, quota: engine.Quota{Subscriptions: 100}})
	for _, seed := range []string{
		`{"event":"order.*","target_url":"http://127.0.0.1:1/x","filter":"data.total > 1","headers":{"A":"b"},"metadata":{"k":"v"}}`,
		`{"events":["a","*"],"target_url":"http://0x7f.1/","active":false,"payload_format":"data","transform":"export default () => 1"}`,
		`{"event":null,"target_url":5,"headers":[],"secret":"whsec_","filter_script":{"id":"x","version":-1}}`, `[]`, `{"event":"a","target_url":"http://127。0。0。1/\r\n"}`, "{\"event\":\"\xff\"}",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, body string) {
		c := r.acme.in(t)
		a := c.post("/api/v1/subscriptions", body)
		if a.status >= 500 {
			t.Errorf("%d: %s", a.status, a.body)
		}
		if a.status == 201 { // what was taken can be read, sent back and deleted
			path := "/api/v1/subscriptions/" + a.text("id")
			got := c.get(path).want(200)
			c.do("PUT", path, string(got.body)).want(200)
			c.do("DELETE", path, nil).want(204)
		}
	})
}

func FuzzEventBody(f *testing.F) {
	r := start(f)
	for _, content := range []string{"application/json", "application/cloudevents+json", "application/cloudevents-batch+json"} {
		for _, seed := range []string{
			`{"type":"order.created","id":"a-1","time":"2026-01-31T09:30:00Z","headers":{"A":"b"},"data":{"n":12345678901234567890}}`, `[{"type":"a","data":1},{"type":"b","data":null}]`,
			`{"specversion":"1.0","id":"1","source":"/x","type":"a","datacontenttype":"application/json","data":{"a":1}}`, `[{"specversion":"1.0","id":"1","source":"/x","type":"a","data_base64":"AA=="}]`, `{"type":"a","type":"b"}`, "{\"type\":\"\\ud800\",\"data\":\"\xc0\xa0\"}",
		} {
			f.Add(content, seed)
		}
	}
	f.Fuzz(func(t *testing.T, content, body string) {
		if !httpguts.ValidHeaderFieldValue(content) {
			return
		}
		a := r.acme.in(t).post("/api/v1/events", body, "Content-Type", content)
		if a.status >= 500 {
			t.Errorf("%d: %s", a.status, a.body)
		}
	})
}

func FuzzAuthorization(f *testing.F) {
	r := start(f)
	for _, seed := range []string{"Bearer " + r.acme.key, "bearer\t" + r.acme.key, "Basic eDp5", "Basic", "Bearer", "Bearer  ", ", ,", "Digest a=b", "Basic " + r.acme.key, "Bearer \u00e9"} {
		f.Add(seed, "")
		f.Add("", seed)
	}
	f.Fuzz(func(t *testing.T, authorization, key string) {
		if !httpguts.ValidHeaderFieldValue(authorization) || !httpguts.ValidHeaderFieldValue(key) {
			return
		}
		a := r.acme.with(t, "").get("/api/v1/keys", "Authorization", authorization, "X-API-Key", key)
		if a.status != 401 && a.status != 403 && a.status != 429 && a.status != 431 {
			t.Errorf("%d: %s", a.status, a.body)
		}
	})
}

// What the server takes, net/http must take for the same request.
func FuzzFraming(f *testing.F) {
	for _, headers := range []string{
		"Host: x\r\nContent-Length: 5\r\n", "Host: x\r\nTransfer-Encoding: chunked\r\n", "Host: x\r\nContent-Length : 5\r\n", "Host: x\r\nX: a\r\n b\r\n",
		"Host: x\nContent-Length: 5\r\n", "Host: [::1]:80\r\nContent-Length: 5\r\nContent-Length: 6\r\n", "Host: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n",
		"Host: x\r\nTransfer-Encoding: identity\r\n", "Host: x\r\nX\x00Y: \v\r\n", "host: x\r\ncontent-length:\t5 \r\nConnection: close\r\nTrailer: X\r\n",
	} {
		f.Add("POST / HTTP/1.1\r\n", headers)
		f.Add("POST /a?b HTTP/1.0\r\n", headers)
	}
	f.Fuzz(func(t *testing.T, line, headers string) {
		text := line + headers + "\r\n"
		var ctx fasthttp.RequestCtx
		rest := bufio.NewReaderSize(strings.NewReader(text), 16<<10)
		if ctx.Request.Header.Read(rest) != nil || server.CheckFraming(&ctx) != nil {
			return
		}
		if n := rest.Buffered(); n > 0 { // the fuzzer has found the end of the headers
			text = text[:len(text)-n]
		}
		req, err := http.ReadRequest(bufio.NewReader(strings.NewReader(text)))
		if err != nil {
			if strings.Contains(err.Error(), "parse \"") || strings.Contains(err.Error(), "malformed Host") { // the address, which divides no requests
				return
			}
			t.Fatalf("%q is taken, net/http says %v", text, err)
		}
		length := int64(ctx.Request.Header.ContentLength())
		if chunked := slices.Equal(req.TransferEncoding, []string{"chunked"}); chunked != (length == -1) || !chunked && max(length, 0) != req.ContentLength {
			t.Fatalf("%q: the length is %d, for net/http %d %q", text, length, req.ContentLength, req.TransferEncoding)
		}
		if host := string(ctx.Request.Header.Host()); req.URL.Host == "" && host != req.Host {
			t.Fatalf("%q: the Host is %q, for net/http %q", text, host, req.Host)
		}
	})
}
