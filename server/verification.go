package server

import (
	"strings"

	"github.com/gofiber/fiber/v2"

	"switchhook/engine"
	"switchhook/engine/snowflake"
	"switchhook/server/api"
)

// viewVerification returns the state of a verification. The secret is never shown: it is for the
// target alone.
func viewVerification(v engine.Verification) *api.Verification {
	switch {
	case v.Mode == engine.VerifyNone:
		return nil
	case v.Pending():
		return &api.Verification{Mode: string(v.Mode), State: "pending", ExpiresAt: &v.Until}
	}
	return &api.Verification{Mode: string(v.Mode), State: "confirmed", ConfirmedAt: &v.ConfirmedAt, AllowedRate: v.AllowedRate}
}

// hookSecretHeader carries the secret to the target, and may carry it back.
const hookSecretHeader = "X-Hook-Secret"

// confirmSubscription is unauthenticated: knowing the secret proves that the caller is the verified target.
func (s *Server) confirmSubscription(c *fiber.Ctx) error {
	var in api.ConfirmSubscriptionRequest
	if in.Secret = strings.Clone(c.Get(hookSecretHeader)); in.Secret == "" || len(c.BodyRaw()) > 0 {
		doc, _, err := readJSONOrForm(c)
		if err != nil {
			return err
		}
		if _, err := decodeObject(doc.Root(), &in, "subscription_id", "confirm"); err != nil {
			return err
		}
	}
	if in.Secret == "" {
		return invalidField("secret", "is missing: send the value of the X-Hook-Secret header that came with the request, in a header of this name or as the member secret")
	}
	id, ok := snowflake.Parse(engine.SubscriptionPrefix, c.Params("id"))
	if !ok {
		id = 0 // answered like an id that does not exist
	}
	if err := s.engine.Confirm(c.UserContext(), id, in.Secret); err != nil {
		return err
	}
	return c.SendStatus(fiber.StatusNoContent)
}
