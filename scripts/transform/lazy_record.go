package transform

import (
	"maps"
	"slices"

	"github.com/dop251/goja"
)

// record is a small object whose members are created on demand: most transforms read two or
// three of the twenty. It implements goja.DynamicObject.
type record struct {
	names  []string
	values []goja.Value           // nil until first read
	value  func(i int) goja.Value // returns the value of one of the first names
	opened bool                   // the script has read or set a member
	refuse func(name string)      // throws if an unknown member is set; nil: any member may be set
	inline [6]goja.Value          // memory for values
}

func (r *run) record(names []string, value func(i int) goja.Value) (*record, *goja.Object) {
	rec := &record{names: names, value: value}
	rec.values = rec.inline[:len(names)]
	return rec, r.vm.NewDynamicObject(rec)
}

// textMap returns an object of a map of strings, sorted by name so that every run sees the
// same order.
func (r *run) textMap(m map[string]string) *goja.Object {
	o := r.vm.NewObject()
	for _, name := range slices.Sorted(maps.Keys(m)) {
		_ = o.Set(name, m[name])
	}
	return o
}

// Get returns a member's value, nil if there is none.
func (o *record) Get(name string) goja.Value {
	i := slices.Index(o.names, name)
	if i < 0 {
		return nil
	}
	o.opened = true
	if o.values[i] == nil {
		o.values[i] = o.value(i)
	}
	return o.values[i]
}

// Has reports whether there is such a member.
func (o *record) Has(name string) bool { return slices.Contains(o.names, name) }

// Set sets a member.
func (o *record) Set(name string, v goja.Value) bool {
	o.opened = true
	if i := slices.Index(o.names, name); i >= 0 {
		o.values[i] = v
		return true
	}
	if o.refuse != nil {
		o.refuse(name)
	}
	o.names = append(o.names[:len(o.names):len(o.names)], name)
	o.values = append(o.values, v)
	return true
}

// Delete removes a member.
func (o *record) Delete(name string) bool {
	i := slices.Index(o.names, name)
	if i < 0 {
		return true
	}
	for j := range o.names { // value uses the index
		o.Get(o.names[j])
	}
	o.names = slices.Concat(o.names[:i], o.names[i+1:])
	o.values = slices.Delete(o.values, i, i+1)
	return true
}

// Keys returns the members' names.
func (o *record) Keys() []string { return o.names }
