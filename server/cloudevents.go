package server

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/gofiber/fiber/v2"

	"switchhook/engine"
	"switchhook/engine/cloudevents"
	"switchhook/engine/ingest"
	"switchhook/scripts/jsonindex"
	"switchhook/server/api"
	"switchhook/server/wire"
)

// isCloudEvent reports whether a request contains CloudEvents, by its Content-Type or by the headers of
// the binary mode. It runs before every publish, so it reads no more than necessary.
func isCloudEvent(c *fiber.Ctx) bool {
	header := &c.Request().Header
	if ct := header.ContentType(); len(ct) >= len(cloudevents.Media) && bytes.EqualFold(ct[:len(cloudevents.Media)], []byte(cloudevents.Media)) {
		return true
	}
	for _, name := range [...]string{"Ce-Specversion", "Ce-Id", "Ce-Type", "Ce-Source"} {
		if header.Peek(name) != nil {
			return true
		}
	}
	return false
}

// publishCloudEvents publishes CloudEvents 1.0 in any mode of the HTTP binding.
func (s *Server) publishCloudEvents(c *fiber.Ctx, who caller) error {
	if err := checkEncoding(c); err != nil {
		return err
	}
	if err := acquireDocument(c, c.BodyRaw()); err != nil {
		return err
	}
	contentType := strings.Clone(c.Get(fiber.HeaderContentType))
	mode, format, charset := cloudevents.ModeOf(contentType)
	body := slices.Clone(c.BodyRaw()) // Fiber reuses the memory
	if mode == cloudevents.Binary {
		ev, err := cloudevents.ReadBinary(fieldsOf(c), contentType, body)
		if err != nil {
			return cloudEventProblem(err, "")
		}
		return s.publishOne(c, who, ev)
	}
	if format != "+json" {
		return newProblem(fiber.StatusUnsupportedMediaType, fmt.Sprintf("CloudEvents must be sent as application/cloudevents+json, application/cloudevents-batch+json, or with their attributes in ce- headers, not as %q", contentType))
	}
	if charset != "" && !strings.EqualFold(charset, "utf-8") {
		return newProblem(fiber.StatusUnsupportedMediaType, fmt.Sprintf("the body must be JSON in UTF-8, not in %q", charset))
	}
	doc, err := jsonindex.Parse(withoutBOM(body), jsonindex.Limits{NoDuplicates: true})
	if err != nil {
		return err
	}
	if mode == cloudevents.Batched {
		return s.publishCloudEventBatch(c, who, doc.Root())
	}
	ev, err := cloudevents.ReadJSON(doc.Root())
	if err != nil {
		return cloudEventProblem(err, "")
	}
	return s.publishOne(c, who, ev)
}

func (s *Server) publishOne(c *fiber.Ctx, who caller, ev *cloudevents.Event) error {
	in, err := eventOf(c, who, ev)
	if err != nil {
		return err
	}
	if in.IdempotencyKey, err = idempotencyKey(c); err != nil {
		return err
	}
	return s.publishInput(c, in)
}

func (s *Server) publishCloudEventBatch(c *fiber.Ctx, who caller, list jsonindex.Value) error {
	if list.Kind() != jsonindex.Array {
		return newProblem(fiber.StatusUnprocessableEntity, "a batch must be a JSON array of CloudEvents, not "+wire.Article(list.Kind().String()))
	}
	if list.Len() == 0 { // the binding allows it (3.3.2)
		return c.Status(fiber.StatusAccepted).JSON(api.AcceptedEvents{Data: []api.AcceptedEvent{}})
	}
	if list.Len() > ingest.MaxBatch {
		return newProblem(fiber.StatusUnprocessableEntity, fmt.Sprintf("the batch holds %d events; %d can be published at a time", list.Len(), ingest.MaxBatch))
	}
	inputs := make([]engine.EventInput, 0, list.Len())
	key, err := idempotencyKey(c)
	if err != nil {
		return err
	}
	for i, v := range list.Elements() {
		ev, err := cloudevents.ReadJSON(v)
		if err != nil {
			return cloudEventProblem(err, fmt.Sprintf("events[%d]", i))
		}
		in, err := eventOf(c, who, ev)
		if err != nil {
			return err
		}
		in.IdempotencyKey, in.KeyPart = key, strconv.Itoa(i)
		inputs = append(inputs, in)
	}
	return s.publishInputs(c, inputs)
}

// eventOf converts a CloudEvent; its id is unique within its source.
func eventOf(c *fiber.Ctx, who caller, ev *cloudevents.Event) (engine.EventInput, error) {
	account, err := who.ownerAccount(c, "")
	return engine.EventInput{
		ID: ev.ID, Source: ev.Source, Account: account, Type: ev.Type, Time: ev.Time, Headers: ev.Headers, Data: ev.Data,
	}, err
}

// cloudEventProblem returns the problem of a CloudEvent at a position of a batch.
func cloudEventProblem(err error, at string) error {
	var wrong *cloudevents.Error
	if !errors.As(err, &wrong) {
		return err
	}
	field := strings.Trim(at+"."+wrong.Field, ".")
	if field == "" {
		return newProblem(fiber.StatusUnprocessableEntity, "the body "+wrong.Message)
	}
	return invalidField(field, wrong.Message)
}

// fieldsOf returns a request's "ce-" headers.
func fieldsOf(c *fiber.Ctx) (fields []cloudevents.Field) {
	for name, value := range c.Request().Header.All() {
		if len(name) > 3 && strings.EqualFold(string(name[:3]), "ce-") {
			fields = append(fields, cloudevents.Field{Name: string(name), Value: string(value)})
		}
	}
	return fields
}
