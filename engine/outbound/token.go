package outbound

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"log/slog"
	"net/url"
	"strings"
	"time"

	"switchhook/engine"
	"switchhook/engine/cloudevents"
	"switchhook/engine/snowflake"
	"switchhook/scripts/jsonindex"
)

// eventTokens creates and validates the tokens of skinny payloads: a token permits fetching one
// event until a time. It consists of the time, a tag of the account, and an HMAC over both and the
// event's id, with a key that never leaves the router. So a forged token is rejected without a
// query, and does not reveal which events exist.
type eventTokens struct{ key []byte }

const (
	tokenKeyName  = "event-token" // in the store
	tokenKeyBytes = 32
	tagBytes      = 8
	tokenBytes    = 8 + tagBytes + sha256.Size
)

func loadEventTokens(ctx context.Context, store engine.Store, log *slog.Logger) (eventTokens, error) {
	fresh := make([]byte, tokenKeyBytes)
	rand.Read(fresh)
	key, err := store.Secret(ctx, tokenKeyName, fresh)
	if engine.ErrorCode(err) == engine.CodeUnreadable { // the old tokens are short-lived and useless now
		log.Error("URLs in skinny payloads that were sent before don't open their events any more: the secret that signs them can't be read", "error", err)
		return eventTokens{fresh}, nil
	}
	return eventTokens{key}, err
}

func (t eventTokens) issue(ev *engine.Event, until time.Time) string {
	b := make([]byte, 0, tokenBytes)
	b = binary.BigEndian.AppendUint64(b, uint64(until.Unix()))
	b = append(b, t.tag(ev.Account)...)
	return base64.RawURLEncoding.EncodeToString(append(b, t.mac("event", ev.ID, b)...))
}

// check validates a token and returns the tag of its account. Error: CodeUnauthorized.
func (t eventTokens) check(token string, id engine.ID, now time.Time) (tag []byte, _ *engine.Error) {
	b, err := base64.RawURLEncoding.Strict().DecodeString(token)
	if err != nil || len(b) != tokenBytes || !hmac.Equal(b[tokenBytes-sha256.Size:], t.mac("event", id, b[:tokenBytes-sha256.Size])) {
		return nil, &engine.Error{Code: engine.CodeUnauthorized, Message: "this token is not one that the router gave for this event"}
	}
	if until := time.Unix(int64(binary.BigEndian.Uint64(b)), 0); !now.Before(until) {
		return nil, &engine.Error{Code: engine.CodeUnauthorized, Message: "this token has expired, at " + until.UTC().Format(time.RFC3339) + "; the next delivery brings a new one"}
	}
	return b[8 : 8+tagBytes], nil
}

func (t eventTokens) tag(account string) []byte {
	return t.mac("account", 0, []byte(account))[:tagBytes]
}

func (t eventTokens) mac(use string, id engine.ID, b []byte) []byte {
	mac := hmac.New(sha256.New, t.key)
	mac.Write([]byte(use))
	mac.Write(binary.BigEndian.AppendUint64([]byte{0}, uint64(id)))
	mac.Write(b)
	return mac.Sum(nil)
}

// EventByToken returns the event of a skinny payload's token. Errors: CodeUnauthorized, and
// CodeNotFound if the token is valid and the event is deleted.
func (s *Sender) EventByToken(ctx context.Context, publicID, token string) (*engine.Event, error) {
	id, ok := snowflake.Parse(engine.EventPrefix, publicID)
	tag, invalid := s.tokens.check(token, id, s.cfg.Now())
	if invalid != nil {
		return nil, invalid
	}
	if !ok {
		return nil, engine.NotFound("event", publicID)
	}
	ev, err := s.store.Event(ctx, "", id)
	if err == nil && !hmac.Equal(tag, s.tokens.tag(ev.Account)) {
		return nil, engine.NotFound("event", publicID)
	}
	return ev, err
}

// skinnyBody returns a body with the id and URL of ev, without its data.
func (s *Sender) skinnyBody(ev *engine.Event, token string) []byte {
	body := jsonindex.AppendString([]byte(`{"type":`), ev.Type)
	body = appendJSONTime(append(body, `,"timestamp":`...), ev.Time)
	body = jsonindex.AppendString(append(body, `,"data":{"id":`...), ev.PublicID())
	body = append(body, `,"url":`...)
	body = jsonindex.AppendString(body, strings.TrimSuffix(s.cfg.PublicURL, "/")+"/api/v1/events/"+ev.ID.Format(engine.EventPrefix)+"?token="+token)
	return append(body, "}}"...)
}

// CheckPublicURL validates the URL under which receivers reach the router. Error: CodeInvalid.
func CheckPublicURL(text string) error {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "":
		return engine.Invalid("", `%.100q is not a URL such as "https://hooks.example.com"`, text)
	case u.User != nil || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" || strings.HasSuffix(text, "#"):
		return engine.Invalid("", "%.100q must be without user, query and fragment", u.Redacted())
	case !cloudevents.IsReference(text):
		return engine.Invalid("", "%.100q holds characters that must be percent-encoded", text)
	}
	return nil
}
