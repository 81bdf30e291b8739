package server

import (
	"github.com/gofiber/fiber/v2"

	"switchhook/engine"
	"switchhook/server/api"
)

// whoami responds with the caller's key, for clients' connection tests.
func (s *Server) whoami(c *fiber.Ctx, who caller) error {
	view := api.Me{
		Account: who.Account, KeyID: who.ID.Format(engine.KeyPrefix), Name: who.Name, Prefix: who.Prefix, Admin: who.Admin, Scopes: []string{},
	}
	for _, scope := range engine.Scopes {
		if who.Has(scope) {
			view.Scopes = append(view.Scopes, string(scope))
		}
	}
	return c.JSON(view)
}
