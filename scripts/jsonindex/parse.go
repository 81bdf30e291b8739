// Package jsonindex reads a JSON text once: it checks that the text is well formed
// (RFC 8259, UTF-8, bounded nesting) and records the position of each value. Values are
// decoded on demand, and the bytes themselves are never copied, so numbers keep all
// their digits and objects the order of their members.
//
// The package knows no events, scripts or HTTP; it is the only JSON reader for
// untrusted text.
package jsonindex

import (
	"bytes"
	"fmt"
	"unicode/utf8"
)

// DefaultMaxDepth is the maximum nesting of arrays and objects if Limits sets none.
const DefaultMaxDepth = 128

// maxBytes keeps offsets within 32 bits.
const maxBytes = 1 << 30

// Limits bounds what Parse accepts.
type Limits struct {
	MaxDepth     int  // deepest nesting of arrays and objects; 0 means DefaultMaxDepth
	NoDuplicates bool // refuse an object that names a member twice
}

// SyntaxError is an error in a JSON text, with its position.
type SyntaxError struct {
	Offset int // bytes before the error
	Line   int // 1-based
	Column int // 1-based, in bytes
	Msg    string
}

// Error returns the message with its position.
func (e *SyntaxError) Error() string {
	return fmt.Sprintf("%s at line %d, column %d (offset %d)", e.Msg, e.Line, e.Column, e.Offset)
}

// node is one value of the text. Nodes are in document order: the first child of a
// container is the node right after it, and next points past the whole subtree.
type node struct {
	start, end       uint32 // the value's bytes; a string's without its quotes
	keyStart, keyEnd uint32 // the member's name without its quotes
	next             int32  // index of the node that follows this subtree
	count            int32  // elements or members
	kind             Kind
	escaped          bool // the string holds a backslash
	keyEscaped       bool
}

// Doc is a parsed text. It keeps a reference to the bytes it was parsed from, which
// must not change while the Doc is in use. A Doc is safe for concurrent reads.
type Doc struct {
	src   []byte
	nodes []node
}

// Parse checks src and indexes it. The error is a *SyntaxError.
func Parse(src []byte, limits Limits) (*Doc, error) {
	d := &Doc{nodes: make([]node, 0, 16+len(src)/16)}
	return d, d.Reset(src, limits)
}

// Reset parses src into d and reuses d's memory. After an error d is empty.
func (d *Doc) Reset(src []byte, limits Limits) error {
	d.src, d.nodes = src, d.nodes[:0]
	p := parser{d: d, src: src, maxDepth: limits.MaxDepth, noDuplicates: limits.NoDuplicates}
	if p.maxDepth == 0 {
		p.maxDepth = DefaultMaxDepth
	}
	if err := p.text(); err != nil {
		d.src, d.nodes = nil, d.nodes[:0]
		return err
	}
	return nil
}

type parser struct {
	d            *Doc
	src          []byte
	pos          int
	depth        int
	maxDepth     int
	noDuplicates bool
}

func (p *parser) text() error {
	if len(p.src) > maxBytes {
		return p.errorAt(0, "text is larger than 1 GiB")
	}
	if !utf8.Valid(p.src) {
		return p.errorAt(invalidUTF8At(p.src), "text is not valid UTF-8")
	}
	p.space()
	if p.pos == len(p.src) {
		return p.errorAt(p.pos, "it is empty")
	}
	if err := p.value(0, 0, false); err != nil {
		return err
	}
	p.space()
	if p.pos != len(p.src) {
		return p.errorAt(p.pos, "unexpected "+p.found()+" after the value")
	}
	return nil
}

