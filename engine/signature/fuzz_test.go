package signature

import "testing"

func FuzzSecret(f *testing.F) {
	for _, seed := range []string{
		"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbfVKIDij2HKpMKkioLlX0dRqSKJp4AJ6p9lMicMFs6Kvg==", "whpk_1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4=",
		"whsec_", "whsk_", "whsec_====", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, secret string) {
		key, invalid := parse(secret)
		if key == nil && invalid == nil {
			t.Fatalf("%q is no key and no error", secret)
		}
		if invalid == nil {
			if kind, _ := Describe(secret); kind == "" {
				t.Errorf("%q is a key of no kind", secret)
			}
		}
	})
}
