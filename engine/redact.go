package engine

import (
	"bytes"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"switchhook/engine/target"
	"switchhook/scripts"
)

// RedactedValue replaces a credential wherever it would be shown.
const RedactedValue = "[hidden]"

// plainHeaders are the subscription headers whose values are shown unless their owner says
// otherwise: they describe how to read a request and grant no access.
var plainHeaders = []string{
	"Accept", "Accept-Charset", "Accept-Encoding", "Accept-Language", "Cache-Control", "Content-Disposition", "Content-Encoding",
	"Content-Language", "Content-Type", "Date", "MIME-Version", "Origin", "Pragma", "Prefer", "SOAPAction", "User-Agent", "X-Requested-With",
}

func containsFold(list []string, name string) bool {
	return slices.ContainsFunc(list, func(other string) bool { return strings.EqualFold(other, name) })
}

// HidesHeader reports whether the value of one of the subscription's own headers is hidden: all
// are, except plainHeaders and VisibleHeaders. The name of a receiver's header does not tell
// whether it grants access.
func (s *Subscription) HidesHeader(name string) bool {
	return !containsFold(plainHeaders, name) && !containsFold(s.VisibleHeaders, name)
}

// ShownHeaders returns a copy of the subscription's own headers with RedactedValue for each hidden
// value.
func (s *Subscription) ShownHeaders() map[string]string {
	shown := make(map[string]string, len(s.Headers))
	for name, value := range s.Headers {
		if s.HidesHeader(name) {
			value = RedactedValue
		}
		shown[name] = value
	}
	return shown
}

// RedactCredentials returns a copy of headers with RedactedValue for each value whose name marks it
// as a credential.
func RedactCredentials(headers map[string]string) map[string]string {
	shown := make(map[string]string, len(headers))
	for name, value := range headers {
		if IsSensitiveName(name) {
			value = RedactedValue
		}
		shown[name] = value
	}
	return shown
}

// IsSensitiveName reports whether the name of a header that is not the subscription's own (of a
// response, or made by a transform) marks it as a credential.
func IsSensitiveName(name string) bool {
	switch name {
	// Common headers of deliveries and responses.
	case "Content-Type", "Content-Length", "User-Agent", "Accept", "Date", "Server", "Connection",
		"webhook-id", "webhook-timestamp", "webhook-signature", SequenceHeader:
		return false
	}
	var room [64]byte
	letters := foldLetters(room[:0], name)
	if isCredential(letters) || bytes.HasSuffix(letters, []byte("key")) && !slices.ContainsFunc(harmlessKeys, func(key string) bool { return string(letters) == key }) {
		return true
	}
	for word := range strings.FieldsFuncSeq(name, func(c rune) bool { return !isLetter(c) }) {
		if len(word) <= 6 && containsFold(credentialWords, word) {
			return true
		}
	}
	return false
}

// harmlessKeys are headers that end in "key" and grant no access.
var harmlessKeys = []string{"idempotencykey", "xidempotencykey", "surrogatekey", "publickey", "partitionkey", "routingkey", "cachekey"}

var credentialParts = [][]byte{
	[]byte("authorization"), []byte("token"), []byte("secret"), []byte("password"), []byte("passwd"), []byte("passphrase"), []byte("passcode"),
	[]byte("apikey"), []byte("accesskey"), []byte("privatekey"), []byte("credential"), []byte("cookie"), []byte("session"),
}

// credentialWords count as whole words only: X-Auth, but not X-Author.
var credentialWords = []string{"auth", "jwt", "sid", "pwd", "pass", "bearer"}

// hidesMember reports whether the name of a JSON member marks it as a credential.
func hidesMember(name string) bool {
	var room [64]byte
	return isCredential(foldLetters(room[:0], name))
}

// isCredential reports whether the parts of a name mark it as a credential.
func isCredential(letters []byte) bool {
	return slices.ContainsFunc(credentialParts, func(part []byte) bool { return bytes.Contains(letters, part) })
}

