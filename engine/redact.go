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

// RedactedValue is shown in the place of a credential.
const RedactedValue = "[hidden]"

// plainHeaders are the headers of a subscription whose values are shown unless their owner
// says otherwise: they say how to read a request, and let nobody in.
var plainHeaders = []string{
	"Accept", "Accept-Charset", "Accept-Encoding", "Accept-Language", "Cache-Control", "Content-Disposition", "Content-Encoding",
	"Content-Language", "Content-Type", "Date", "MIME-Version", "Origin", "Pragma", "Prefer", "SOAPAction", "User-Agent", "X-Requested-With",
}

func containsFold(list []string, name string) bool {
	return slices.ContainsFunc(list, func(other string) bool { return strings.EqualFold(other, name) })
}

// IsSensitiveName reports whether the value of one of the subscription's own headers is hidden:
// all are, but for those of plainHeaders and VisibleHeaders. Which of a receiver's headers
// let somebody in can't be told by their names.
func (s *Subscription) HidesHeader(name string) bool {
	return !containsFold(plainHeaders, name) && !containsFold(s.VisibleHeaders, name)
}

// ShownHeaders copies the subscription's own headers with RedactedValue in the place of each
// value that is hidden.
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

// RedactCredentials copies headers with RedactedValue in the place of each that, to judge by its
// name, is a credential.
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

// IsSensitiveName reports whether a header that is not the subscription's own (one of an answer,
// or one that a transform made) carries a credential, to judge by its name.
func IsSensitiveName(name string) bool {
	switch name {
	// What nearly every delivery and answer has.
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

// harmlessKeys are headers that end in "key" and let nobody in.
var harmlessKeys = []string{"idempotencykey", "xidempotencykey", "surrogatekey", "publickey", "partitionkey", "routingkey", "cachekey"}

var credentialParts = [][]byte{
	[]byte("authorization"), []byte("token"), []byte("secret"), []byte("password"), []byte("passwd"), []byte("passphrase"), []byte("passcode"),
	[]byte("apikey"), []byte("accesskey"), []byte("privatekey"), []byte("credential"), []byte("cookie"), []byte("session"),
}

// credentialWords count where they stand alone: X-Auth, and not X-Author.
var credentialWords = []string{"auth", "jwt", "sid", "pwd", "pass", "bearer"}

// hidesMember reports whether a member of a JSON document holds a credential, to judge by
// its name.
func hidesMember(name string) bool {
	var room [64]byte
	return isCredential(foldLetters(room[:0], name))
}

// isCredential judges a name by its parts.
func isCredential(letters []byte) bool {
	return slices.ContainsFunc(credentialParts, func(part []byte) bool { return bytes.Contains(letters, part) })
}

func isLetter(c rune) bool { return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' }

// foldLetters appends the letters of a name in lower case: "X-Api_Key " and "xApiKey" are one.
func foldLetters(b []byte, name string) []byte {
	for _, c := range []byte(name) {
		if isLetter(rune(c)) {
			b = append(b, c|0x20)
		}
	}
	return b
}

// Redactor hides the values of a subscription's own headers in what is kept of its attempts.
// A nil redactor hides by names alone.
type Redactor struct {
	names  []string // headers that are hidden
	values []string // that are hidden wherever they stand, the longest first
	short  []string // that are too short for that: hidden where they are the whole value of a header
}

// minSecret is how long a value must be to be looked for in texts: a shorter one, such as
// "1", would stand for anything.
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

// Text hides values in a text.
func (d *Redactor) Text(s string) string {
	if d == nil {
		return s
	}
	for _, value := range d.values {
		s = strings.ReplaceAll(s, value, RedactedValue)
	}
	return s
}

// Body is text for bytes. It gives b itself where there is nothing to hide.
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

// Url hides values in a URL, as they are or percent-encoded.
func (d *Redactor) Url(text string) string {
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

// Request gives the headers of a request as they are shown, by name.
func (d *Redactor) Request(h http.Header) []Header {
	return d.headers(h, func(name, value string) bool {
		return d != nil && (containsFold(d.names, name) || slices.Contains(d.short, value) && !containsFold(plainHeaders, name))
	})
}

// Answer gives the headers of an answer as they are shown, by name.
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

// ScriptError hides values in what a script's error says.
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

// Lines redacts each line.
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

// Stored hides what an attempt that was stored by an older version, or before the
// subscription was changed, shows in clear.
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

// MaskURL shows of a target's URL its host and where it leads in general, and hides what may
// be a credential: query values, and the path beyond its first segment. (Whoever knows the
// URL of an incoming webhook of Slack, Discord or Zapier may post there.)
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
		if !hasValue { // it may be all there is of a credential
			masked += RedactedValue
			continue
		}
		masked += name + "=" + RedactedValue
	}
	return masked
}

// MaskPath hides the parts of a URL's path that may be credentials.
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

// isPlainSegment reports whether a segment is a word, or a version such as "v1", and no
// random text.
func isPlainSegment(s string) bool {
	if len(s) > 20 {
		return false
	}
	version := len(s) > 1 && s[0] == 'v' && strings.Trim(s[1:], "0123456789") == ""
	return version || strings.IndexFunc(s, func(c rune) bool { return !(c >= 'a' && c <= 'z' || c == '-' || c == '_' || c == '.') }) < 0
}
