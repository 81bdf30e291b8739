package server

import (
	"encoding/json"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"

	"switchhook/engine"
)

// eventTypeView is an event type as the API shows it.
type eventTypeView struct {
	Name        string            `json:"name"`
	Description string            `json:"description"`
	Schema      json.RawMessage   `json:"schema"` // null if there is none
	Samples     []json.RawMessage `json:"samples"`
	Verify      string            `json:"verify"`
	CreatedAt   time.Time         `json:"created_at"`
	UpdatedAt   time.Time         `json:"updated_at"`
}

func viewEventType(t *engine.EventType) eventTypeView {
	v := eventTypeView{Name: t.Name, Description: t.Description, Schema: t.Schema, Samples: []json.RawMessage{}, Verify: string(t.Verify), CreatedAt: t.CreatedAt, UpdatedAt: t.UpdatedAt}
	for _, sample := range t.Samples {
		v.Samples = append(v.Samples, sample)
	}
	return v
}

// eventTypeInput is the request body for an event type.
type eventTypeInput struct {
	Name        string            `json:"name"`
	Description string            `json:"description"`
	Schema      json.RawMessage   `json:"schema"`
	Samples     []json.RawMessage `json:"samples"`
	Verify      string            `json:"verify"`
}

func (in *eventTypeInput) eventType() *engine.EventType {
	t := &engine.EventType{Name: in.Name, Description: in.Description, Verify: engine.VerificationMode(in.Verify)}
	if string(in.Schema) != "null" && len(in.Schema) > 0 {
		t.Schema = in.Schema
	}
	for _, sample := range in.Samples {
		t.Samples = append(t.Samples, sample)
	}
	return t
}

func (s *Server) listEventTypes(c *fiber.Ctx, _ caller) error {
	q := s.readQuery(c)
	limit, after := q.limit(), q.text("cursor")
	if q.err != nil {
		return q.err
	}
	found := slices.DeleteFunc(s.engine.EventTypes(), func(t *engine.EventType) bool { return t.Name <= after })
	return answerPage(c, pageOf(found, limit, func(t *engine.EventType) string { return t.Name }, viewEventType))
}

func (s *Server) getEventType(c *fiber.Ctx, _ caller) error {
	t, err := s.engine.EventType(nameParam(c))
	if err != nil {
		return err
	}
	setETag(c, t.Version)
	return c.JSON(viewEventType(t))
}

func nameParam(c *fiber.Ctx) string {
	name, err := url.PathUnescape(c.Params("name"))
	if err != nil {
		name = c.Params("name")
	}
	return strings.Clone(name)
}

func (s *Server) createEventType(c *fiber.Ctx, _ caller) error {
	var in eventTypeInput
	if _, err := readObject(c, &in, fieldNames(&eventTypeView{})...); err != nil {
		return err
	}
	return s.storeEventType(c, &in, true)
}

func (s *Server) putEventType(c *fiber.Ctx, _ caller) error {
	var in eventTypeInput
	if _, err := readObject(c, &in, fieldNames(&eventTypeView{})...); err != nil {
		return err
	}
	name := nameParam(c)
	if in.Name != "" && in.Name != name {
		return invalidField("name", "must be left out or be the one in the path: an event type can't be renamed")
	}
	in.Name = name
	return s.storeEventType(c, &in, false)
}

func (s *Server) storeEventType(c *fiber.Ctx, in *eventTypeInput, create bool) error {
	_, missing := s.engine.EventType(in.Name)
	version, err := upsertPrecondition(c, missing == nil)
	if err != nil {
		return err
	}
	t, created, err := s.engine.PutEventType(c.UserContext(), in.eventType(), create, version)
	if err != nil {
		return err
	}
	setETag(c, t.Version)
	if created {
		c.Location(apiPath + "/event-types/" + url.PathEscape(t.Name))
		c.Status(fiber.StatusCreated)
	}
	return c.JSON(viewEventType(t))
}

func (s *Server) deleteEventType(c *fiber.Ctx, _ caller) error {
	version, err := ifMatch(c)
	if err != nil {
		return err
	}
	if err := s.engine.DeleteEventType(c.UserContext(), nameParam(c), version); err != nil {
		return err
	}
	return c.SendStatus(fiber.StatusNoContent)
}
