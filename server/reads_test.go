package server_test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"switchhook/engine"
	"switchhook/engine/testkit"
	"switchhook/server"
)

func TestReads_PagesEndAtBytes(t *testing.T) {
	c := start(t).acme
	var want []string
	for range 12 {
		want = append([]string{c.publish("a", strings.Repeat("x", 700<<10))}, want...)
	}
	page := c.get("/api/v1/events?limit=500").want(200)
	if n := len(page.at("data").([]any)); n < 2 || n > 6 || len(page.body) > server.PageBytes+1<<10 || page.at("next_cursor") == nil {
		t.Errorf("a page of %d events and %d bytes, next_cursor %v", n, len(page.body), page.at("next_cursor"))
	}
	array := c.get("/api/v1/events?limit=500&format=array").want(200)
	if !bytes.HasPrefix(array.body, []byte(`[{"id"`)) || !strings.Contains(array.header.Get("Link"), `rel="next"`) {
		t.Errorf("a bare array: %.20s, Link %q", array.body, array.header.Get("Link"))
	}
	for _, query := range []string{"limit=500", "limit=4", "limit=1"} {
		if got := c.pages("/api/v1/events?"+query, "id"); !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", query, got, want)
		}
	}
}

func TestReads_ListsInMemoryEndAtBytes(t *testing.T) {
	c := start(t).acme
	var want []string
	transform := "export default e => e.data // " + strings.Repeat("x", 30<<10)
	for i := range 200 {
		want = append(want, c.subscribe("a", fmt.Sprintf("%s/%d", anywhere, i), map[string]any{"transform": transform}))
	}
	page := c.get("/api/v1/subscriptions?limit=500").want(200)
	if n := len(page.at("data").([]any)); n < 100 || n == 200 || len(page.body) > server.PageBytes+64<<10 {
		t.Errorf("a page of %d subscriptions and %d bytes", n, len(page.body))
	}
	if got := c.pages("/api/v1/subscriptions?limit=500", "id"); !slices.Equal(got, want) {
		t.Errorf("%d subscriptions, want %d", len(got), len(want))
	}
	// The next page by number would leave out what this one has no room for.
	c.get("/api/v1/subscriptions?limit=500&page=1").refused(422, "page", "smaller pages")
	c.get("/api/v1/subscriptions?limit=50&page=2").want(200).shows(map[string]any{"data.0.id": want[50]})
}

func TestReads_AttemptsHavePages(t *testing.T) {
	r := start(t)
	c, hook := r.acme, receive(t, nil)
	sub := c.subscribe("a", hook.URL)
	c.publish("a", strings.Repeat("x", 1000))
	d := c.delivered(sub, "succeeded")
	path := "/api/v1/deliveries/" + d.text("id")
	id, _ := engine.ParseDeliveryID(d.text("id"))
	recorded := make(chan error)
	for n := 2; n <= 52; n++ {
		a := &engine.Attempt{Number: n, At: time.Now(), Request: engine.AttemptRequest{Method: "POST", URL: hook.URL, Plain: engine.FormatData}, Response: engine.AttemptResponse{Status: 200}}
		r.store.Record(&engine.Outcome{ID: id, State: engine.StateSucceeded, Attempts: n, Attempt: a}, func(err error) { recorded <- err })
		must(t, <-recorded)
	}
	d = c.get(path).want(200).shows(map[string]any{"attempt_count": 52, "attempts.0.number": 52, "attempts.49.number": 3, "attempts.50": nil, "attempts.0.request.body": nil})
	c.get(d.text("next_attempts")).want(200).shows(map[string]any{"data.0.number": 2, "data.1.number": 1, "next_cursor": nil})
	var want []string
	for n := 52; n > 0; n-- {
		want = append(want, strconv.Itoa(n))
	}
	for _, limit := range []int{1, 7, 500} {
		if got := c.pages(fmt.Sprintf("%s/attempts?limit=%d", path, limit), "number"); !slices.Equal(got, want) {
			t.Errorf("by %d: %v", limit, got)
		}
	}
	for _, cursor := range []string{"0", "-1", "x", "1.5", "99999999999999999999", "%00", "2%20"} {
		c.get(path+"/attempts?cursor="+cursor).refused(422, "cursor", "is not a cursor of this list")
	}
	c.get(path+"/attempts?limit=501").refused(422, "limit", "1 to 500")
	c.get(path+"/attempts?status=dead").refused(422, "status", "is not a parameter")
	c.get(path + "/attempts?cursor=1").want(200).shows(map[string]any{"data": "[]", "next_cursor": nil})
	for _, number := range []string{"0", "-1", "53", "x", "1x", "99999999999999999999"} {
		c.get(path+"/attempts/"+number).refused(404, "", "attempt")
	}
	c.get(path + "/attempts/52").want(200).shows(map[string]any{"number": 52, "request.body_size": 1002})
	for _, tail := range []string{"/attempts", "/attempts/1"} {
		r.rival.get(path+tail).refused(404, "", "there is no delivery")
		r.admin.get(path + tail).want(200)
	}
}

