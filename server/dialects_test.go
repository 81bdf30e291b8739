package server_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	neturl "net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"switchhook/engine"
	"switchhook/engine/router"
	"switchhook/server"
	"switchhook/server/dialect"
)

// legacy is a client written for another service.
type legacy struct {
	t      testing.TB
	url    string
	header http.Header
}

func (r *testServer) legacy(headers ...string) *legacy {
	l := &legacy{r.t, r.url, http.Header{}}
	for i := 0; i < len(headers); i += 2 {
		l.header.Set(headers[i], headers[i+1])
	}
	return l
}

// call sends a request; a body that is a url.Values string is a form.
func (l *legacy) call(method, path, body string, status int) *answer {
	l.t.Helper()
	req, err := http.NewRequest(method, l.url+path, strings.NewReader(body))
	must(l.t, err)
	req.Header = l.header.Clone()
	if body != "" && req.Header.Get("Content-Type") == "" {
		req.Header.Set("Content-Type", "application/json")
	}
	res, err := http.DefaultClient.Do(req)
	must(l.t, err)
	defer res.Body.Close()
	a := &answer{t: l.t, what: method + " " + path, status: res.StatusCode, header: res.Header}
	a.body, err = io.ReadAll(res.Body)
	must(l.t, err)
	return a.want(status)
}

// expressReceiver is a client of the REST Hooks demo for Express. Once a minute it lists the
// events, subscribes to those that it is not subscribed to, asks for each subscription and
// moves those that lead elsewhere; it unsubscribes from within a delivery. Like the demo's
// HTTP client it fails on every status but 2xx.
type expressReceiver struct {
	t    testing.TB
	api  *legacy
	hook *receiver
}

type expressEvent struct {
	Name       string
	Subscribed bool
	ID         *string
}

func (e *expressReceiver) list() []expressEvent {
	e.t.Helper()
	var listed struct{ Subscribable []expressEvent }
	must(e.t, json.Unmarshal(e.api.call("GET", "/hooks/subscribe", "", 200).body, &listed))
	return listed.Subscribable
}

// round is the job that runs each minute; target becomes the target of deliveries.
func (e *expressReceiver) round(target string) {
	e.t.Helper()
	for _, event := range e.list() {
		if !event.Subscribed {
			e.api.call("POST", "/hooks/subscribe", `{"name":"`+event.Name+`","hookurl":"`+target+`"}`, 200).shows(map[string]any{"message": "OK"})
			continue
		}
		one := e.api.call("GET", "/hooks/subscribe/"+*event.ID, "", 202).shows(map[string]any{"id": *event.ID, "clientID": "acme", "event": event.Name})
		if one.text("hookurl") != target {
			e.api.call("PUT", "/hooks/subscribe/"+*event.ID, `{"hookurl":"`+target+`"}`, 202).shows(map[string]any{"message": "OK"})
		}
	}
	for _, event := range e.list() {
		if !event.Subscribed || event.ID == nil {
			e.t.Errorf("%s is not subscribed to", event.Name)
		}
	}
}

func TestDialects_ExpressDemoReceiver(t *testing.T) {
	r := start(t)
	for _, name := range []string{"user.created", "user.deleted"} {
		r.admin.post("/api/v1/event-types", map[string]any{"name": name}).want(201)
	}
	api := r.legacy("authcode", r.acme.key)
	gone := make(chan string, 1)
	hook := receive(t, func(w http.ResponseWriter, req *http.Request) {
		if id := req.Header.Get("X-Unsubscribe"); id != "" {
			api.call("DELETE", "/hooks/subscribe/"+id, "", 202).shows(map[string]any{"message": "OK"})
			gone <- id
		}
		fmt.Fprint(w, `{"message":"OK"}`)
	})
	e := &expressReceiver{t, api, hook}
	if a := api.call("GET", "/hooks/subscribe", "", 200); string(a.body) != `{"subscribable":[{"name":"user.created","subscribed":false},{"name":"user.deleted","subscribed":false}]}`+"\n" {
		t.Errorf("before it subscribed: %s", a.body)
	}
	for n, path := range []string{"/a", "/a", "/b", "/b", "/b"} {
		e.round(hook.URL + path)
		r.acme.publish("user.created", map[string]any{"n": n, "event": "forged"})
		id := *e.list()[0].ID
		if got := hook.wait(t, n+1)[n]; got.uri != path || got.body != fmt.Sprintf(`{"id":%q,"event":"user.created","n":%d}`, id, n) {
			t.Errorf("round %d: came: %s %s", n, got.uri, got.body)
		}
	}
	// It unsubscribes from within a delivery, and subscribes again in the next round.
	id := *e.list()[1].ID
	r.acme.do("PATCH", "/api/v1/subscriptions/"+id, map[string]any{"headers": map[string]string{"X-Unsubscribe": id}}).want(200)
	r.acme.publish("user.deleted", map[string]any{})
	if got := <-gone; got != id {
		t.Errorf("%s was deleted, not %s", got, id)
	}
	if e.list()[1].Subscribed {
		t.Error("it is still subscribed")
	}
	e.round(hook.URL + "/b")
}

