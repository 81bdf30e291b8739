// Package weburl parses and changes URLs as browsers do, by the WHATWG URL standard
// (https://url.spec.whatwg.org); the names of states and steps are the standard's. Go's
// net/url follows RFC 3986, which differs in nearly every unusual case.
//
// Time is linear in the length of the input, unlike github.com/nlnwa/whatwg-url (v0.6.2),
// which is not linear in the number of @. The package knows no JavaScript and no network.
package weburl

import (
	"strconv"
	"strings"
)

// URL is a parsed URL.
type URL struct {
	scheme, username, password string
	host                       *string // serialized; nil is none, "" the empty host
	port                       int     // -1 is none
	path                       []string
	opaque                     *string // the path of a URL such as mailto:a@b
	query, fragment            *string
}

var defaultPorts = map[string]int{"ftp": 21, "file": -1, "http": 80, "https": 443, "ws": 80, "wss": 443}

func (u *URL) special() bool { _, ok := defaultPorts[u.scheme]; return ok }

// Parse parses input, relative to base if that is not nil. ok is false for an invalid URL.
func Parse(input string, base *URL) (u *URL, ok bool) {
	u = &URL{port: -1}
	p := parser{u: u, base: base}
	return u, p.run(strings.TrimFunc(input, func(c rune) bool { return c <= ' ' }), schemeStart)
}

// Href returns the whole URL.
func (u *URL) Href() string {
	var b strings.Builder
	b.WriteString(u.scheme + ":")
	if u.host != nil {
		b.WriteString("//")
		if u.username != "" || u.password != "" {
			b.WriteString(u.username)
			if u.password != "" {
				b.WriteString(":" + u.password)
			}
			b.WriteByte('@')
		}
		b.WriteString(u.Host())
	} else if u.opaque == nil && len(u.path) > 1 && u.path[0] == "" {
		b.WriteString("/.") // so that the path is not read as a host
	}
	b.WriteString(u.Pathname())
	if u.query != nil {
		b.WriteString("?" + *u.query)
	}
	if u.fragment != nil {
		b.WriteString("#" + *u.fragment)
	}
	return b.String()
}

// Origin returns the scheme, host and port, or "null" for an opaque origin.
func (u *URL) Origin() string {
	switch {
	case u.scheme == "blob" && u.opaque != nil:
		if inner, ok := Parse(*u.opaque, nil); ok && (inner.scheme == "http" || inner.scheme == "https") {
			return inner.Origin()
		}
	case u.special() && u.scheme != "file":
		return u.scheme + "://" + u.Host()
	}
	return "null"
}

// Protocol returns the scheme with its colon.
func (u *URL) Protocol() string { return u.scheme + ":" }

// Username returns the user name, percent-encoded as all parts.
func (u *URL) Username() string { return u.username }

// Password returns the password, percent-encoded.
func (u *URL) Password() string { return u.password }

// Host returns the host with its port.
func (u *URL) Host() string {
	if u.port < 0 {
		return u.Hostname()
	}
	return u.Hostname() + ":" + u.Port()
}

// Hostname returns the host without its port.
func (u *URL) Hostname() string {
	if u.host == nil {
		return ""
	}
	return *u.host
}

// Port returns the port, empty if it is the scheme's default.
func (u *URL) Port() string {
	if u.port < 0 {
		return ""
	}
	return strconv.Itoa(u.port)
}

// Pathname returns the path.
func (u *URL) Pathname() string {
	switch {
	case u.opaque != nil:
		return *u.opaque
	case len(u.path) == 0:
		return ""
	}
	return "/" + strings.Join(u.path, "/")
}

// Search returns the query with its question mark, empty if nothing follows it.
func (u *URL) Search() string { return prefixed("?", u.query) }

// Hash returns the fragment with its number sign, empty if nothing follows it.
func (u *URL) Hash() string { return prefixed("#", u.fragment) }

func prefixed(sign string, s *string) string {
	if s == nil || *s == "" {
		return ""
	}
	return sign + *s
}

func (u *URL) noCredentialsOrPort() bool { return u.host == nil || *u.host == "" || u.scheme == "file" }

// Set changes a part, named as in JavaScript ("hostname", "search" …). An invalid value is
// ignored, as in browsers.
func (u *URL) Set(part, value string) {
	was := *u
	was.path = append([]string(nil), u.path...)
	ok := true
	switch part {
	case "protocol":
		ok = u.change(value+":", schemeStart)
	case "username":
		if !u.noCredentialsOrPort() {
			u.username = encode(value, userinfoSet)
		}
	case "password":
		if !u.noCredentialsOrPort() {
			u.password = encode(value, userinfoSet)
		}
	case "host", "hostname":
		state := host
		if part == "hostname" {
			state = hostname
		}
		if u.opaque == nil {
			ok = u.change(value, state)
		}
	case "port":
		switch {
		case u.noCredentialsOrPort():
		case value == "":
			u.port = -1
		default:
			ok = u.change(value, port)
		}
	case "pathname":
		if u.opaque == nil {
			u.path = nil
			ok = u.change(value, pathStart)
		}
	case "search":
		u.query = nil
		if value != "" {
			u.query = new(string)
			ok = u.change(strings.TrimPrefix(value, "?"), query)
		}
	case "hash":
		u.fragment = nil
		if value != "" {
			u.fragment = new(string)
			ok = u.change(strings.TrimPrefix(value, "#"), fragment)
		}
	}
	if !ok {
		*u = was
	}
}

func (u *URL) change(value string, s state) bool {
	p := parser{u: u, override: true}
	return p.run(value, s)
}
