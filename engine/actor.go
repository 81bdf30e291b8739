package engine

import "context"

// Actor is the author of a change.
type Actor struct {
	Key     *Key   // the key of the request; nil: the router itself
	Address string // source address of the request; empty if there was no request
}

// RouterName is the router's own name in the audit log.
const RouterName = "switchhook"

type actorKey struct{}

// WithActor returns a context whose changes are attributed to a.
func WithActor(ctx context.Context, a Actor) context.Context {
	return context.WithValue(ctx, actorKey{}, a)
}

// ActorOf returns the actor of changes under ctx; the router itself if ctx names no actor.
func ActorOf(ctx context.Context) Actor {
	a, _ := ctx.Value(actorKey{}).(Actor)
	return a
}

// may reports whether the actor has a scope; the router itself has all scopes.
func (a Actor) may(scope Scope) bool { return a.Key == nil || a.Key.Has(scope) }

// MayAttach forbids a key without ScopeScripts to set, change or remove a subscription's transform
// or its script references: data that a transform leaves out must not leak. An inline filter is
// part of subscribing: it can only select among events that the account has anyway.
func MayAttach(ctx context.Context, s, old *Subscription) error {
	if ActorOf(ctx).may(ScopeScripts) {
		return nil
	}
	if old == nil {
		old = &Subscription{}
	}
	field := ""
	switch {
	case s.Transform != old.Transform:
		field = "transform"
	case s.TransformScript != old.TransformScript:
		field = "transform_script"
	case s.FilterScript != old.FilterScript:
		field = "filter_script"
	default:
		return nil
	}
	return &Error{Code: CodeForbidden, Field: field, Message: "can't be set or changed with this key: that needs the scope \"scripts\""}
}