func TestDialects_ExpressDemoAnswers(t *testing.T) {
	r := start(t)
	hook := receive(t, nil)
	for _, name := range []string{"user.created", "user.deleted"} {
		r.admin.post("/api/v1/event-types", map[string]any{"name": name}).want(201)
	}
	c := r.legacy("authcode", r.acme.key)
	subscribe := func(url string, status int) *answer {
		t.Helper()
		return c.call("POST", "/hooks/subscribe", `{"name":"user.created","hookurl":"`+url+`","extra":1}`, status)
	}
	path := subscribe(hook.URL+"/a", 200).header.Get("Location")
	id := strings.TrimPrefix(path, "/hooks/subscribe/")
	c.call("GET", path, "", 202).shows(map[string]any{"id": id, "event": "user.created", "hookurl": hook.URL + "/a"})
	c.call("GET", "/hooks/subscribe/", "", 200).shows(map[string]any{"subscribable.0.subscribed": true, "subscribable.0.id": id, "subscribable.1.subscribed": false})
	subscribe(hook.URL+"/a", 200)
	// This service has at most one subscription per event.
	subscribe(hook.URL+"/c", 404).refused(404, "name", "subscribed to already, by "+id)
	r.legacy("authcode", r.rival.key).call("POST", "/hooks/subscribe", `{"name":"user.created","hookurl":"`+hook.URL+`"}`, 200) // another account's
	r.acme.subscribe("user.created", hook.URL+"/own")                                                                           // nor does the API's own count
	r.legacy("authcode", "nonsense").call("GET", "/hooks/subscribe", "", 401)

	c.call("PUT", "/hooks/subscribe/"+id, `{"hookurl":"`+hook.URL+`/b","name":"user.deleted"}`, 202)
	c.call("GET", path, "", 202).shows(map[string]any{"event": "user.created", "hookurl": hook.URL + "/b"})
	c.call("PUT", "/hooks/subscribe/"+id, `{"name":"user.deleted"}`, 422)
	c.call("POST", "/hooks/subscribe", `{"name":"user.deleted"}`, 422).refused(422, "hookurl", "hookurl is missing")
	c.call("POST", "/hooks/subscribe", `{"hookurl":"`+hook.URL+`"}`, 422).refused(422, "name", "name is missing")
	c.call("POST", "/hooks/subscribe", `{"name":"user.deleted","hookurl":"ftp://x"}`, 422).refused(422, "hookurl", "hookurl ")
	c.call("POST", "/hooks/subscribe", `nonsense`, 400)
	c.call("HEAD", "/hooks/subscribe", "", 200)
	if a := c.call("PATCH", "/hooks/subscribe", "", 405); a.header.Get("Allow") != "POST, GET, HEAD" {
		t.Errorf("Allow is %q", a.header.Get("Allow"))
	}
	if a := c.call("OPTIONS", "/hooks/subscribe/"+id, "", 204); a.header.Get("Allow") != "DELETE, PUT, GET, HEAD, OPTIONS" {
		t.Errorf("Allow is %q", a.header.Get("Allow"))
	}

	// The API shows it as any subscription, with its dialect.
	r.acme.get("/api/v1/subscriptions/" + id).want(200).shows(map[string]any{"dialect": "express-demo", "target_url": hook.URL + "/b", "event": "user.created"})
	c.call("DELETE", "/hooks/subscribe/"+id, "", 202).shows(map[string]any{"message": "OK"})
	c.call("DELETE", "/hooks/subscribe/"+id, "", 404)
	c.call("GET", "/hooks/subscribe/"+id, "", 404)
	r.acme.get("/api/v1/subscriptions/" + id).want(404)
	subscribe(hook.URL+"/c", 200)
}

