package server

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"

	"switchhook/engine"
	"switchhook/engine/catalog"
	"switchhook/engine/signature"
	"switchhook/engine/target"
	"switchhook/scripts/jsonindex"
	"switchhook/server/api"
)

// subscriptionInput is the request body for a subscription.
type subscriptionInput struct {
	Event           eventNames         `json:"event"`
	Events          eventNames         `json:"events"`
	TargetURL       string             `json:"target_url"`
	Account         string             `json:"account"`
	Active          *bool              `json:"active"`
	Filter          string             `json:"filter"`
	FilterScript    *scriptRef         `json:"filter_script"`
	Transform       string             `json:"transform"`
	TransformScript *scriptRef         `json:"transform_script"`
	Secret          string             `json:"secret"`
	SecretType      string             `json:"secret_type"`
	Signatures      []signature.Scheme `json:"signatures"`
	Headers         map[string]*string `json:"headers"`
	VisibleHeaders  []string           `json:"visible_headers"`
	PayloadFormat   string             `json:"payload_format"`
	Numbered        bool               `json:"numbered"`
	Policy          json.RawMessage    `json:"policy"`
	Batch           json.RawMessage    `json:"batch"`
	Debounce        json.RawMessage    `json:"debounce"`
	Verify          *string            `json:"verify"`
	Description     string             `json:"description"`
	Metadata        map[string]*string `json:"metadata"`
	ExpiresAt       string             `json:"expires_at"`
	ExpiresIn       json.RawMessage    `json:"expires_in"`

	client clientChange // members that the API does not know
}

// readSubscription parses a subscription from JSON or a form, in the API's names or a client's. stored is
// the subscription being changed, or nil.
func readSubscription(c *fiber.Ctx, stored *engine.Subscription) (in *subscriptionInput, present map[string]jsonindex.Value, words *aliasTranslation, err error) {
	doc, form, err := readJSONOrForm(c)
	if err != nil {
		return nil, nil, nil, err
	}
	if err := wantObject(doc.Root()); err != nil {
		return nil, nil, nil, err
	}
	if words, err = translate(doc.Root(), form, stored); err != nil {
		return nil, nil, nil, err
	}
	in = &subscriptionInput{client: words.client}
	if present, err = words.decode(in); err != nil {
		return nil, nil, nil, err
	}
	return in, present, words, nil
}

// eventNames is one name or a list of names.
type eventNames []string

// UnmarshalJSON implements json.Unmarshaler.
func (n *eventNames) UnmarshalJSON(b []byte) error {
	var one string
	if err := json.Unmarshal(b, &one); err == nil {
		if one != "" {
			*n = eventNames{one}
		}
		return nil
	}
	err := json.Unmarshal(b, (*[]string)(n))
	if wrong := (*json.UnmarshalTypeError)(nil); errors.As(err, &wrong) && wrong.Type == reflect.TypeFor[[]string]() {
		wrong.Type = reflect.TypeFor[eventNames]()
	}
	return err
}

// changeSet says which members of a subscription a request sets.
type changeSet struct {
	present map[string]jsonindex.Value // members of the request's body
	replace bool                       // members that the body leaves out are reset to their defaults
	keep    []string                   // except for these
}

// wholeSubscription sets every member, for a request that creates a subscription.
var wholeSubscription = changeSet{replace: true}

// keptByPUT are the members that a PUT keeps if its body does not have them: REST Hooks clients send only
// those that they know, such as the target URL. (PUT and PATCH keep the secret and verify as well.)
var keptByPUT = []string{"event", "events", "target_url", "filter", "filter_script", "transform", "transform_script"}

// sets reports whether the request sets a member.
func (c changeSet) sets(name string) bool {
	return c.present[name].Exists() || c.replace && !slices.Contains(c.keep, name)
}

