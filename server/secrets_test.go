package server_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"strings"
	"testing"
	"time"
)

const (
	pairSecret = "whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbfVKIDij2HKpMKkioLlX0dRqSKJp4AJ6p9lMicMFs6Kvg=="
	pairPublic = "whpk_1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4="
	ownSecret  = "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="
)

func TestSecrets_Types(t *testing.T) {
	c := start(t).acme
	make := func(more map[string]any) *answer {
		more["event"], more["target_url"] = "a", anywhere
		return c.post("/api/v1/subscriptions?allow_duplicates=true", more)
	}
	make(map[string]any{}).want(201).shows(map[string]any{"secret_type": "hmac", "public_key": nil, "signatures": "[standard]"})
	make(map[string]any{"secret_type": "hmac"}).want(201).shows(map[string]any{"secret_type": "hmac"})
	made := make(map[string]any{"secret_type": "ed25519"}).want(201).shows(map[string]any{"secret_type": "ed25519"})
	path := "/api/v1/subscriptions/" + made.text("id")
	if !strings.HasPrefix(made.text("secret"), "whsk_") {
		t.Errorf("the secret is %s", made.text("secret"))
	}
	c.get(path).want(200).shows(map[string]any{"secret": nil, "public_key": made.text("public_key")})
	c.get(path + "/secret").want(200).shows(map[string]any{"secret": made.text("secret"), "secret_type": "ed25519", "public_key": made.text("public_key"), "old_secrets": "[]"})
	make(map[string]any{"secret": pairSecret}).want(201).shows(map[string]any{"secret": pairSecret, "public_key": pairPublic})
	make(map[string]any{"secret": pairSecret, "secret_type": "ed25519", "signatures": []string{"standard"}}).want(201)

	make(map[string]any{"secret": pairSecret, "secret_type": "hmac"}).refused(422, "secret_type", "leave one of the two out")
	make(map[string]any{"secret_type": "rsa"}).refused(422, "secret_type", `use "hmac" or "ed25519"`)
	make(map[string]any{"secret": strings.Replace(pairSecret, "Kvg", "Kvh", 1)}).refused(422, "secret", "")
	make(map[string]any{"secret": strings.Replace(pairSecret, "6Xb", "6Xc", 1)}).refused(422, "secret", "does not belong to its seed")
	make(map[string]any{"secret_type": "ed25519", "signatures": []string{"standard", "x-hook-signature"}}).refused(422, "signatures", "is an HMAC")
	make(map[string]any{"signatures": []string{"sha1"}}).refused(422, "signatures", `use "standard"`)
	make(map[string]any{"signatures": "standard"}).refused(422, "signatures", "must be a list")
	make(map[string]any{"signatres": []string{"standard"}}).refused(422, "signatres", `did you mean "signatures"`)

	c.do("PATCH", path, `{"secret_type":"ed25519"}`).want(200)
	c.do("PATCH", path, `{"secret_type":"hmac"}`).refused(422, "secret_type", "rotate-secret")
	c.do("PATCH", path, `{"signatures":["x-hook-signature"]}`).refused(422, "signatures", "is an HMAC")
	c.do("PUT", path, string(c.get(path).body)).want(200).shows(map[string]any{"secret_type": "ed25519", "public_key": made.text("public_key")})
}

