package transform

import (
	"math"
	"math/big"
	"strconv"
	"strings"

	"github.com/dop251/goja"
)

// Formatting for a locale needs data that the sandbox does not have. goja's methods ignore the
// locale, the zone and every option. They are replaced by methods that throw, instead of
// producing a wrong text, and name an alternative. The exception is a number's
// toLocaleString() without arguments: it returns 1,234.5, as Node does in en-US, the usual
// locale of servers, which needs no data.

const noNumberFormat = "options and locales of toLocaleString aren't supported for numbers: use toFixed, or toLocaleString() for 1,234.5"

// installLocale replaces the toLocale… methods for scripts that mention them.
func installLocale(r *run) {
	r.replaceMethod("Number", "toLocaleString", func(call goja.FunctionCall) goja.Value {
		if len(call.Arguments) > 0 && !goja.IsUndefined(call.Argument(0)) || len(call.Arguments) > 1 {
			panic(r.vm.NewTypeError(noNumberFormat))
		}
		v := call.This
		if o, ok := v.(*goja.Object); ok && o.ClassName() == "Number" {
			v = o.ToNumber()
		}
		switch n := v.Export().(type) {
		case int64:
			return r.vm.ToValue(groupDigits(strconv.FormatInt(n, 10)))
		case float64:
			return r.vm.ToValue(localeNumber(n))
		}
		panic(r.vm.NewTypeError("Number.prototype.toLocaleString was called on what is not a number"))
	})
	r.replaceMethod("BigInt", "toLocaleString", func(call goja.FunctionCall) goja.Value {
		if len(call.Arguments) > 0 && !goja.IsUndefined(call.Argument(0)) || len(call.Arguments) > 1 {
			panic(r.vm.NewTypeError(noNumberFormat))
		}
		n, ok := call.This.Export().(*big.Int)
		if !ok {
			panic(r.vm.NewTypeError("BigInt.prototype.toLocaleString was called on what is not a BigInt"))
		}
		if n.BitLen()/3 > r.limits.Result {
			panic(r.vm.NewGoError(r.limits.OutputError()))
		}
		return r.vm.ToValue(groupDigits(n.String()))
	})
	for _, c := range []struct{ method, layout string }{{"toLocaleString", "M/d/yyyy, h:mm a"}, {"toLocaleDateString", "MMMM d, yyyy"}, {"toLocaleTimeString", "h:mm a"}} {
		r.replaceMethod("Date", c.method, func(goja.FunctionCall) goja.Value {
			panic(r.vm.NewTypeError(c.method + ` of a Date isn't supported, as there are no locales: use formatDate(date, "` + c.layout + `", "America/New_York")`))
		})
	}
	for _, method := range []string{"toLocaleUpperCase", "toLocaleLowerCase"} {
		plain, _ := goja.AssertFunction(r.prototype("String").Get(strings.Replace(method, "Locale", "", 1)))
		r.replaceMethod("String", method, func(call goja.FunctionCall) goja.Value {
			// Only these languages have their own case mapping.
			switch locale, _, _ := strings.Cut(strings.ToLower(call.Argument(0).String()), "-"); locale {
			case "tr", "az", "lt", "el":
				panic(r.vm.NewTypeError(method + "(" + strconv.Quote(locale) + ") isn't supported: there are no locales"))
			}
			return r.must(plain(call.This))
		})
	}
}

// installLocaleCompare replaces localeCompare for scripts that mention it.
func installLocaleCompare(r *run) {
	plain, _ := goja.AssertFunction(r.prototype("String").Get("localeCompare"))
	r.replaceMethod("String", "localeCompare", func(call goja.FunctionCall) goja.Value {
		if locale := call.Argument(1); !goja.IsUndefined(locale) && !strings.HasPrefix(locale.String(), "en") {
			panic(r.vm.NewTypeError("localeCompare with the locale " + strconv.Quote(truncate(locale.String())) + " isn't supported: leave it out, or compare with < and >"))
		}
		if options, ok := call.Argument(2).(*goja.Object); ok {
			for _, name := range options.Keys() {
				v := options.Get(name)
				if goja.IsUndefined(v) || name == "usage" && v.String() == "sort" || name == "sensitivity" && v.String() == "variant" ||
					(name == "numeric" || name == "ignorePunctuation") && !v.ToBoolean() {
					continue
				}
				use := "compare values derived from the texts, such as a.toLowerCase() or Number(a)"
				panic(r.vm.NewTypeError("localeCompare with the option " + strconv.Quote(truncate(name)) + " isn't supported: " + use))
			}
		}
		return r.must(plain(call.This, call.Argument(0)))
	})
}

func (r *run) prototype(class string) *goja.Object {
	return r.vm.Get(class).ToObject(r.vm).Get("prototype").ToObject(r.vm)
}

func (r *run) replaceMethod(class, name string, f func(goja.FunctionCall) goja.Value) {
	_ = r.prototype(class).DefineDataProperty(name, r.vm.ToValue(f), goja.FLAG_TRUE, goja.FLAG_TRUE, goja.FLAG_FALSE)
}

// must returns the result of a built-in, or throws its exception.
func (r *run) must(v goja.Value, err error) goja.Value {
	if err != nil {
		if ex, ok := err.(*goja.Exception); ok {
			panic(ex.Value())
		}
		panic(err)
	}
	return v
}

// localeNumber formats a number for en-US: digits in groups of three and at most three
// decimals, rounding the shortest decimal form half away from zero.
func localeNumber(x float64) string {
	switch {
	case math.IsNaN(x):
		return "NaN"
	case math.IsInf(x, 0):
		if x < 0 {
			return "-∞"
		}
		return "∞"
	}
	text := strconv.FormatFloat(x, 'f', -1, 64)
	sign := ""
	if text[0] == '-' {
		sign, text = "-", text[1:]
	}
	whole, fraction, _ := strings.Cut(text, ".")
	if len(fraction) > 3 {
		up := fraction[3] >= '5'
		thousandths, _ := new(big.Int).SetString(whole+fraction[:3], 10)
		if up {
			thousandths.Add(thousandths, big.NewInt(1))
		}
		text = thousandths.String()
		text = strings.Repeat("0", max(0, 4-len(text))) + text
		whole, fraction = text[:len(text)-3], text[len(text)-3:]
	}
	if fraction = strings.TrimRight(fraction, "0"); fraction != "" {
		fraction = "." + fraction
	}
	return sign + groupDigits(whole) + fraction
}

// groupDigits inserts commas between groups of three digits.
func groupDigits(digits string) string {
	sign := ""
	if strings.HasPrefix(digits, "-") {
		sign, digits = "-", digits[1:]
	}
	var b strings.Builder
	for i, c := range digits {
		if i > 0 && (len(digits)-i)%3 == 0 {
			b.WriteByte(',')
		}
		b.WriteRune(c)
	}
	return sign + b.String()
}
