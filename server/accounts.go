package server

import (
	"net/url"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"

	"switchhook/engine"
	"switchhook/engine/catalog"
	"switchhook/server/api"
)

// accountView is an account's settings and usage.
type accountView struct {
	Name      string        `json:"name"`
	Verify    string        `json:"verify"`
	Quota     quotaView     `json:"quota"`
	Limits    limitsView    `json:"limits"`
	Usage     usageView     `json:"usage"`
	Retention retentionView `json:"retention"`
	CreatedAt *time.Time    `json:"created_at"` // null if nothing is set yet
	UpdatedAt *time.Time    `json:"updated_at"`
}

// quotaView is a quota as configured: null is the router's default, -1 is unlimited.
type quotaView struct {
	Subscriptions   *int   `json:"subscriptions"`
	EventsPerSecond *int   `json:"events_per_second"`
	StoredBytes     *int64 `json:"stored_bytes"`
}

func viewQuota(q engine.Quota) quotaView {
	return quotaView{nullIfZero(q.Subscriptions), nullIfZero(q.EventsPerSecond), nullIfZero(q.StoredBytes)}
}

// quota converts the request's quota. It refuses 0, which could mean nothing at all or no limit.
func (v *quotaView) quota() (q engine.Quota, err error) {
	const wrong = "is 0: give a number from 1, -1 for no limit, or null for the router's default"
	switch {
	case isZero(v.Subscriptions):
		return q, invalidField("quota.subscriptions", wrong)
	case isZero(v.EventsPerSecond):
		return q, invalidField("quota.events_per_second", wrong)
	case isZero(v.StoredBytes):
		return q, invalidField("quota.stored_bytes", wrong)
	}
	return engine.Quota{Subscriptions: zeroIfNull(v.Subscriptions), EventsPerSecond: zeroIfNull(v.EventsPerSecond), StoredBytes: zeroIfNull(v.StoredBytes)}, nil
}

// The API shows the engine's zero values, which mean "not set", as null.

func nullIfZero[T comparable](v T) *T {
	if v == *new(T) {
		return nil
	}
	return &v
}

func zeroIfNull[T any](v *T) (zero T) {
	if v == nil {
		return zero
	}
	return *v
}

func isZero[T comparable](v *T) bool { return v != nil && *v == *new(T) }

// limitsView is the effective limits; null is unlimited.
type limitsView struct {
	Subscriptions   *int64 `json:"subscriptions"`
	EventsPerSecond *int64 `json:"events_per_second"`
	StoredBytes     *int64 `json:"stored_bytes"`
}

type usageView struct {
	Subscriptions int   `json:"subscriptions"`
	StoredBytes   int64 `json:"stored_bytes"`
}

// retentionView is how long finished events are stored; null is the router's default.
type retentionView struct {
	Succeeded *api.Duration `json:"succeeded"`
	Dead      *api.Duration `json:"dead"`
}

func viewRetention(r engine.Retention) retentionView {
	return retentionView{nullIfZero(api.Duration(r.Succeeded)), nullIfZero(api.Duration(r.Dead))}
}

func (v *retentionView) retention() (r engine.Retention, err error) {
	const wrong = "is 0: give a longer time, or null for the router's default"
	switch {
	case isZero(v.Succeeded):
		return r, invalidField("retention.succeeded", wrong)
	case isZero(v.Dead):
		return r, invalidField("retention.dead", wrong)
	}
	return engine.Retention{Succeeded: time.Duration(zeroIfNull(v.Succeeded)), Dead: time.Duration(zeroIfNull(v.Dead))}, nil
}

func (s *Server) viewAccount(c *fiber.Ctx, a *engine.Account) (accountView, error) {
	used, err := s.engine.Usage(c.UserContext(), a.Name)
	if err != nil {
		return accountView{}, err
	}
	limits := s.engine.Limits(a.Name)
	return accountView{
		Name: a.Name, Verify: string(a.Verify), Quota: viewQuota(a.Quota),
		Limits:    limitsView{nullIfZero(int64(limits.Subscriptions)), nullIfZero(int64(limits.EventsPerSecond)), nullIfZero(limits.StoredBytes)},
		Usage:     usageView(used),
		Retention: viewRetention(a.Retention),
		CreatedAt: timeOrNull(a.CreatedAt), UpdatedAt: timeOrNull(a.UpdatedAt),
	}, nil
}

func (s *Server) listAccounts(c *fiber.Ctx, _ caller) error {
	q := s.readQuery(c)
	limit, after := q.limit(), q.text("cursor")
	if q.err != nil {
		return q.err
	}
	answer, views := page{}, []accountView{}
	for _, a := range s.engine.Accounts() {
		if a.Name <= after {
			continue
		}
		if len(views) == limit {
			answer.NextCursor = &views[limit-1].Name
			break
		}
		view, err := s.viewAccount(c, a)
		if err != nil {
			return err
		}
		views = append(views, view)
	}
	answer.Data = views
	return answerList(c, answer.Data, answer, answer.NextCursor)
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

// accountInput is the account settings that an admin may change.
type accountInput struct {
	Name      string         `json:"name"` // as in the path, or left out
	Verify    string         `json:"verify"`
	Quota     *quotaView     `json:"quota"`
	Retention *retentionView `json:"retention"`
}

func (s *Server) replaceAccount(c *fiber.Ctx, who caller) error { return s.putAccount(c, who, false) }

func (s *Server) patchAccount(c *fiber.Ctx, who caller) error { return s.putAccount(c, who, true) }

func (s *Server) putAccount(c *fiber.Ctx, who caller, patch bool) error {
	asked, err := accountParam(c, who)
	if err != nil {
		return err
	}
	old := s.engine.Account(asked.Name)
	version, err := upsertPrecondition(c, old.Version > 0)
	if err != nil {
		return err
	}
	in := accountInput{Quota: &quotaView{}, Retention: &retentionView{}}
	if patch { // members left out keep their values, also inside quota and retention
		in.Verify = string(old.Verify)
		*in.Quota = viewQuota(old.Quota)
		*in.Retention = viewRetention(old.Retention)
	}
	present, err := readObject(c, &in, fieldNames(&accountView{})...)
	if err != nil {
		return err
	}
	if in.Name != "" && in.Name != asked.Name {
		return invalidField("name", "can't be changed: it is "+asked.Name)
	}
	if v := present["verify"]; v.Exists() && isNull(v.Raw()) {
		in.Verify = ""
	}
	asked.Verify = engine.VerificationMode(in.Verify)
	if in.Quota != nil { // null: the router's defaults
		if asked.Quota, err = in.Quota.quota(); err != nil {
			return err
		}
	}
	if in.Retention != nil {
		if asked.Retention, err = in.Retention.retention(); err != nil {
			return err
		}
	}
	if version == catalog.AnyVersion && patch && old.Version > 0 {
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
