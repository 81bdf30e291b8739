package server

import (
	"context"
	"encoding/json"
	"slices"
	"strings"

	"github.com/gofiber/fiber/v2"

	"switchhook/engine"
	"switchhook/scripts/jsonindex"
	"switchhook/server/api"
	"switchhook/server/dialect"
)

// readDialect decodes a body in a dialect's terms; members that the dialect does not map are stored as
// the client's. fixed are the dialect's constant members; it may be missing.
func readDialect(c *fiber.Ctx, d *dialect.Dialect, op *dialect.Operation, fixed jsonindex.Value) (words *aliasTranslation, err error) {
	doc, form, err := readJSONOrForm(c)
	if err != nil {
		return nil, err
	}
	if err := wantObject(doc.Root()); err != nil {
		return nil, err
	}
	words = newTranslation(form, nil)
	for ours, theirs := range op.Request {
		v := find(doc.Root(), theirs)
		words.used[theirs] = true
		if j, ok := op.Joined[ours]; ok {
			if j.Each == "" {
				for _, part := range j.Parts {
					words.used[part] = true
				}
			}
			v = joined(doc.Root(), j)
		}
		if !slices.Contains(ownNames, ours) {
			continue
		}
		if !v.Exists() { // an error about its absence uses the dialect's name
			words.places[ours] = theirs
			if ours == "events" {
				words.places["event"] = theirs
			}
			continue
		}
		if ours == "event" || ours == "events" {
			words.put("events", theirs, eventText(v))
			words.single = isSingle(v)
		} else {
			words.put(ours, theirs, words.typed(ours, v))
		}
	}
	if len(words.texts) == 0 {
		return nil, newProblem(fiber.StatusUnprocessableEntity, "the body has no known member: "+given(op, ownNames...))
	}
	words.client.unknown = unknownMembers(doc.Root(), words.used)
	for name, v := range fixed.Members() {
		words.put(name, "fixed."+name, v.Raw())
	}
	return words, nil
}

// joined joins the parts of the client's event: a text, or a list of texts. "*" in all parts means
// every event. If a part is missing the value does not exist.
func joined(body jsonindex.Value, j dialect.Join) jsonindex.Value {
	one := func(object jsonindex.Value) (string, bool) {
		var texts []string
		all := true
		for _, part := range j.Parts {
			v := find(object, part)
			if v.Kind() != jsonindex.String {
				return "", false
			}
			texts, all = append(texts, v.Text()), all && v.Text() == "*"
		}
		if all {
			return "*", true
		}
		return strings.Join(texts, j.With), true
	}
	var result any
	if j.Each == "" {
		text, ok := one(body)
		if !ok {
			return jsonindex.Value{}
		}
		result = text
	} else {
		list := find(body, j.Each)
		if list.Kind() != jsonindex.Array {
			return list // the decoder refuses it
		}
		texts := []string{}
		for _, element := range list.Elements() {
			text, ok := one(element)
			if !ok {
				return jsonindex.Value{}
			}
			texts = append(texts, text)
		}
		result = texts
	}
	v, err := asValue(result)
	if err != nil {
		return jsonindex.Value{}
	}
	return v
}

// checkFixed validates the fixed members of a dialect and returns the error and the member; empty if
// they are valid. Whether an account has the scripts that they name is checked when it subscribes.
func (s *Server) checkFixed(fixed jsonindex.Value) (member, wrong string) {
	words := newTranslation(false, nil)
	for name, v := range fixed.Members() {
		if name != "filter_script" && name != "transform_script" {
			words.put(name, name, v.Raw())
		}
	}
	sub := &engine.Subscription{}
	_, err := s.change(words, sub, true)
	if err == nil {
		err = s.engine.ValidateTemplate(context.Background(), sub)
	}
	if err == nil {
		return "", ""
	}
	p := s.problemFor(nil, err)
	return p.Field, strings.TrimLeft(strings.TrimPrefix(p.Detail, p.Field), ": ")
}

// find looks a member up by a path with "." between nested names. A member whose own name has a "."
// takes precedence.
func find(v jsonindex.Value, name string) jsonindex.Value {
	if found := v.Get(name); found.Exists() {
		return found
	}
	head, rest, ok := strings.Cut(name, ".")
	if !ok {
		return jsonindex.Value{}
	}
	return find(v.Get(head), rest)
}

func (s *Server) dialectAnswer(c *fiber.Ctx, op *dialect.Operation, view subscriptionView) error {
	v, err := asValue(view)
	if err != nil {
		return err
	}
	scope := dialect.Scope{Values: map[string]jsonindex.Value{"subscription": v}}
	for _, h := range op.Headers {
		if value, ok := headerValue(h, scope, view.ID); ok {
			c.Set(h.Name, value)
		}
	}
	return sendAnswer(c, op, scope)
}

// headerValue renders a response header; ok is false if the value is missing, or is not a text or
// number that is valid in a header.
func headerValue(h dialect.Header, scope dialect.Scope, id string) (value string, ok bool) {
	doc, err := jsonindex.Parse(h.Value.Append(nil, scope), jsonindex.Limits{})
	if err != nil {
		return "", false
	}
	switch v := doc.Root(); v.Kind() {
	case jsonindex.String:
		value = strings.ReplaceAll(v.Text(), "{id}", id)
	case jsonindex.Number, jsonindex.True, jsonindex.False:
		value = string(v.Raw())
	default:
		return "", false
	}
	return value, !strings.ContainsFunc(value, func(c rune) bool { return c < ' ' || c > '~' })
}

func sendAnswer(c *fiber.Ctx, op *dialect.Operation, scope dialect.Scope) error {
	c.Status(op.Status)
	if op.Answer == nil {
		return nil
	}
	c.Set(fiber.HeaderContentType, fiber.MIMEApplicationJSON)
	return c.Send(op.Answer.Append(nil, scope))
}

func asValue(v any) (jsonindex.Value, error) {
	text, err := encodeJSON(v)
	if err != nil {
		return jsonindex.Value{}, err
	}
	doc, err := jsonindex.Parse(text, jsonindex.Limits{MaxDepth: jsonindex.DefaultMaxDepth + 1})
	if err != nil {
		return jsonindex.Value{}, err
	}
	return doc.Root(), nil
}

// dialectProblem converts an error to the form of the request's dialect; body is nil if the dialect
// has no form of its own.
func dialectProblem(c *fiber.Ctx, p *api.Error) (status int, body []byte) {
	d, ok := c.Locals(dialectLocal).(*dialect.Dialect)
	if !ok || d.Errors == nil {
		return p.Status, nil
	}
	status = p.Status
	if to := d.Errors.Status[status]; to != 0 {
		status = to
	}
	if d.Errors.Body == nil {
		return status, nil
	}
	text, err := json.Marshal(struct {
		Status int           `json:"status"`
		Code   api.ErrorCode `json:"code"`
		Title  string        `json:"title"`
		Detail string        `json:"detail"`
		Field  string        `json:"field"`
	}{status, p.Code, p.Title, p.Detail, p.Field})
	if err != nil {
		return status, nil
	}
	doc, err := jsonindex.Parse(text, jsonindex.Limits{})
	if err != nil {
		return status, nil
	}
	return status, d.Errors.Body.Append(nil, dialect.Scope{Values: map[string]jsonindex.Value{"error": doc.Root()}})
}
