package signature

import (
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"hash"
	"net/http"
	"strings"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

const (
	hmacSecret    = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	ed25519Secret = "whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbfVKIDij2HKpMKkioLlX0dRqSKJp4AJ6p9lMicMFs6Kvg=="
	ed25519Public = "whpk_1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4="
)

// settings is what a delivery is signed with.
type settings struct {
	secret  string
	old     []Old
	schemes []Scheme
}

// sealed signs body as a delivery with s.
func sealed(t *testing.T, s settings, id string, at time.Time, body string) map[string][]string {
	t.Helper()
	g, err := New(s.secret, s.schemes, s.old)
	if err != nil {
		t.Fatal(err)
	}
	h := http.Header{}
	g.Sign(h, id, at, []byte(body))
	return h
}

// plain makes h readable for http.Header.Get: the wire does not tell cases apart.
func plain(h http.Header) http.Header {
	got := http.Header{}
	for name, values := range h {
		got.Set(name, values[0])
	}
	return got
}

// The vectors that the Standard Webhooks libraries (v1) and Svix's server (v1a) test
// themselves with.
func TestSignatureVectors(t *testing.T) {
	for secret, want := range map[string]string{
		hmacSecret:    "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
		ed25519Secret: "v1a,hnO3f9T8Ytu9HwrXslvumlUpqtNVqkhqw/enGzPCXe5BdqzCInXqYXFymVJaA7AZdpXwVLPo3mNl8EM+m7TBAg==",
	} {
		at := time.Unix(1614265330, 0)
		h := sealed(t, settings{secret: secret}, "msg_p5jXN8AQM9LWM0D4loKWxJek", at, `{"test": 2432232314}`)
		if h["webhook-timestamp"][0] != "1614265330" || h["webhook-signature"][0] != want || h["webhook-id"][0] != "msg_p5jXN8AQM9LWM0D4loKWxJek" || len(h) != 3 {
			t.Errorf("%.6s: got %v", secret, h)
		}
		// Two at a time, the vector is among them.
		both := sealed(t, settings{secret: secret, old: []Old{{Secret: hmacSecret, Until: at.Add(time.Second)}}}, "msg_p5jXN8AQM9LWM0D4loKWxJek", at, `{"test": 2432232314}`)
		if list := strings.Split(both["webhook-signature"][0], " "); len(list) != 2 || list[0] != want || list[1] != "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=" {
			t.Errorf("%.6s: two secrets sign %v", secret, list)
		}
	}
	if kind, public := Describe(ed25519Secret); kind != Ed25519 || public != ed25519Public {
		t.Errorf("the public key is %s %s", kind, public)
	}
	if kind, public := Describe(hmacSecret); kind != HMAC || public != "" {
		t.Errorf("an HMAC secret shows %s %s", kind, public)
	}
}

func TestSignaturesVerify(t *testing.T) {
	for _, body := range []string{`{"a":1}`, "", "\x00\xff not UTF-8", strings.Repeat("x", 1<<20)} {
		shared, _ := NewSecret(HMAC)
		pair, _ := NewSecret(Ed25519)
		at := time.Now()
		s := settings{secret: pair, old: []Old{{Secret: shared, Until: at.Add(time.Hour)}}}
		g, err := New(s.secret, s.schemes, s.old)
		if err != nil {
			t.Fatal(err)
		}
		for range 3 { // the same keys again and again
			raw := http.Header{}
			g.Sign(raw, "evt_1", at, []byte(body))
			h := plain(raw)
			wh, _ := standardwebhooks.NewWebhook(shared)
			if err := wh.Verify([]byte(body), h); err != nil {
				t.Errorf("%.20q: v1: %v", body, err)
			}
			if wh.Verify([]byte(body+" "), h) == nil {
				t.Errorf("%.20q: v1: another body verifies too", body)
			}
			_, public := Describe(pair)
			if !verifiesEd25519(t, public, h, body) || verifiesEd25519(t, public, h, body+" ") {
				t.Errorf("%.20q: v1a is wrong", body)
			}
		}
	}
}

// verifiesEd25519 does what a receiver does that has nothing but the public key.
func verifiesEd25519(t *testing.T, public string, h http.Header, body string) bool {
	t.Helper()
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(public, "whpk_"))
	if err != nil || len(key) != ed25519.PublicKeySize {
		t.Fatal(public, err)
	}
	for one := range strings.SplitSeq(h.Get("webhook-signature"), " ") {
		encoded, ours := strings.CutPrefix(one, "v1a,")
		signature, err := base64.StdEncoding.DecodeString(encoded)
		if ours && err == nil && ed25519.Verify(key, []byte(h.Get("webhook-id")+"."+h.Get("webhook-timestamp")+"."+body), signature) {
			return true
		}
	}
	return false
}

