package server

import (
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"

	"switchhook/engine"
	"switchhook/engine/catalog"
	"switchhook/engine/target"
	"switchhook/server/api"
	"switchhook/server/wire"
)

// subscriptionInput is the request body for a subscription.
type subscriptionInput struct {
	api.SubscriptionRequest
	client clientChange // members that the API does not know
}

// readSubscription parses a subscription from JSON or a form, in the API's names or a client's. stored is
// the subscription being changed, or nil.
func readSubscription(c *fiber.Ctx, stored *engine.Subscription) (*aliasTranslation, error) {
	doc, form, err := readJSONOrForm(c)
	if err != nil {
		return nil, err
	}
	if err := wantObject(doc.Root()); err != nil {
		return nil, err
	}
	return translate(doc.Root(), form, stored)
}

// decode decodes the translated body. Members of policy, batch and debounce that it leaves out are
// those of base.
func (t *aliasTranslation) decode(base *engine.Subscription) (*subscriptionInput, error) {
	body, err := asValue(t.texts)
	if err != nil {
		return nil, err
	}
	in := &subscriptionInput{client: t.client}
	in.Policy = api.Some(wire.FromPolicy(&base.Policy))
	in.Batch, in.Debounce = wire.FromBatch(base.Batch), wire.FromDebounce(base.Debounce)
	return in, wire.Decode(body, &in.SubscriptionRequest).Err()
}

// set changes a field if the request has the member; null is the zero value. With replace it also
// resets a field whose member the request leaves out.
func set[T any](field *T, member api.Optional[T], replace bool) {
	if !member.IsZero() || replace {
		*field, _ = member.Get()
	}
}

// apply changes sub as a request says. With replace it resets what the request leaves out, except the
// members that REST Hooks clients may not know: event, target_url, filter, transform, secret and verify.
func (s *Server) apply(in *subscriptionInput, sub *engine.Subscription, replace bool) error {
	var errs engine.FieldErrors
	before := *sub
	if in.Account != "" && in.Account != sub.Account {
		errs.Add("account", engine.FieldNotAllowed, "can't be changed; make a new subscription there")
	}
	if !in.Event.IsZero() || !in.Events.IsZero() {
		sub.Events = in.Event.Or(in.Events.Or(nil))
	}
	set(&sub.TargetURL, in.TargetURL, false)
	if !in.Active.IsZero() || replace {
		sub.Active = in.Active.Or(true)
	}
	s.useScript(&sub.Filter, &sub.FilterScript, "filter_script", sub.Account, in.Filter, in.FilterScript, &errs)
	s.useScript(&sub.Transform, &sub.TransformScript, "transform_script", sub.Account, in.Transform, in.TransformScript, &errs)
	sub.Filter = strings.TrimSpace(sub.Filter)
	in.applySecret(sub, replace, &errs)
	in.applyHeaders(&before, sub, replace, &errs)
	if !in.PayloadFormat.IsZero() || replace {
		sub.PayloadFormat = engine.PayloadFormat(in.PayloadFormat.Or(""))
	}
	set(&sub.Numbered, in.Numbered, replace)
	sub.Policy = wire.ToPolicy(in.Policy.Or(api.Policy{}))
	sub.Batch, sub.Debounce = wire.ToBatch(in.Batch), wire.ToDebounce(in.Debounce)
	if p := &sub.Policy; p.Ordering != engine.OrderingKeyed && p.OrderingKey == before.Policy.OrderingKey {
		p.OrderingKey = "" // it belonged to the previous ordering
	}
	if !in.Verify.IsZero() {
		sub.Verification.Mode = engine.VerificationMode(in.Verify.Or(""))
	}
	set(&sub.Description, in.Description, replace)
	if !in.Metadata.IsZero() || replace {
		sub.Metadata = merge(sub.Metadata, in.Metadata.Or(nil), replace || in.Metadata.IsNull())
	}
	in.client.apply(sub, replace)
	if !in.ExpiresAt.IsZero() || !in.ExpiresIn.IsZero() || replace {
		sub.ExpiresAt = s.expiresAt(in, &errs)
	}
	return errs.Err()
}

// expiresAt returns the requested expiry of a subscription, from one of two members; zero is never.
func (s *Server) expiresAt(in *subscriptionInput, errs *engine.FieldErrors) time.Time {
	at, absolute := in.ExpiresAt.Get()
	left, relative := in.ExpiresIn.Get()
	switch d := time.Duration(left); {
	case relative && absolute:
		errs.Add("expires_in", engine.FieldConflict, "and expires_at are two ways to say the same; give one of them")
	case relative && (d < catalog.MinExpiry || d > catalog.MaxExpiry):
		errs.Add("expires_in", engine.FieldOutOfRange, "is %s; it must be a minute at least and 10 years at most", left)
	case relative:
		return s.engine.Now().Add(d)
	}
	return at
}

