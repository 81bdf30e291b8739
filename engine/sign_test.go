package engine

import (
	"net/http"
	"strings"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

// The vector that the Standard Webhooks libraries test themselves with.
func TestSignatureVector(t *testing.T) {
	key, err := secretKey("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
	if err != nil {
		t.Fatal(err)
	}
	timestamp, signature := sign(key, "msg_p5jXN8AQM9LWM0D4loKWxJek", time.Unix(1614265330, 0), []byte(`{"test": 2432232314}`))
	if timestamp != "1614265330" || signature != "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=" {
		t.Errorf("got %s %s", timestamp, signature)
	}
}

func TestSignaturesVerifyWithTheStandardLibrary(t *testing.T) {
	for _, body := range []string{`{"a":1}`, "", "\x00\xff not UTF-8", strings.Repeat("x", 1<<20)} {
		secret := newSecret()
		key, err := secretKey(secret)
		if err != nil {
			t.Fatal(err)
		}
		timestamp, signature := sign(key, "evt_1", time.Now(), []byte(body))
		wh, _ := standardwebhooks.NewWebhook(secret)
		h := http.Header{}
		h.Set("webhook-id", "evt_1")
		h.Set("webhook-timestamp", timestamp)
		h.Set("webhook-signature", signature)
		if err := wh.Verify([]byte(body), h); err != nil {
			t.Errorf("%.20q: %v", body, err)
		}
		if wh.Verify([]byte(body+" "), h) == nil {
			t.Errorf("%.20q: another body verifies too", body)
		}
	}
}

func TestSecretsThatAreRefused(t *testing.T) {
	for secret, want := range map[string]string{
		"":                                    "must begin with",
		"MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw":    "must begin with",
		"whsec_???":                           "not base64",
		"whsec_c2hvcnQ=":                      "holds 5 bytes",
		"whsec_" + strings.Repeat("AAAA", 30): "holds 90 bytes",
	} {
		if _, err := secretKey(secret); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.20q: got %v", secret, err)
		}
	}
}
