package server

import (
	"encoding/json"
	"strconv"
	"time"

	"github.com/gofiber/fiber/v2"

	"switchhook/engine"
	"switchhook/scripts"
	"switchhook/scripts/scripttest"
)

// versionView is a version of a script as the API shows it.
type versionView struct {
	Version   int                  `json:"version"`
	Hash      string               `json:"hash"`
	Source    string               `json:"source"`
	Warnings  []scripts.Diagnostic `json:"warnings,omitempty"` // in the response that creates it only
	Author    string               `json:"author"`
	Note      string               `json:"note"`
	Live      bool                 `json:"live"`
	LiveAt    *time.Time           `json:"live_at"` // most recent activation; null: never
	Cases     json.RawMessage      `json:"cases"`   // test cases, a list
	CreatedAt time.Time            `json:"created_at"`
}

func viewVersion(v *engine.ScriptVersion, live int) versionView {
	view := versionView{Version: v.Number, Hash: v.Hash, Source: v.Source, Author: v.Author, Note: v.Note, Live: v.Number == live, Cases: viewCases(v.Cases), CreatedAt: v.CreatedAt}
	if !v.LiveAt.IsZero() {
		view.LiveAt = &v.LiveAt
	}
	return view
}

// viewCases returns test cases, or none if the stored list can't be decoded.
func viewCases(raw []byte) json.RawMessage {
	if !json.Valid(raw) {
		return json.RawMessage("[]")
	}
	return raw
}

func (s *Server) listVersions(c *fiber.Ctx, who caller) error {
	sc, err := s.script(c, who)
	if err != nil {
		return err
	}
	q := s.readQuery(c)
	limit, before := q.limit(), 0
	if cursor := c.Query("cursor"); cursor != "" {
		if before, err = strconv.Atoi(cursor); err != nil || before < 1 {
			q.fail("cursor", "is none that this list gave")
		}
	}
	if q.err != nil {
		return q.err
	}
	found, err := s.engine.ScriptVersions(c.UserContext(), sc.Account, sc.ID.Format(engine.ScriptPrefix), before, limit+1)
	if err != nil {
		return err
	}
	for i, size := 0, 0; i < min(limit, len(found)); i++ {
		if size += len(found[i].Source) + len(found[i].Cases); i > 0 && size > maxPageBytes {
			limit = i
		}
	}
	cursor := func(v *engine.ScriptVersion) string { return strconv.Itoa(v.Number) }
	return answerPage(c, pageOf(found, limit, cursor, func(v *engine.ScriptVersion) versionView { return viewVersion(v, sc.Live) }))
}

type versionInput struct {
	Source string `json:"source"`
	Note   string `json:"note"`
	// Cases are its test cases; if left out, those of the previous version.
	Cases json.RawMessage `json:"cases"`
}

// createdVersion is the response to a new version, with its test report.
type createdVersion struct {
	versionView
	Tests *scripttest.Report `json:"tests"`
}

func (s *Server) createVersion(c *fiber.Ctx, who caller) error {
	var in versionInput
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
	if sc.Kind == engine.KindTransform {
		view.Warnings = scripts.Warnings(v.Source)
	}
	return c.JSON(createdVersion{view, report})
}

// numberParam parses a version in the path; "live" is the live one.
func numberParam(c *fiber.Ctx, name string) (int, error) {
	text := c.Params(name)
	if text == "live" {
		return 0, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		return 0, engine.NotFound("version", truncate(text))
	}
	return n, nil
}

func (s *Server) getVersion(c *fiber.Ctx, who caller) error {
	sc, err := s.script(c, who)
	if err != nil {
		return err
	}
	n, err := numberParam(c, "version")
	if err != nil {
		return err
	}
	v, err := s.engine.ScriptVersion(c.UserContext(), who.accountScope(), sc.ID.Format(engine.ScriptPrefix), n)
	if err != nil {
		return err
	}
	return c.JSON(viewVersion(v, sc.Live))
}

// diffView is a line-by-line diff of two versions.
type diffView struct {
	From int    `json:"from"`
	To   int    `json:"to"`
	Diff string `json:"diff"` // lines: "- " only in from, "+ " only in to, "  " in both
}

func (s *Server) diffVersions(c *fiber.Ctx, who caller) error {
	sc, err := s.script(c, who)
	if err != nil {
		return err
	}
	var pair [2]*engine.ScriptVersion
	for i, name := range []string{"version", "other"} {
		n, err := numberParam(c, name)
		if err != nil {
			return err
		}
		if pair[i], err = s.engine.ScriptVersion(c.UserContext(), who.accountScope(), sc.ID.Format(engine.ScriptPrefix), n); err != nil {
			return err
		}
	}
	return c.JSON(diffView{pair[0].Number, pair[1].Number, scripttest.Diff(pair[0].Source, pair[1].Source)})
}

type liveInput struct {
	Version int  `json:"version"`
	Force   bool `json:"force"`
}

// liveAnswer is the live version and its test report.
type liveAnswer struct {
	scriptView
	Tests *scripttest.Report `json:"tests"`
}

func (s *Server) putLive(c *fiber.Ctx, who caller) error {
	var in liveInput
	if _, err := readObject(c, &in); err != nil {
		return err
	}
	version, err := ifMatch(c)
	if err != nil {
		return err
	}
	id, err := s.scriptID(c, who)
	if err != nil {
		return err
	}
	sc, report, err := s.engine.SetScriptLive(c.UserContext(), who.accountScope(), id, in.Version, version, in.Force)
	if err != nil {
		return err
	}
	setETag(c, sc.Version)
	return c.JSON(liveAnswer{s.viewScript(sc), report})
}
