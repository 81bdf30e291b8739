package server

import (
	"strconv"
	"strings"

	"github.com/gofiber/fiber/v2"

	"switchhook/engine"
	"switchhook/scripts"
	"switchhook/scripts/scripttest"
	"switchhook/server/api"
)

func viewVersion(v *engine.ScriptVersion, live int) api.ScriptVersion {
	return api.ScriptVersion{
		Version: v.Number, Hash: v.Hash, Source: v.Source, Author: v.Author, Note: v.Note, Live: v.Number == live,
		LiveAt: timeOrNull(v.LiveAt), Cases: viewCases(v.Cases), CreatedAt: v.CreatedAt,
	}
}

func (s *Server) listScriptVersions(c *fiber.Ctx, who caller) error {
	sc, err := s.script(c, who)
	if err != nil {
		return err
	}
	q := s.readQuery(c)
	find := engine.ScriptVersionQuery{Script: sc.ID, Before: q.number("cursor"), Limit: q.limit(), MaxBytes: pageBytes}
	if q.err != nil {
		return q.err
	}
	found, next, err := s.engine.ScriptVersions(c.UserContext(), find)
	if err != nil {
		return err
	}
	cursor := func(v *engine.ScriptVersion) string { return strconv.Itoa(v.Number) }
	view := func(v *engine.ScriptVersion) api.ScriptVersion { return viewVersion(v, sc.Live) }
	return pageAnswer(c)(pageOf(found, find.Limit, numberCursor(next), cursor, view))
}

func (s *Server) createScriptVersion(c *fiber.Ctx, who caller) error {
	var in api.CreateScriptVersionRequest
	if _, err := readObject(c, &in); err != nil {
		return err
	}
	sc, err := s.script(c, who)
	if err != nil {
		return err
	}
	v, created, err := s.engine.AddScriptVersion(c.UserContext(), who.accountScope(), sc.ID.Format(engine.ScriptPrefix), in.Source, casesOf(in.Cases), who.Name, in.Note)
	if err != nil {
		return err
	}
	report, err := s.engine.TestScript(c.UserContext(), who.accountScope(), sc.ID.Format(engine.ScriptPrefix), v.Number, "")
	if err != nil {
		return err
	}
	c.Location(apiPath + "/scripts/" + sc.ID.Format(engine.ScriptPrefix) + "/versions/" + strconv.Itoa(v.Number))
	if created {
		c.Status(fiber.StatusCreated)
	}
	view := viewVersion(v, sc.Live)
	view.Tests = report
	if sc.Kind == engine.KindTransform {
		view.Warnings = scripts.Warnings(v.Source)
	}
	return c.JSON(view)
}

// versionNamed returns the version that a request names: a number, "live" or "latest".
func (s *Server) versionNamed(c *fiber.Ctx, sc *engine.Script, named string) (*engine.ScriptVersion, error) {
	id, number := sc.ID.Format(engine.ScriptPrefix), 0
	switch named {
	case api.LiveVersion:
	case api.LatestVersion:
		list, _, err := s.engine.ScriptVersions(c.UserContext(), engine.ScriptVersionQuery{Script: sc.ID, Limit: 1})
		if err == nil && len(list) == 0 {
			err = engine.NotFound("version", named)
		}
		if err != nil {
			return nil, err
		}
		return list[0], nil
	default:
		var err error
		if number, err = strconv.Atoi(named); err != nil || number < 1 {
			return nil, engine.NotFound("version", truncate(named))
		}
	}
	return s.engine.ScriptVersion(c.UserContext(), sc.Account, id, number)
}

// scriptVersion returns the script and the version in the path.
func (s *Server) scriptVersion(c *fiber.Ctx, who caller) (*engine.Script, *engine.ScriptVersion, error) {
	sc, err := s.script(c, who)
	if err != nil {
		return nil, nil, err
	}
	v, err := s.versionNamed(c, sc, strings.Clone(c.Params("version")))
	return sc, v, err
}

func (s *Server) getScriptVersion(c *fiber.Ctx, who caller) error {
	sc, v, err := s.scriptVersion(c, who)
	if err != nil {
		return err
	}
	return c.JSON(viewVersion(v, sc.Live))
}

// diffScriptVersions compares a version line by line with another one, by default the live one.
func (s *Server) diffScriptVersions(c *fiber.Ctx, who caller) error {
	sc, v, err := s.scriptVersion(c, who)
	if err != nil {
		return err
	}
	other, err := s.versionNamed(c, sc, strings.Clone(c.Query("against", api.LiveVersion)))
	if err != nil {
		return err
	}
	return c.JSON(api.ScriptDiff{From: other.Number, To: v.Number, Diff: scripttest.Diff(other.Source, v.Source)})
}

func (s *Server) activateScriptVersion(c *fiber.Ctx, who caller) error {
	var in api.ActivateScriptVersionRequest
	if len(c.BodyRaw()) > 0 { // the body is optional
		if _, err := readObject(c, &in); err != nil {
			return err
		}
	}
	version, err := ifMatch(c)
	if err != nil {
		return err
	}
	sc, v, err := s.scriptVersion(c, who)
	if err != nil {
		return err
	}
	live, report, err := s.engine.SetScriptLive(c.UserContext(), who.accountScope(), sc.ID.Format(engine.ScriptPrefix), v.Number, version, in.Force)
	if err != nil {
		return err
	}
	view := s.viewScript(live)
	view.Tests = report
	setETag(c, live.Version)
	return c.JSON(view)
}
