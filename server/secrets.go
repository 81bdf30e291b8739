package server

import (
	"time"

	"github.com/gofiber/fiber/v2"

	"switchhook/engine"
	"switchhook/engine/catalog"
	"switchhook/engine/signature"
	"switchhook/server/api"
)

func (s *Server) getSecret(c *fiber.Ctx, who caller) error {
	sub, err := s.subscription(c, who)
	if err != nil {
		return err
	}
	kind, public := signature.Describe(sub.Secret)
	view := api.Secret{Secret: sub.Secret, SecretType: string(kind), PublicKey: public, OldSecrets: []api.OldSecret{}}
	for _, old := range s.engine.OldSecrets(sub) {
		kind, public := signature.Describe(old.Secret)
		view.OldSecrets = append(view.OldSecrets, api.OldSecret{Secret: old.Secret, SecretType: string(kind), PublicKey: public, Until: old.Until})
	}
	c.Set(fiber.HeaderCacheControl, "no-store")
	return c.JSON(view)
}

// rotateSecret replaces a subscription's secret.
func (s *Server) rotateSecret(c *fiber.Ctx, who caller) error {
	id, err := subscriptionID(c)
	if err != nil {
		return err
	}
	var in api.RotateSubscriptionSecretRequest
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
	return c.JSON(api.Rotation{Secret: sub.Secret, SecretType: string(kind), PublicKey: public, OldSecretUntil: until})
}

// applySecret changes the secret and the signatures of sub.
func (in *subscriptionInput) applySecret(sub *engine.Subscription, replace bool, errs *engine.FieldErrors) {
	if schemes, ok := in.Signatures.Get(); ok && len(schemes) == 0 {
		errs.Add("signatures", engine.FieldRequired, `is empty: every delivery is signed; leave it out, or null, for ["standard"]`)
	}
	if !in.Signatures.IsZero() || replace {
		sub.Signatures = nil
		for _, name := range in.Signatures.Or(nil) {
			sub.Signatures = append(sub.Signatures, signature.Scheme(name))
		}
	}
	secret, kind := in.Secret.Or(""), signature.SecretType(in.SecretType.Or(""))
	stored, _ := signature.Describe(sub.Secret)
	switch {
	case secret != "": // left out, it stays: clients cannot read it to send it back
		sub.Secret = secret
		_ = errs.Take(catalog.CheckSecretType(secret, kind))
	case kind != "" && sub.Secret == "":
		made, err := signature.NewSecret(kind)
		if err != nil {
			errs.Add("secret_type", engine.FieldUnknown, "%v", err)
		}
		sub.Secret = made
	case kind != "" && kind != stored:
		errs.Add("secret_type", engine.FieldNotAllowed, "can't be changed here: POST to rotate-secret makes a secret of another type, and lets the old one sign for a while")
	}
}