// maxHeaderChanges limits the headers of a request, which are compared with the stored ones: more than
// a subscription can have, so that a PATCH can replace all.
const maxHeaderChanges = 100

// applyHeaders changes the headers of sub, which was before, and which of them are shown.
func (in *subscriptionInput) applyHeaders(before, sub *engine.Subscription, replace bool, errs *engine.FieldErrors) {
	change := in.Headers.Or(nil)
	if len(change) > maxHeaderChanges {
		errs.Add("headers", engine.FieldTooMany, "changes %d headers; at most %d are allowed", len(change), maxHeaderChanges)
		return
	}
	if !in.Headers.IsZero() || replace {
		for name, value := range change {
			if value != nil && *value == redacted && headerOf(sub.Headers, name) == "" {
				errs.Add("headers", engine.FieldInvalid, "%q: %q stands for the value that is stored, and there is none", name, redacted)
			}
		}
		sub.Headers = mergeHeaders(sub.Headers, change, replace || in.Headers.IsNull())
	}
	set(&sub.VisibleHeaders, in.VisibleHeaders, replace)
	checkCredentialsStayOnHost(change, before, sub, errs)
}

// checkCredentialsStayOnHost refuses to reveal redacted header values, or to send them to another host than
// before, unless the request contains them: the caller may not be allowed to read them.
func checkCredentialsStayOnHost(change map[string]*string, before, sub *engine.Subscription, errs *engine.FieldErrors) {
	origin := target.Origin(before.TargetURL)
	moves := before.TargetURL != "" && sub.TargetURL != "" && origin != target.Origin(sub.TargetURL)
	for _, name := range slices.Sorted(maps.Keys(sub.Headers)) {
		again := change[name]
		if !before.HidesHeader(name) || headerOf(before.Headers, name) != sub.Headers[name] || again != nil && *again != redacted {
			continue
		}
		if !sub.HidesHeader(name) {
			errs.Add("visible_headers", engine.FieldNotAllowed,
				"%q has a value that was hidden until now: give it again in headers to show it", name)
		} else if moves {
			errs.Add("headers", engine.FieldNotAllowed,
				"%q has a hidden value that was given for %s; for another host give it again, or null to take it away", name, origin)
		}
	}
}

// useScript changes a filter or transform: a source of its own or a script. Setting one removes the
// other; without either member it stays.
func (s *Server) useScript(
	source *string, script *engine.ScriptRef, field, account string,
	text api.Optional[string], ref api.Optional[api.ScriptRef], errs *engine.FieldErrors,
) {
	if named, ok := ref.Get(); ok {
		found, err := s.findRef(field, account, &named)
		_ = errs.Take(err) // findRef returns no other errors
		if *script = found; text.IsZero() {
			*source = ""
		}
	} else if ref.IsNull() {
		*script = engine.ScriptRef{}
	}
	if text.IsZero() {
		return
	}
	if *source = text.Or(""); strings.TrimSpace(*source) == "" {
		*source = ""
	} else if ref.IsZero() {
		*script = engine.ScriptRef{}
	}
}

// headerOf returns the value of a header, by case-insensitive name.
func headerOf(headers map[string]string, name string) string {
	for other, value := range headers {
		if strings.EqualFold(other, name) {
			return value
		}
	}
	return ""
}

// mergeHeaders is merge with case-insensitive names; the last spelling is stored. A name that change has
// twice stays twice, and the engine refuses it.
func mergeHeaders(old map[string]string, change map[string]*string, replace bool) map[string]string {
	merged := map[string]string{}
	if !replace {
		for name, value := range old {
			changed := false
			for other := range change {
				changed = changed || strings.EqualFold(other, name)
			}
			if !changed {
				merged[name] = value
			}
		}
	}
	for name, value := range change {
		switch {
		case value == nil:
		case *value == redacted:
			merged[name] = headerOf(old, name)
		default:
			merged[name] = *value
		}
	}
	return merged
}

// merge follows RFC 7396: null removes a member. With replace no old member stays.
func merge(old map[string]string, change map[string]*string, replace bool) map[string]string {
	merged := map[string]string{}
	if !replace {
		maps.Copy(merged, old)
	}
	for k, v := range change {
		switch {
		case v == nil:
			delete(merged, k)
		default:
			merged[k] = *v
		}
	}
	return merged
}