// apply sets the members of sub that are in set from in.
func (s *Server) apply(in *subscriptionInput, sub *engine.Subscription, set changeSet) error {
	given := set.sets
	before := *sub
	if given("event") || given("events") { // never both: see translate
		if sub.Events = in.Events; len(in.Event) > 0 {
			sub.Events = in.Event
		}
	}
	if in.Account != "" && in.Account != sub.Account {
		return invalidField("account", "can't be changed; make a new subscription there")
	}
	if given("target_url") {
		sub.TargetURL = in.TargetURL
	}
	if given("active") {
		sub.Active = in.Active == nil || *in.Active
	}
	var err error
	if sub.Filter, sub.FilterScript, err = s.scriptUse("filter", sub.Account, given, strings.TrimSpace(in.Filter), in.FilterScript, sub.Filter, sub.FilterScript); err != nil {
		return err
	}
	if sub.Transform, sub.TransformScript, err = s.scriptUse("transform", sub.Account, given, in.Transform, in.TransformScript, sub.Transform, sub.TransformScript); err != nil {
		return err
	}
	if err := in.applySecret(sub, given); err != nil {
		return err
	}
	if given("headers") {
		for name, value := range in.Headers {
			if value != nil && *value == redacted && headerOf(sub.Headers, name) == "" {
				return invalidField("headers", fmt.Sprintf("%q: %q stands for the value that is stored, and there is none", name, redacted))
			}
		}
		sub.Headers = mergeHeaders(sub.Headers, in.Headers, set.replace || in.Headers == nil)
	}
	if given("visible_headers") {
		sub.VisibleHeaders = in.VisibleHeaders
	}
	if err := in.checkCredentialsStayOnHost(&before, sub); err != nil {
		return err
	}
	if given("payload_format") {
		sub.PayloadFormat = engine.PayloadFormat(in.PayloadFormat)
	}
	if err := applyBatchingAndDebounce(in, sub, set); err != nil {
		return err
	}
	if given("policy") {
		old := sub.Policy
		if set.replace {
			old = engine.Policy{}
		}
		if sub.Policy, err = applyPolicy(in.Policy, old); err != nil {
			return err
		}
	}
	if given("numbered") {
		sub.Numbered = in.Numbered
	}
	switch { // if left out it stays: a PUT must not lose what a target confirmed
	case in.Verify != nil:
		sub.Verification.Mode = engine.VerificationMode(*in.Verify)
	case set.present["verify"].Kind() == jsonindex.Null && set.present["verify"].Exists():
		sub.Verification.Mode = engine.VerifyNone
	}
	if given("description") {
		sub.Description = in.Description
	}
	if given("metadata") {
		sub.Metadata = merge(sub.Metadata, in.Metadata, set.replace || in.Metadata == nil)
	}
	in.client.apply(sub, set.replace)
	if given("expires_at") || given("expires_in") {
		if sub.ExpiresAt, err = s.expiresAt(in); err != nil {
			return err
		}
	}
	return nil
}

// expiresAt returns the requested expiry of a subscription, from one of two members; zero if neither is
// given.
func (s *Server) expiresAt(in *subscriptionInput) (time.Time, error) {
	relative := len(in.ExpiresIn) > 0 && string(in.ExpiresIn) != "null"
	switch {
	case relative && in.ExpiresAt != "":
		return time.Time{}, invalidField("expires_in", "and expires_at are two ways to say the same; give one of them")
	case relative:
		var left api.Duration
		if err := readValue("expires_in", in.ExpiresIn, &left); err != nil {
			return time.Time{}, err
		}
		if d := time.Duration(left); d < catalog.MinExpiry || d > catalog.MaxExpiry {
			return time.Time{}, invalidField("expires_in", fmt.Sprintf("is %s; it must be a minute at least and 10 years at most", d))
		}
		return s.engine.Now().Add(time.Duration(left)), nil
	case in.ExpiresAt != "":
		at, err := parseTime(in.ExpiresAt)
		if err != nil {
			return at, invalidField("expires_at", err.Error()+"; expires_in takes a length of time")
		}
		return at, nil
	}
	return time.Time{}, nil
}

// checkCredentialsStayOnHost refuses to reveal redacted header values, or to send them to another host than
// before, unless the request contains them: the caller may not be allowed to read them.
func (in *subscriptionInput) checkCredentialsStayOnHost(before, sub *engine.Subscription) error {
	moves := before.TargetURL != "" && sub.TargetURL != "" && target.Origin(before.TargetURL) != target.Origin(sub.TargetURL)
	for name, value := range sub.Headers {
		again := in.Headers[name]
		if !before.HidesHeader(name) || headerOf(before.Headers, name) != value || again != nil && *again != redacted {
			continue
		}
		if !sub.HidesHeader(name) {
			return invalidField("visible_headers", fmt.Sprintf("%q has a value that was hidden until now: give it again in headers to show it", name))
		}
		if moves {
			return invalidField("headers", fmt.Sprintf("%q has a hidden value that was given for %s; for another host give it again, or null to take it away", name, target.Origin(before.TargetURL)))
		}
	}
	return nil
}

// scriptUse returns a subscription's filter or transform after a change: a source of its own or a script.
// Setting one removes the other.
func (s *Server) scriptUse(kind, account string, given func(string) bool, source string, ref *scriptRef, oldSource string, oldRef engine.ScriptRef) (string, engine.ScriptRef, error) {
	if strings.TrimSpace(source) == "" {
		source = ""
	}
	found, err := s.findRef(kind+"_script", account, ref)
	if err != nil {
		return "", found, err
	}
	giveSource, giveRef := given(kind), given(kind+"_script")
	switch {
	case giveSource && giveRef:
		return source, found, nil
	case giveSource && source != "":
		return source, engine.ScriptRef{}, nil
	case giveSource:
		return "", oldRef, nil
	case giveRef && found.Script != 0:
		return "", found, nil
	case giveRef:
		return oldSource, engine.ScriptRef{}, nil
	}
	return oldSource, oldRef, nil
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
