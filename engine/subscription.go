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

// Subscription asks for events: while it exists and is active, each event of its account
// that matches is POSTed to its target URL.
type Subscription struct {
	ID              ID
	Account         string
	Events          []string // event types, or patterns: "*", "order.*"
	TargetURL       string
	Active          bool
	Reason          string             // why the router switched it off; empty where a user did
	Filter          string             // expr source of its own; with FilterScript empty too, every event is let through
	FilterScript    ScriptRef          // a script's instead
	Transform       string             // JavaScript or TypeScript source of its own
	TransformScript ScriptRef          // a script's instead
	Secret          string             // "whsec_…" or "whsk_…", signs deliveries
	OldSecrets      []OldSecret        // still sign as well
	Signatures      []signature.Scheme // signature.Standard where empty
	Headers         map[string]string  // sent with each delivery
	VisibleHeaders  []string           // those of them whose values are not hidden, see IsSensitiveName
	PayloadFormat   PayloadFormat
	Policy          Policy
	Batch           Batch
	Debounce        Debounce
	Numbered        bool // deliveries carry a sequence number
	Verification    Verification
	Inline          bool              // a target given with an event: no event type matches it
	TargetKey       string            // of an Inline one: which target it is
	Dialect         string            // in which it was made; empty for our own
	Names           map[string]string // what the client that made it calls our fields: "target_url" → "hookUrl"
	Description     string
	Metadata        map[string]string
	Client          map[string]any // what the client's request held that the API does not know, as decoded JSON; nil: nothing
	ExpiresAt       time.Time      // deleted then; zero: never
	Version         int64          // grows with each change
	CreatedAt       time.Time
	UpdatedAt       time.Time

	// Unreadable are the columns whose content the store could not decode, and whose fields
	// are therefore empty here. As long as there are any, its deliveries wait.
	Unreadable []string
}

// Clone copies s so that a change to the copy leaves s alone.
func (s *Subscription) Clone() *Subscription {
	c := *s
	c.Events, c.Headers, c.Metadata = slices.Clone(s.Events), maps.Clone(s.Headers), maps.Clone(s.Metadata)
	c.OldSecrets, c.Signatures, c.Names = slices.Clone(s.OldSecrets), slices.Clone(s.Signatures), maps.Clone(s.Names)
	c.VisibleHeaders, c.Policy.Retries = slices.Clone(s.VisibleHeaders), slices.Clone(s.Policy.Retries)
	c.Client = maps.Clone(s.Client) // its values are never changed in place
	return &c
}

// PayloadFormat says what is sent where no transform makes the body.
type PayloadFormat string

// The payload formats.
const (
	FormatStandard PayloadFormat = "standard" // Standard Webhooks: {"type", "timestamp", "data"}
	FormatData     PayloadFormat = "data"     // the bare data, as REST Hooks asks
	FormatSkinny   PayloadFormat = "skinny"   // Standard Webhooks, with a URL that gives the event instead of its data

	FormatCloudEvents       PayloadFormat = "cloudevents"        // CloudEvents 1.0, JSON format
	FormatCloudEventsBinary PayloadFormat = "cloudevents-binary" // the data, the rest in headers
)

// EventType is an entry of the catalogue of events that one can subscribe to. The
// catalogue is one for all accounts.
type EventType struct {
	Name        string
	Description string
	Schema      []byte           // JSON Schema of the data; nil where there is none
	Samples     [][]byte         // example data, JSON
	Verify      VerificationMode // asked of targets that subscribe to it; VerifyNone: as their account has it
	Version     int64
	CreatedAt   time.Time
	UpdatedAt   time.Time
	Unreadable  []string // columns that the store could not decode
}

// Key is an API key. The key itself is shown once, when it is made; only its hash is kept.
type Key struct {
	ID        ID
	Name      string
	Account   string
	Admin     bool      // may act for every account, and on what belongs to none
	Scopes    []Scope   // what it may do in its account; an admin key may do all
	Prefix    string    // its first characters, to tell keys apart
	Hash      [32]byte  // SHA-256
	ExpiresAt time.Time // refused from then on; zero: never
	CreatedAt time.Time

	OldHash  [32]byte  // of the text that a rotation replaced
	OldUntil time.Time // that text works until then; zero: there is none

	// LastUsedAt is when it last authenticated a request, to the minute; zero: never. The
	// store learns it some minutes late, and forgets what a crash takes.
	LastUsedAt time.Time
}

