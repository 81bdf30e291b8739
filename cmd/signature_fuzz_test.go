package cmd

import (
	"crypto/ed25519"
	"encoding/base64"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

// FuzzSignature checks that only the valid signature is accepted, whatever the other
// headers contain.
func FuzzSignature(f *testing.F) {
	const body = `{"type":"a"}`
	const secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	wh, err := standardwebhooks.NewWebhook(secret)
	if err != nil {
		f.Fatal(err)
	}
	private := ed25519.NewKeyFromSeed([]byte(strings.Repeat("k", ed25519.SeedSize)))
	public := "whpk_" + base64.StdEncoding.EncodeToString(private.Public().(ed25519.PublicKey))
	// The valid signature of each secret.
	right := map[string]func(id, timestamp string) string{
		secret: func(id, timestamp string) string {
			seconds, err := strconv.ParseInt(timestamp, 10, 64)
			if err != nil {
				return ""
			}
			signature, err := wh.Sign(id, time.Unix(seconds, 0), []byte(body))
			if err != nil {
				f.Fatal(err)
			}
			return signature
		},
		public: func(id, timestamp string) string {
			return "v1a," + base64.StdEncoding.EncodeToString(ed25519.Sign(private, []byte(id+"."+timestamp+"."+body)))
		},
	}
	now := strconv.FormatInt(time.Now().Unix(), 10)
	hmac, asymmetric := right[secret]("evt_1", now), right[public]("evt_1", now)
	for _, seed := range []string{"", "v1,", "v1a,", "v1", ",", " ", "v2,x " + hmac, hmac + " " + asymmetric, strings.ToUpper(hmac), hmac + "=", "v1," + asymmetric[4:], "v1a,====", "v1,\x00"} {
		f.Add("evt_1", now, seed)
	}
	f.Add("", now, hmac)
	f.Add("evt_1", "", hmac)
	f.Add("evt_1", "-1", hmac)
	f.Add("evt_1", "99999999999999999999", asymmetric)
	f.Fuzz(func(t *testing.T, id, timestamp, signature string) {
		header := http.Header{}
		header.Set("webhook-id", id)
		header.Set("webhook-timestamp", timestamp)
		header.Set("webhook-signature", signature)
		for secret, sign := range right {
			var r receiver
			r.setSecret(secret)
			if r.verify([]byte(body), header) == nil {
				if want := sign(id, timestamp); want == "" || !strings.Contains(signature, want) {
					t.Errorf("%.12s… takes %q, %q, %q", secret, id, timestamp, signature)
				}
			}
			if r.verify([]byte(body+" "), header) == nil {
				t.Errorf("%.12s…: another body passes", secret)
			}
		}
	})
}