// A client sets its own secret, and verifies its own signature header.
func TestSignatures_ClientSecretAndHeader(t *testing.T) {
	c := start(t).acme
	hook := receive(t, nil)
	const secret = "a9f1c0de5ec4e7"
	make := func(more map[string]any) *answer {
		more["event"], more["target_url"] = "a", hook.URL
		return c.post("/api/v1/subscriptions?allow_duplicates=true", more)
	}
	make(map[string]any{"secret": secret}).refused(422, "secret", `set signatures to what the receiver checks`)
	make(map[string]any{"secret": secret, "signatures": []string{"standard", "x-hook-signature"}}).refused(422, "secret", `"standard"`)
	make(map[string]any{"secret": "short", "signatures": []string{"x-hook-signature"}}).refused(422, "secret", "is 5 bytes, must be 8 to 256")
	make(map[string]any{"signatures": []string{"Content-Length: {hmac-sha256-hex}"}}).refused(422, "signatures", "is set by the router")
	make(map[string]any{"signatures": []string{"Webhook-Id: {hmac-sha256-hex}"}}).refused(422, "signatures", "is set by the router")
	make(map[string]any{"signatures": []string{"X-A: {hmac-md5-hex}"}}).refused(422, "signatures", "{hmac-sha256-hex}")
	made := make(map[string]any{"secret": secret, "signatures": []string{"X-WC-Webhook-Signature: {hmac-sha256-base64}"}}).want(201)
	made.shows(map[string]any{"secret": secret, "secret_type": "hmac", "signatures": "[X-WC-Webhook-Signature: {hmac-sha256-base64}]"})
	path := "/api/v1/subscriptions/" + made.text("id")
	verify := func(got received, secret string) {
		t.Helper()
		mac := hmac.New(sha256.New, []byte(secret))
		mac.Write([]byte(got.body))
		if got.header.Get("X-WC-Webhook-Signature") != base64.StdEncoding.EncodeToString(mac.Sum(nil)) || got.header.Get("webhook-signature") != "" {
			t.Errorf("the target got %v", got.header)
		}
	}
	c.publish("a", map[string]any{"x": 1})
	verify(hook.wait(t, 1)[0], secret)
	c.get(path + "/secret").want(200).shows(map[string]any{"secret": secret})
	c.do("PUT", path, map[string]any{"signatures": []string{"standard"}}).refused(422, "secret", "must begin with")
	c.do("PATCH", path, map[string]any{"secret": secret + "2"}).want(200)
	c.post(path+"/rotate-secret", map[string]any{"secret": secret + "3", "grace_period": "1h"}).want(200).shows(map[string]any{"secret": secret + "3"})
	c.publish("a", map[string]any{"x": 2})
	verify(hook.wait(t, 2)[1], secret+"3")
	made = c.post(path+"/rotate-secret", nil).want(200)
	c.publish("a", map[string]any{"x": 3})
	verify(hook.wait(t, 3)[2], made.text("secret"))
	c.post(path+"/rotate-secret", map[string]any{"secret": "x"}).refused(422, "secret", "is 1 bytes")
}

func TestSignatures_XHookSignature(t *testing.T) {
	c := start(t).acme
	hook := receive(t, nil)
	path := "/api/v1/subscriptions/" + c.subscribe("a", hook.URL, map[string]any{"secret": ownSecret, "signatures": []string{"standard", "x-hook-signature"}})
	c.publish("a", map[string]any{"x": 1})
	got := hook.wait(t, 1)[0]
	mac := hmac.New(sha256.New, []byte(ownSecret)) // the text that the receiver was given
	mac.Write([]byte(got.body))
	if got.header.Get("X-Hook-Signature") != hex.EncodeToString(mac.Sum(nil)) || !strings.HasPrefix(got.header.Get("webhook-signature"), "v1,") {
		t.Errorf("the target got %v", got.header)
	}
	c.do("PATCH", path, `{"signatures":["x-hook-signature"]}`).want(200).shows(map[string]any{"signatures": "[x-hook-signature]"})
	c.publish("a", 2)
	if h := hook.wait(t, 2)[1].header; h.Get("webhook-signature") != "" || h.Get("X-Hook-Signature") == "" {
		t.Errorf("the target got %v", h)
	}
	c.do("PATCH", path, `{"signatures":null}`).want(200).shows(map[string]any{"signatures": "[standard]"})
}

