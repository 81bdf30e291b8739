package transform

import (
	"net/netip"
	"net/url"
	"regexp"
	"strconv"
	"strings"

	"switchhook/scripts/weburl"

	"github.com/dop251/goja"
)

// maxURL is the maximum size of a URL or query parameter that a script may parse, in bytes.
const maxURL = 16 << 10

// defaultPorts has the schemes whose URLs must have a host, with the port that is left out.
var defaultPorts = map[string]string{"ftp": "21", "http": "80", "https": "443", "ws": "80", "wss": "443"}

func installURL(r *run) {
	made := r.start(urlProgram(),
		func(call goja.FunctionCall) goja.Value { // parse(url, base, origin)
			max, origin := maxURL, call.Argument(2)
			if !goja.IsUndefined(origin) { // a setter made url of parts of this size
				max *= 4
			}
			u, ok := parseURL(r.textOf(call.Argument(0).ToString(), "URL", max))
			if base := call.Argument(1); ok && !goja.IsUndefined(base) {
				u, ok = u.relativeTo(r.textOf(base.ToString(), "URL: base", maxURL))
			}
			if !ok || !u.normalize() || !goja.IsUndefined(origin) && (u.origin() == "null") != (origin.String() == "null") {
				return goja.Null()
			}
			if len(u.href()) > 4*maxURL {
				r.throwRange("URL is longer than %d bytes", 4*maxURL)
			}
			return u.parts(r.vm)
		},
		func(call goja.FunctionCall) goja.Value { // encode(text)
			return r.vm.ToValue(weburl.EncodeForm(r.textOf(call.Argument(0), "URLSearchParams: text", maxURL)))
		},
		func(call goja.FunctionCall) goja.Value { // decode(text)
			return r.vm.ToValue(weburl.DecodeForm(r.textOf(call.Argument(0), "URLSearchParams: text", maxURL)))
		},
	)
	r.setAll(made, "URL", "URLSearchParams")
}

// webURL is a URL of net/url as the class URL shows it. Its fragment keeps its bytes, as the
// query of url.URL does.
type webURL struct {
	*url.URL
	fragment string
}

var (
	lineBreaks   = strings.NewReplacer("\t", "", "\n", "", "\r", "")
	endsInNumber = regexp.MustCompile(`(^|\.)(\d+|0x[\da-f]*)\.?$`)

	escapes = regexp.MustCompile(`%[0-9A-Fa-f]{0,2}`) // and every % that begins none
)

// parseURL parses an absolute or relative URL. Like browsers it ignores line breaks and outer
// spaces, and encodes what must be encoded.
func parseURL(text string) (*webURL, bool) {
	text = lineBreaks.Replace(strings.TrimFunc(text, func(c rune) bool { return c <= ' ' }))
	text, fragment, _ := strings.Cut(text, "#")
	text, query, hasQuery := strings.Cut(text, "?")
	if scheme, _, absolute := strings.Cut(text, ":"); !absolute || defaultPorts[strings.ToLower(scheme)] != "" {
		text = strings.ReplaceAll(text, `\`, "/") // as browsers do, or `http://a\@b` had another host here
	}
	text = escapes.ReplaceAllStringFunc(text, func(escape string) string {
		if len(escape) == len("%00") {
			return escape
		}
		return "%25" + escape[1:]
	})
	u, err := url.Parse(weburl.EncodePath(text))
	if err != nil {
		return nil, false
	}
	u.RawQuery, u.ForceQuery = weburl.EncodeQuery(query), hasQuery && query == ""
	return &webURL{u, weburl.EncodeFragment(fragment)}, true
}

func (u *webURL) relativeTo(text string) (*webURL, bool) {
	base, ok := parseURL(text)
	if !ok || u.Scheme == "" && base.Opaque != "" {
		return nil, false
	}
	return &webURL{base.ResolveReference(u.URL), u.fragment}, base.normalize()
}

// normalize brings the host and path into the form that browsers show; ok is false for a relative
// URL and an invalid host or port.
func (u *webURL) normalize() (ok bool) {
	u.URL = (&url.URL{}).ResolveReference(u.URL) // removes dot segments
	if password, _ := u.User.Password(); u.User.Username() == "" && password == "" {
		u.User = nil
	}
	port, needsHost := defaultPorts[u.Scheme]
	if !needsHost {
		u.OmitHost = u.OmitHost && u.Scheme != "file"
		return u.Scheme != ""
	}
	host := strings.ToLower(u.Hostname())
	if strings.Contains(host, ":") {
		if addr, err := netip.ParseAddr(host); err != nil || addr.Zone() != "" {
			return false
		}
		host = "[" + host + "]"
	} else if host, ok = weburl.DomainToASCII(host); !ok || isOddIPv4(host) {
		return false
	}
	if p := strings.TrimLeft(u.Port(), "0"); p != "" && p != port {
		if _, err := strconv.ParseUint(p, 10, 16); err != nil {
			return false
		}
		host += ":" + p
	}
	if u.Host = host; u.Path == "" {
		u.Path = "/"
	}
	return u.Opaque == ""
}

// isOddIPv4 reports whether browsers take a host for an IPv4 address that is not written in the usual
// form, such as 127.1 or 0x7f000001: a script would not recognize it.
func isOddIPv4(host string) bool {
	_, err := netip.ParseAddr(host)
	return err != nil && endsInNumber.MatchString(host)
}

func (u *webURL) href() string { return u.String() + prefixed("#", u.fragment) }

func (u *webURL) origin() string {
	if _, ok := defaultPorts[u.Scheme]; ok {
		return u.Scheme + "://" + u.Host
	}
	return "null"
}

// parts returns the parts in the order of url.js.
func (u *webURL) parts(vm *goja.Runtime) goja.Value {
	username, password, _ := strings.Cut(u.User.String(), ":")
	hostname := strings.TrimSuffix(u.Host, ":"+u.Port())
	path := u.EscapedPath()
	if u.Opaque != "" {
		path = u.Opaque
	}
	return vm.NewArray(u.href(), u.origin(), u.Scheme+":", username, password, u.Host, hostname, u.Port(),
		path, prefixed("?", u.RawQuery), prefixed("#", u.fragment))
}

func prefixed(sign, text string) string {
	if text == "" {
		return ""
	}
	return sign + text
}
