package server

import (
	"encoding/json"
	"maps"
	"strings"

	"switchhook/engine"
	"switchhook/scripts/jsonindex"
)

// Members of a subscription request that the API does not know, such as "site_id", are stored with
// the subscription and shown as metadata.client. A PATCH or PUT changes those that it contains;
// null under metadata removes them.

// clientChange is a request's change of Subscription.Client.
type clientChange struct {
	unknown map[string]any // members of the request that the API does not know
	given   bool           // metadata has a member "client", or is null:
	members map[string]any // its members; nil if it is null
}

// unknownMembers returns the members of an object that no path in used reaches, with their
// nesting; nil if there are none.
func unknownMembers(object jsonindex.Value, used map[string]bool) map[string]any {
	above := map[string]bool{} // paths below which others are used
	for path := range used {
		for i := range path {
			if path[i] == '.' {
				above[path[:i]] = true
			}
		}
	}
	return membersBeside(object, "", used, above)
}

func membersBeside(object jsonindex.Value, within string, used, above map[string]bool) (unknown map[string]any) {
	for name, v := range object.Members() {
		path := within + name
		var value any
		switch {
		case used[path]:
			continue
		case v.Kind() == jsonindex.Object && above[path]:
			inner := membersBeside(v, path+".", used, above)
			if inner == nil {
				continue
			}
			value = inner
		default:
			value = decoded(v)
		}
		if unknown == nil {
			unknown = map[string]any{}
		}
		unknown[name] = value
	}
	return unknown
}

// decoded decodes a JSON value and keeps numbers as they were written.
func decoded(v jsonindex.Value) (value any) {
	dec := json.NewDecoder(strings.NewReader(string(v.Raw())))
	dec.UseNumber()
	if err := dec.Decode(&value); err != nil {
		return nil // the input was parsed as JSON before
	}
	return value
}

// readMetadata splits the member "client" from the JSON text of metadata.
func (c *clientChange) readMetadata(text []byte) []byte {
	doc, err := jsonindex.Parse(text, jsonindex.Limits{})
	if err != nil {
		return text // the decoder refuses it
	}
	root := doc.Root()
	if root.Kind() == jsonindex.Null {
		c.given = true
		return text
	}
	client := root.Get("client")
	if root.Kind() != jsonindex.Object || client.Kind() != jsonindex.Object && client.Kind() != jsonindex.Null {
		return text
	}
	c.given = true
	c.members, _ = decoded(client).(map[string]any)
	rest := []byte{'{'}
	for name, v := range root.Members() {
		if name == "client" {
			continue
		}
		if len(rest) > 1 {
			rest = append(rest, ',')
		}
		rest = append(append(jsonindex.AppendString(rest, name), ':'), v.Raw()...)
	}
	return append(rest, '}')
}

// apply changes the client's members of sub. With replace the members of metadata.client replace
// all stored ones.
func (c *clientChange) apply(sub *engine.Subscription, replace bool) {
	merged := maps.Clone(sub.Client)
	if c.given {
		if replace || c.members == nil {
			merged = nil
		}
		merged = withMembers(merged, c.members, sub.Client)
	}
	if merged = withMembers(merged, c.unknown, sub.Client); len(merged) == 0 {
		merged = nil
	}
	sub.Client = merged
}

// withMembers sets members of an object; null removes one. Redacted values stand for the stored
// ones.
func withMembers(object, change, stored map[string]any) map[string]any {
	for name, v := range change {
		if v == nil {
			delete(object, name)
			continue
		}
		if object == nil {
			object = map[string]any{}
		}
		object[name] = unhidden(v, stored[name])
	}
	return object
}

// unhidden replaces redacted values by the stored ones.
func unhidden(v, stored any) any {
	switch v := v.(type) {
	case string:
		if v == redacted && stored != nil {
			return stored
		}
	case map[string]any:
		old, _ := stored.(map[string]any)
		result := make(map[string]any, len(v))
		for name, value := range v {
			result[name] = unhidden(value, old[name])
		}
		return result
	}
	return v
}

// viewMetadata returns a subscription's metadata with the client's members.
func viewMetadata(sub *engine.Subscription) map[string]any {
	view := make(map[string]any, len(sub.Metadata)+1)
	for name, text := range sub.Metadata {
		view[name] = text
	}
	if len(sub.Client) > 0 {
		view["client"] = engine.HideCredentialMembers(sub.Client)
	}
	return view
}

// matchesClient reports whether the client's members of sub have these values.
func matchesClient(sub *engine.Subscription, want map[string]string) bool {
	for name, text := range want {
		switch v := sub.Client[name].(type) {
		case string:
			if v != text {
				return false
			}
		case json.Number:
			if v.String() != text {
				return false
			}
		default:
			return false
		}
	}
	return true
}