func isLetter(c rune) bool { return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' }

// foldLetters appends the letters of a name in lower case: "X-Api_Key " and "xApiKey" become equal.
func foldLetters(b []byte, name string) []byte {
	for _, c := range []byte(name) {
		if isLetter(rune(c)) {
			b = append(b, c|0x20)
		}
	}
	return b
}

// Redactor hides the values of a subscription's own headers in its stored attempts. A nil Redactor
// hides by names only.
type Redactor struct {
	names  []string // headers that are hidden
	values []string // hidden wherever they occur, the longest first
	short  []string // too short to search for: hidden if they are the whole value of a header
}

// minSecret is the minimum length of a value to be searched for in texts: a shorter one, such as
// "1", would match anything.
const minSecret = 8

// NewRedactor returns a Redactor for the hidden values of a subscription; nil if it has none.
func NewRedactor(s *Subscription) *Redactor {
	d := &Redactor{}
	add := func(value string) {
		switch {
		case len(value) >= minSecret:
			d.values = append(d.values, value)
		case value != "":
			d.short = append(d.short, value)
		}
	}
	for name, value := range s.Headers {
		if !s.HidesHeader(name) {
			continue
		}
		d.names = append(d.names, name)
		value = strings.TrimSpace(value)
		add(value)
		if scheme, credentials, ok := strings.Cut(value, " "); ok && strings.IndexFunc(scheme, func(c rune) bool { return !isLetter(c) }) < 0 { // "Bearer …"
			if credentials = strings.TrimSpace(credentials); len(credentials) >= minSecret {
				d.values = append(d.values, credentials)
			}
		}
	}
	slices.SortFunc(d.values, func(a, b string) int { return len(b) - len(a) })
	return d
}

// Text returns s with hidden values replaced.
func (d *Redactor) Text(s string) string {
	if d == nil {
		return s
	}
	for _, value := range d.values {
		s = strings.ReplaceAll(s, value, RedactedValue)
	}
	return s
}

// Body returns b with hidden values replaced; b itself if it has none.
func (d *Redactor) Body(b []byte) []byte {
	if d == nil {
		return b
	}
	for _, value := range d.values {
		if bytes.Contains(b, []byte(value)) {
			b = bytes.ReplaceAll(b, []byte(value), []byte(RedactedValue))
		}
	}
	return b
}

// URL returns a URL with hidden values replaced, in plain or percent-encoded form.
func (d *Redactor) URL(text string) string {
	if d == nil {
		return text
	}
	for _, value := range d.values {
		for _, written := range [...]string{value, url.QueryEscape(value), url.PathEscape(value)} {
			text = strings.ReplaceAll(text, written, RedactedValue)
		}
	}
	return text
}

// Request returns the redacted headers of a request, by name.
func (d *Redactor) Request(h http.Header) []Header {
	return d.headers(h, func(name, value string) bool {
		return d != nil && (containsFold(d.names, name) || slices.Contains(d.short, value) && !containsFold(plainHeaders, name))
	})
}

// Answer returns the redacted headers of a response, by name.
func (d *Redactor) Answer(h http.Header) []Header {
	return d.headers(h, func(string, string) bool { return false })
}

func (d *Redactor) headers(h http.Header, hides func(name, value string) bool) []Header {
	list := make([]Header, 0, len(h))
	for name, values := range h {
		for _, value := range values {
			if hides(name, value) || IsSensitiveName(name) {
				value = RedactedValue
			} else {
				value = d.Text(value)
			}
			list = append(list, Header{name, value})
		}
	}
	slices.SortFunc(list, func(a, b Header) int { return strings.Compare(a.Name, b.Name) })
	return list
}

// ScriptError returns err with hidden values replaced in the texts of a script's error.
func (d *Redactor) ScriptError(err error) error {
	var failed *scripts.Error
	if d == nil || len(d.values) == 0 || !errors.As(err, &failed) {
		return err
	}
	shown := *failed
	shown.Message = d.Text(failed.Message)
	shown.Console = d.Lines(failed.Console)
	return &shown
}

// Lines returns the lines with hidden values replaced.
func (d *Redactor) Lines(list []string) []string {
	if d == nil || len(d.values) == 0 || len(list) == 0 {
		return list
	}
	shown := make([]string, len(list))
	for i, line := range list {
		shown[i] = d.Text(line)
	}
	return shown
}

// Stored redacts an attempt that an older version stored, or that was stored before the
// subscription changed.
func (d *Redactor) Stored(a *Attempt) {
	again := func(list []Header, own bool) {
		for i, h := range list {
			if own && d != nil && containsFold(d.names, h.Name) || IsSensitiveName(h.Name) {
				list[i].Value = RedactedValue
			}
		}
	}
	again(a.Request.Headers, true)
	again(a.Response.Headers, false)
}

// MaskURL returns a target's URL with its host and general path, and hides parts that may be
// credentials: query values, and the path beyond its first segment. (Anyone who knows the URL of an
// incoming webhook of Slack, Discord or Zapier may post there.)
func MaskURL(raw string) string {
	u, err := target.Parse(raw)
	if err != nil {
		return RedactedValue
	}
	masked := u.Scheme + "://" + u.Host + MaskPath(u.EscapedPath())
	if u.RawQuery == "" {
		return masked
	}
	for i, pair := range strings.Split(u.RawQuery, "&") {
		name, _, hasValue := strings.Cut(pair, "=")
		masked += string("?&"[min(i, 1)])
		if !hasValue { // it may be the whole credential
			masked += RedactedValue
			continue
		}
		masked += name + "=" + RedactedValue
	}
	return masked
}

// MaskPath returns a URL's path with the parts hidden that may be credentials.
func MaskPath(path string) string {
	first, rest, more := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	if first != "" && !isPlainSegment(first) {
		return "/" + RedactedValue
	}
	switch {
	case more && rest != "":
		return "/" + first + "/" + RedactedValue
	case path == "":
		return ""
	}
	return path
}

// isPlainSegment reports whether a segment is a word or a version such as "v1", and not random
// text.
func isPlainSegment(s string) bool {
	if len(s) > 20 {
		return false
	}
	version := len(s) > 1 && s[0] == 'v' && strings.Trim(s[1:], "0123456789") == ""
	return version || strings.IndexFunc(s, func(c rune) bool { return !(c >= 'a' && c <= 'z' || c == '-' || c == '_' || c == '.') }) < 0
}