// Of concurrent subscribers to the same event with different targets, one succeeds.
func TestDialects_UniqueConcurrentSubscribe(t *testing.T) {
	r := start(t)
	c := r.legacy("authcode", r.acme.key)
	var won atomic.Int32
	var all sync.WaitGroup
	for n := range 16 {
		all.Go(func() {
			req, err := http.NewRequest("POST", r.url+"/hooks/subscribe", strings.NewReader(fmt.Sprintf(`{"name":"a","hookurl":"%s/%d"}`, anywhere, n)))
			check(t, err)
			req.Header = c.header.Clone()
			req.Header.Set("Content-Type", "application/json")
			res, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Error(err)
				return
			}
			res.Body.Close()
			if res.StatusCode == 200 {
				won.Add(1)
			} else if res.StatusCode != 404 {
				t.Errorf("answered %d", res.StatusCode)
			}
		})
	}
	all.Wait()
	if got := len(r.acme.get("/api/v1/subscriptions").column("id")); won.Load() != 1 || got != 1 {
		t.Errorf("%d were answered 200, %d are stored", won.Load(), got)
	}
}

func TestDialects_DjangoRESTHooksClient(t *testing.T) {
	r := start(t)
	hook := receive(t, nil)
	c := r.legacy("Authorization", "Token "+r.acme.key)
	made := c.call("POST", "/api/v1/hooks/", `{"event":"user.logged_in","target":"`+hook.URL+`"}`, 201).shows(map[string]any{"event": "user.logged_in", "target": hook.URL})
	id := made.text("id")
	if got := made.header.Get("Location"); got != "/api/v1/hooks/"+id {
		t.Errorf("Location is %q", got)
	}
	c.call("GET", made.header.Get("Location"), "", 200).shows(map[string]any{"id": id})
	c.call("GET", "/api/v1/hooks/", "", 200).shows(map[string]any{"0.id": id, "0.target": hook.URL, "1": nil})
	c.call("GET", "/api/v1/hooks/"+id+"/", "", 200).shows(map[string]any{"id": id})
	r.acme.publish("user.logged_in", map[string]any{"username": "bryan"})
	want := fmt.Sprintf(`{"hook":{"id":%q,"event":"user.logged_in","target":%q},"data":{"username":"bryan"}}`, id, hook.URL)
	if got := hook.wait(t, 1)[0]; got.body != want || got.header.Get("Content-Type") != "application/json" {
		t.Errorf("came: %s", got.body)
	}
	c.call("PUT", "/api/v1/hooks/"+id+"/", `{"event":"user.logged_out","target":"`+hook.URL+`"}`, 200).shows(map[string]any{"event": "user.logged_out"})
	c.call("PATCH", "/api/v1/hooks/"+id+"/", `{"target":"`+hook.URL+`/2"}`, 200).shows(map[string]any{"event": "user.logged_out", "target": hook.URL + "/2"})
	c.call("PATCH", "/api/v1/hooks/", `{}`, 405)
	bad := c.call("POST", "/api/v1/hooks/", `{"event":"user.logged_in","target":"nonsense"}`, 400)
	if detail := bad.text("detail"); !strings.HasPrefix(detail, "target ") || bad.header.Get("Content-Type") != "application/json" {
		t.Errorf("refused with %s", bad.body)
	}
	c.header.Set("Content-Type", "application/x-www-form-urlencoded")
	c.call("POST", "/api/v1/hooks/", "event=a.b&target="+hook.URL, 201)
	c.call("DELETE", "/api/v1/hooks/"+id+"/", "", 204)
	c.call("DELETE", "/api/v1/hooks/"+id+"/", "", 404)
	r.legacy("Authorization", "Token nonsense").call("GET", "/api/v1/hooks/", "", 401)
	r.legacy("Authorization", "Bearer "+r.acme.key).call("GET", "/api/v1/hooks/", "", 200)
	r.legacy("Authorization", "Token "+r.acme.key, "X-API-Key", r.rival.key).call("GET", "/api/v1/hooks/", "", 401)
	// The dialect's key header is not accepted on other routes.
	r.legacy("Authorization", "Token "+r.acme.key).call("GET", "/api/v1/me", "", 401)
	r.legacy("authcode", r.acme.key).call("GET", "/api/v1/subscriptions", "", 401)
}

