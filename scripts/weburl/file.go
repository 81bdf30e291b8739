package weburl

import "strings"

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
	case !p.override && isDriveLetter(text):
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

// isDriveLetter reports whether s is a Windows drive letter: a letter and a colon or a bar.
func isDriveLetter(s string) bool {
	return len(s) == 2 && letter(rune(s[0])) && (s[1] == ':' || s[1] == '|')
}

func normalizedDrive(s string) bool { return isDriveLetter(s) && s[1] == ':' }
func startsWithDrive(in []rune) bool {
	return len(in) >= 2 && letter(in[0]) && (in[1] == ':' || in[1] == '|') &&
		(len(in) == 2 || strings.ContainsRune(`/\?#`, in[2]))
}
