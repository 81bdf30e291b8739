package engine

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"switchhook/engine/signature"
	"switchhook/scripts/suggest"
)

// Subscription requests events: while it is active, each matching event of its account is POSTed to
// its target URL.
type Subscription struct {
	ID              ID
	Account         string
	Events          []string // event types, or patterns: "*", "order.*"
	TargetURL       string
	Active          bool
	Reason          string             // why the router deactivated it; empty if a user did
	Filter          string             // inline expr source; if FilterScript is empty too, every event passes
	FilterScript    ScriptRef          // a script instead
	Transform       string             // inline JavaScript or TypeScript source
	TransformScript ScriptRef          // a script instead
	Secret          string             // "whsec_…" or "whsk_…", signs deliveries
	OldSecrets      []OldSecret        // these sign too
	Signatures      []signature.Scheme // signature.Standard if empty
	Headers         map[string]string  // sent with each delivery
	VisibleHeaders  []string           // headers whose values are not hidden, see HidesHeader
	PayloadFormat   PayloadFormat
	Policy          Policy
	Batch           Batch
	Debounce        Debounce
	Numbered        bool // deliveries carry a sequence number
	Verification    Verification
	Inline          bool              // a target named with an event: no event type matches it
	TargetKey       string            // identifies the target of an Inline one
	Dialect         string            // the dialect that created it; empty for the router's own API
	Names           map[string]string // its client's names for API fields: "target_url" → "hookUrl"
	Description     string
	Metadata        map[string]string
	Client          map[string]any // members of the client's request that the API does not know, as decoded JSON; nil: none
	ExpiresAt       time.Time      // deleted then; zero: never
	Version         int64          // increases with each change
	CreatedAt       time.Time
	UpdatedAt       time.Time

	// Unreadable lists the columns that the store could not decode; their fields are empty. While
	// there are any, the subscription's deliveries wait.
	Unreadable []string
}

// Clone returns a copy of s; changing the copy does not change s.
func (s *Subscription) Clone() *Subscription {
	c := *s
	c.Events, c.Headers, c.Metadata = slices.Clone(s.Events), maps.Clone(s.Headers), maps.Clone(s.Metadata)
	c.OldSecrets, c.Signatures, c.Names = slices.Clone(s.OldSecrets), slices.Clone(s.Signatures), maps.Clone(s.Names)
	c.VisibleHeaders, c.Policy.Retries = slices.Clone(s.VisibleHeaders), slices.Clone(s.Policy.Retries)
	c.Client = maps.Clone(s.Client) // its values are never changed in place
	return &c
}

// PayloadFormat is the body that is sent if no transform makes it.
type PayloadFormat string

// The payload formats.
const (
	FormatStandard PayloadFormat = "standard" // Standard Webhooks: {"type", "timestamp", "data"}
	FormatData     PayloadFormat = "data"     // the data only, as REST Hooks asks
	FormatSkinny   PayloadFormat = "skinny"   // Standard Webhooks, with a URL to the event instead of its data

	FormatCloudEvents       PayloadFormat = "cloudevents"        // CloudEvents 1.0, JSON format
	FormatCloudEventsBinary PayloadFormat = "cloudevents-binary" // the data as body, the attributes in headers
)

// EventType is an event type that one can subscribe to. All accounts share the event types.
type EventType struct {
	Name        string
	Description string
	Schema      []byte           // JSON Schema of the data; nil if there is none
	Samples     [][]byte         // example data, JSON
	Verify      VerificationMode // required of targets that subscribe to it; VerifyNone: as their account requires
	Version     int64
	CreatedAt   time.Time
	UpdatedAt   time.Time
	Unreadable  []string // columns that the store could not decode
}

// Key is an API key. Its text is shown once, when it is created; only its hash is stored.
type Key struct {
	ID        ID
	Name      string
	Account   string
	Admin     bool      // may act for every account, and on objects without an account
	Scopes    []Scope   // permissions in its account; an admin key has all
	Prefix    string    // its first characters, to tell keys apart
	Hash      [32]byte  // SHA-256
	ExpiresAt time.Time // rejected from then on; zero: never
	CreatedAt time.Time

	OldHash  [32]byte  // of the text that a rotation replaced
	OldUntil time.Time // that text is valid until then; zero: there is none

	// LastUsedAt is when the key last authenticated a request, to the minute; zero: never. It is
	// stored some minutes late, and a crash loses those minutes.
	LastUsedAt time.Time
}

