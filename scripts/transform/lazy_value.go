package transform

import (
	"math"
	"math/big"
	"slices"
	"strings"

	"switchhook/scripts/jsonindex"

	"github.com/dop251/goja"
)

// maxArrayLength is the maximum length to which a script may extend an array of the event.
const maxArrayLength = 1 << 20

// indexFrom is the number of members from which an object is indexed by a map.
const indexFrom = 12

// value converts a JSON value for the script. Objects and arrays are read on access. Integers
// that do not fit in a double become BigInts.
func (r *run) value(v jsonindex.Value) goja.Value {
	switch v.Kind() {
	case jsonindex.True:
		return r.vm.ToValue(true)
	case jsonindex.False:
		return r.vm.ToValue(false)
	case jsonindex.String:
		return r.vm.ToValue(v.Text())
	case jsonindex.Number:
		return r.number(v)
	case jsonindex.Object:
		return r.vm.NewDynamicObject(&lazyObject{run: r, src: v})
	case jsonindex.Array:
		return r.vm.NewDynamicArray(&lazyArray{run: r, src: v})
	}
	return goja.Null()
}

func (r *run) number(v jsonindex.Value) goja.Value {
	const exact = 1 << 53
	if n, ok := v.Int64(); ok && n >= -exact && n <= exact {
		if n == 0 && v.Raw()[0] == '-' {
			return r.vm.ToValue(math.Copysign(0, -1))
		}
		return r.vm.ToValue(n)
	}
	if raw := string(v.Raw()); !strings.ContainsAny(raw, ".eE") {
		if n, ok := new(big.Int).SetString(raw, 10); ok {
			r.readyBigInt()
			return r.vm.ToValue(n)
		}
	}
	return r.vm.ToValue(v.Float64())
}

// readyBigInt makes JSON.stringify write BigInts as integers.
func (r *run) readyBigInt() {
	if r.bigIntReady {
		return
	}
	r.bigIntReady = true
	proto, ok := r.vm.Get("BigInt").(*goja.Object).Get("prototype").(*goja.Object)
	raw, callable := goja.AssertFunction(r.vm.Get("JSON").(*goja.Object).Get("rawJSON"))
	if !ok || !callable { // the script has removed them
		return
	}
	_ = proto.DefineDataProperty("toJSON", r.vm.ToValue(func(call goja.FunctionCall) goja.Value {
		v, err := raw(goja.Undefined(), r.vm.ToValue(call.This.String()))
		if err != nil {
			panic(err)
		}
		return v
	}), goja.FLAG_TRUE, goja.FLAG_TRUE, goja.FLAG_FALSE)
}

// lazyObject is an object of the event: the members of the text, overlaid by the script's
// changes. It implements goja.DynamicObject.
type lazyObject struct {
	run       *run
	src       jsonindex.Value
	index     map[string]jsonindex.Value // the text's members, set on access to a large object
	overrides map[string]goja.Value      // values that were set, and containers that were read; nil if deleted
	added     []string                   // names that are not in the text, or were deleted and set again
	changed   bool                       // the script set or deleted a member
}

func (o *lazyObject) member(name string) jsonindex.Value {
	if o.src.Len() < indexFrom {
		return o.src.Get(name)
	}
	if o.index == nil {
		o.index = make(map[string]jsonindex.Value, o.src.Len())
		for k, v := range o.src.Members() {
			o.index[k] = v
		}
	}
	return o.index[name]
}

// Get returns a member's value, nil if there is none.
func (o *lazyObject) Get(name string) goja.Value {
	if v, ok := o.overrides[name]; ok {
		return v
	}
	m := o.member(name)
	if !m.Exists() {
		return nil
	}
	v := o.run.value(m)
	if k := m.Kind(); k == jsonindex.Object || k == jsonindex.Array {
		o.keep(name, v) // so that o.x === o.x, and changes in it persist
	}
	return v
}

func (o *lazyObject) keep(name string, v goja.Value) {
	if o.overrides == nil {
		o.overrides = make(map[string]goja.Value)
	}
	o.overrides[name] = v
}

// Has reports whether there is such a member.
func (o *lazyObject) Has(name string) bool {
	if v, ok := o.overrides[name]; ok {
		return v != nil
	}
	return o.member(name).Exists()
}

// Set sets a member.
func (o *lazyObject) Set(name string, v goja.Value) bool {
	if !o.Has(name) {
		o.added = append(o.added, name)
	}
	o.changed = true
	o.keep(name, v)
	return true
}

