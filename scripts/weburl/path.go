package weburl

import "strings"

// shorten removes the path's last segment, but no drive letter.
func (u *URL) shorten() {
	if n := len(u.path); n > 0 && !(u.scheme == "file" && n == 1 && normalizedDrive(u.path[0])) {
		u.path = u.path[:n-1]
	}
}

// path parses all segments.
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
			if u.scheme == "file" && len(u.path) == 0 && isDriveLetter(segment) {
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
