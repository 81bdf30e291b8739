package server

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/gofiber/fiber/v2"

	"switchhook/engine"
	"switchhook/scripts/jsonindex"
	"switchhook/scripts/suggest"
	"switchhook/server/api"
)

// targetsMember parses the inline targets of an event, which require a scope.
func targetsMember(v jsonindex.Value, who caller) ([]engine.Target, error) {
	if v.Kind() == jsonindex.Null {
		return nil, nil
	}
	if v.Kind() != jsonindex.Array {
		return nil, invalidField("targets", "must be a list of {\"target_url\": …}, not "+article(v.Kind().String()))
	}
	if !who.Has(engine.ScopeTargets) {
		return nil, &api.Error{Status: fiber.StatusForbidden, Field: "targets", Detail: "targets: this key may not name targets with an event; it needs the scope " + string(engine.ScopeTargets)}
	}
	list := make([]engine.Target, 0, v.Len())
	for i, member := range v.Elements() {
		at := fmt.Sprintf("targets[%d]", i)
		in, err := readTarget(at, member)
		if err != nil {
			return nil, err
		}
		if in.Transform != "" && !who.Has(engine.ScopeScripts) {
			return nil, &api.Error{Status: fiber.StatusForbidden, Field: at + ".transform", Detail: at + ".transform: this key may not give transforms; it needs the scope " + string(engine.ScopeScripts)}
		}
		list = append(list, engine.Target{
			URL: in.TargetURL, Secret: in.Secret, Headers: in.Headers, Transform: in.Transform, PayloadFormat: engine.PayloadFormat(in.PayloadFormat),
		})
	}
	return list, nil
}

func readTarget(at string, v jsonindex.Value) (in api.EventTarget, err error) {
	if v.Kind() != jsonindex.Object {
		return in, invalidField(at, "must be an object, {\"target_url\": …}, not "+article(v.Kind().String()))
	}
	known := fieldNames(&in)
	for name := range v.Members() {
		if slices.Contains(known, name) {
			continue
		}
		if meant := suggest.Closest(name, known); meant != "" {
			return in, invalidField(at+"."+name, fmt.Sprintf("is not known here; did you mean %q?", meant))
		}
		return in, invalidField(at+"."+name, "is not known: a target has "+strings.Join(known, ", "))
	}
	var wrong *json.UnmarshalTypeError
	if err := json.Unmarshal(v.Raw(), &in); errors.As(err, &wrong) {
		return in, invalidField(at+"."+wrong.Field, mustBe(wrong))
	} else if err != nil {
		return in, err
	}
	return in, nil
}

// viewAccepted returns the response to a published event.
func viewAccepted(in *engine.EventInput, a *engine.Accepted) api.AcceptedEvent {
	v := api.AcceptedEvent{ID: a.PublicID, Matched: a.Matched}
	for i, id := range a.Targets {
		v.Targets = append(v.Targets, api.AcceptedTarget{SubscriptionID: id.Format(engine.SubscriptionPrefix), TargetURL: in.Targets[i].URL})
	}
	return v
}
