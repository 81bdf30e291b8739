package server

import (
	"encoding/json"
	"net/url"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"

	"switchhook/engine"
	"switchhook/engine/monitor"
	"switchhook/engine/snowflake"
	"switchhook/scripts"
	"switchhook/scripts/jsonindex"
)

// scriptView is a script as the API shows it.
type scriptView struct {
	ID          string               `json:"id"`
	Account     string               `json:"account"`
	Name        string               `json:"name"`
	Kind        string               `json:"kind"` // filter or transform
	Description string               `json:"description"`
	LiveVersion *int                 `json:"live_version"`       // null if none is live
	Cases       json.RawMessage      `json:"cases"`              // test cases of its newest version, a list
	Warnings    []scripts.Diagnostic `json:"warnings,omitempty"` // in the response to POST only
	UsedBy      int                  `json:"used_by"`            // subscriptions
	Stats       statsView            `json:"stats"`
	CreatedAt   time.Time            `json:"created_at"`
	UpdatedAt   time.Time            `json:"updated_at"`
}

// statsView holds a script's run counts since the router started.
type statsView struct {
	Runs      int64       `json:"runs"`
	Errors    int64       `json:"errors"`
	Timeouts  int64       `json:"timeouts"`
	Dropped   int64       `json:"dropped"`
	CPUMS     float64     `json:"cpu_ms"`
	Histogram []runBucket `json:"histogram"` // runs by CPU time
}

// runBucket counts runs up to a limit, above that of the previous bucket.
type runBucket struct {
	LEMS *float64 `json:"le_ms"` // null: no limit
	Runs int64    `json:"runs"`
}

func (s *Server) viewScript(sc *engine.Script) scriptView {
	v := scriptView{
		ID: sc.ID.Format(engine.ScriptPrefix), Account: sc.Account, Name: sc.Name, Kind: string(sc.Kind), Description: sc.Description,
		Cases: viewCases(sc.Cases), UsedBy: len(s.engine.ScriptUsers(sc.ID)), CreatedAt: sc.CreatedAt, UpdatedAt: sc.UpdatedAt,
	}
	if sc.Live != 0 {
		v.LiveVersion = &sc.Live
	}
	stats := s.engine.ScriptStats(sc.ID)
	v.Stats = statsView{Runs: stats.Runs, Errors: stats.Errors, Timeouts: stats.Timeouts, Dropped: stats.Dropped, CPUMS: milliseconds(stats.CPU)}
	for i, n := range stats.Buckets {
		bucket := runBucket{Runs: n}
		if i < len(monitor.ScriptBuckets) {
			le := milliseconds(monitor.ScriptBuckets[i])
			bucket.LEMS = &le
		}
		v.Stats.Histogram = append(v.Stats.Histogram, bucket)
	}
	return v
}

type scriptInput struct {
	Account     string          `json:"account"`
	Name        string          `json:"name"`
	Kind        string          `json:"kind"`
	Description string          `json:"description"`
	Cases       json.RawMessage `json:"cases"`
	Source      string          `json:"source"` // of the first version, with POST only
	Note        string          `json:"note"`
}

func (s *Server) listScripts(c *fiber.Ctx, who caller) error {
	account, err := who.listAccount(c)
	if err != nil {
		return err
	}
	q := s.readQuery(c, "kind")
	kind := engine.ScriptKind(q.text("kind"))
	if kind != "" && kind != engine.KindFilter && kind != engine.KindTransform {
		q.fail("kind", "must be filter or transform")
	}
	limit, after := q.limit(), q.id("cursor", engine.ScriptPrefix)
	if q.err != nil {
		return q.err
	}
	cursor := func(sc *engine.Script) string { return sc.ID.Format(engine.ScriptPrefix) }
	return answerPage(c, pageOf(s.engine.Scripts(account, kind, after, limit+1), limit, cursor, s.viewScript))
}

// createScript creates a script and, if a source is given, its first version, which goes live if its
// tests pass.
func (s *Server) createScript(c *fiber.Ctx, who caller) error {
	var in scriptInput
	present, err := readObject(c, &in)
	if err == nil {
		err = notEmpty(present, "account")
	}
	if err != nil {
		return err
	}
	account, err := who.ownerAccount(c, in.Account)
	if err != nil {
		return err
	}
	wanted := &engine.Script{Account: account, Name: in.Name, Kind: engine.ScriptKind(in.Kind), Description: in.Description, Cases: casesOf(in.Cases)}
	sc, err := s.engine.CreateScript(c.UserContext(), wanted, in.Source, who.Name, in.Note)
	if err != nil {
		return err
	}
	view := s.viewScript(sc)
	c.Location(apiPath + "/scripts/" + view.ID)
	setETag(c, sc.Version)
	if sc.Kind == engine.KindTransform {
		view.Warnings = scripts.Warnings(in.Source)
	}
	return c.Status(fiber.StatusCreated).JSON(view)
}