func TestDialects_Isolation(t *testing.T) {
	r := start(t)
	r.admin.post("/api/v1/event-types", `{"name":"a"}`).want(201)
	own, rival, none := r.legacy("authcode", r.acme.key), r.legacy("authcode", r.rival.key), r.legacy()
	id := strings.TrimPrefix(own.call("POST", "/hooks/subscribe", `{"name":"a","hookurl":"`+anywhere+`"}`, 200).header.Get("Location"), "/hooks/subscribe/")
	plain := r.acme.subscribe("a", anywhere)
	django := r.legacy("Authorization", "Token "+r.acme.key)
	for _, c := range []*legacy{none, rival, django} {
		status := 404
		if c == none {
			status = 401
		}
		path := "/hooks/subscribe/"
		if c == django {
			path = "/api/v1/hooks/"
		}
		c.call("PUT", path+id, `{"hookurl":"`+anywhere+`/2","event":"a","target":"`+anywhere+`/2"}`, status)
		c.call("DELETE", path+id, "", status)
	}
	for _, other := range []string{plain, "x", "sub_0000000000000", "%00", strings.Repeat("1", 3000)} {
		own.call("DELETE", "/hooks/subscribe/"+other, "", 404)
	}
	rival.call("GET", "/hooks/subscribe", "", 200).shows(map[string]any{"subscribable.0.subscribed": false, "subscribable.0.id": nil})
	django.call("GET", "/api/v1/hooks", "", 200).shows(map[string]any{"0": nil})
	own.call("GET", "/hooks/subscribe", "", 200).shows(map[string]any{"subscribable.0.id": id})
	// In dialects an admin key belongs to its account, too.
	r.legacy("authcode", r.admin.key).call("DELETE", "/hooks/subscribe/"+id, "", 404)

	for _, scope := range []string{"read", "publish"} {
		key := r.admin.post("/api/v1/keys", map[string]any{"account": "acme", "scopes": []string{scope}}).want(201).text("key")
		c := r.legacy("authcode", key)
		c.call("POST", "/hooks/subscribe", `{"name":"b","hookurl":"`+anywhere+`"}`, 403)
		c.call("DELETE", "/hooks/subscribe/"+id, "", 403)
		c.call("GET", "/hooks/subscribe", "", map[string]int{"read": 200, "publish": 403}[scope])
	}
	closed := start(t, setup{closed: true})
	closed.legacy("authcode", closed.acme.key).call("POST", "/hooks/subscribe", `{"name":"a","hookurl":"http://169.254.169.254/"}`, 422)
}

const shop = `
name: shop
description: What the shop had before
path: /shop/v2
key: {header: X-Shop-Token, query: token}
request:
  events: webhook.topics
  target_url: webhook.address
  filter: webhook.only
fixed:
  signatures: [x-hook-signature]
  description: from the shop
operations:
  subscribe:
    method: POST
    path: /webhooks.json
    status: 200
    answer: {webhook: {id: $subscription.id, topics: $subscription.events, address: $subscription.target_url, secret: $subscription.secret, team: $subscription.metadata.team, price: $$5}}
  list:
    method: GET
    path: /webhooks.json
    answer: {webhooks: [{$each: subscriptions, $item: $subscription.target_url}]}
  unsubscribe:
    method: POST
    path: /webhooks/remove.json
    request: {target_url: url, id: key}
    status: 200
    answer: {ok: true}
delivery: {topic: $event.type, payload: $event.data}
errors:
  status: {404: 410, 422: 400}
  body: {error: $error.detail, code: $error.status}
`

