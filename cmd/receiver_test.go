package cmd

import (
	"crypto/ed25519"
	"encoding/base64"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"switchhook/engine/signature"
)

func TestReceiver_VerifiesEd25519(t *testing.T) {
	secret, err := signature.NewSecret(signature.Ed25519)
	if err != nil {
		t.Fatal(err)
	}
	_, public := signature.Describe(secret)
	raw, _ := base64.StdEncoding.DecodeString(strings.TrimPrefix(secret, "whsk_"))
	delivery := func(at time.Time, body string) http.Header {
		h := http.Header{}
		h.Set("webhook-id", "evt_1")
		h.Set("webhook-timestamp", fmt.Sprint(at.Unix()))
		signature := ed25519.Sign(raw, fmt.Appendf(nil, "evt_1.%d.%s", at.Unix(), body))
		h.Set("webhook-signature", "v1,AAAA v1a,"+base64.StdEncoding.EncodeToString(signature))
		return h
	}
	for _, given := range []string{secret, public} {
		r := &receiver{}
		r.setSecret(given)
		good := delivery(time.Now(), "x")
		if err := r.verify([]byte("x"), good); err != nil {
			t.Errorf("%.5s: %v", given, err)
		}
		for _, c := range []struct {
			what string
			h    http.Header
		}{
			{"no v1a signature", delivery(time.Now(), "y")}, {"off by", delivery(time.Now().Add(-time.Hour), "x")}, {"missing", http.Header{}},
		} {
			if err := r.verify([]byte("x"), c.h); err == nil || !strings.Contains(err.Error(), c.what) {
				t.Errorf("%.5s: want %q, got %v", given, c.what, err)
			}
		}
	}
	for _, given := range []string{"", "whpk_AAAA", "whsk_", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"} {
		if publicKey(given) != nil {
			t.Errorf("%q is taken for an ed25519 key", given)
		}
	}
}

func TestServe_RefusesUnusablePublicURL(t *testing.T) {
	good := serveCommand{
		MaxBody: 1 << 20, InFlight: 1, SubscriptionInFlight: 1, Timeout: time.Second, Retries: []time.Duration{0},
		DrainTime: time.Second, SkinnyTokenTTL: time.Hour, CloudEventsSource: "/switchhook", WebhookOrigin: "switchhook",
	}
	for _, tc := range []struct {
		want   string
		change func(*serveCommand)
	}{
		{"", func(c *serveCommand) { c.PublicURL = "https://hooks.example.com/router" }},
		{"--public-url: ", func(c *serveCommand) { c.PublicURL = "hooks.example.com" }},
		{"--cloudevents-source: ", func(c *serveCommand) { c.CloudEventsSource = "a b" }},
	} {
		c := good
		tc.change(&c)
		_, err := c.config()
		if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.HasPrefix(err.Error(), tc.want)) {
			t.Errorf("want %q, got %v", tc.want, err)
		}
	}
}
