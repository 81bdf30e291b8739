package engine

import (
	"fmt"
	"net/http"
	"testing"
	"time"
)

// BenchmarkSign signs a delivery of 500 bytes and sets its headers.
func BenchmarkSign(b *testing.B) {
	body := make([]byte, 500)
	at := time.Unix(1614265330, 0)
	for _, kind := range []SecretType{SecretHMAC, SecretEd25519} {
		for _, old := range []int{0, 1} {
			b.Run(fmt.Sprintf("%s/%d-old", kind, old), func(b *testing.B) {
				s := &Subscription{}
				s.Secret, _ = NewSecret(kind)
				for range old {
					secret, _ := NewSecret(kind)
					s.OldSecrets = append(s.OldSecrets, OldSecret{Secret: secret, Until: at.Add(time.Hour)})
				}
				g, err := newSigner(s)
				if err != nil {
					b.Fatal(err)
				}
				h := http.Header{}
				b.ReportAllocs()
				for b.Loop() {
					g.seal(h, "evt_01h2xcejqtf2n", at, body)
				}
			})
		}
	}
}
