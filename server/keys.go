package server

import (
	"time"

	"github.com/gofiber/fiber/v2"

	"switchhook/engine"
)

// keyView is an API key as the API shows it.
type keyView struct {
	ID        string    `json:"id"`
	Name      string    `json:"name"`
	Account   string    `json:"account"`
	Admin     bool      `json:"admin"`
	Prefix    string    `json:"prefix"`        // its first characters
	Key       string    `json:"key,omitempty"` // in the answer to its making only
	CreatedAt time.Time `json:"created_at"`
}

func viewKey(k *engine.Key) keyView {
	return keyView{ID: k.ID.Format(engine.KeyPrefix), Name: k.Name, Account: k.Account, Admin: k.Admin, Prefix: k.Prefix, CreatedAt: k.CreatedAt}
}

type keyInput struct {
	Name    string `json:"name"`
	Account string `json:"account"`
	Admin   bool   `json:"admin"`
}

func (s *Server) listKeys(c *fiber.Ctx, _ caller) error {
	q := readQuery(c)
	limit, after := q.limit(), q.id("cursor", engine.KeyPrefix)
	if q.err != nil {
		return q.err
	}
	answer, views := page{}, []keyView{}
	for _, k := range s.engine.Keys() {
		if k.ID <= after {
			continue
		}
		if len(views) == limit {
			answer.NextCursor = &views[limit-1].ID
			break
		}
		views = append(views, viewKey(k))
	}
	answer.Data = views
	return c.JSON(answer)
}

func (s *Server) createKey(c *fiber.Ctx, who caller) error {
	var in keyInput
	if _, err := readObject(c, &in); err != nil {
		return err
	}
	account, err := who.owns(c, in.Account)
	if err != nil {
		return err
	}
	k, text, err := s.engine.CreateKey(c.UserContext(), engine.Key{Name: in.Name, Account: account, Admin: in.Admin}, "")
	if err != nil {
		return err
	}
	view := viewKey(k)
	view.Key = text
	c.Location(apiPath + "/keys/" + view.ID)
	c.Set(fiber.HeaderCacheControl, "no-store")
	return c.Status(fiber.StatusCreated).JSON(view)
}

func (s *Server) deleteKey(c *fiber.Ctx, who caller) error {
	id, ok := engine.ParseID(engine.KeyPrefix, c.Params("id"))
	if !ok {
		return engine.NotFound("key", shown(c.Params("id")))
	}
	if id == who.ID {
		return problemOf(fiber.StatusConflict, "this is the key that the request came with; delete it with another admin key")
	}
	if err := s.engine.DeleteKey(c.UserContext(), id); err != nil {
		return err
	}
	return c.SendStatus(fiber.StatusNoContent)
}
