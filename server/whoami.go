package server

import (
	"github.com/gofiber/fiber/v2"

	"switchhook/engine"
)

// whoamiResponse describes the caller's key.
type whoamiResponse struct {
	Account string         `json:"account"`
	KeyID   string         `json:"key_id"`
	Name    string         `json:"name"`
	Prefix  string         `json:"prefix"` // the key's first characters
	Admin   bool           `json:"admin"`
	Scopes  []engine.Scope `json:"scopes"` // its permissions in its account
}

// whoami responds with the caller's key, for clients' connection tests.
func (s *Server) whoami(c *fiber.Ctx, who caller) error {
	view := whoamiResponse{Account: who.Account, KeyID: who.ID.Format(engine.KeyPrefix), Name: who.Name, Prefix: who.Prefix, Admin: who.Admin, Scopes: []engine.Scope{}}
	for _, scope := range engine.Scopes {
		if who.Has(scope) {
			view.Scopes = append(view.Scopes, scope)
		}
	}
	return c.JSON(view)
}
