package server_test

import (
	"fmt"
	"testing"
)

// The bytes of a target URL's path and query reach the target unchanged, with a transform and without,
// except for the transform's changes and for bytes that a request line cannot contain.
func TestTargetURLKeepsItsBytes(t *testing.T) {
	r := start(t)
	hook := receive(t, nil)
	const header = `request.headers["X-A"] = "1"; `
	for i, c := range []struct{ url, change, want string }{
		{"/h?b=c;d=e", header, "/h?b=c;d=e"},
		{"/h?rate=100%&k=v", header, "/h?rate=100%&k=v"},
		{"/h?flag", header, "/h?flag"},
		{"/h?", header, "/h?"},
		{"/h?b=1&a=2", header, "/h?b=1&a=2"},
		{"/h?q=a%20b+c&e=%7e", header, "/h?q=a%20b+c&e=%7e"},
		{"/a%2Fb/%7Ec;v=1", header, "/a%2Fb/%7Ec;v=1"},
		{"/h?rate=100%&q=a%20b&flag", `request.query.q = "é&"; `, "/h?rate=100%&q=%C3%A9%26&flag"},
		{"/h?rate=100%&q=a%20b&flag", `delete request.query.rate; `, "/h?q=a%20b&flag"},
		{"/h?rate=100%&q=a%20b&flag", `request.query.rate = undefined; request.query.z = [1, 2]; `, "/h?q=a%20b&flag&z=1&z=2"},
		{"/h?a=1&b=2&a=3", `request.query.a = ["1", "4"]; `, "/h?a=1&b=2&a=4"},
		{"/h?b=2%20", `request.query = { ...request.query, c: "3" }; `, "/h?b=2%20&c=3"},
		{"/h?b=2%20", `request.query = {}; `, "/h"},
		{"/h%2Fx?b=2%20", `request.path += "/ü <x>"; `, "/h%2Fx/%C3%BC%20%3Cx%3E?b=2%20"},
		{"/h?x=1", `request.path = "/" + encodeURIComponent("a/b ü"); `, "/a%2Fb%20%C3%BC?x=1"},
		{"/büro%2F\"<x>|`?q=\"<ü>'&b={|}", header, "/b%C3%BCro%2F%22%3Cx%3E%7C%60?q=%22%3C%C3%BC%3E%27&b={|}"},
		{"/büro%2F\"<x>|`?q=\"<ü>'&b={|}", "", "/b%C3%BCro%2F%22%3Cx%3E%7C%60?q=%22%3C%C3%BC%3E%27&b={|}"},
		{"?q=日本", "", "/?q=%E6%97%A5%E6%9C%AC"},
	} {
		event := fmt.Sprintf("url.n%d", i)
		more := map[string]any{}
		if c.change != "" {
			more["transform"] = "export default (event, request) => { " + c.change + "return 1 }"
		}
		sub := r.acme.subscribe(event, hook.URL+c.url, more)
		if got := r.acme.get("/api/v1/subscriptions/" + sub).want(200).text("target_url"); got != hook.URL+c.url {
			t.Errorf("%s is shown as %s", c.url, got)
		}
		r.acme.publish(event, 1)
		eventually(t, "the delivery", func() bool { return len(hook.all()) > i })
		if got := hook.all()[i].uri; got != c.want {
			t.Errorf("%s with %q was asked for as %s, not %s", c.url, c.change, got, c.want)
		}
	}
}
