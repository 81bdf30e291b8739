package server

import (
	"net/url"
	"slices"
	"strings"

	"github.com/gofiber/fiber/v2"

	"switchhook/engine"
	"switchhook/engine/catalog"
	"switchhook/server/api"
	"switchhook/server/wire"
)

func viewQuota(q engine.Quota) api.Quota {
	return api.Quota{
		Subscriptions: api.SomeOrNull(q.Subscriptions), EventsPerSecond: api.SomeOrNull(q.EventsPerSecond), StoredBytes: api.SomeOrNull(q.StoredBytes),
	}
}

func viewRetention(r engine.Retention) api.Retention {
	return api.Retention{Succeeded: api.SomeOrNull(api.Duration(r.Succeeded)), Dead: api.SomeOrNull(api.Duration(r.Dead))}
}

func nullIfZero[T comparable](v T) *T {
	if v == *new(T) {
		return nil
	}
	return &v
}

func (s *Server) viewAccount(c *fiber.Ctx, a *engine.Account) (api.Account, error) {
	used, err := s.engine.Usage(c.UserContext(), a.Name)
	if err != nil {
		return api.Account{}, err
	}
	limits := s.engine.Limits(a.Name)
	return api.Account{
		Name: a.Name, Verify: string(a.Verify), Quota: viewQuota(a.Quota),
		Limits: api.AccountLimits{
			Subscriptions: nullIfZero(int64(limits.Subscriptions)), EventsPerSecond: nullIfZero(int64(limits.EventsPerSecond)),
			StoredBytes: nullIfZero(limits.StoredBytes),
		},
		Usage: api.AccountUsage{
			Subscriptions: used.Subscriptions, StoredBytes: used.Stored.Total(), StoredBytesOf: api.StoredBytes(used.Stored),
		},
		Retention: viewRetention(a.Retention),
		CreatedAt: timeOrNull(a.CreatedAt), UpdatedAt: timeOrNull(a.UpdatedAt),
	}, nil
}

func (s *Server) listAccounts(c *fiber.Ctx, _ caller) error {
	q := s.readQuery(c)
	limit, after := q.limit(), q.name("cursor", engine.ValidAccount)
	if q.err != nil {
		return q.err
	}
	found := slices.DeleteFunc(s.engine.Accounts(), func(a *engine.Account) bool { return a.Name <= after })
	var views []api.Account
	for _, a := range found[:min(len(found), limit+1)] {
		view, err := s.viewAccount(c, a)
		if err != nil {
			return err
		}
		views = append(views, view)
	}
	return pageAnswer(c)(pageOf(views, limit, "", func(a api.Account) string { return a.Name }, func(a api.Account) api.Account { return a }))
}

// accountParam returns the account in the path if the caller may see it.
func accountParam(c *fiber.Ctx, who caller) (*engine.Account, error) {
	name, err := url.PathUnescape(c.Params("name"))
	if err != nil || !who.Admin && name != who.Account {
		return nil, engine.NotFound("account", truncate(c.Params("name")))
	}
	return &engine.Account{Name: strings.Clone(name)}, nil
}

func (s *Server) getAccount(c *fiber.Ctx, who caller) error {
	asked, err := accountParam(c, who)
	if err != nil {
		return err
	}
	if !engine.ValidAccount(asked.Name) {
		return engine.NotFound("account", truncate(asked.Name))
	}
	return s.answerAccount(c, s.engine.Account(asked.Name))
}

func (s *Server) answerAccount(c *fiber.Ctx, a *engine.Account) error {
	view, err := s.viewAccount(c, a)
	if err != nil {
		return err
	}
	if a.Version > 0 {
		setETag(c, a.Version)
	}
	return c.JSON(view)
}

func (s *Server) replaceAccount(c *fiber.Ctx, who caller) error { return s.putAccount(c, who, false) }

func (s *Server) updateAccount(c *fiber.Ctx, who caller) error { return s.putAccount(c, who, true) }

// putAccount changes the settings of an account; members that are left out keep their values if merge
// is set, also inside quota and retention, and are reset otherwise.
func (s *Server) putAccount(c *fiber.Ctx, who caller, merge bool) error {
	asked, err := accountParam(c, who)
	if err != nil {
		return err
	}
	old := s.engine.Account(asked.Name)
	version, err := upsertPrecondition(c, old.Version > 0)
	if err != nil {
		return err
	}
	var in api.UpdateAccountRequest
	if _, err := readObject(c, &in, wire.Names(&api.Account{})...); err != nil {
		return err
	}
	if in.Name != "" && in.Name != asked.Name {
		return invalidField("name", "can't be changed: it is "+asked.Name)
	}
	if merge {
		asked.Verify, asked.Quota, asked.Retention = old.Verify, old.Quota, old.Retention
	}
	applyAccount(asked, &in)
	if version == catalog.AnyVersion && merge && old.Version > 0 {
		version = old.Version // the merge is based on this version
	}
	stored, err := s.engine.PutAccount(c.UserContext(), asked, version)
	if err != nil {
		return err
	}
	if stored.Version == 1 {
		c.Location(apiPath + "/accounts/" + url.PathEscape(stored.Name))
		c.Status(fiber.StatusCreated)
	}
	return s.answerAccount(c, stored)
}

// deleteAccount resets the settings of an account to the router's defaults.
func (s *Server) deleteAccount(c *fiber.Ctx, who caller) error {
	asked, err := accountParam(c, who)
	if err != nil {
		return err
	}
	version, err := ifMatch(c)
	if err != nil {
		return err
	}
	if s.engine.Account(asked.Name).Version == 0 {
		return engine.NotFound("account with settings", truncate(asked.Name))
	}
	if _, err := s.engine.PutAccount(c.UserContext(), asked, version); err != nil {
		return err
	}
	return c.SendStatus(fiber.StatusNoContent)
}

// applyAccount changes a as the request says.
func applyAccount(a *engine.Account, in *api.UpdateAccountRequest) {
	if !in.Verify.IsZero() {
		a.Verify = engine.VerificationMode(in.Verify.Or(""))
	}
	quota := in.Quota.Or(api.Quota{})
	resets := in.Quota.IsNull()
	set(&a.Quota.Subscriptions, quota.Subscriptions, resets)
	set(&a.Quota.EventsPerSecond, quota.EventsPerSecond, resets)
	set(&a.Quota.StoredBytes, quota.StoredBytes, resets)
	retention := in.Retention.Or(api.Retention{})
	resets = in.Retention.IsNull()
	set((*api.Duration)(&a.Retention.Succeeded), retention.Succeeded, resets)
	set((*api.Duration)(&a.Retention.Dead), retention.Dead, resets)
}