// Delete removes a member.
func (o *lazyObject) Delete(name string) bool {
	if o.Has(name) {
		o.changed = true
		for i, a := range o.added {
			if a == name {
				o.added = append(o.added[:i:i], o.added[i+1:]...)
				break
			}
		}
		if o.member(name).Exists() {
			o.keep(name, nil)
		} else {
			delete(o.overrides, name)
		}
	}
	return true
}

// Keys returns the members' names: those of the text in its order, then the added ones.
func (o *lazyObject) Keys() []string {
	keys := make([]string, 0, o.src.Len()+len(o.added))
	var again map[string]bool
	for _, a := range o.added {
		if o.member(a).Exists() {
			if again == nil {
				again = make(map[string]bool)
			}
			again[a] = true
		}
	}
	for k := range o.src.Members() {
		if v, ok := o.overrides[k]; ok && v == nil || again[k] {
			continue
		}
		keys = append(keys, k)
	}
	keys = distinct(keys)
	return append(keys, o.added...)
}

// distinct removes duplicate names, which a JSON text may contain.
func distinct(keys []string) []string {
	if len(keys) < indexFrom {
		for i := 1; i < len(keys); i++ {
			if slices.Contains(keys[:i], keys[i]) {
				keys = slices.Delete(keys, i, i+1)
				i--
			}
		}
		return keys
	}
	seen := make(map[string]struct{}, len(keys))
	return slices.DeleteFunc(keys, func(k string) bool {
		_, dup := seen[k]
		seen[k] = struct{}{}
		return dup
	})
}

// pristine reports whether o is unchanged, so that its text can be copied.
func (o *lazyObject) pristine() bool {
	if o.changed {
		return false
	}
	for _, v := range o.overrides {
		if !pristine(v) {
			return false
		}
	}
	return true
}

// lazyArray is an array of the event. It implements goja.DynamicArray.
type lazyArray struct {
	run       *run
	src       jsonindex.Value
	text      []jsonindex.Value // the text's elements, set on the first read
	overrides []goja.Value      // elements that were set or read; nil for unread elements of the text
	changed   bool
}

func (a *lazyArray) open() {
	if a.overrides != nil || a.src.Len() == 0 {
		return
	}
	a.text = make([]jsonindex.Value, 0, a.src.Len())
	for _, v := range a.src.Elements() {
		a.text = append(a.text, v)
	}
	a.overrides = make([]goja.Value, len(a.text))
}

// Len returns the array's length.
func (a *lazyArray) Len() int {
	if a.overrides == nil && !a.changed {
		return a.src.Len()
	}
	return len(a.overrides)
}

// Get returns an element, nil if there is none.
func (a *lazyArray) Get(i int) goja.Value {
	a.open()
	if i < 0 || i >= len(a.overrides) {
		return nil
	}
	if a.overrides[i] == nil {
		v := a.run.value(a.text[i])
		if k := a.text[i].Kind(); k != jsonindex.Object && k != jsonindex.Array {
			return v
		}
		a.overrides[i] = v
	}
	return a.overrides[i]
}

// Set sets an element, extending the array if needed.
func (a *lazyArray) Set(i int, v goja.Value) bool {
	a.open()
	if i < 0 || i >= len(a.overrides) && !a.SetLen(i+1) {
		return false
	}
	if v == nil {
		v = goja.Undefined()
	}
	a.changed = true
	a.overrides[i] = v
	return true
}

// SetLen truncates the array, or extends it with undefined elements.
func (a *lazyArray) SetLen(n int) bool {
	a.open()
	if n < 0 || n > maxArrayLength {
		return false
	}
	a.changed = true
	if n <= len(a.overrides) {
		clear(a.overrides[n:])
		a.overrides = a.overrides[:n]
		if a.text = a.text[:min(n, len(a.text))]; a.overrides == nil {
			a.overrides = []goja.Value{}
		}
		return true
	}
	for len(a.overrides) < n {
		a.overrides = append(a.overrides, goja.Undefined())
	}
	return true
}

func (a *lazyArray) pristine() bool {
	if a.changed {
		return false
	}
	for _, v := range a.overrides {
		if v != nil && !pristine(v) {
			return false
		}
	}
	return true
}

// pristine reports whether v is an unchanged value of the text.
func pristine(v goja.Value) bool {
	switch l := lazyOf(v).(type) {
	case *lazyObject:
		return l.pristine()
	case *lazyArray:
		return l.pristine()
	}
	return false
}
