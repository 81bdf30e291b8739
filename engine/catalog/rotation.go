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
	// maxGracePeriod is how long a replaced secret may still sign.
	maxGracePeriod = 30 * 24 * time.Hour
	// DefaultGracePeriod is the grace period of a rotation that names none.
	DefaultGracePeriod = 24 * time.Hour
	// maxOldSecrets limits the signatures of one delivery.
	maxOldSecrets = 5
)

// SignerOf returns the signer for the deliveries of s; the error is about its secret.
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

// validateSigning validates the secret and the signature schemes of s.
func validateSigning(s *engine.Subscription) (errs engine.FieldErrors) {
	if errs = validateSignatures(s.Signatures); errs != nil { // they decide what a secret may be
		return errs
	}
	if err := signature.CheckSecret(s.Secret, s.Signatures); err != nil {
		errs.Add("secret", engine.FieldInvalid, "%v", err)
	} else if kind, _ := signature.Describe(s.Secret); kind != signature.HMAC && signature.NeedsHMAC(s.Signatures) {
		errs.Add("signatures", engine.FieldConflict, `can't hold "x-hook-signature" or a header with an ed25519 secret: each of them is an HMAC; use "standard" alone, or a secret of the type "hmac"`)
	}
	return errs
}

func validateSignatures(list []signature.Scheme) (errs engine.FieldErrors) {
	if err := signature.CheckSchemes(list); err != nil {
		errs.Add("signatures", engine.FieldInvalid, "%v", err)
		return errs
	}
	for _, scheme := range list {
		name := scheme.HeaderName()
		if strings.EqualFold(name, signature.Standard.HeaderName()) || strings.EqualFold(name, signature.Hook.HeaderName()) {
			continue // a receiver may have its own form of these; CheckSchemes accepts one
		}
		if problem := CheckHeader(name, ""); problem != "" {
			errs.Add("signatures", engine.FieldInvalid, "%.140q %s", name, problem)
		}
	}
	return errs
}

// Rotation is the replacement of a secret with a grace period for receivers.
type Rotation struct {
	Secret string               // the new secret; empty: generate one
	Type   signature.SecretType // of a generated secret; empty: the type of the replaced one
	Grace  time.Duration        // how long the old secret still signs, 0 to maxGracePeriod
	Key    string               // an idempotency key: a repeat rotates nothing; may be empty
}

// RotateSecret replaces the secret of a subscription of an account, or of any if account is empty;
// the old secret also signs until the returned time. A repeat with the same Rotation.Key or the
// current secret changes nothing and returns the same result. Errors: CodeInvalid, CodeNotFound,
// CodeConflict, CodeStale, CodeUnavailable.
func (ed *SubscriptionEditor) RotateSecret(ctx context.Context, account string, id engine.ID, version int64, r Rotation) (s *engine.Subscription, until time.Time, err error) {
	if r.Grace < 0 || r.Grace > maxGracePeriod {
		return nil, until, engine.InvalidField("grace_period", engine.FieldOutOfRange, "is %s, must be 0s to %s (30 days)", r.Grace, maxGracePeriod)
	}
	if !engine.ValidKey(r.Key) {
		return nil, until, engine.Invalid("Idempotency-Key", "must be 1 to %d visible ASCII characters", engine.MaxEventKey)
	}
	secret, err := rotated(r)
	if err != nil {
		return nil, until, err
	}
	if s, err = ed.subs.Subscription(account, id); err != nil {
		return nil, until, err
	}
	if until, done, err := ed.rotatedBefore(s, r); done || err != nil { // a repeat, whatever version is expected
		return s, until, err
	}
	s, err = ed.UpdateSubscription(withoutLimit(ctx), account, id, version, func(s *engine.Subscription) (err error) {
		done := false
		if until, done, err = ed.rotatedBefore(s, r); done {
			return errRotated // by the same request, a moment ago: nothing to change
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
		until = ed.life.Now().Add(r.Grace)
		old := engine.OldSecret{Secret: s.Secret, Until: until, Rotation: rotationKey(s.ID, r.Key)}
		if r.Grace == 0 {
			old.Secret = "" // it may have leaked, and no longer signs
		}
		s.Secret, s.OldSecrets = made, append([]engine.OldSecret{old}, liveSecrets(s.OldSecrets, ed.life.Now())...)
		s.OldSecrets = s.OldSecrets[:min(len(s.OldSecrets), maxOldSecrets)]
		return nil
	})
	if err == errRotated {
		s, err = ed.subs.Subscription(account, id)
	}
	return s, until, err
}

var errRotated = errors.New("rotated already")

// rotated returns the secret that r contains or generates; empty if it depends on the replaced one.
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
	return r.Secret, CheckSecretType(r.Secret, r.Type) // its form is validated with the subscription's signatures
}

// CheckSecretType checks that a secret is of the requested type; the empty type accepts any. Error:
// CodeInvalid.
func CheckSecretType(secret string, want signature.SecretType) error {
	if kind, _ := signature.Describe(secret); want != "" && want != kind {
		return engine.InvalidField("secret_type", engine.FieldConflict, "is %.40q, but the secret given is of the type %q; leave one of the two out", string(want), string(kind))
	}
	return nil
}

// rotatedBefore reports whether s went through this rotation already. A lost response must not
// cause a second secret or shorten the grace period of the first.
func (ed *SubscriptionEditor) rotatedBefore(s *engine.Subscription, r Rotation) (until time.Time, done bool, err error) {
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
	return ed.life.Now(), true, nil
}

// rotationKey returns the stored form of an idempotency key.
func rotationKey(id engine.ID, key string) string {
	if key == "" {
		return ""
	}
	h := engine.HashParts("rotation", id.Format(engine.SubscriptionPrefix), key)
	return hex.EncodeToString(h[:])
}

// liveSecrets returns the old secrets that still sign at a time.
func liveSecrets(old []engine.OldSecret, at time.Time) (live []engine.OldSecret) {
	for _, o := range old {
		if o.Secret != "" && at.Before(o.Until) {
			live = append(live, o)
		}
	}
	return live
}

// pruneOldSecrets removes the old secrets of s that no longer sign, except those that the change
// from old to s added. A change that sets another secret without naming old ones ends them all.
func (ed *SubscriptionEditor) pruneOldSecrets(old, s *engine.Subscription) {
	if s.Secret != old.Secret && slices.Equal(s.OldSecrets, old.OldSecrets) {
		s.OldSecrets = nil
	}
	now := ed.life.Now()
	s.OldSecrets = slices.DeleteFunc(s.OldSecrets, func(o engine.OldSecret) bool {
		return !now.Before(o.Until) && slices.Contains(old.OldSecrets, o)
	})
}

// OldSecrets returns the replaced secrets of s that still sign, the last replaced first.
func (reg *SubscriptionRegistry) OldSecrets(s *engine.Subscription) []engine.OldSecret {
	return liveSecrets(s.OldSecrets, reg.life.Now())
}
