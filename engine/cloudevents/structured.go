package cloudevents

import (
	"encoding/base64"
	"regexp"
	"strconv"

	"switchhook/scripts/jsonindex"
)

// ReadJSON reads an event in the JSON event format. Errors: *Error.
func ReadJSON(v jsonindex.Value) (*Event, error) {
	if v.Kind() != jsonindex.Object {
		return nil, newError("", "must be a JSON object with the attributes of a CloudEvent")
	}
	a, data := newAttributes(func(name string) string { return name }), payload{}
	for name, member := range v.Members() {
		switch name {
		case "data", "data_base64":
			if data.given {
				return nil, newError("data_base64", "and data are both there; an event has one of them")
			}
			data = payload{given: true, field: name, json: member}
			if name == "data" {
				continue
			}
			raw, err := base64.StdEncoding.DecodeString(member.Text())
			if err != nil || member.Kind() != jsonindex.String {
				return nil, newError(name, "must be a string of base64")
			}
			data.json, data.bytes = jsonindex.Value{}, raw
		default:
			value, set, err := attributeText(name, member)
			if err == nil && set {
				err = a.set(name, value)
			}
			if err != nil {
				return nil, err
			}
		}
	}
	return a.finish(data)
}

var integer = regexp.MustCompile(`^-?[0-9]+$`)

// attributeText gives an attribute's canonical string. null is an attribute that is not set.
func attributeText(name string, v jsonindex.Value) (text string, set bool, err error) {
	switch kind := v.Kind(); {
	case kind == jsonindex.Null:
		return "", false, nil
	case kind == jsonindex.String:
		return v.Text(), true, nil
	case core[name]:
		return "", false, newError(name, "must be a string")
	case kind == jsonindex.True || kind == jsonindex.False:
		return string(v.Raw()), true, nil
	case kind == jsonindex.Number && integer.Match(v.Raw()):
		n, err := strconv.ParseInt(string(v.Raw()), 10, 32)
		if err != nil {
			return "", false, newError(name, "must lie between -2147483648 and 2147483647; send larger numbers as strings")
		}
		return strconv.FormatInt(n, 10), true, nil
	}
	return "", false, newError(name, "must be a string, a boolean or an integer: attributes have no other types; what happened goes into data")
}
