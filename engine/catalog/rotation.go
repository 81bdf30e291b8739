package catalog

import (
	"context"
	"encoding/hex"
	"errors"
	"slices"
	"strings"
	"time"

	"switchhook/engine"
	"switchhook/engine/signature"
)

const (
	// MaxGracePeriod is how long a secret that was replaced may go on signing.
	MaxGracePeriod = 30 * 24 * time.Hour
	// DefaultGracePeriod is how long it does where nothing is said.
	DefaultGracePeriod = 24 * time.Hour
	// maxOldSecrets bounds the signatures of one delivery.
	maxOldSecrets = 5
)

// SignerOf makes what signs the deliveries of s; the error is about its secret.
func SignerOf(s *engine.Subscription) (*signature.Signer, *engine.Error) {
	var replaced []signature.Old
	for _, old := range s.OldSecrets {
		replaced = append(replaced, signature.Old{Secret: old.Secret, Until: old.Until})
	}
	g, err := signature.New(s.Secret, s.Signatures, replaced)
	if err != nil {
		return nil, engine.Invalid("secret", "%v", err)
	}
	return g, nil
}

// checkSigning checks the secret of s and which signatures are made with it.
func checkSigning(s *engine.Subscription) *engine.Error {
	if err := checkSignatures(s.Signatures); err != nil {
		return err
	}
	if err := signature.CheckSecret(s.Secret, s.Signatures); err != nil {
		return engine.Invalid("secret", "%v", err)
	}
	if kind, _ := signature.Describe(s.Secret); kind != signature.HMAC && signature.NeedsHMAC(s.Signatures) {
		return engine.Invalid("signatures", `can't hold "x-hook-signature" or a header with an ed25519 secret: each of them is an HMAC; use "standard" alone, or a secret of the type "hmac"`)
	}
	return nil
}

func checkSignatures(list []signature.Scheme) *engine.Error {
	if err := signature.CheckSchemes(list); err != nil {
		return engine.Invalid("signatures", "%v", err)
	}
	for _, scheme := range list {
		name := scheme.HeaderName()
		if strings.EqualFold(name, signature.Standard.HeaderName()) || strings.EqualFold(name, signature.Hook.HeaderName()) {
			continue // a receiver may have its own form of these; CheckSchemes takes one
		}
		if problem := CheckHeader(name, ""); problem != "" {
			return engine.Invalid("signatures", "%.140q %s", name, problem)
		}
	}
	return nil
}

// Rotation is a change of secrets that gives receivers time.
type Rotation struct {
	Secret string               // the new one; empty: one is made
	Type   signature.SecretType // of the one that is made; empty: as the one it replaces
	Grace  time.Duration        // how long the old one signs too, 0 to MaxGracePeriod
	Key    string               // an idempotency key: the same again rotates nothing; may be empty
}

// RotateSecret gives a subscription of an account, or of any where account is empty, a new
// secret; the old one signs as well until old.Until. Asked again with the same Rotation.Key
// or the secret that is in force, it changes nothing and answers as before. Errors:
// CodeInvalid, CodeNotFound, CodeConflict, CodeStale, CodeUnavailable.
func (c *Catalog) RotateSecret(ctx context.Context, account string, id engine.ID, version int64, r Rotation) (s *engine.Subscription, until time.Time, err error) {
	if r.Grace < 0 || r.Grace > MaxGracePeriod {
		return nil, until, engine.Invalid("grace_period", "is %s, must be 0s to %s (30 days)", r.Grace, MaxGracePeriod)
	}
	if !engine.ValidKey(r.Key) {
		return nil, until, engine.Invalid("Idempotency-Key", "must be 1 to %d visible ASCII characters", engine.MaxEventKey)
	}
	secret, err := rotated(r)
	if err != nil {
		return nil, until, err
	}
	if s, err = c.Subscription(account, id); err != nil {
		return nil, until, err
	}
	if until, done, err := c.rotatedBefore(s, r); done || err != nil { // whatever version is expected
		return s, until, err
	}
	s, err = c.UpdateSubscription(ctx, account, id, version, func(s *engine.Subscription) (err error) {
		done := false
		if until, done, err = c.rotatedBefore(s, r); done {
			return errRotated // by the same request, a moment ago: nothing is to change
		} else if err != nil {
			return err
		}
		made := secret
		if made == "" {
			kind, _ := signature.Describe(s.Secret)
			if made, err = signature.NewSecret(kind); err != nil {
				return err
			}
		}
		until = c.life.Now().Add(r.Grace)
		old := engine.OldSecret{Secret: s.Secret, Until: until, Rotation: rotationKey(s.ID, r.Key)}
		if r.Grace == 0 {
			old.Secret = "" // it may have leaked, and signs nothing any more
		}
		s.Secret, s.OldSecrets = made, append([]engine.OldSecret{old}, liveSecrets(s.OldSecrets, c.life.Now())...)
		s.OldSecrets = s.OldSecrets[:min(len(s.OldSecrets), maxOldSecrets)]
		return nil
	})
	if err == errRotated {
		s, err = c.Subscription(account, id)
	}
	return s, until, err
}

