package outbound

import "testing"

func TestCheckPublicURL_RejectsInvalid(t *testing.T) {
	for text, ok := range map[string]bool{
		"https://hooks.example.com": true, "http://127.0.0.1:8080": true, "https://example.com/hooks/": true, "": false, "hooks.example.com": false, "ftp://x": false,
		"https://u:p@x": false, "https://x?a": false, "https://x?": false, "https://x#a": false, "https://x#": false, "https://": false, "https://x/a b": false,
	} {
		if err := CheckPublicURL(text); (err == nil) != ok {
			t.Errorf("public URL %q: %v", text, err)
		}
	}
}
