package server

import (
	"encoding/json"
	"slices"
	"strings"

	"github.com/gofiber/fiber/v2"

	"switchhook/engine"
	"switchhook/server/api"
)

// viewEntry hides the operator's identity when an account reads its own entries.
func viewEntry(e *engine.AuditEntry, who caller) api.AuditEntry {
	v := api.AuditEntry{
		ID: e.ID.Format(engine.AuditPrefix), At: e.At, Action: string(e.Action), Kind: e.Kind, SubjectID: e.Subject,
		Changed: e.Changed, Before: rawOrNull(who.maskTarget(e.Before)), After: rawOrNull(who.maskTarget(e.After)),
	}
	if e.Account != "" {
		v.Account = &e.Account
	}
	if v.Changed == nil {
		v.Changed = []string{}
	}
	switch {
	case e.Actor.Key == 0:
		v.Actor = api.AuditActor{Type: "switchhook", Name: e.Actor.Name}
	case !who.Admin && e.Actor.Account != who.Account:
		v.Actor = api.AuditActor{Type: "operator", Name: "operator"}
	default:
		key := e.Actor.Key.Format(engine.KeyPrefix)
		v.Actor = api.AuditActor{Type: "key", KeyID: &key, Name: e.Actor.Name, Address: &e.Actor.Address}
	}
	return v
}

// maskTarget masks the target URL in a subscription's entry for callers that may not change
// subscriptions.
func (who caller) maskTarget(document []byte) []byte {
	if document == nil || who.Has(engine.ScopeSubscribe) {
		return document
	}
	var members map[string]json.RawMessage
	var url string
	if json.Unmarshal(document, &members) != nil || json.Unmarshal(members["target_url"], &url) != nil {
		return document
	}
	members["target_url"], _ = encodeJSON(engine.MaskURL(url))
	text, err := encodeJSON(members)
	if err != nil {
		return nil
	}
	return text
}

func rawOrNull(raw []byte) json.RawMessage {
	if raw == nil {
		return json.RawMessage("null")
	}
	return raw
}

// listAudit lists the entries of the caller's account. An admin key without ?account= lists all
// entries, including those that belong to no account.
func (s *Server) listAudit(c *fiber.Ctx, who caller) error {
	account, err := who.listAccount(c)
	if err != nil {
		return err
	}
	if who.Admin && c.Query("account") == "" {
		account = ""
	}
	q := s.readQuery(c, "kind", "subject_id", "actor", "since", "until")
	find := engine.AuditQuery{
		Account: account, Kind: q.text("kind"), Subject: q.text("subject_id"), Since: q.since("since"), Until: q.since("until"),
		Before: q.id("cursor", engine.AuditPrefix), Limit: q.limit(), MaxBytes: pageBytes,
	}
	kinds := []string{engine.KindSubscription, engine.KindScript, engine.KindScriptVersion, engine.KindEventType, engine.KindAccount, engine.KindKey}
	if find.Kind != "" && !slices.Contains(kinds, find.Kind) {
		q.fail("kind", "must be one of "+strings.Join(kinds, ", "))
	}
	if actor := q.text("actor"); actor == "switchhook" {
		find.Router = true
	} else {
		find.Actor = q.id("actor", engine.KeyPrefix)
	}
	if q.err != nil {
		return q.err
	}
	found, next, err := s.engine.Audit(c.UserContext(), find)
	if err != nil {
		return err
	}
	cursor := func(e *engine.AuditEntry) string { return e.ID.Format(engine.AuditPrefix) }
	view := func(e *engine.AuditEntry) api.AuditEntry { return viewEntry(e, who) }
	return pageAnswer(c)(pageOf(found, find.Limit, idCursor(next, engine.AuditPrefix), cursor, view))
}
