package server

import (
	"encoding/json"
	"net/url"
	"slices"
	"strings"

	"github.com/gofiber/fiber/v2"

	"switchhook/engine"
	"switchhook/engine/monitor"
	"switchhook/engine/snowflake"
	"switchhook/scripts"
	"switchhook/scripts/jsonindex"
	"switchhook/server/api"
	"switchhook/server/wire"
)

// viewListedScript leaves out the test cases, which can be larger than everything else.
func (s *Server) viewListedScript(sc *engine.Script) api.Script {
	v := api.Script{
		ID: sc.ID.Format(engine.ScriptPrefix), Account: sc.Account, Name: sc.Name, Kind: string(sc.Kind), Description: sc.Description,
		UsedBy: len(s.engine.ScriptUsers(sc.ID)), CreatedAt: sc.CreatedAt, UpdatedAt: sc.UpdatedAt,
	}
	if sc.Live != 0 {
		v.LiveVersion = &sc.Live
	}
	stats := s.engine.ScriptStats(sc.ID)
	v.Stats = api.ScriptStats{Runs: stats.Runs, Errors: stats.Errors, Timeouts: stats.Timeouts, Dropped: stats.Dropped, CPUMS: milliseconds(stats.CPU)}
	for i, n := range stats.Buckets {
		bucket := api.ScriptRunBucket{Runs: n}
		if i < len(monitor.ScriptBuckets) {
			bucket.LEMS = new(milliseconds(monitor.ScriptBuckets[i]))
		}
		v.Stats.Histogram = append(v.Stats.Histogram, bucket)
	}
	return v
}

// viewScript returns a script that has its test cases.
func (s *Server) viewScript(sc *engine.Script) api.Script {
	v := s.viewListedScript(sc)
	v.Cases = viewCases(sc.Cases)
	return v
}

// viewCases returns test cases, or none if the stored list can't be decoded.
func viewCases(raw []byte) json.RawMessage {
	if !json.Valid(raw) {
		return json.RawMessage("[]")
	}
	return raw
}

// answerScript responds with a script and its ETag.
func (s *Server) answerScript(c *fiber.Ctx, sc *engine.Script) error {
	setETag(c, sc.Version)
	return c.JSON(s.viewScript(sc))
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
	return pageAnswer(c)(pageOf(s.engine.Scripts(account, kind, after, limit+1), limit, "", cursor, s.viewListedScript))
}

// createScript creates a script and, if a source is given, its first version, which goes live if its
// tests pass.
func (s *Server) createScript(c *fiber.Ctx, who caller) error {
	var in api.CreateScriptRequest
	if _, err := readObject(c, &in); err != nil {
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
	if err == nil {
		sc, err = s.engine.WithCases(c.UserContext(), sc)
	}
	if err != nil {
		return err
	}
	return s.answerScript(c, sc)
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

// updateScript merges the body into a script (RFC 7396).
func (s *Server) updateScript(c *fiber.Ctx, who caller) error { return s.changeScript(c, who, false) }

// replaceScript resets what the body leaves out.
func (s *Server) replaceScript(c *fiber.Ctx, who caller) error { return s.changeScript(c, who, true) }

func (s *Server) changeScript(c *fiber.Ctx, who caller, replace bool) error {
	var in api.UpdateScriptRequest
	present, err := readObject(c, &in, append(wire.Names(&api.Script{}), "source")...)
	if err != nil {
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
	sc, err := s.engine.UpdateScript(c.UserContext(), who.accountScope(), id, version, func(sc *engine.Script) error {
		if err := checkFixedMembers(present, sc); err != nil {
			return err
		}
		if replace || !in.Name.IsZero() {
			sc.Name = in.Name.Or("")
		}
		if replace || !in.Description.IsZero() {
			sc.Description = in.Description.Or("")
		}
		if replace || !in.Cases.IsZero() {
			sc.Cases = in.Cases.Or(nil)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return s.answerScript(c, sc)
}

// checkFixedMembers refuses another value of a member that a change of a script can't change. The
// values that the script has are accepted, since clients send back what they were answered.
func checkFixedMembers(present map[string]jsonindex.Value, sc *engine.Script) error {
	if present["source"].Exists() {
		return invalidField("source", "is not changed here: versions are never changed; POST a new one to …/versions")
	}
	if live := present["live_version"]; live.Exists() && live.Float64() != float64(sc.Live) {
		return invalidField("live_version", "is not changed here: POST …/versions/{version}/activate runs the test cases first")
	}
	if account := present["account"]; account.Exists() && account.Text() != sc.Account {
		return invalidField("account", "can't be changed; make a new script there")
	}
	if kind := present["kind"]; kind.Exists() && kind.Text() != string(sc.Kind) {
		return invalidField("kind", "can't be changed: this script is a "+string(sc.Kind))
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

// listScriptSubscriptions lists the subscriptions that use a script.
func (s *Server) listScriptSubscriptions(c *fiber.Ctx, who caller) error {
	sc, err := s.script(c, who)
	if err != nil {
		return err
	}
	q := s.readQuery(c)
	limit, after := q.limit(), q.id("cursor", engine.SubscriptionPrefix)
	if q.err != nil {
		return q.err
	}
	found := slices.DeleteFunc(s.engine.ScriptUsers(sc.ID), func(sub *engine.Subscription) bool { return sub.ID <= after })
	cursor := func(sub *engine.Subscription) string { return sub.ID.Format(engine.SubscriptionPrefix) }
	view := func(sub *engine.Subscription) subscriptionView { return s.viewSubscription(who, sub) }
	return pageAnswer(c)(pageOf(found, limit, "", cursor, view))
}

// testScript runs a script's test cases.
func (s *Server) testScript(c *fiber.Ctx, who caller) error {
	var in api.TestScriptRequest
	if len(c.BodyRaw()) > 0 { // the body is optional
		if _, err := readObject(c, &in); err != nil {
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
