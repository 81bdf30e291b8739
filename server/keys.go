package server

import (
	"slices"
	"time"

	"github.com/gofiber/fiber/v2"

	"switchhook/engine"
	"switchhook/engine/catalog"
	"switchhook/engine/snowflake"
	"switchhook/server/api"
)

func viewKey(k *engine.Key) api.Key {
	v := api.Key{
		ID: k.ID.Format(engine.KeyPrefix), Name: k.Name, Account: k.Account, Admin: k.Admin, Scopes: []string{}, Prefix: k.Prefix,
		CreatedAt: k.CreatedAt, ExpiresAt: timeOrNull(k.ExpiresAt), LastUsedAt: timeOrNull(k.LastUsedAt), OldKeyUntil: timeOrNull(k.OldUntil),
	}
	for _, scope := range k.Scopes {
		v.Scopes = append(v.Scopes, string(scope))
	}
	return v
}

func timeOrNull(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

// keyExpiry returns when a new key expires; zero is never.
func keyExpiry(in *api.CreateKeyRequest, now time.Time) (time.Time, error) {
	switch {
	case in.ExpiresIn != nil && in.ExpiresAt != nil:
		return time.Time{}, invalidField("expires_in", "and expires_at are both given; give one of them")
	case in.ExpiresIn != nil && *in.ExpiresIn <= 0:
		return time.Time{}, invalidField("expires_in", "must be longer than 0s")
	case in.ExpiresIn != nil:
		return now.Add(time.Duration(*in.ExpiresIn)), nil
	case in.ExpiresAt != nil:
		return *in.ExpiresAt, nil
	}
	return time.Time{}, nil
}

func (s *Server) listKeys(c *fiber.Ctx, _ caller) error {
	q := s.readQuery(c)
	limit, after := q.limit(), q.id("cursor", engine.KeyPrefix)
	if q.err != nil {
		return q.err
	}
	found := slices.DeleteFunc(s.engine.Keys(), func(k *engine.Key) bool { return k.ID <= after })
	return pageAnswer(c)(pageOf(found, limit, "", func(k *engine.Key) string { return k.ID.Format(engine.KeyPrefix) }, viewKey))
}

func (s *Server) getKey(c *fiber.Ctx, _ caller) error {
	id, ok := snowflake.Parse(engine.KeyPrefix, c.Params("id"))
	if !ok {
		return engine.NotFound("key", truncate(c.Params("id")))
	}
	k, err := s.engine.Key(id)
	if err != nil {
		return err
	}
	setETag(c, catalog.KeyVersion(k))
	return c.JSON(viewKey(k))
}

// updateKey changes the name, the scopes and the expiry of a key.
func (s *Server) updateKey(c *fiber.Ctx, _ caller) error {
	id, version, err := changedKey(c)
	if err != nil {
		return err
	}
	var in api.UpdateKeyRequest
	if _, err := readObject(c, &in); err != nil {
		return err
	}
	k, err := s.engine.UpdateKey(c.UserContext(), id, version, func(k *engine.Key) {
		set(&k.Name, in.Name, false)
		if !in.Scopes.IsZero() {
			k.Scopes = scopesOf(in.Scopes.Or(nil))
		}
		set(&k.ExpiresAt, in.ExpiresAt, false)
	})
	if err != nil {
		return err
	}
	setETag(c, catalog.KeyVersion(k))
	return c.JSON(viewKey(k))
}

// changedKey parses the id and the expected version of a request that changes a key.
func changedKey(c *fiber.Ctx) (engine.ID, int64, error) {
	id, ok := snowflake.Parse(engine.KeyPrefix, c.Params("id"))
	if !ok {
		return 0, 0, engine.NotFound("key", truncate(c.Params("id")))
	}
	version, err := ifMatch(c)
	return id, version, err
}

func (s *Server) createKey(c *fiber.Ctx, who caller) error {
	var in api.CreateKeyRequest
	if _, err := readObject(c, &in); err != nil {
		return err
	}
	account, err := who.ownerAccount(c, in.Account)
	if err != nil {
		return err
	}
	wanted := engine.Key{Name: in.Name, Account: account, Admin: in.Admin, Scopes: scopesOf(in.Scopes)}
	if wanted.ExpiresAt, err = keyExpiry(&in, s.cfg.Now()); err != nil {
		return err
	}
	k, text, err := s.engine.CreateKey(c.UserContext(), wanted, in.Key)
	if err != nil {
		return err
	}
	view := viewKey(k)
	view.Key = text
	setETag(c, catalog.KeyVersion(k))
	c.Location(apiPath + "/keys/" + view.ID)
	c.Set(fiber.HeaderCacheControl, "no-store")
	return c.Status(fiber.StatusCreated).JSON(view)
}

// scopesOf converts scopes; nil, which means the default, stays nil.
func scopesOf(names []string) []engine.Scope {
	if names == nil {
		return nil
	}
	list := make([]engine.Scope, len(names))
	for i, name := range names {
		list[i] = engine.Scope(name)
	}
	return list
}

// defaultGrace is the default grace period of the old key after a rotation.
const defaultGrace = 24 * time.Hour

// rotateKey replaces the secret text of a key.
func (s *Server) rotateKey(c *fiber.Ctx, _ caller) error {
	id, version, err := changedKey(c)
	if err != nil {
		return err
	}
	in, grace := api.RotateKeyRequest{}, defaultGrace
	if len(c.BodyRaw()) > 0 { // the body is optional
		if _, err := readObject(c, &in); err != nil {
			return err
		}
	}
	if in.GracePeriod != nil {
		grace = time.Duration(*in.GracePeriod)
	}
	k, text, err := s.engine.RotateKey(c.UserContext(), id, version, grace)
	if err != nil {
		return err
	}
	view := viewKey(k)
	view.Key = text
	setETag(c, catalog.KeyVersion(k))
	c.Set(fiber.HeaderCacheControl, "no-store")
	return c.JSON(view)
}

func (s *Server) deleteKey(c *fiber.Ctx, who caller) error {
	id, version, err := changedKey(c)
	if err != nil {
		return err
	}
	if id == who.ID {
		return newProblem(fiber.StatusConflict, "this is the key that the request came with; delete it with another admin key")
	}
	if err := s.engine.DeleteKey(c.UserContext(), id, version); err != nil {
		return err
	}
	return c.SendStatus(fiber.StatusNoContent)
}
