package server

import (
	"slices"
	"time"

	"github.com/gofiber/fiber/v2"

	"switchhook/engine"
	"switchhook/engine/snowflake"
	"switchhook/scripts/jsonindex"
)

// keyView is an API key as the API shows it.
type keyView struct {
	ID        string    `json:"id"`
	Name      string    `json:"name"`
	Account   string    `json:"account"`
	Admin     bool      `json:"admin"`
	Scopes    []string  `json:"scopes"`        // empty for an admin key, which needs none
	Prefix    string    `json:"prefix"`        // its first characters
	Key       string    `json:"key,omitempty"` // in the response to POST and to a rotation only
	CreatedAt time.Time `json:"created_at"`

	ExpiresAt  *time.Time `json:"expires_at"`              // null: never
	LastUsedAt *time.Time `json:"last_used_at"`            // null: never
	OldUntil   *time.Time `json:"old_key_until,omitempty"` // after a rotation: when the previous key expires
}

func viewKey(k *engine.Key) keyView {
	v := keyView{
		ID: k.ID.Format(engine.KeyPrefix), Name: k.Name, Account: k.Account, Admin: k.Admin, Scopes: []string{}, Prefix: k.Prefix,
		CreatedAt: k.CreatedAt, ExpiresAt: timeOrNull(k.ExpiresAt), LastUsedAt: timeOrNull(k.LastUsedAt), OldUntil: timeOrNull(k.OldUntil),
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

type keyInput struct {
	Name    string `json:"name"`
	Account string `json:"account"`
	Admin   bool   `json:"admin"`
	Key     string `json:"key"` // an existing key to import; generated if left out

	Scopes    []engine.Scope `json:"scopes"`     // engine.DefaultScopes if left out
	ExpiresAt timestamp      `json:"expires_at"` // or
	ExpiresIn duration       `json:"expires_in"`
}

// expires returns a key's expiry; zero is never.
func (in *keyInput) expires(present map[string]jsonindex.Value, now time.Time) (time.Time, error) {
	switch inGiven := present["expires_in"].Exists() && present["expires_in"].Kind() != jsonindex.Null; {
	case inGiven && !in.ExpiresAt.IsZero():
		return time.Time{}, invalidField("expires_in", "and expires_at are both given; give one of them")
	case inGiven && in.ExpiresIn <= 0:
		return time.Time{}, invalidField("expires_in", "must be longer than nothing")
	case inGiven:
		return now.Add(time.Duration(in.ExpiresIn)), nil
	}
	return in.ExpiresAt.Time, nil
}

func (s *Server) listKeys(c *fiber.Ctx, _ caller) error {
	q := s.readQuery(c)
	limit, after := q.limit(), q.id("cursor", engine.KeyPrefix)
	if q.err != nil {
		return q.err
	}
	found := slices.DeleteFunc(s.engine.Keys(), func(k *engine.Key) bool { return k.ID <= after })
	return answerPage(c, pageOf(found, limit, func(k *engine.Key) string { return k.ID.Format(engine.KeyPrefix) }, viewKey))
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
	return c.JSON(viewKey(k))
}

func (s *Server) createKey(c *fiber.Ctx, who caller) error {
	var in keyInput
	present, err := readObject(c, &in)
	if err == nil {
		err = notEmpty(present, "account", "key")
	}
	if err != nil {
		return err
	}
	account, err := who.ownerAccount(c, in.Account)
	if err != nil {
		return err
	}
	wanted := engine.Key{Name: in.Name, Account: account, Admin: in.Admin, Scopes: in.Scopes}
	if wanted.ExpiresAt, err = in.expires(present, s.cfg.Now()); err != nil {
		return err
	}
	k, text, err := s.engine.CreateKey(c.UserContext(), wanted, in.Key)
	if err != nil {
		return err
	}
	view := viewKey(k)
	view.Key = text
	c.Location(apiPath + "/keys/" + view.ID)
	c.Set(fiber.HeaderCacheControl, "no-store")
	return c.Status(fiber.StatusCreated).JSON(view)
}

// defaultGrace is the default grace period of the old key after a rotation.
const defaultGrace = 24 * time.Hour

// rotateKey replaces the secret text of a key.
func (s *Server) rotateKey(c *fiber.Ctx, _ caller) error {
	id, ok := snowflake.Parse(engine.KeyPrefix, c.Params("id"))
	if !ok {
		return engine.NotFound("key", truncate(c.Params("id")))
	}
	in := struct {
		GracePeriod duration `json:"grace_period"`
	}{duration(defaultGrace)}
	if len(c.BodyRaw()) > 0 { // the body is optional
		if _, err := readObject(c, &in); err != nil {
			return err
		}
	}
	k, text, err := s.engine.RotateKey(c.UserContext(), id, time.Duration(in.GracePeriod))
	if err != nil {
		return err
	}
	view := viewKey(k)
	view.Key = text
	c.Set(fiber.HeaderCacheControl, "no-store")
	return c.JSON(view)
}

func (s *Server) deleteKey(c *fiber.Ctx, who caller) error {
	id, ok := snowflake.Parse(engine.KeyPrefix, c.Params("id"))
	if !ok {
		return engine.NotFound("key", truncate(c.Params("id")))
	}
	if id == who.ID {
		return newProblem(fiber.StatusConflict, "this is the key that the request came with; delete it with another admin key")
	}
	if err := s.engine.DeleteKey(c.UserContext(), id); err != nil {
		return err
	}
	return c.SendStatus(fiber.StatusNoContent)
}
