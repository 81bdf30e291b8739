package outbound

import "testing"

func TestCheckPublicURL_RejectsInvalid(t *testing.T) {
	cases := []struct {
		text string
		ok   bool
	}{
		{"https://hooks.example.com", true}, {"http://127.0.0.1:8080", true}, {"https://example.com/hooks/", true}, {"", false}, {"hooks.example.com", false}, {"ftp://x", false},
		{"https://u:p@x", false}, {"https://x?a", false}, {"https://x?", false}, {"https://x#a", false}, {"https://x#", false}, {"https://", false}, {"https://x/a b", false},
	}
	for _, c := range cases {
		if err := CheckPublicURL(c.text); (err == nil) != c.ok {
			t.Errorf("public URL %q: %v", c.text, err)
		}
	}
}
