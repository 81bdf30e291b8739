package wire

import (
	"encoding/json"
	"reflect"

	"switchhook/engine"
	"switchhook/server/api"
)

// orderingNone is engine.OrderingNone in the API.
const orderingNone = "none"

// FromPolicy returns a policy as the API has it.
func FromPolicy(p *engine.Policy) (wire api.Policy) {
	copyMembers(&wire, p)
	if p.Ordering == engine.OrderingNone {
		wire.Ordering = api.Some(orderingNone)
	}
	return wire
}

// ToPolicy returns a policy as the engine has it. A key that belongs to another ordering must have
// been removed.
func ToPolicy(wire api.Policy) (p engine.Policy) {
	copyMembers(&p, &wire)
	if p.Ordering == orderingNone {
		p.Ordering = engine.OrderingNone
	}
	return p
}

// FromBatch returns batch settings as the API has them; null for none.
func FromBatch(b engine.Batch) (wire api.Optional[api.Batch]) {
	copyMembers(&wire, &b)
	return wire
}

// ToBatch is the reverse of FromBatch.
func ToBatch(wire api.Optional[api.Batch]) (b engine.Batch) {
	copyMembers(&b, &wire)
	return b
}

// FromDebounce returns debounce settings as the API has them; null for none.
func FromDebounce(d engine.Debounce) (wire api.Optional[api.Debounce]) {
	copyMembers(&wire, &d)
	return wire
}

// ToDebounce is the reverse of FromDebounce.
func ToDebounce(wire api.Optional[api.Debounce]) (d engine.Debounce) {
	copyMembers(&d, &wire)
	return d
}

func copyMembers(to, from any) { copyValue(reflect.ValueOf(to).Elem(), reflect.ValueOf(from).Elem()) }

// copyValue copies between a type of package api and the engine's type with fields of the same
// names. A zero value of the engine is null in an api.Optional, and the reverse. It panics if a
// field has no counterpart: a test copies each type.
func copyValue(to, from reflect.Value) {
	if o, ok := from.Addr().Interface().(optional); ok {
		if !o.IsNull() && !o.IsZero() {
			copyValue(to, reflect.ValueOf(o.Decode()).Elem())
		}
		return
	}
	if o, ok := to.Addr().Interface().(optional); ok {
		if from.IsZero() {
			_ = o.(json.Unmarshaler).UnmarshalJSON([]byte("null")) // can't fail
			return
		}
		copyValue(reflect.ValueOf(o.Decode()).Elem(), from)
		return
	}
	switch from.Kind() {
	case reflect.Struct:
		for i := range from.NumField() {
			copyValue(to.FieldByName(from.Type().Field(i).Name), from.Field(i))
		}
	case reflect.Slice:
		to.Set(reflect.MakeSlice(to.Type(), from.Len(), from.Len()))
		for i := range from.Len() {
			copyValue(to.Index(i), from.Index(i))
		}
	default:
		to.Set(from.Convert(to.Type()))
	}
}
