package transform

import (
	"fmt"
	"math"
	"strings"
	"sync"
	"time"
	_ "time/tzdata" // the process that runs scripts may not open files

	"github.com/dop251/goja"
)

// maxLayout is the maximum length of formatDate's layout, in bytes.
const maxLayout = 256

// dateTokens are the parts of a layout, after Unicode TR35, part 4. Names are English.
var dateTokens = map[string]func(t time.Time) string{
	"yyyy": func(t time.Time) string { return fmt.Sprintf("%04d", t.Year()) },
	"yy":   func(t time.Time) string { return fmt.Sprintf("%02d", t.Year()%100) },
	"MMMM": func(t time.Time) string { return t.Month().String() },
	"MMM":  goLayout("Jan"),
	"MM":   goLayout("01"),
	"M":    goLayout("1"),
	"dd":   goLayout("02"),
	"d":    goLayout("2"),
	"EEEE": goLayout("Monday"),
	"EEE":  goLayout("Mon"),
	"HH":   goLayout("15"),
	"H":    func(t time.Time) string { return fmt.Sprint(t.Hour()) },
	"hh":   goLayout("03"),
	"h":    goLayout("3"),
	"mm":   goLayout("04"),
	"m":    goLayout("4"),
	"ss":   goLayout("05"),
	"s":    goLayout("5"),
	"SSS":  func(t time.Time) string { return fmt.Sprintf("%03d", t.Nanosecond()/1e6) },
	"a":    goLayout("PM"),
	"XXX":  goLayout("Z07:00"),
	"xx":   goLayout("-0700"),
	"z":    goLayout("MST"),
}

const knownTokens = "yyyy yy MMMM MMM MM M dd d EEEE EEE HH H hh h mm m ss s SSS a XXX xx z"

func goLayout(layout string) func(time.Time) string {
	return func(t time.Time) string { return t.Format(layout) }
}

// installFormatDate installs formatDate(date, layout, timeZone = "UTC").
func installFormatDate(r *run) {
	_ = r.vm.Set("formatDate", func(call goja.FunctionCall) goja.Value {
		t := r.instant(call.Argument(0))
		layout := r.textOf(call.Argument(1), "formatDate: layout", maxLayout)
		if zone := call.Argument(2); !goja.IsUndefined(zone) {
			name := r.textOf(zone, "formatDate: timeZone", 64)
			location, ok := timeZone(name)
			if !ok {
				r.throwRange("formatDate: there is no time zone %q: give a name such as Europe/Berlin", name)
			}
			t = t.In(location)
		}
		text, err := formatDate(t, layout)
		if err != nil {
			panic(r.vm.NewTypeError("formatDate: %s", err.Error()))
		}
		return r.vm.ToValue(text)
	})
}

// isoLayouts are the layouts of texts that formatDate accepts; without an offset they are UTC.
var isoLayouts = []string{time.RFC3339Nano, "2006-01-02T15:04:05", "2006-01-02T15:04", "2006-01-02 15:04:05", "2006-01-02"}

// instant reads a Date, an ISO 8601 text or milliseconds since 1970.
func (r *run) instant(v goja.Value) time.Time {
	const limit = 8.64e15 // ECMA-262, 21.4.1.1
	switch x := v.(type) {
	case *goja.Object:
		if t, ok := x.Export().(time.Time); ok && x.ClassName() == "Date" {
			return t.UTC()
		}
		if x.ClassName() == "Date" {
			r.throwRange("formatDate: the date is invalid")
		}
	case goja.String:
		text := r.textOf(x, "formatDate: date", 64)
		for _, layout := range isoLayouts {
			if t, err := time.Parse(layout, text); err == nil {
				return t.UTC()
			}
		}
		r.throwRange("formatDate: %q is not an ISO 8601 date, such as 2026-01-02T15:04:05Z", text)
	default:
		if goja.IsNumber(v) {
			ms := v.ToFloat()
			if math.IsNaN(ms) || math.Abs(ms) > limit {
				r.throwRange("formatDate: the date is invalid")
			}
			return time.UnixMilli(int64(ms)).UTC()
		}
	}
	panic(r.vm.NewTypeError("formatDate: date must be a Date, an ISO 8601 string or milliseconds since 1970"))
}

// formatDate formats t. Letters are tokens; text between apostrophes and all other characters
// are literal.
func formatDate(t time.Time, layout string) (string, error) {
	var b strings.Builder
	for i := 0; i < len(layout); {
		c := layout[i]
		switch {
		case c == '\'':
			text, n := quoted(layout[i:])
			if n == 0 {
				return "", fmt.Errorf("the layout %q has an apostrophe without its twin", layout)
			}
			b.WriteString(text)
			i += n
		case 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z':
			n := i
			for n < len(layout) && layout[n] == c {
				n++
			}
			token := dateTokens[layout[i:n]]
			if token == nil {
				return "", fmt.Errorf("the layout has %q, but its letters must be of %s, or between apostrophes", layout[i:n], knownTokens)
			}
			b.WriteString(token(t))
			i = n
		default:
			b.WriteByte(c)
			i++
		}
	}
	return b.String(), nil
}

// quoted returns the text between apostrophes at the start of s, and its length including
// them; two apostrophes are a literal one.
func quoted(s string) (text string, n int) {
	if strings.HasPrefix(s, "''") {
		return "'", 2
	}
	for n = 1; n < len(s); n++ {
		switch {
		case s[n] != '\'':
			text += s[n : n+1]
		case strings.HasPrefix(s[n:], "''"):
			text += "'"
			n++
		default:
			return text, n + 1
		}
	}
	return "", 0
}

// zones caches the time zones that were used; there are about 600 names.
var zones sync.Map // of *time.Location, by name

func timeZone(name string) (*time.Location, bool) {
	if name == "UTC" {
		return time.UTC, true
	}
	if l, ok := zones.Load(name); ok {
		return l.(*time.Location), true
	}
	if name == "" || name == "Local" {
		return nil, false // names that Go accepts but that are not time zones
	}
	l, err := time.LoadLocation(name)
	if err != nil {
		return nil, false
	}
	zones.Store(name, l)
	return l, true
}
