package target

import (
	"errors"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"switchhook/scripts/weburl"

	"golang.org/x/net/idna"
)

const maxURLBytes = 2048

// Parse parses a target URL: an absolute http or https URL without credentials or fragment. Its
// result is used for sending, dialling, checking and showing alike: the host is mapped as browsers
// map it (see mapHost), and characters that are not allowed in a path or query are percent-encoded.
// All other bytes stay. The error is a *RefusedError.
func Parse(raw string) (*url.URL, error) {
	if len(raw) > maxURLBytes {
		return nil, refused("the URL is longer than %d bytes", maxURLBytes)
	}
	if i := strings.IndexFunc(raw, func(r rune) bool { return r <= ' ' || r == 0x7f }); i >= 0 {
		return nil, refused("the URL holds a space or control character at byte %d", i)
	}
	u, err := url.Parse(raw)
	switch {
	case !strings.Contains(raw, "://"):
		return nil, refused("the URL must begin with https:// or http://")
	case err != nil:
		return nil, refused("%q is not a URL: %v", raw, errors.Unwrap(err))
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, refused("the URL must begin with https:// or http://")
	case u.Hostname() == "":
		return nil, refused("the URL has no host")
	case u.User != nil:
		return nil, refused("the URL holds a user name or password; send them in an Authorization header instead")
	case u.Fragment != "":
		return nil, refused("the URL has a fragment (#%s), which is never sent", u.Fragment)
	}
	host, err := mapHost(u.Hostname())
	if err != nil {
		return nil, err
	}
	port := u.Port()
	if n, err := strconv.ParseUint(port, 10, 16); port != "" && (err != nil || n == 0) {
		return nil, refused("%s is not a port", port)
	}
	if u.Host = net.JoinHostPort(host, port); port == "" {
		u.Host = strings.TrimSuffix(u.Host, ":")
	}
	if SetPath(u, writtenPath(u)) != nil {
		return nil, refused("the path of %q holds a %% that escapes nothing", raw)
	}
	u.RawQuery = weburl.EncodeQuery(u.RawQuery)
	return u, nil
}

// writtenPath returns the path as it was written in the URL. url.URL stores it only if it differs
// from its own encoding.
func writtenPath(u *url.URL) string {
	if u.RawPath != "" {
		return u.RawPath
	}
	return u.EscapedPath()
}

// SetPath sets the path of u, escaped or not: it escapes what must be, and keeps what is escaped.
func SetPath(u *url.URL, path string) error {
	written := weburl.EncodePath(path)
	plain, err := url.PathUnescape(written)
	if err != nil {
		return err
	}
	u.Path, u.RawPath = plain, written
	return nil
}

// Origin returns the scheme, host and port of a target URL, or "" if raw is not one.
func Origin(raw string) string {
	u, err := Parse(raw)
	if err != nil {
		return ""
	}
	return u.Scheme + "://" + u.Host
}

// mapHost returns the canonical spelling of a host: a name in lower case, mapped by UTS 46 to ASCII,
// or an address as net/netip writes it. A host that ends in a number must be an address (WHATWG
// URL, "ends in a number"): some resolvers and proxies read 2130706433, 0x7f.1 and 0177.1 as
// 127.0.0.1, and the meaning of a host must not depend on which of them reads it.
func mapHost(host string) (string, error) {
	if ip, err := netip.ParseAddr(host); err == nil {
		if strings.ContainsFunc(ip.Zone(), func(r rune) bool { return r > '~' || strings.ContainsRune(`"#%/<>?@[\]^{|}`+"`", r) }) {
			return "", refused("%.100q has a zone that names no interface", host)
		}
		return ip.String(), nil
	}
	name, ok := weburl.DomainToASCII(host)
	if !ok {
		return "", refused("%.100q is not a host name", host)
	}
	if ip, err := netip.ParseAddr(name); err == nil && ip.Is4() { // of full-width digits, for instance
		return name, nil
	}
	bare := strings.TrimSuffix(name, ".")
	last := bare[strings.LastIndexByte(bare, '.')+1:]
	hex, isHex := strings.CutPrefix(last, "0x")
	if strings.Trim(last, "0123456789") == "" || isHex && strings.Trim(hex, "0123456789abcdef") == "" {
		return "", refused("%.100q is neither a host name nor an address written as in 192.0.2.1", host)
	}
	if _, err := dnsName.ToASCII(bare); err != nil {
		return "", refused("%.100q is not a host name", host)
	}
	return name, nil
}

// dnsName accepts the names that DNS allows: labels of 1 to 63 bytes, 253 in all.
var dnsName = idna.New(idna.VerifyDNSLength(true))
