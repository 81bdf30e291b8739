package weburl

import (
	"strconv"
	"strings"
)

// authority parses user and password, up to the last @ before the host's end; the host state
// parses the rest.
func (p *parser) authority() bool {
	u, last, stop := p.u, -1, p.at
	for ; stop < len(p.in); stop++ {
		if c := p.in[stop]; c == '/' || c == '?' || c == '#' || u.special() && c == '\\' {
			break
		}
		if p.in[stop] == '@' {
			last = stop
		}
	}
	if last < 0 {
		return true
	}
	if last+1 == stop {
		return false // credentials without a host
	}
	user, password, _ := strings.Cut(string(p.in[p.at:last]), ":")
	u.username, u.password = encode(user, userinfoSet), encode(password, userinfoSet)
	p.at = last + 1
	return true
}

func (p *parser) host(s state) (state, bool) {
	u := p.u
	if p.override && u.scheme == "file" {
		return fileHost, true
	}
	start, inside, c := p.at, false, end
	for ; p.at < len(p.in); p.at++ {
		c = p.in[p.at]
		if c == ':' && !inside || c == '/' || c == '?' || c == '#' || u.special() && c == '\\' {
			break
		}
		switch c {
		case '[':
			inside = true
		case ']':
			inside = false
		}
		c = end
	}
	text := string(p.in[start:p.at])
	if c == ':' {
		if text == "" || p.override && s == hostname {
			return done, false
		}
		h, ok := parseHost(text, !u.special())
		if !ok {
			return done, false
		}
		u.host = &h
		p.at++
		return port, true
	}
	if text == "" && u.special() || text == "" && p.override && (u.username != "" || u.password != "" || u.port >= 0) {
		return done, false
	}
	h, ok := parseHost(text, !u.special())
	if !ok {
		return done, false
	}
	u.host = &h
	if p.override {
		return done, true
	}
	return pathStart, true
}

func (p *parser) port() (state, bool) {
	u := p.u
	start := p.at
	for p.at < len(p.in) && digit(p.in[p.at]) {
		p.at++
	}
	digits := string(p.in[start:p.at])
	if !p.override && p.at < len(p.in) {
		if c := p.in[p.at]; c != '/' && c != '?' && c != '#' && !(u.special() && c == '\\') {
			return done, false
		}
	}
	if digits == "" {
		// A changed host keeps its port if none is given.
		return pathStartUnless(p.override), !p.override || start > 0
	}
	digits = strings.TrimLeft(digits, "0")
	n := 0
	if digits != "" {
		var err error
		if n, err = strconv.Atoi(digits); err != nil || n > 65535 {
			// host:99999 still changes the host
			return done, p.override && start > 0
		}
	}
	u.port = n
	if n == defaultPort(u.scheme) {
		u.port = -1
	}
	return pathStartUnless(p.override), true
}

func pathStartUnless(override bool) state {
	if override {
		return done
	}
	return pathStart
}