// Scope is something that an API key may do.
type Scope string

// The scopes. What an admin key may do beyond them is no scope: it acts for every account.
const (
	ScopePublish   Scope = "publish"   // publish events
	ScopeTargets   Scope = "targets"   // name targets with an event
	ScopeSubscribe Scope = "subscribe" // make, change and delete subscriptions
	ScopeScripts   Scope = "scripts"   // scripts and transforms: save, try, attach, detach
	ScopeRead      Scope = "read"      // see events, deliveries, subscriptions and scripts
)

// Scopes lists all there are.
var Scopes = []Scope{ScopePublish, ScopeTargets, ScopeSubscribe, ScopeScripts, ScopeRead}

// DefaultScopes are those of a key that was made without naming any.
var DefaultScopes = []Scope{ScopePublish, ScopeSubscribe, ScopeScripts, ScopeRead}

// Has tells whether the key may do what scope stands for.
func (k *Key) Has(scope Scope) bool { return k.Admin || slices.Contains(k.Scopes, scope) }

// MatchesPattern tells whether an event type falls under pattern: "*" is every type but
// those of operational events, "order.*" every type that begins with "order.", anything
// else that type alone.
func MatchesPattern(pattern, eventType string) bool {
	if pattern == "*" {
		return !Operational(eventType)
	}
	if prefix, ok := strings.CutSuffix(pattern, "*"); ok {
		return strings.HasPrefix(eventType, prefix)
	}
	return pattern == eventType
}

// PatternOf gives the one of the subscription's event types and patterns under which an
// event type falls; the first, where there are several.
func (s *Subscription) PatternOf(eventType string) string {
	for _, p := range s.Events {
		if MatchesPattern(p, eventType) {
			return p
		}
	}
	return eventType // one that it does not match any more, or an inline target
}

// CheckScopes fills in and validates what a new key may do.
func (k *Key) CheckScopes() *Error {
	switch {
	case k.Admin && k.Scopes != nil:
		return Invalid("scopes", "are not for an admin key, which may do all; leave them out, or make no admin key")
	case k.Admin:
		return nil
	case k.Scopes == nil:
		k.Scopes = slices.Clone(DefaultScopes)
		return nil
	case len(k.Scopes) == 0:
		return Invalid("scopes", "is empty: name what the key may do, of %s", scopeNames(Scopes))
	}
	for i, scope := range k.Scopes {
		field := fmt.Sprintf("scopes[%d]", i)
		switch {
		case !slices.Contains(Scopes, scope):
			if meant := suggest.Closest(string(scope), strings.Split(scopeNames(Scopes), ", ")); meant != "" {
				return Invalid(field, "%.40q is no scope; did you mean %q?", string(scope), meant)
			}
			return Invalid(field, "%.40q is no scope; there are %s", string(scope), scopeNames(Scopes))
		case slices.Contains(k.Scopes[:i], scope):
			return Invalid(field, "%q is named twice", string(scope))
		}
	}
	return nil
}

func scopeNames(scopes []Scope) string {
	names := make([]string, len(scopes))
	for i, scope := range scopes {
		names[i] = string(scope)
	}
	return strings.Join(names, ", ")
}

// Expired reports whether the key is not valid any more at a time.
func (k *Key) Expired(now time.Time) bool { return !k.ExpiresAt.IsZero() && !now.Before(k.ExpiresAt) }

const subscriptionExpired = "the subscription expired"

const targetNotConfirmed = "the target did not confirm that it wants to be sent events"

// Deadline is when a subscription is to be deleted, and why; the zero time is never.
func (s *Subscription) Deadline() (at time.Time, reason string) {
	at, reason = s.ExpiresAt, subscriptionExpired
	if v := s.Verification; v.Pending() && !v.Until.IsZero() && (at.IsZero() || v.Until.Before(at)) {
		return v.Until, targetNotConfirmed
	}
	return at, reason
}

// ValidPattern tells whether s is an event type, "*", or a beginning of event types such as
// "order.*".
func ValidPattern(s string) bool {
	return s == "*" || ValidEventType(strings.TrimSuffix(s, ".*"))
}

// SubscriptionDeleted is the reason of dead letters whose subscription was deleted.
const SubscriptionDeleted = "the subscription was deleted"