func TestDialects_LoadAndReloadFolder(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "shop.yaml")
	must(t, os.WriteFile(file, []byte(shop), 0o600))
	r := start(t, setup{dialects: dir, queryKeys: true})
	hook := receive(t, nil)
	c := r.legacy("X-Shop-Token", r.acme.key)
	made := c.call("POST", "/shop/v2/webhooks.json", `{"webhook":{"topics":["order.created"],"address":"`+hook.URL+`","only":"data.total > 1"}}`, 200)
	made.shows(map[string]any{"webhook.topics": "[order.created]", "webhook.address": hook.URL, "webhook.team": nil, "webhook.price": "$5"})
	if !strings.HasPrefix(made.text("webhook.secret"), "whsec_") {
		t.Errorf("the secret is %s", made.text("webhook.secret"))
	}
	id := made.text("webhook.id")
	r.acme.get("/api/v1/subscriptions/" + id).shows(map[string]any{"description": "from the shop", "signatures": "[x-hook-signature]", "dialect": "shop", "filter": "data.total > 1"})
	r.legacy().call("GET", "/shop/v2/webhooks.json?token="+r.acme.key, "", 200).shows(map[string]any{"webhooks.0": hook.URL, "webhooks.1": nil})
	r.acme.publish("order.created", map[string]any{"total": 5})
	if got := hook.wait(t, 1)[0]; got.body != `{"topic":"order.created","payload":{"total":5}}` || got.header.Get("X-Hook-Signature") == "" {
		t.Errorf("came: %s %v", got.body, got.header)
	}
	c.call("POST", "/shop/v2/webhooks/remove.json", `{"url":"`+anywhere+`"}`, 410).shows(map[string]any{"code": 410})
	c.call("POST", "/shop/v2/webhooks/remove.json", `{}`, 400).shows(map[string]any{"error": "the body does not identify the subscription to delete: give key or url"})

	// A changed file is reloaded without a restart: new paths, new deliveries.
	write := func(text string) {
		t.Helper()
		must(t, os.WriteFile(filepath.Join(dir, ".new"), []byte(text), 0o600)) // and a name that is passed over
		must(t, os.Rename(filepath.Join(dir, ".new"), file))
	}
	is := func(path string, status int) {
		t.Helper()
		eventually(t, fmt.Sprintf("%s answers %d", path, status), func() bool {
			req, err := http.NewRequest("GET", r.url+path, nil)
			must(t, err)
			req.Header = c.header
			res, err := http.DefaultClient.Do(req)
			must(t, err)
			res.Body.Close()
			return res.StatusCode == status
		})
	}
	write(strings.NewReplacer("/shop/v2", "/shop/v3", "{topic: $event.type, payload: $event.data}", `{v3: $event.data}`).Replace(shop))
	is("/shop/v3/webhooks.json", 200)
	is("/shop/v2/webhooks.json", 404)
	r.acme.publish("order.created", map[string]any{"total": 6})
	if got := hook.wait(t, 2)[1]; got.body != `{"v3":{"total":6}}` {
		t.Errorf("came: %s", got.body)
	}
	// An invalid file changes nothing, and neither does one with another's paths.
	write("name: shop\npath: [")
	must(t, os.WriteFile(filepath.Join(dir, "other.yaml"), []byte(strings.NewReplacer("name: shop", "name: other", "/shop/v2", "/other").Replace(shop)), 0o600))
	is("/other/webhooks.json", 200)
	is("/shop/v3/webhooks.json", 200)
	must(t, os.WriteFile(filepath.Join(dir, "third.yml"), []byte(strings.NewReplacer("name: shop", "name: third", "/shop/v2", "/other").Replace(shop)), 0o600))
	must(t, os.WriteFile(filepath.Join(dir, "other.yaml"), []byte(strings.NewReplacer("name: shop", "name: other", "/shop/v2", "/other/one").Replace(shop)), 0o600))
	is("/other/one/webhooks.json", 200)
	is("/other/webhooks.json", 200) // the third's: the conflict is gone
	must(t, os.Remove(filepath.Join(dir, "third.yml")))
	is("/other/webhooks.json", 404)
	is("/shop/v3/webhooks.json", 200)
	c.call("POST", "/shop/v3/webhooks/remove.json", `{"url":"`+hook.URL+`"}`, 200).shows(map[string]any{"ok": true})
	r.acme.get("/api/v1/subscriptions/" + id).want(404)
}

