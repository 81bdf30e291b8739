package outbound

import (
	"strings"
	"time"

	"switchhook/engine"
	"switchhook/engine/cloudevents"
	"switchhook/scripts/jsonindex"
)

// Payload is the result of a payload format or dialect for an event.
type Payload struct {
	Body      []byte
	MediaType string              // of body; empty if there is no body
	headers   []cloudevents.Field // headers that belong to the body: the attributes of a CloudEvent in binary mode

	Plain engine.PayloadFormat // see AttemptRequest.Plain; empty if the body must be stored
	Shown []byte               // stored instead of the body if that contains a token; else nil
}

// buildPayload builds the body of ev's delivery to s without a transform. at is when the attempt
// begins.
func (s *Sender) buildPayload(sub *engine.Subscription, ev *engine.Event, at time.Time) Payload {
	if body := s.dialectBody(sub); body != nil {
		return Payload{Body: body.render(ev, sub), MediaType: "application/json"}
	}
	switch sub.PayloadFormat {
	case engine.FormatSkinny:
		return Payload{
			Body: s.skinnyBody(ev, s.tokens.issue(ev, at.Add(s.cfg.SkinnyTokenTTL))), MediaType: "application/json",
			Shown: s.skinnyBody(ev, engine.RedactedValue),
		}
	case engine.FormatCloudEvents:
		own := asCloudEvent(ev)
		return Payload{Body: own.Structured(s.cfg.CloudEventsSource), MediaType: cloudevents.StructuredMedia, Plain: plainStructured(s.cfg.CloudEventsSource)}
	case engine.FormatCloudEventsBinary:
		own := asCloudEvent(ev)
		body, mediaType := own.Binary()
		return Payload{Body: body, MediaType: mediaType, headers: own.Fields(s.cfg.CloudEventsSource), Plain: engine.FormatCloudEventsBinary}
	}
	return Payload{Body: PlainBody(sub.PayloadFormat, ev), MediaType: "application/json", Plain: sub.PayloadFormat}
}

// payloadBuilder is buildPayload or BuildBatchElement.
type payloadBuilder func(s *engine.Subscription, ev *engine.Event, at time.Time) Payload

// BuildBatchElement is buildPayload for an element of an array: CloudEvents are always in the JSON
// format.
func (s *Sender) BuildBatchElement(sub *engine.Subscription, ev *engine.Event, at time.Time) Payload {
	if sub.PayloadFormat == engine.FormatCloudEventsBinary {
		structured := *sub
		structured.PayloadFormat = engine.FormatCloudEvents
		sub = &structured
	}
	return s.buildPayload(sub, ev, at)
}

// ArrayType returns the media type of an array of elements of a media type; empty if there is none.
func ArrayType(element string) string {
	switch element {
	case cloudevents.StructuredMedia:
		return cloudevents.BatchMedia
	case "application/json":
		return element
	}
	return ""
}

// asCloudEvent returns ev as a CloudEvent.
func asCloudEvent(ev *engine.Event) cloudevents.Stored {
	return cloudevents.Stored{
		ID: ev.ID.Format(engine.EventPrefix), Key: ev.Key, Account: ev.Account,
		Type: ev.Type, Time: ev.Time, Headers: ev.Headers, Data: ev.Data,
	}
}

// plainStructured returns the AttemptRequest.Plain of a CloudEvent in the JSON format. It includes
// the source, whose setting may differ when the body is rendered again.
func plainStructured(source string) engine.PayloadFormat {
	return engine.FormatCloudEvents + " " + engine.PayloadFormat(source)
}

// PlainBody renders the body of a format that depends only on the event. The data is copied byte
// for byte as it was published.
func PlainBody(plain engine.PayloadFormat, ev *engine.Event) []byte {
	format, source, _ := strings.Cut(string(plain), " ")
	switch engine.PayloadFormat(format) {
	case engine.FormatData:
		return ev.Data
	case engine.FormatCloudEvents:
		own := asCloudEvent(ev)
		return own.Structured(source)
	case engine.FormatCloudEventsBinary:
		own := asCloudEvent(ev)
		body, _ := own.Binary()
		return body
	}
	body := make([]byte, 0, len(ev.Data)+len(ev.Type)+64)
	body = append(body, `{"type":`...)
	body = jsonindex.AppendString(body, ev.Type)
	body = append(body, `,"timestamp":`...)
	body = appendJSONTime(body, ev.Time)
	body = append(body, `,"data":`...)
	body = append(body, ev.Data...)
	return append(body, '}')
}

func appendJSONTime(b []byte, t time.Time) []byte {
	return append(t.UTC().AppendFormat(append(b, '"'), time.RFC3339Nano), '"')
}

// WithEventID adds an event's id to its envelope, so that a receiver can drop repeats.
func WithEventID(envelope []byte, event engine.ID) []byte {
	body := make([]byte, 0, len(envelope)+32)
	body = append(body, `{"id":"`...)
	body = append(body, event.Format(engine.EventPrefix)...)
	body = append(body, `",`...)
	return append(body, envelope[1:]...)
}