func TestOldSecretsSignUntilTheirTimeIsOver(t *testing.T) {
	at := time.Unix(1614265330, 0)
	first, _ := NewSecret(HMAC)
	s := settings{secret: hmacSecret, old: []Old{{Secret: first, Until: at}, {Secret: "", Until: at.Add(time.Hour)}, {Secret: "damaged", Until: at.Add(time.Hour)}}}
	for _, c := range []struct {
		at   time.Time
		want int
	}{{at.Add(-time.Microsecond), 2}, {at, 1}, {at.Add(time.Hour), 1}} {
		if got := strings.Fields(sealed(t, s, "evt_1", c.at, "x")["webhook-signature"][0]); len(got) != c.want {
			t.Errorf("at %s: %d signatures, want %d", c.at, len(got), c.want)
		}
	}
}

func TestHookSignature(t *testing.T) {
	at := time.Unix(1614265330, 0)
	mac := hmac.New(sha256.New, []byte(hmacSecret))
	mac.Write([]byte(`{"a":1}`))
	want := hex.EncodeToString(mac.Sum(nil))
	old := []Old{{Secret: "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=", Until: at.Add(time.Hour)}}
	for _, c := range []struct {
		schemes  []Scheme
		standard int
		hook     string
	}{
		{nil, 2, ""},
		{[]Scheme{Standard}, 2, ""},
		{[]Scheme{Standard, Hook}, 2, want},
		{[]Scheme{Hook}, 0, want},
	} {
		h := plain(sealed(t, settings{secret: hmacSecret, old: old, schemes: c.schemes}, "evt_1", at, `{"a":1}`))
		if got := strings.Fields(h.Get("webhook-signature")); len(got) != c.standard || h.Get("X-Hook-Signature") != c.hook || h.Get("webhook-id") != "evt_1" || h.Get("webhook-timestamp") != "1614265330" {
			t.Errorf("%v: got %v", c.schemes, h)
		}
	}
}

// The body of an X-Hook-Signature is the publisher's to choose: it must not make a
// Standard Webhooks signature out of one.
func TestAHookSignatureIsNoStandardSignature(t *testing.T) {
	at := time.Now()
	forged := "evt_2." + at.Format("20060102") + ".{}"
	h := plain(sealed(t, settings{secret: hmacSecret, schemes: []Scheme{Hook}}, "evt_1", at, forged))
	raw, _ := hex.DecodeString(h.Get("X-Hook-Signature"))
	key, _ := base64.StdEncoding.DecodeString(strings.TrimPrefix(hmacSecret, "whsec_"))
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(forged))
	if hmac.Equal(mac.Sum(nil), raw) {
		t.Error("both signatures are made with one key")
	}
}