// Scope is a permission of an API key.
type Scope string

// The scopes. Admin rights beyond them are not a scope: an admin key acts for every account.
const (
	ScopePublish   Scope = "publish"   // publish events
	ScopeTargets   Scope = "targets"   // name targets with an event
	ScopeSubscribe Scope = "subscribe" // create, change and delete subscriptions
	ScopeScripts   Scope = "scripts"   // scripts and transforms: save, run, attach, detach
	ScopeRead      Scope = "read"      // read events, deliveries, subscriptions and scripts
)

// Scopes lists all scopes.
var Scopes = []Scope{ScopePublish, ScopeTargets, ScopeSubscribe, ScopeScripts, ScopeRead}

// DefaultScopes are the scopes of a key that is created without any.
var DefaultScopes = []Scope{ScopePublish, ScopeSubscribe, ScopeScripts, ScopeRead}

// Has reports whether the key has a scope.
func (k *Key) Has(scope Scope) bool { return k.Admin || slices.Contains(k.Scopes, scope) }

// MatchesPattern reports whether an event type matches pattern: "*" matches every type except
// operational events, "order.*" every type that begins with "order.", any other pattern that type
// only.
func MatchesPattern(pattern, eventType string) bool {
	if pattern == "*" {
		return !Operational(eventType)
	}
	if prefix, ok := strings.CutSuffix(pattern, "*"); ok {
		return strings.HasPrefix(eventType, prefix)
	}
	return pattern == eventType
}

// PatternOf returns the first of the subscription's event types and patterns that matches an event
// type.
func (s *Subscription) PatternOf(eventType string) string {
	for _, p := range s.Events {
		if MatchesPattern(p, eventType) {
			return p
		}
	}
	return eventType // it no longer matches, or s is an inline target
}

// ValidateScopes validates the scopes of a new key and fills in the default.
func (k *Key) ValidateScopes() (errs FieldErrors) {
	switch {
	case k.Admin && k.Scopes != nil:
		errs.Add("scopes", FieldConflict, "are not for an admin key, which may do all; leave them out, or make no admin key")
		return errs
	case k.Admin:
		return nil
	case k.Scopes == nil:
		k.Scopes = slices.Clone(DefaultScopes)
		return nil
	case len(k.Scopes) == 0:
		errs.Add("scopes", FieldRequired, "is empty: name what the key may do, of %s", scopeNames(Scopes))
	}
	for i, scope := range k.Scopes {
		field := fmt.Sprintf("scopes[%d]", i)
		if slices.Contains(k.Scopes[:i], scope) {
			errs.Add(field, FieldDuplicate, "%q is named twice", string(scope))
		} else if meant := suggest.Closest(string(scope), strings.Split(scopeNames(Scopes), ", ")); slices.Contains(Scopes, scope) {
			continue
		} else if meant != "" {
			errs.Add(field, FieldUnknown, "%.40q is not a scope; did you mean %q?", string(scope), meant)
		} else {
			errs.Add(field, FieldUnknown, "%.40q is not a scope; the scopes are %s", string(scope), scopeNames(Scopes))
		}
	}
	return errs
}

func scopeNames(scopes []Scope) string {
	names := make([]string, len(scopes))
	for i, scope := range scopes {
		names[i] = string(scope)
	}
	return strings.Join(names, ", ")
}

// Expired reports whether the key is no longer valid at a time.
func (k *Key) Expired(now time.Time) bool { return !k.ExpiresAt.IsZero() && !now.Before(k.ExpiresAt) }

const subscriptionExpired = "the subscription expired"

const targetNotConfirmed = "the target did not confirm that it wants to be sent events"

// Deadline returns when a subscription must be deleted, and why; the zero time means never.
func (s *Subscription) Deadline() (at time.Time, reason string) {
	at, reason = s.ExpiresAt, subscriptionExpired
	if v := s.Verification; v.Pending() && !v.Until.IsZero() && (at.IsZero() || v.Until.Before(at)) {
		return v.Until, targetNotConfirmed
	}
	return at, reason
}

// ValidPattern reports whether s is an event type, "*", or a prefix pattern such as "order.*".
func ValidPattern(s string) bool {
	return s == "*" || ValidEventType(strings.TrimSuffix(s, ".*"))
}

// SubscriptionDeleted is the reason of dead letters whose subscription was deleted.
const SubscriptionDeleted = "the subscription was deleted"
