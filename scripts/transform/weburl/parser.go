package weburl

import (
	"strconv"
	"strings"
)

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

// end stands for the code point after the last.
const end rune = -1

// parser is the basic URL parser. override means that it changes one part of u, and
// starts in that part's state.
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

// take gives what was gathered and starts anew.
func (p *parser) take() string {
	s := p.buffer.String()
	p.buffer.Reset()
	return s
}

// rest tells whether the input goes on with text after the current code point.
func (p *parser) rest(text string) bool {
	for i, c := range []rune(text) {
		if p.at+1+i >= len(p.in) || p.in[p.at+1+i] != c {
			return false
		}
	}
	return true
}

// step handles one code point, moves on unless the code point is for the next state, and
// gives that state.
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
		name := p.take()
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

// afterBase goes on where the base's path has been taken over.
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

// authority reads user and password, up to the last @ before the host's end, and leaves
// the rest to the host.
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
		// A changed host keeps its port where none is given.
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

func (p *parser) fileStates(s state, c rune) (state, bool) {
	u, base := p.u, p.base
	fromFile := base != nil && base.scheme == "file"
	switch s {
	case file:
		u.scheme, u.host = "file", new(string)
		switch {
		case c == '/' || c == '\\':
			p.at++
			return fileSlash, true
		case !fromFile:
			return path, true
		}
		u.host, u.path, u.query = base.host, append([]string(nil), base.path...), base.query
		return p.afterBase(c, func() {
			if startsWithDrive(p.in[p.at:]) {
				u.path = nil
			} else {
				u.shorten()
			}
		}), true
	case fileSlash:
		if c == '/' || c == '\\' {
			p.at++
			return fileHost, true
		}
		if fromFile {
			u.host = base.host
			if !startsWithDrive(p.in[p.at:]) && len(base.path) > 0 && normalizedDrive(base.path[0]) {
				u.path = append(u.path, base.path[0])
			}
		}
		return path, true
	}
	start := p.at
	for p.at < len(p.in) && !strings.ContainsRune(`/\?#`, p.in[p.at]) {
		p.at++
	}
	text := string(p.in[start:p.at])
	switch {
	case !p.override && drive(text):
		p.at = start
		return path, true
	case text == "":
		u.host = new(string)
	default:
		h, ok := parseHost(text, !u.special())
		if !ok {
			return done, false
		}
		if h == "localhost" {
			h = ""
		}
		u.host = &h
	}
	return pathStartUnless(p.override), true
}

// drive tells a Windows drive letter: a letter and a colon or a bar.
func drive(s string) bool {
	return len(s) == 2 && letter(rune(s[0])) && (s[1] == ':' || s[1] == '|')
}

func normalizedDrive(s string) bool { return drive(s) && s[1] == ':' }

func startsWithDrive(in []rune) bool {
	return len(in) >= 2 && letter(in[0]) && (in[1] == ':' || in[1] == '|') &&
		(len(in) == 2 || strings.ContainsRune(`/\?#`, in[2]))
}

// shorten takes away the path's last segment, but no drive letter.
func (u *URL) shorten() {
	if n := len(u.path); n > 0 && !(u.scheme == "file" && n == 1 && normalizedDrive(u.path[0])) {
		u.path = u.path[:n-1]
	}
}

// path reads all segments.
func (p *parser) path() (state, bool) {
	u := p.u
	for {
		start := p.at
		c := end
		for ; p.at < len(p.in); p.at++ {
			if c = p.in[p.at]; c == '/' || u.special() && c == '\\' || !p.override && (c == '?' || c == '#') {
				break
			}
			c = end
		}
		slash := c == '/' || c == '\\'
		segment := encode(string(p.in[start:p.at]), pathSet)
		switch strings.ReplaceAll(strings.ToLower(segment), "%2e", ".") {
		case "..":
			u.shorten()
			if !slash {
				u.path = append(u.path, "")
			}
		case ".":
			if !slash {
				u.path = append(u.path, "")
			}
		default:
			if u.scheme == "file" && len(u.path) == 0 && drive(segment) {
				segment = segment[:1] + ":"
			}
			u.path = append(u.path, segment)
		}
		switch c {
		case end:
			return done, true
		case '?':
			p.at++
			u.query = new(string)
			return query, true
		case '#':
			p.at++
			u.fragment = new(string)
			return fragment, true
		}
		p.at++
	}
}

func (p *parser) opaquePath() state {
	start, c := p.at, end
	for ; p.at < len(p.in); p.at++ {
		if c = p.in[p.at]; c == '?' || c == '#' {
			break
		}
		c = end
	}
	text := encode(string(p.in[start:p.at]), controlSet)
	if c != end && strings.HasSuffix(text, " ") {
		text = text[:len(text)-1] + "%20"
	}
	p.u.opaque = &text
	p.at++
	switch c {
	case '?':
		return query
	case '#':
		return fragment
	}
	return done
}

func (p *parser) query() state {
	start := p.at
	for p.at < len(p.in) && (p.override || p.in[p.at] != '#') {
		p.at++
	}
	set := querySet
	if p.u.special() {
		set = specialQuerySet
	}
	text := encode(string(p.in[start:p.at]), set)
	p.u.query = &text
	if p.at < len(p.in) {
		p.at++
		return fragment
	}
	return done
}
