package server

import (
	"fmt"

	"github.com/gofiber/fiber/v2"

	"switchhook/engine"
	"switchhook/scripts/jsonindex"
	"switchhook/server/api"
	"switchhook/server/wire"
)

// targetsMember parses the inline targets of an event, which require a scope.
func targetsMember(v jsonindex.Value, who caller) ([]engine.Target, error) {
	if v.Kind() == jsonindex.Null {
		return nil, nil
	}
	if v.Kind() != jsonindex.Array {
		return nil, invalidField("targets", "must be a list of {\"target_url\": …}, not "+wire.Article(v.Kind().String()))
	}
	if !who.Has(engine.ScopeTargets) {
		return nil, &api.Error{Status: fiber.StatusForbidden, Field: "targets", Detail: "targets: this key may not name targets with an event; it needs the scope " + string(engine.ScopeTargets)}
	}
	list := make([]engine.Target, 0, v.Len())
	for i, member := range v.Elements() {
		at := fmt.Sprintf("targets[%d]", i)
		if member.Kind() != jsonindex.Object {
			return nil, invalidField(at, "must be an object, {\"target_url\": …}, not "+wire.Article(member.Kind().String()))
		}
		var in api.EventTarget
		if err := wire.DecodeValue(at, member, &in).Err(); err != nil {
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

// viewAccepted returns the response to a published event.
func viewAccepted(in *engine.EventInput, a *engine.Accepted) api.AcceptedEvent {
	v := api.AcceptedEvent{ID: a.PublicID, Matched: a.Matched}
	for i, id := range a.Targets {
		v.Targets = append(v.Targets, api.AcceptedTarget{SubscriptionID: id.Format(engine.SubscriptionPrefix), TargetURL: in.Targets[i].URL})
	}
	return v
}
