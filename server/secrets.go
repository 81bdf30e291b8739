package server

import (
	"time"

	"github.com/gofiber/fiber/v2"

	"switchhook/engine"
	"switchhook/engine/catalog"
	"switchhook/engine/signature"
	"switchhook/server/api"
)

// secretView is a subscription's signing secret, on the secret's own route.
type secretView struct {
	Secret     string          `json:"secret"`
	SecretType string          `json:"secret_type"`
	PublicKey  string          `json:"public_key,omitempty"` // of an ed25519 secret
	OldSecrets []oldSecretView `json:"old_secrets"`          // that still sign as well, the most recent first
}

type oldSecretView struct {
	Secret     string    `json:"secret"`
	SecretType string    `json:"secret_type"`
	PublicKey  string    `json:"public_key,omitempty"`
	Until      time.Time `json:"until"`
}

func (s *Server) getSecret(c *fiber.Ctx, who caller) error {
	sub, err := s.subscription(c, who)
	if err != nil {
		return err
	}
	kind, public := signature.Describe(sub.Secret)
	view := secretView{sub.Secret, string(kind), public, []oldSecretView{}}
	for _, old := range s.engine.OldSecrets(sub) {
		kind, public := signature.Describe(old.Secret)
		view.OldSecrets = append(view.OldSecrets, oldSecretView{old.Secret, string(kind), public, old.Until})
	}
	c.Set(fiber.HeaderCacheControl, "no-store")
	return c.JSON(view)
}

// rotationInput is the request body of a secret rotation.
type rotationInput struct {
	Secret      string        `json:"secret"`
	SecretType  string        `json:"secret_type"`
	GracePeriod *api.Duration `json:"grace_period"`
}

// rotationView is the response to a rotation.
type rotationView struct {
	Secret         string    `json:"secret"`
	SecretType     string    `json:"secret_type"`
	PublicKey      string    `json:"public_key,omitempty"`
	OldSecretUntil time.Time `json:"old_secret_until"`
}

func (s *Server) rotateSecret(c *fiber.Ctx, who caller) error {
	id, err := subscriptionID(c)
	if err != nil {
		return err
	}
	var in rotationInput
	if len(c.BodyRaw()) > 0 { // the body is optional
		if _, err := readObject(c, &in); err != nil { // "grace" for "grace_period" would leave a leaked secret valid
			return err
		}
	}
	version, err := ifMatch(c)
	if err != nil {
		return err
	}
	key, err := idempotencyKey(c)
	if err != nil {
		return err
	}
	rotation := catalog.Rotation{Secret: in.Secret, Type: signature.SecretType(in.SecretType), Grace: catalog.DefaultGracePeriod, Key: key}
	if in.GracePeriod != nil {
		rotation.Grace = time.Duration(*in.GracePeriod)
	}
	sub, until, err := s.engine.RotateSecret(c.UserContext(), who.accountScope(), id, version, rotation)
	if err != nil {
		return err
	}
	kind, public := signature.Describe(sub.Secret)
	setETag(c, sub.Version)
	c.Set(fiber.HeaderCacheControl, "no-store")
	return c.JSON(rotationView{sub.Secret, string(kind), public, until})
}

// applySecret applies the request's secret and signature settings.
func (in *subscriptionInput) applySecret(sub *engine.Subscription, given func(string) bool) error {
	if given("signatures") {
		if in.Signatures != nil && len(in.Signatures) == 0 {
			return invalidField("signatures", `is empty: every delivery is signed; leave it out, or null, for ["standard"]`)
		}
		sub.Signatures = in.Signatures
	}
	kind := signature.SecretType(in.SecretType)
	if in.Secret != "" { // left out, it stays: clients cannot read it to send it back
		sub.Secret = in.Secret
		return catalog.CheckSecretType(in.Secret, kind)
	}
	if kind == "" {
		return nil
	}
	if sub.Secret == "" {
		made, err := signature.NewSecret(kind)
		if err != nil {
			return engine.Invalid("secret_type", "%v", err)
		}
		sub.Secret = made
		return nil
	}
	if stored, _ := signature.Describe(sub.Secret); kind != stored {
		return invalidField("secret_type", "can't be changed here: POST to rotate-secret makes a secret of another type, and lets the old one sign for a while")
	}
	return nil
}
