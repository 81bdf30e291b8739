package engine

import "context"

// Actor is who makes a change.
type Actor struct {
	Key     *Key   // it came with the request; nil: the router does it by itself
	Address string // the request came from; empty where there was none
}

// RouterName is what the audit log calls the router itself.
const RouterName = "switchhook"

type actorKey struct{}

// WithActor gives a context under which changes are made in the name of a.
func WithActor(ctx context.Context, a Actor) context.Context {
	return context.WithValue(ctx, actorKey{}, a)
}

// ActorOf is in whose name changes under ctx are made: the router's own where nobody is
// named.
func ActorOf(ctx context.Context) Actor {
	a, _ := ctx.Value(actorKey{}).(Actor)
	return a
}

// may tells whether the actor has a scope; the router itself may do all.
func (a Actor) may(scope Scope) bool { return a.Key == nil || a.Key.Has(scope) }

// MayAttach refuses to let a key without ScopeScripts set, change or take away a
// subscription's transform or its references to scripts: what a transform leaves out must
// stay out. A filter of its own is part of subscribing: it can only choose among events
// that the account has anyway.
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