func TestReads_ListOfScriptsHasNoCases(t *testing.T) {
	c := start(t).acme
	id := c.post("/api/v1/scripts", `{"name":"f","kind":"filter","source":"true","cases":[{"name":"n","event":{"type":"a","data":1},"expect":{"matches":true}}]}`).want(201).text("id")
	c.get("/api/v1/scripts").want(200).shows(map[string]any{"data.0.id": id, "data.0.cases": nil, "data.0.live_version": 1})
	c.get("/api/v1/scripts/" + id).want(200).shows(map[string]any{"cases.0.name": "n"})
}

func TestReads_WaitForOthers(t *testing.T) {
	r := start(t, setup{readWait: 50 * time.Millisecond})
	r.acme.publish("a", 1)
	busy := func(c *client, status int, detail string) {
		t.Helper()
		for _, path := range []string{"/api/v1/events?limit=1", "/api/v1/deliveries", "/api/v1/subscriptions", "/api/v1/scripts", "/api/v1/audit"} {
			a := c.get(path)
			if a.refused(status, "", detail); a.header.Get("Retry-After") == "" {
				t.Errorf("%s: no Retry-After", path)
			}
		}
		c.get("/api/v1/me").want(200)
		c.publish("b", 1)
	}
	free := func(list ...*client) {
		t.Helper()
		for _, c := range list {
			c.get("/api/v1/events").want(200)
		}
	}
	for _, l := range []struct {
		hold  func(account string) func() // all that the account may use
		share int                         // accounts that use up everything
		own   string
		all   string
	}{
		{r.server.HoldResponses, 4, "the responses of this account use as much", "the memory for responses is in use"},
		{r.server.HoldReads, 3, "too many requests of this account are reading", "too many requests are reading"},
	} {
		release := []func(){l.hold("acme")}
		busy(r.acme, 429, l.own)
		free(r.rival, r.admin)
		if a := r.admin.get("/api/v1/events?account=acme"); a.status != 429 { // for this account
			t.Errorf("an admin key for the account: %d", a.status)
		}
		for i := 1; i < l.share; i++ {
			release = append(release, l.hold(fmt.Sprint("other ", i)))
		}
		busy(r.rival, 503, l.all)
		for _, done := range release {
			done()
		}
		free(r.acme, r.rival, r.admin)
	}
	if inUse := r.server.ResponsesInUse(); inUse != 0 {
		t.Errorf("%d bytes are left in use", inUse)
	}
}

// TestReads_ResponseCountsUntilItIsTaken reads nothing of a large response.
func TestReads_ResponseCountsUntilItIsTaken(t *testing.T) {
	r := start(t)
	for range 5 {
		r.acme.publish("a", strings.Repeat("x", 1000<<10))
	}
	var conns []net.Conn
	for range 4 { // what is sent but not read takes up to some MiB of the operating system's
		conn, err := (&net.Dialer{}).DialContext(context.Background(), "tcp", strings.TrimPrefix(r.url, "http://"))
		must(t, err)
		defer conn.Close()
		must(t, conn.(*net.TCPConn).SetReadBuffer(4<<10))
		fmt.Fprintf(conn, "GET /api/v1/events?limit=500 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n\r\n", r.acme.key)
		conns = append(conns, conn)
	}
	testkit.WaitFor(t, "the responses are held", func() bool {
		n := r.server.ResponsesInUse()
		return n > 8<<20 && n <= 16<<20
	})
	for _, conn := range conns {
		conn.Close()
	}
	testkit.WaitFor(t, "they are given up", func() bool { return r.server.ResponsesInUse() == 0 })
	r.acme.get("/api/v1/events").want(200)
}

func TestReads_DeepNestingIsNotIndented(t *testing.T) {
	c := start(t).acme
	deep := strings.Repeat("[", 60) + strings.Repeat("]", 60)
	c.post("/api/v1/events", `{"type":"a","data":[`+deep+strings.Repeat(","+deep, 5000)+`]}`).want(202)
	if a := c.get("/api/v1/events?pretty").want(200); bytes.Count(a.body, []byte("\n")) > 1 {
		t.Errorf("%d bytes", len(a.body))
	}
	c.get("/api/v1/me?pretty").want(200).shows(map[string]any{"account": "acme"})
}