func TestDialects_UnsubscribeByBodyOrQuery(t *testing.T) {
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "two.yaml"), []byte(`
name: two
path: /two
key: {header: Authorization}
request: {event: hook.event, target_url: hook.url}
operations:
  subscribe: {method: POST, answer: {id: $subscription.id}}
  unsubscribe: {method: DELETE}
`), 0o600))
	r := start(t, setup{dialects: dir})
	c := r.legacy("Authorization", r.acme.key) // the bare key
	url := anywhere + "/x?a=1&b=2"
	body := `{"hook":{"event":"a","url":"` + url + `"}}`
	query := "?hook[event]=a&hook[url]=" + neturl.QueryEscape(url)
	for _, how := range []struct{ query, body string }{{query, ""}, {"", body}} {
		c.call("POST", "/two", body, 201)
		c.call("DELETE", "/two"+how.query, how.body, 204)
		c.call("DELETE", "/two"+how.query, how.body, 404)
	}
	c.call("DELETE", "/two", "", 422)
	c.call("DELETE", "/two?hook[url]=%ff", "", 422)
	r.legacy("Authorization", "Bearer "+r.acme.key).call("POST", "/two", body, 201) // as everywhere
	r.legacy("Authorization", r.acme.key+"x").call("POST", "/two", body, 401)
}