func (p *parser) value(keyStart, keyEnd uint32, keyEscaped bool) error {
	if p.pos == len(p.src) {
		return p.errorAt(p.pos, "unexpected end of text, expected a value")
	}
	i := len(p.d.nodes)
	p.d.nodes = append(p.d.nodes, node{start: uint32(p.pos), keyStart: keyStart, keyEnd: keyEnd, keyEscaped: keyEscaped})
	var kind Kind
	var err error
	switch c := p.src[p.pos]; {
	case c == '"':
		start, end, escaped, serr := p.str()
		if serr != nil {
			return serr
		}
		n := &p.d.nodes[i]
		n.start, n.end, n.escaped, n.kind, n.next = start, end, escaped, String, int32(i+1)
		return nil
	case c == '{':
		kind, err = Object, p.object(i)
	case c == '[':
		kind, err = Array, p.array(i)
	case c == '-' || c >= '0' && c <= '9':
		kind, err = Number, p.number()
	case c == 't':
		kind, err = True, p.word("true")
	case c == 'f':
		kind, err = False, p.word("false")
	case c == 'n':
		kind, err = Null, p.word("null")
	default:
		return p.errorAt(p.pos, "unexpected "+p.found()+", expected a value")
	}
	if err != nil {
		return err
	}
	n := &p.d.nodes[i] // the slice may have moved
	n.kind, n.end, n.next = kind, uint32(p.pos), int32(len(p.d.nodes))
	return nil
}

func (p *parser) object(i int) error {
	if err := p.enter(); err != nil {
		return err
	}
	count := int32(0)
	p.space()
	if p.pos < len(p.src) && p.src[p.pos] == '}' {
		p.leave()
		return nil
	}
	for {
		if p.pos == len(p.src) || p.src[p.pos] != '"' {
			return p.errorAt(p.pos, "unexpected "+p.found()+", expected a member name in double quotes")
		}
		keyAt := p.pos
		start, end, escaped, err := p.str()
		if err != nil {
			return err
		}
		p.space()
		if p.pos == len(p.src) || p.src[p.pos] != ':' {
			return p.errorAt(p.pos, "unexpected "+p.found()+", expected ':' after the member name")
		}
		p.pos++
		p.space()
		child := len(p.d.nodes)
		if err := p.value(start, end, escaped); err != nil {
			return err
		}
		if p.noDuplicates && count < 16 && p.isDuplicate(i, child) {
			return p.errorAt(keyAt, fmt.Sprintf("the member %q is named twice", p.src[start:end]))
		}
		count++
		p.space()
		if p.pos < len(p.src) && p.src[p.pos] == ',' {
			p.pos++
			p.space()
			continue
		}
		if p.pos < len(p.src) && p.src[p.pos] == '}' {
			break
		}
		return p.errorAt(p.pos, "unexpected "+p.found()+", expected ',' or '}'")
	}
	p.leave()
	p.d.nodes[i].count = count
	if p.noDuplicates && count > 16 {
		return p.distinct(i)
	}
	return nil
}

// isDuplicate reports whether an earlier member of object i has the name of member child.
// It is for small objects; distinct checks all members of a large one at once.
func (p *parser) isDuplicate(i, child int) bool {
	name := p.d.key(int32(child))
	for j := i + 1; j < child; j = int(p.d.nodes[j].next) {
		if p.d.key(int32(j)) == name {
			return true
		}
	}
	return false
}

func (p *parser) distinct(i int) error {
	n := p.d.nodes[i]
	names := make(map[string]struct{}, n.count)
	for k, j := int32(0), int32(i+1); k < n.count; k, j = k+1, p.d.nodes[j].next {
		name := p.d.key(j)
		if _, dup := names[name]; dup {
			return p.errorAt(int(p.d.nodes[j].keyStart)-1, fmt.Sprintf("the member %q is named twice", name))
		}
		names[name] = struct{}{}
	}
	return nil
}

func (p *parser) array(i int) error {
	if err := p.enter(); err != nil {
		return err
	}
	count := int32(0)
	p.space()
	if p.pos < len(p.src) && p.src[p.pos] == ']' {
		p.leave()
		return nil
	}
	for {
		if err := p.value(0, 0, false); err != nil {
			return err
		}
		count++
		p.space()
		if p.pos < len(p.src) && p.src[p.pos] == ',' {
			p.pos++
			p.space()
			continue
		}
		if p.pos < len(p.src) && p.src[p.pos] == ']' {
			break
		}
		return p.errorAt(p.pos, "unexpected "+p.found()+", expected ',' or ']'")
	}
	p.leave()
	p.d.nodes[i].count = count
	return nil
}

