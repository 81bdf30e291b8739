package signature

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
	for _, kind := range []SecretType{HMAC, Ed25519} {
		for _, old := range []int{0, 1} {
			b.Run(fmt.Sprintf("%s/%d-old", kind, old), func(b *testing.B) {
				secret, _ := NewSecret(kind)
				var replaced []Old
				for range old {
					secret, _ := NewSecret(kind)
					replaced = append(replaced, Old{Secret: secret, Until: at.Add(time.Hour)})
				}
				g, err := New(secret, nil, replaced)
				if err != nil {
					b.Fatal(err)
				}
				h := http.Header{}
				b.ReportAllocs()
				for b.Loop() {
					g.Sign(h, "evt_01h2xcejqtf2n", at, body)
				}
			})
		}
	}
}