func TestSecretsThatAreRefused(t *testing.T) {
	pair, _ := base64.StdEncoding.DecodeString(strings.TrimPrefix(ed25519Secret, "whsk_"))
	other := append([]byte{}, pair...)
	other[63] ^= 1
	encode := func(b []byte) string { return "whsk_" + base64.StdEncoding.EncodeToString(b) }
	for secret, want := range map[string]string{
		"":                                 "must begin with",
		"MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw": "must begin with",
		ed25519Public:                      "must begin with",
		"whsec_???":                        "not base64",
		"whsec_MfKQ9r8GKYqrTwjUPD8I\nLPZIo2LaLaSw": "not base64",
		"whsec_c2hvcnQ=":                      "holds 5 bytes",
		"whsec_" + strings.Repeat("AAAA", 30): "holds 90 bytes",
		"whsk_???":                            "not base64",
		"whsk_":                               "holds 0 bytes",
		encode(pair[:32]):                     "holds 32 bytes",
		encode(append(pair[:64:64], 0)):       "holds 65 bytes",
		encode(other):                         "does not belong to its seed",
	} {
		if err := CheckSecret(secret, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.20q: got %v", secret, err)
		}
	}
	for _, list := range [][]Scheme{
		{"v1"}, {Standard, Standard}, {"X-A: {hmac-md5-hex}"}, {"X-A: {hmac-sha256}"}, {"X-A: {hmac-sha256-hex}{hmac-sha256-hex}"}, {"X-A: "}, {"X A: {hmac-sha256-hex}"},
		{"X-A: é{hmac-sha256-hex}"}, {": {hmac-sha256-hex}"}, {"X-A: {hmac-sha256-hex}", "x-a: {hmac-sha1-hex}"}, {Standard, "Webhook-Signature: {hmac-sha256-hex}"},
		{Scheme("X-A: " + strings.Repeat("x", 200) + "{hmac-sha256-hex}")}, {"X-1: {hmac-sha256-hex}", "X-2: {hmac-sha256-hex}", "X-3: {hmac-sha256-hex}", "X-4: {hmac-sha256-hex}", Standard},
	} {
		if CheckSchemes(list) == nil {
			t.Errorf("%v is allowed", list)
		}
	}
	if _, err := NewSecret("rsa"); err == nil {
		t.Error("a secret of an unknown type is made")
	}
}

// The values are those that each service's documentation, or openssl, gives for the body and
// secret.
func TestSign_HeadersOfReceivers(t *testing.T) {
	const secret, body = "It's a Secret to Everybody", "Hello, World!" // GitHub's documentation
	sum := func(of func() hash.Hash) []byte {
		mac := hmac.New(of, []byte(secret))
		mac.Write([]byte(body))
		return mac.Sum(nil)
	}
	for scheme, want := range map[Scheme]string{
		"X-Hub-Signature-256: sha256={hmac-sha256-hex}": "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17",
		"x-hub-signature-256:sha256={hmac-sha256-hex}":  "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17",
		"X-WC-Webhook-Signature: {hmac-sha256-base64}":  base64.StdEncoding.EncodeToString(sum(sha256.New)),
		"X-HelpScout-Signature: {hmac-sha1-base64}":     base64.StdEncoding.EncodeToString(sum(sha1.New)),
		"Webhook-Signature: {hmac-sha256-base64}":       base64.StdEncoding.EncodeToString(sum(sha256.New)),
		"X-Long: v=1, s={hmac-sha512-hex}, alg=HS512":   "v=1, s=" + hex.EncodeToString(sum(sha512.New)) + ", alg=HS512",
	} {
		g, err := New(secret, []Scheme{scheme}, []Old{{Secret: "other text", Until: time.Now().Add(time.Hour)}})
		if err != nil {
			t.Fatal(err)
		}
		name := scheme.HeaderName()
		for range 2 { // with the same HMAC again
			h := http.Header{strings.ToLower(name): {"forged"}, strings.ReplaceAll(name, "-", "_"): {"forged"}}
			g.Sign(h, "evt_1", time.Now(), []byte(body))
			if len(h) != 3 || len(h[name]) != 1 || h[name][0] != want {
				t.Errorf("%s: got %v", scheme, h)
			}
		}
	}
	for text, ok := range map[string]bool{
		"a text of the receiver's own": true, "12345678": true, "1234567": false, strings.Repeat("x", 257): false, "line\nbreak": false, "\xff\xff\xff\xff\xff\xff\xff\xff": false, "whsec_no base64": true, "whsk_no base64": false,
	} {
		if err := CheckSecret(text, []Scheme{Hook}); (err == nil) != ok {
			t.Errorf("%.20q: %v", text, err)
		}
	}
}