func TestDialects_ErrorsNameFileLineAndMember(t *testing.T) {
	running := start(t).engine
	replace := func(old, with string) string {
		if !strings.Contains(shop, old) {
			t.Fatalf("%q is not in the example", old)
		}
		return strings.Replace(shop, old, with, 1)
	}
	for _, test := range []struct{ text, want string }{
		{"", "must be an object"},
		{"a: [", "not valid YAML"},
		{"name: x\nname: y", ""},
		{replace("name: shop", "name: The Shop"), "shop.yaml:2: name: must be a name"},
		{replace("description:", "descripton:"), `descripton: is not known here; did you mean "description"?`},
		{replace("path: /shop/v2", "path: shop"), "shop.yaml:4: path: must be a path"},
		{replace("path: /shop/v2\n", ""), "path: must be a path"},
		{replace("path: /shop/v2", "path: /shop/../v2"), "can't be a part of a path"},
		{replace("path: /shop/v2", "path: /shop/{id}"), "path: can't hold {id}"},
		{replace("path: /webhooks.json", "path: /webhooks/*"), `shop.yaml:16: operations.subscribe.path: "*" can't be a part`},
		{replace("path: /shop/v2", "path: /api/v1/subscriptions"), "operations.subscribe.path: /api/v1/subscriptions is a path of the router's own"},
		{replace("path: /shop/v2", "path: /api/v1/subscription"), "is a path of the router's own"},
		{replace("path: /shop/v2", "path: /api/v1/keys/x"), "is a path of the router's own"},
		{replace("path: /shop/v2", "path: /metrics"), "is a path of the router's own"},
		{replace("method: POST", "method: TRACE"), "shop.yaml:15: operations.subscribe.method: must be one of GET"},
		{replace("status: 200", "status: 500"), "operations.subscribe.status: must be a number from 200 to 299"},
		{replace("status: 200", "status: 204"), "can't be given with the status 204"},
		{replace("$subscription.id", "$subscription.idd"), `shop.yaml:18: operations.subscribe.answer.webhook.id: "$subscription.idd" is not a placeholder; did you mean "$subscription.id"?`},
		{replace("$$5", "$5"), `"$5" is not a placeholder; there is $subscription, and "$$" begins`},
		{replace("$each: subscriptions", "$each: subs"), `$each: must be "event_types" or "subscriptions"`},
		{replace("request: {target_url: url, id: key}", "request: {filter: x}"), "operations.unsubscribe.path: must hold {id}"},
		{replace("  target_url: webhook.address\n", ""), "operations.subscribe.request: must say"},
		{replace("  events: webhook.topics\n", ""), "operations.subscribe.request: must say what the client calls our event"},
		{strings.Replace(replace("  events: webhook.topics\n", ""), "  description: from the shop", "  event: 'a b'", 1), "fixed.events[0]: "},
		{replace("  filter: webhook.only", "  filtr: x"), `request.filtr: is not known here; did you mean "filter"?`},
		{replace("  filter: webhook.only", "  filter: 5"), "request.filter: must be the client's name"},
		{replace("  filter: webhook.only", "  filter: {join: [a, b]}"), "request.filter: must be the client's name for it: only event"},
		{replace("  events: webhook.topics", "  events: {join: [a]}"), "request.events.join: must be a list"},
		{replace("  events: webhook.topics", "  events: {join: [a, 5]}"), "request.events.join[]: must be the client's name"},
		{replace("  events: webhook.topics", "  events: {joined: [a, b]}"), "request.events.joined: is not known here"},
		{replace("  filter: webhook.only", "  filter: "+strings.Repeat("x", 101)), "100 characters at most"},
		{replace("  description: from the shop", "  target_url: x"), "fixed.target_url: is not known here"},
		{replace("  description: from the shop", "  payload_format: bogus"), `shop.yaml:12: fixed.payload_format: "bogus" is not known: use "standard"`},
		{replace("  description: from the shop", "  batch: {size: 1}"), "shop.yaml:12: fixed.batch.size: is 1; 2 to 1000 are allowed"},
		{replace("  description: from the shop", "  numbered: maybe"), "shop.yaml:12: fixed.numbered: must be true or false"},
		{replace("  description: from the shop", "  expires_in: 10s"), "shop.yaml:12: fixed.expires_in: is 10s; it must be a minute"},
		{replace("  description: from the shop", "  transform: 'export default ('"), "shop.yaml:12: fixed.transform: "},
		{replace("  description: from the shop", "  filter: 'data.('"), "shop.yaml:12: fixed.filter: "},
		{replace("[x-hook-signature]", "[md5]"), `shop.yaml:11: fixed.signatures: "md5" is not known`},
		{replace("[x-hook-signature]", "[x-hook-signature]\n  secret_type: ed25519"), "fixed.signatures: can't hold"},
		{replace("$event.type", "$event.tpye"), `shop.yaml:29: delivery: topic: "$event.tpye" is not a placeholder; did you mean "$event.type"?`},
		{replace("404: 410", "404: 200"), "errors.status.404: must lead from"},
		{replace("$error.detail", "$subscription.id"), "errors.body.error:"},
		{replace("header: X-Shop-Token", "header: 'a b'"), "key.header: must be the name of a header"},
		{replace("header: X-Shop-Token", "header: "+strings.Repeat("x", 101)), "100 characters at most"},
		{replace("header: X-Shop-Token", "prefix: T"), "key.prefix: stands before the key"},
		{replace("path: /webhooks/remove.json", "path: /webhooks.json"), "operations.unsubscribe: POST /shop/v2/webhooks.json is what subscribe has already"},
		{replace("operations:", "operation:"), `did you mean "operations"?`},
		{strings.Replace(shop, shop[strings.Index(shop, "operations:"):], "", 1), "operations: is missing"},
		{replace("  list:", "  lists:"), `operations.lists: is not known here; did you mean "list"?`},
		{replace("name: shop", "name: other") + strings.Repeat("#", 600<<10), "is larger than"},
	} {
		dir := t.TempDir()
		must(t, os.WriteFile(filepath.Join(dir, "shop.yaml"), []byte(test.text), 0o600))
		err := server.New(server.Config{AllowQueryKey: true, Engine: running}).OpenDialects(dir, nil)
		if err == nil || !strings.Contains(err.Error(), "shop.yaml") || !strings.Contains(err.Error(), test.want) {
			t.Errorf("want %q, got: %v", test.want, err)
		}
	}
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "a.yaml"), []byte(shop), 0o600))
	open := func(queryKeys bool, builtIn ...string) error {
		return server.New(server.Config{AllowQueryKey: queryKeys, Engine: running}).OpenDialects(dir, builtIn)
	}
	wants := func(err error, text string) {
		t.Helper()
		if err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("want %q, got: %v", text, err)
		}
	}
	wants(open(false), "key.query: keys are not taken from addresses unless the router runs with --allow-query-key")
	wants(open(true, "zapier"), `there is no built-in dialect "zapier"; the built-in dialects are django-rest-hooks, express-demo`)
	must(t, os.WriteFile(filepath.Join(dir, "b.yaml"), []byte(shop), 0o600))
	wants(open(true), `b.yaml: name: "shop" is the name of the dialect in `)
	must(t, os.WriteFile(filepath.Join(dir, "b.yaml"), []byte(replace("name: shop", "name: b")), 0o600))
	wants(open(true), "/shop/v2/webhooks.json is a path of the dialect shop")
	must(t, os.WriteFile(filepath.Join(dir, "b.yaml"), []byte(strings.NewReplacer("name: shop", "name: b", "/shop/v2", "/hooks", "/webhooks.json", "/subscribe").Replace(shop)), 0o600))
	wants(open(true, "express-demo"), "--dialects-builtin says which")
	wants(server.New(server.Config{Engine: &router.Engine{}}).OpenDialects(filepath.Join(dir, "none"), nil), "no such file")
}