func casesOf(raw json.RawMessage) []byte {
	if string(raw) == "null" {
		return nil
	}
	return raw
}

func scriptParam(c *fiber.Ctx) string {
	name, err := url.PathUnescape(c.Params("id"))
	if err != nil {
		return strings.Clone(c.Params("id"))
	}
	return strings.Clone(name)
}

func (s *Server) getScript(c *fiber.Ctx, who caller) error {
	sc, err := s.script(c, who)
	if err != nil {
		return err
	}
	setETag(c, sc.Version)
	return c.JSON(s.viewScript(sc))
}

// script returns the script in the path: by id, or by name in the caller's account or in the one that an
// admin key names by ?account=.
func (s *Server) script(c *fiber.Ctx, who caller) (*engine.Script, error) {
	named := scriptParam(c)
	if _, isID := snowflake.Parse(engine.ScriptPrefix, named); isID {
		return s.engine.Script(who.accountScope(), named)
	}
	account, err := who.listAccount(c)
	if err != nil {
		return nil, err
	}
	return s.engine.Script(account, named)
}

// scriptID returns the id of the script in the path.
func (s *Server) scriptID(c *fiber.Ctx, who caller) (string, error) {
	sc, err := s.script(c, who)
	if err != nil {
		return "", err
	}
	return sc.ID.Format(engine.ScriptPrefix), nil
}

// patchScript merges the body into a script (RFC 7396).
func (s *Server) patchScript(c *fiber.Ctx, who caller) error {
	var in scriptInput
	present, err := readObject(c, &in, fieldNames(&scriptView{})...)
	if err != nil {
		return err
	}
	version, err := ifMatch(c)
	if err != nil {
		return err
	}
	if present["live_version"].Exists() {
		return invalidField("live_version", "is not changed here: PUT …/live {\"version\": …} runs the cases first")
	}
	if present["source"].Exists() {
		return invalidField("source", "is not changed here: versions are never changed; POST a new one to …/versions")
	}
	id, err := s.scriptID(c, who)
	if err != nil {
		return err
	}
	sc, err := s.engine.UpdateScript(c.UserContext(), who.accountScope(), id, version, func(sc *engine.Script) error {
		return in.apply(sc, present)
	})
	if err != nil {
		return err
	}
	setETag(c, sc.Version)
	return c.JSON(s.viewScript(sc))
}

func (in *scriptInput) apply(sc *engine.Script, present map[string]jsonindex.Value) error {
	if present["name"].Exists() {
		sc.Name = in.Name
	}
	if present["kind"].Exists() {
		sc.Kind = engine.ScriptKind(in.Kind)
	}
	if present["description"].Exists() {
		sc.Description = in.Description
	}
	if present["cases"].Exists() {
		sc.Cases = casesOf(in.Cases)
	}
	if in.Account != "" && in.Account != sc.Account {
		return invalidField("account", "can't be changed; make a new script there")
	}
	return nil
}

func (s *Server) deleteScript(c *fiber.Ctx, who caller) error {
	version, err := ifMatch(c)
	if err != nil {
		return err
	}
	id, err := s.scriptID(c, who)
	if err != nil {
		return err
	}
	if err := s.engine.DeleteScript(c.UserContext(), who.accountScope(), id, version); err != nil {
		return err
	}
	return c.SendStatus(fiber.StatusNoContent)
}

func (s *Server) scriptUsage(c *fiber.Ctx, who caller) error {
	sc, err := s.script(c, who)
	if err != nil {
		return err
	}
	views := []subscriptionView{}
	for _, sub := range s.engine.ScriptUsers(sc.ID) {
		views = append(views, s.viewSubscription(who, sub))
	}
	return answerList(c, views, page{Data: views}, nil)
}

type testInput struct {
	Version int    `json:"version"` // 0: the live one
	Source  string `json:"source"`  // or a source that is not stored
}

// testScript runs a script's test cases.
func (s *Server) testScript(c *fiber.Ctx, who caller) error {
	var in testInput
	if len(c.BodyRaw()) > 0 { // the body is optional
		present, err := readObject(c, &in)
		if err == nil {
			err = notZero(present, "version")
		}
		if err != nil {
			return err
		}
	}
	id, err := s.scriptID(c, who)
	if err != nil {
		return err
	}
	report, err := s.engine.TestScript(c.UserContext(), who.accountScope(), id, in.Version, in.Source)
	if err != nil {
		return err
	}
	return c.JSON(report)
}