func (p *parser) enter() error {
	if p.depth == p.maxDepth {
		return p.errorAt(p.pos, fmt.Sprintf("arrays and objects nest deeper than %d", p.maxDepth))
	}
	p.depth++
	p.pos++
	return nil
}

func (p *parser) leave() {
	p.depth--
	p.pos++
}

// str reads a string whose opening quote is at pos and returns the bounds of its content.
func (p *parser) str() (start, end uint32, escaped bool, err error) {
	open := p.pos
	i := open + 1
	for i < len(p.src) {
		c := p.src[i]
		switch {
		case c == '"':
			p.pos = i + 1
			return uint32(open + 1), uint32(i), escaped, nil
		case c == '\\':
			escaped = true
			n := escapeLen(p.src[i:])
			if n == 0 {
				return 0, 0, false, p.errorAt(i, "bad escape in a string")
			}
			i += n
		case c < 0x20:
			return 0, 0, false, p.errorAt(i, "control character in a string: write it as an escape")
		default:
			i++
		}
	}
	return 0, 0, false, p.errorAt(open, "string is not closed")
}

// escapeLen returns the length of the escape at the start of b, 0 if there is none.
func escapeLen(b []byte) int {
	if len(b) < 2 {
		return 0
	}
	if bytes.IndexByte([]byte(`"\/bfnrt`), b[1]) >= 0 {
		return 2
	}
	if b[1] != 'u' || len(b) < 6 {
		return 0
	}
	for _, c := range b[2:6] {
		if !(c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F') {
			return 0
		}
	}
	return 6
}

func (p *parser) number() error {
	start := p.pos
	if p.src[p.pos] == '-' {
		p.pos++
	}
	if p.pos < len(p.src) && p.src[p.pos] == '0' {
		p.pos++
	} else if p.digits() == 0 {
		return p.errorAt(start, "bad number")
	}
	if p.pos < len(p.src) && p.src[p.pos] == '.' {
		p.pos++
		if p.digits() == 0 {
			return p.errorAt(start, "bad number: no digit after the point")
		}
	}
	if p.pos < len(p.src) && (p.src[p.pos] == 'e' || p.src[p.pos] == 'E') {
		p.pos++
		if p.pos < len(p.src) && (p.src[p.pos] == '+' || p.src[p.pos] == '-') {
			p.pos++
		}
		if p.digits() == 0 {
			return p.errorAt(start, "bad number: no digit in the exponent")
		}
	}
	return nil
}

func (p *parser) digits() int {
	start := p.pos
	for p.pos < len(p.src) && p.src[p.pos] >= '0' && p.src[p.pos] <= '9' {
		p.pos++
	}
	return p.pos - start
}

func (p *parser) word(w string) error {
	if !bytes.HasPrefix(p.src[p.pos:], []byte(w)) {
		return p.errorAt(p.pos, "unexpected "+p.found()+", expected a value")
	}
	p.pos += len(w)
	return nil
}

func (p *parser) space() {
	for p.pos < len(p.src) {
		switch p.src[p.pos] {
		case ' ', '\t', '\n', '\r':
			p.pos++
		default:
			return
		}
	}
}

func (p *parser) found() string {
	if p.pos >= len(p.src) {
		return "end of text"
	}
	r, _ := utf8.DecodeRune(p.src[p.pos:])
	return fmt.Sprintf("%q", r)
}

func (p *parser) errorAt(offset int, msg string) error {
	before := p.src[:offset]
	return &SyntaxError{
		Offset: offset,
		Line:   1 + bytes.Count(before, []byte{'\n'}),
		Column: offset - bytes.LastIndexByte(before, '\n'),
		Msg:    msg,
	}
}

func invalidUTF8At(b []byte) int {
	for i := 0; i < len(b); {
		r, n := utf8.DecodeRune(b[i:])
		if r == utf8.RuneError && n == 1 {
			return i
		}
		i += n
	}
	return len(b)
}
