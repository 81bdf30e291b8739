package server

import (
	"time"

	"github.com/gofiber/fiber/v2"

	"switchhook/engine/monitor"
	"switchhook/server/api"
)

func viewShadow(sh monitor.Shadow) api.ScriptShadow {
	return api.ScriptShadow{Version: sh.Version, Until: sh.Until, Skipped: sh.Skipped, ChangeCounts: viewCounts(sh.ChangeCounts)}
}

// defaultShadowDuration is how long a shadow run takes unless the request says otherwise.
const defaultShadowDuration = time.Hour

func (s *Server) startScriptShadow(c *fiber.Ctx, who caller) error {
	var in api.StartScriptShadowRequest
	if _, err := readObject(c, &in); err != nil {
		return err
	}
	id, err := s.scriptID(c, who)
	if err != nil {
		return err
	}
	length := defaultShadowDuration
	if in.Duration != nil {
		length = time.Duration(*in.Duration)
	}
	sh, err := s.engine.StartShadow(c.UserContext(), who.accountScope(), id, in.Version, length)
	if err != nil {
		return err
	}
	c.Location(apiPath + "/scripts/" + id + "/shadow")
	return c.Status(fiber.StatusCreated).JSON(viewShadow(sh))
}

func (s *Server) getScriptShadow(c *fiber.Ctx, who caller) error {
	id, err := s.scriptID(c, who)
	if err != nil {
		return err
	}
	sh, err := s.engine.Shadow(who.accountScope(), id)
	if err != nil {
		return err
	}
	return c.JSON(viewShadow(sh))
}

func (s *Server) stopScriptShadow(c *fiber.Ctx, who caller) error {
	id, err := s.scriptID(c, who)
	if err != nil {
		return err
	}
	if err := s.engine.StopShadow(who.accountScope(), id); err != nil {
		return err
	}
	return c.SendStatus(fiber.StatusNoContent)
}
