package weburl

import "strings"

type state int

const (
	schemeStart state = iota
	scheme
	noScheme
	specialRelativeOrAuthority
	pathOrAuthority
	relative
	relativeSlash
	specialAuthoritySlashes
	specialAuthorityIgnoreSlashes
	authority
	host
	hostname
	port
	file
	fileSlash
	fileHost
	pathStart
	path
	opaquePath
	query
	fragment
	done
)

// end represents the code point after the last.
const end rune = -1

// parser is the basic URL parser. With override, it changes one part of u and starts in the
// state of that part.
type parser struct {
	u, base  *URL
	override bool

	in     []rune
	at     int
	buffer strings.Builder
}

func (p *parser) run(input string, s state) bool {
	p.in = []rune(strings.NewReplacer("\t", "", "\n", "", "\r", "").Replace(input))
	for s != done {
		c := end
		if p.at < len(p.in) {
			c = p.in[p.at]
		}
		next, ok := p.step(s, c)
		if !ok {
			return false
		}
		if c == end && next == s {
			return true
		}
		s = next
	}
	return true
}

// takeBuffer returns the buffer's content and resets it.
func (p *parser) takeBuffer() string {
	s := p.buffer.String()
	p.buffer.Reset()
	return s
}

// rest reports whether the input continues with text after the current code point.
func (p *parser) rest(text string) bool {
	for i, c := range []rune(text) {
		if p.at+1+i >= len(p.in) || p.in[p.at+1+i] != c {
			return false
		}
	}
	return true
}

// step handles one code point, advances unless the next state must handle it too, and returns
// the next state.
func (p *parser) step(s state, c rune) (next state, ok bool) {
	switch s {
	case schemeStart, scheme, noScheme:
		return p.schemeStates(s, c)
	case specialRelativeOrAuthority:
		if c == '/' && p.rest("/") {
			p.at += 2
			return specialAuthorityIgnoreSlashes, true
		}
		return relative, true
	case pathOrAuthority:
		if c == '/' {
			p.at++
			return authority, true
		}
		return path, true
	case relative:
		return p.relative(c), true
	case relativeSlash:
		switch {
		case p.u.special() && (c == '/' || c == '\\'):
			p.at++
			return specialAuthorityIgnoreSlashes, true
		case c == '/':
			p.at++
			return authority, true
		}
		p.u.username, p.u.password, p.u.host, p.u.port = p.base.username, p.base.password, p.base.host, p.base.port
		return path, true
	case specialAuthoritySlashes:
		if c == '/' && p.rest("/") {
			p.at += 2
		}
		return specialAuthorityIgnoreSlashes, true
	case specialAuthorityIgnoreSlashes:
		if c == '/' || c == '\\' {
			p.at++
			return s, true
		}
		return authority, true
	case authority:
		return host, p.authority()
	case host, hostname:
		return p.host(s)
	case port:
		return p.port()
	case file, fileSlash, fileHost:
		return p.fileStates(s, c)
	case pathStart:
		switch {
		case p.u.special():
			if c == '/' || c == '\\' {
				p.at++
			}
			return path, true
		case !p.override && c == '?':
			p.at++
			p.u.query = new(string)
			return query, true
		case !p.override && c == '#':
			p.at++
			p.u.fragment = new(string)
			return fragment, true
		case c != end:
			if c == '/' {
				p.at++
			}
			return path, true
		case p.override && p.u.host == nil:
			p.u.path = append(p.u.path, "")
		}
		return done, true
	case path:
		return p.path()
	case opaquePath:
		return p.opaquePath(), true
	case query:
		return p.query(), true
	case fragment:
		text := encode(string(p.in[p.at:]), fragmentSet)
		p.u.fragment = &text
		return done, true
	}
	return done, true
}

func letter(c rune) bool { return c|0x20 >= 'a' && c|0x20 <= 'z' }
func digit(c rune) bool  { return c >= '0' && c <= '9' }

func (p *parser) schemeStates(s state, c rune) (state, bool) {
	u := p.u
	switch {
	case s == schemeStart && letter(c), s == scheme && (letter(c) || digit(c) || c == '+' || c == '-' || c == '.'):
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		p.buffer.WriteRune(c)
		p.at++
		return scheme, true
	case s == scheme && c == ':':
		name := p.takeBuffer()
		if p.override {
			now := URL{scheme: name}
			if u.special() != now.special() || name == "file" && (u.username != "" || u.password != "" || u.port >= 0) ||
				u.scheme == "file" && u.Hostname() == "" {
				return done, true
			}
			u.scheme = name
			if u.port == defaultPort(name) {
				u.port = -1
			}
			return done, true
		}
		u.scheme = name
		p.at++
		switch {
		case name == "file":
			return file, true
		case u.special() && p.base != nil && p.base.scheme == name:
			return specialRelativeOrAuthority, true
		case u.special():
			return specialAuthoritySlashes, true
		case p.at < len(p.in) && p.in[p.at] == '/':
			p.at++
			return pathOrAuthority, true
		}
		u.opaque = new(string)
		return opaquePath, true
	case p.override:
		return done, false
	case s != noScheme:
		p.buffer.Reset()
		p.at = 0
		return noScheme, true
	}
	switch {
	case p.base == nil || p.base.opaque != nil && c != '#':
		return done, false
	case p.base.opaque != nil:
		u.scheme, u.path, u.opaque, u.query = p.base.scheme, p.base.path, p.base.opaque, p.base.query
		p.at++
		return fragment, true
	case p.base.scheme == "file":
		return file, true
	}
	return relative, true
}

func defaultPort(scheme string) int {
	if n, ok := defaultPorts[scheme]; ok {
		return n
	}
	return -1
}

func (p *parser) relative(c rune) state {
	u, base := p.u, p.base
	u.scheme = base.scheme
	if c == '/' || u.special() && c == '\\' {
		p.at++
		return relativeSlash
	}
	u.username, u.password, u.host, u.port = base.username, base.password, base.host, base.port
	u.path, u.query = append([]string(nil), base.path...), base.query
	return p.afterBase(c, func() { u.shorten() })
}

// afterBase continues after the base's path was copied.
func (p *parser) afterBase(c rune, shorten func()) state {
	switch c {
	case '?':
		p.at++
		p.u.query = new(string)
		return query
	case '#':
		p.at++
		p.u.fragment = new(string)
		return fragment
	case end:
		return done
	}
	p.u.query = nil
	shorten()
	return path
}
