package server

import (
	"encoding/json"
	"net/url"
	"slices"
	"strings"

	"github.com/gofiber/fiber/v2"

	"switchhook/engine"
	"switchhook/engine/catalog"
	"switchhook/server/api"
	"switchhook/server/wire"
)

func viewEventType(t *engine.EventType) api.EventType {
	v := api.EventType{
		Name: t.Name, Description: t.Description, Schema: t.Schema, Samples: []json.RawMessage{}, Verify: string(t.Verify),
		CreatedAt: t.CreatedAt, UpdatedAt: t.UpdatedAt,
	}
	for _, sample := range t.Samples {
		v.Samples = append(v.Samples, sample)
	}
	return v
}

// applyEventType changes t as the request says.
func applyEventType(t *engine.EventType, in *api.EventTypeRequest) {
	set(&t.Description, in.Description, false)
	if !in.Verify.IsZero() {
		t.Verify = engine.VerificationMode(in.Verify.Or(""))
	}
	if !in.Schema.IsZero() {
		t.Schema = in.Schema.Or(nil)
	}
	if !in.Samples.IsZero() {
		t.Samples = nil
		for _, sample := range in.Samples.Or(nil) {
			t.Samples = append(t.Samples, sample)
		}
	}
}

func (s *Server) listEventTypes(c *fiber.Ctx, _ caller) error {
	q := s.readQuery(c)
	limit, after := q.limit(), q.name("cursor", engine.ValidEventType)
	if q.err != nil {
		return q.err
	}
	found := slices.DeleteFunc(s.engine.EventTypes(), func(t *engine.EventType) bool { return t.Name <= after })
	return pageAnswer(c)(pageOf(found, limit, "", func(t *engine.EventType) string { return t.Name }, viewEventType))
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
	in, err := readEventType(c)
	if err != nil {
		return err
	}
	return s.storeEventType(c, &engine.EventType{Name: in.Name}, in, true)
}

func (s *Server) replaceEventType(c *fiber.Ctx, _ caller) error {
	in, err := readEventType(c)
	if err != nil {
		return err
	}
	name := nameParam(c)
	if in.Name != "" && in.Name != name {
		return renamedEventType()
	}
	return s.storeEventType(c, &engine.EventType{Name: name}, in, false)
}

func (s *Server) updateEventType(c *fiber.Ctx, _ caller) error {
	in, err := readEventType(c)
	if err != nil {
		return err
	}
	version, err := ifMatch(c)
	if err != nil {
		return err
	}
	old, err := s.engine.EventType(nameParam(c))
	if err != nil {
		return err
	}
	if in.Name != "" && in.Name != old.Name {
		return renamedEventType()
	}
	if version == catalog.AnyVersion {
		version = old.Version // the merge is based on this version
	}
	changed := *old
	applyEventType(&changed, in)
	t, _, err := s.engine.PutEventType(c.UserContext(), &changed, false, version)
	if err != nil {
		return err
	}
	setETag(c, t.Version)
	return c.JSON(viewEventType(t))
}

func readEventType(c *fiber.Ctx) (*api.EventTypeRequest, error) {
	in := &api.EventTypeRequest{}
	_, err := readObject(c, in, wire.Names(&api.EventType{})...)
	return in, err
}

func renamedEventType() error {
	return invalidField("name", "must be left out or be the one in the path: an event type can't be renamed")
}

func (s *Server) storeEventType(c *fiber.Ctx, t *engine.EventType, in *api.EventTypeRequest, create bool) error {
	_, missing := s.engine.EventType(t.Name)
	version, err := upsertPrecondition(c, missing == nil)
	if err != nil {
		return err
	}
	applyEventType(t, in)
	t, created, err := s.engine.PutEventType(c.UserContext(), t, create, version)
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
