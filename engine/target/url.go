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

// Parse reads a target URL: an absolute http or https URL without credentials or fragment.
// It is the one reading of it, for what is sent, dialled, checked and shown: the host is
// mapped as browsers do it (see mapHost), and what may not stand in a path or query as it
// is, is percent-encoded. All else keeps its bytes. The error is a *RefusedError.
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
		return nil, refused("%q is no URL: %v", raw, errors.Unwrap(err))
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, refused("the URL must begin with https:// or http://")
	case u.Hostname() == "":
		return nil, refused("the URL names no host")
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
		return nil, refused("%s is no port", port)
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

// writtenPath is the path as it stood in the URL. url.URL keeps it only where it differs
// from what it would write itself.
func writtenPath(u *url.URL) string {
	if u.RawPath != "" {
		return u.RawPath
	}
	return u.EscapedPath()
}

// SetPath gives u a path, escaped or not: what must be is escaped, and what is stays so.
func SetPath(u *url.URL, path string) error {
	written := weburl.EncodePath(path)
	plain, err := url.PathUnescape(written)
	if err != nil {
		return err
	}
	u.Path, u.RawPath = plain, written
	return nil
}

// Origin is the scheme, host and port of a target URL, "" where it is none.
func Origin(raw string) string {
	u, err := Parse(raw)
	if err != nil {
		return ""
	}
	return u.Scheme + "://" + u.Host
}

// mapHost gives the one spelling of a host: a name in lower case, mapped by UTS 46 and in
// ASCII, or an address as net/netip writes it. A host that ends in a number is an address or
// nothing (WHATWG URL, "ends in a number"): resolvers and proxies make 127.0.0.1 of
// 2130706433, 0x7f.1 and 0177.1, and what one of them may read is not to depend on which it is.
func mapHost(host string) (string, error) {
	if ip, err := netip.ParseAddr(host); err == nil {
		if strings.ContainsFunc(ip.Zone(), func(r rune) bool { return r > '~' || strings.ContainsRune(`"#%/<>?@[\]^{|}`+"`", r) }) {
			return "", refused("%.100q has a zone that names no interface", host)
		}
		return ip.String(), nil
	}
	name, ok := weburl.DomainToASCII(host)
	if !ok {
		return "", refused("%.100q is no host name", host)
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
		return "", refused("%.100q is no host name", host)
	}
	return name, nil
}

// dnsName takes what DNS can know: labels of 1 to 63 bytes, 253 in all.
var dnsName = idna.New(idna.VerifyDNSLength(true))