var errRotated = errors.New("rotated already")

// rotated gives the secret that r brings along or asks for; empty where it depends on
// the one that is replaced.
func rotated(r Rotation) (string, error) {
	if r.Secret == "" {
		if r.Type == "" {
			return "", nil
		}
		secret, err := signature.NewSecret(r.Type)
		if err != nil {
			return "", engine.Invalid("secret_type", "%v", err)
		}
		return secret, nil
	}
	return r.Secret, CheckSecretType(r.Secret, r.Type) // its form is checked with the subscription's signatures
}

// CheckSecretType makes sure that a secret is of the type that is asked for; the empty
// type asks for none. Error: CodeInvalid.
func CheckSecretType(secret string, want signature.SecretType) error {
	if kind, _ := signature.Describe(secret); want != "" && want != kind {
		return engine.Invalid("secret_type", "is %.40q, but the secret given is of the type %q; leave one of the two out", string(want), string(kind))
	}
	return nil
}

// rotatedBefore tells whether s went through this rotation already. A lost answer must not
// cost a second secret, or the first of them its time.
func (c *Catalog) rotatedBefore(s *engine.Subscription, r Rotation) (until time.Time, done bool, err error) {
	if key := rotationKey(s.ID, r.Key); key != "" {
		for i, old := range s.OldSecrets {
			if old.Rotation != key {
				continue
			}
			if i > 0 || r.Secret != "" && r.Secret != s.Secret {
				return until, false, &engine.Error{Code: engine.CodeConflict, Field: "Idempotency-Key", Message: "names a rotation that was made before, and the secret is another one by now; use a new key"}
			}
			return old.Until, true, nil
		}
	}
	if r.Secret != s.Secret {
		return until, false, nil
	}
	if len(s.OldSecrets) > 0 {
		return s.OldSecrets[0].Until, true, nil
	}
	return c.life.Now(), true, nil
}

// rotationKey is how an idempotency key is kept.
func rotationKey(id engine.ID, key string) string {
	if key == "" {
		return ""
	}
	h := engine.HashParts("rotation", id.Format(engine.SubscriptionPrefix), key)
	return hex.EncodeToString(h[:])
}

// liveSecrets gives the old secrets that still sign at a time.
func liveSecrets(old []engine.OldSecret, at time.Time) (live []engine.OldSecret) {
	for _, o := range old {
		if o.Secret != "" && at.Before(o.Until) {
			live = append(live, o)
		}
	}
	return live
}

// pruneOldSecrets leaves of the old secrets of s those that still sign, and those that the
// change from old to s brought. A change that sets another secret without saying what
// becomes of the old ones ends them all.
func (c *Catalog) pruneOldSecrets(old, s *engine.Subscription) {
	if s.Secret != old.Secret && slices.Equal(s.OldSecrets, old.OldSecrets) {
		s.OldSecrets = nil
	}
	now := c.life.Now()
	s.OldSecrets = slices.DeleteFunc(s.OldSecrets, func(o engine.OldSecret) bool {
		return !now.Before(o.Until) && slices.Contains(old.OldSecrets, o)
	})
}

// OldSecrets gives the secrets of s that were replaced and still sign, the last replaced
// first.
func (c *Catalog) OldSecrets(s *engine.Subscription) []engine.OldSecret {
	return liveSecrets(s.OldSecrets, c.life.Now())
}