func TestDialects_DocsExample(t *testing.T) {
	docs, err := os.ReadFile("../docs/dialects.md")
	must(t, err)
	_, rest, _ := strings.Cut(string(docs), "```yaml\n")
	example, _, _ := strings.Cut(rest, "```")
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "shop.yaml"), []byte(example), 0o600))
	c := start(t, setup{dialects: dir})
	shop := c.legacy("X-Shop-Token", c.acme.key)
	id := shop.call("POST", "/shop/v2/webhooks.json", `{"webhook":{"topics":["a"],"address":"`+anywhere+`"}}`, 201).text("webhook.id")
	shop.call("PUT", "/shop/v2/webhooks/"+id, `{"webhook":{"address":"`+anywhere+`/2"}}`, 200).shows(map[string]any{"webhook.address": anywhere + "/2"})
	shop.call("GET", "/shop/v2/webhooks.json", "", 200).shows(map[string]any{"webhooks.0.id": id})
	shop.call("DELETE", "/shop/v2/webhooks/"+id, "", 200)
	shop.call("DELETE", "/shop/v2/webhooks/"+id, "", 404)
}

func TestDialects_BuiltInNames(t *testing.T) {
	if got := dialect.BuiltIn(); fmt.Sprint(got) != "[django-rest-hooks express-demo]" {
		t.Errorf("built in: %v", got)
	}
}

// A dialect may change state by GET; scopes and the audit log apply as to other methods.
func TestDialects_GETThatChangesNeedsScopeAndIsAudited(t *testing.T) {
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "get.yaml"), []byte(`
name: get
path: /get
request: {event: name, target_url: url, transform: code}
operations:
  subscribe: {method: GET, path: /subscribe}
`), 0o600))
	r := start(t, setup{dialects: dir})
	body := `{"name":"a","url":"` + anywhere + `","code":"export default () => 1"}`
	weak := r.scoped(engine.ScopeSubscribe)
	r.legacy("X-API-Key", weak.key).call("GET", "/get/subscribe", body, 403)
	id := r.legacy("X-API-Key", r.acme.key).call("GET", "/get/subscribe", body, 201).text("id")
	r.acme.get("/api/v1/audit?subject_id=" + id).want(200).shows(object{"data.0.action": "create", "data.0.actor.key_id": r.acme.keyID})
}