func TestSecrets_RotationOverlap(t *testing.T) {
	r := start(t)
	c, hook := r.acme, receive(t, nil)
	made := c.post("/api/v1/subscriptions", map[string]any{"event": "a", "target_url": hook.URL, "secret": ownSecret}).want(201)
	path := "/api/v1/subscriptions/" + made.text("id")
	before := time.Now()
	rotated := c.post(path+"/rotate-secret", `{"secret_type":"ed25519","grace_period":"2h"}`).want(200).shows(map[string]any{"secret_type": "ed25519"})
	if rotated.header.Get("Cache-Control") != "no-store" || rotated.header.Get("ETag") == made.header.Get("ETag") {
		t.Errorf("headers %v", rotated.header)
	}
	until, err := time.Parse(time.RFC3339, rotated.text("old_secret_until"))
	if err != nil || until.Before(before.Add(2*time.Hour-time.Second)) || until.After(time.Now().Add(2*time.Hour)) {
		t.Errorf("the old secret signs until %s", until)
	}
	c.get(path + "/secret").want(200).shows(map[string]any{
		"secret": rotated.text("secret"), "public_key": rotated.text("public_key"),
		"old_secrets.0.secret": ownSecret, "old_secrets.0.secret_type": "hmac", "old_secrets.0.until": rotated.text("old_secret_until"),
	})
	if a := c.get(path).want(200); strings.Contains(string(a.body), "whsec_") || strings.Contains(string(a.body), "whsk_") {
		t.Errorf("the subscription shows a secret: %s", a.body)
	}
	if log := r.admin.get("/api/v1/audit?account=acme").want(200); strings.Contains(string(log.body), "whsec_") || strings.Contains(string(log.body), "whsk_") || !strings.Contains(string(log.body), "old_secrets") {
		t.Errorf("the audit log tells %s", log.body)
	}
	c.publish("a", 1)
	signatures := strings.Fields(hook.wait(t, 1)[0].header.Get("webhook-signature"))
	if len(signatures) != 2 || !strings.HasPrefix(signatures[0], "v1a,") || !strings.HasPrefix(signatures[1], "v1,") {
		t.Errorf("the delivery is signed %v", signatures)
	}
	// A secret that is set, not rotated, replaces the old one at once.
	c.do("PATCH", path, map[string]any{"secret": pairSecret}).want(200)
	c.get(path + "/secret").want(200).shows(map[string]any{"secret": pairSecret, "old_secrets": "[]"})
	c.publish("a", 2)
	if got := strings.Fields(hook.wait(t, 2)[1].header.Get("webhook-signature")); len(got) != 1 {
		t.Errorf("the delivery is signed %v", got)
	}
	c.post(path+"/rotate-secret", nil).want(200).shows(map[string]any{"secret_type": "ed25519"}) // as the one before

	for body, field := range map[string]string{
		`{"grace_period":"721h"}`: "grace_period", `{"grace_period":"-1s"}`: "grace_period", `{"grace_period":"soon"}`: "grace_period", `{"grace":"1h"}`: "grace", `{"secret":"x"}`: "secret",
		`{"secret_type":"rsa"}`: "secret_type", `{"secret":"` + ownSecret + `","secret_type":"ed25519"}`: "secret_type", `{"gracePeriod":"1h"}`: "gracePeriod",
	} {
		c.post(path+"/rotate-secret", body).refused(422, field, "")
	}
	c.do("PATCH", path, map[string]any{"secret": ownSecret, "signatures": []string{"x-hook-signature"}}).want(200)
	c.post(path+"/rotate-secret", `{"secret_type":"ed25519"}`).refused(422, "signatures", "is an HMAC")
	c.post(path+"/rotate-secret", `{}`, "If-Match", `"1"`).refused(412, "", "read it again")
}

func TestSecrets_RotationIsIdempotent(t *testing.T) {
	c := start(t).acme
	path := "/api/v1/subscriptions/" + c.subscribe("a", anywhere, map[string]any{"secret": ownSecret})
	tag := c.get(path).header.Get("ETag")
	for _, grace := range []string{"1h", "0s"} {
		first := c.post(path+"/rotate-secret", `{"grace_period":"`+grace+`"}`, "Idempotency-Key", "k"+grace, "If-Match", tag).want(200)
		again := c.post(path+"/rotate-secret", `{"grace_period":"`+grace+`"}`, "Idempotency-Key", "k"+grace, "If-Match", tag).want(200)
		if string(first.body) != string(again.body) || first.header.Get("ETag") != again.header.Get("ETag") {
			t.Errorf("first %s, then %s", first.body, again.body)
		}
		tag = first.header.Get("ETag")
	}
	c.get(path + "/secret").want(200).shows(map[string]any{"old_secrets.0.secret": ownSecret, "old_secrets.1": nil})
	c.post(path+"/rotate-secret", nil, "Idempotency-Key", "k1h").refused(409, "Idempotency-Key", "use a new key")
	c.post(path+"/rotate-secret", nil, "Idempotency-Key", "ü").refused(422, "Idempotency-Key", "")
	// Setting the current secret again is not a rotation.
	own := map[string]any{"secret": pairSecret}
	first := c.post(path+"/rotate-secret", own).want(200)
	if again := c.post(path+"/rotate-secret", own).want(200); string(again.body) != string(first.body) {
		t.Errorf("first %s, then %s", first.body, again.body)
	}
	for range 7 {
		c.post(path+"/rotate-secret", nil).want(200)
	}
	if n := len(c.get(path + "/secret").want(200).at("old_secrets").([]any)); n != 5 {
		t.Errorf("%d old secrets are kept", n)
	}
}
