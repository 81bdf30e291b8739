package examples_test

import (
	"encoding/json"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"switchhook/engine/testkit"
	"testing"
)

// TestSender_BothDeliveryPaths runs the programs as their READMEs say: one receiver is
// configured in the sender, one subscribes at a router by itself.
func TestSender_BothDeliveryPaths(t *testing.T) {
	t.Parallel()
	switchhook := buildProgram(t, "switchhook")
	receiver := buildProgram(t, "./receiver")
	sender := buildProgram(t, "./sender")
	folder, router := t.TempDir(), testkit.FreeAddress(t)

	start(t, folder, nil, switchhook, "serve", "--dev", "--listen", router).shows(t, "INF listening")
	key := strings.TrimSpace(string(read(t, filepath.Join(folder, "switchhook-data", "admin.key"))))

	const secret = "whsec_c3dpdGNoaG9vay1leGFtcGxlLXNlY3JldA=="
	told := start(t, folder, nil, receiver, "-addr", "127.0.0.1:0", "-secret", secret)
	told.shows(t, "subscription none")
	subscribed := start(t, folder, []string{"SWITCHHOOK_KEY=" + key}, receiver, "-addr", "127.0.0.1:0", "-subscribe", "http://"+router)
	subscribed.shows(t, "subscription sub_")

	_, url, _ := strings.Cut(told.text(), "receiving on ")
	url, _, _ = strings.Cut(url, "\n")
	config := filepath.Join(folder, "config.json")
	text, err := json.Marshal(map[string]any{
		"webhooks":   []any{map[string]string{"url": url, "secret": secret}},
		"switchhook": map[string]string{"url": "http://" + router, "key": key},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(config, text, 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(sender, "-config", config, "order.created", `{"id": 1001, "total": 129.5}`).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "204") || !strings.Contains(string(out), "1 subscriptions get it") {
		t.Fatalf("%v\n%s", err, out)
	}
	told.shows(t, "received msg_")
	subscribed.shows(t, "received evt_")
	for _, p := range []*program{told, subscribed} {
		p.shows(t, `"type":"order.created"`)
		if strings.Contains(p.text(), "refused") {
			t.Error(p.text())
		}
	}

	var list struct{ Data []struct{ ID string } }
	get(t, "http://"+router+"/api/v1/subscriptions", key, &list)
	if len(list.Data) != 1 {
		t.Errorf("%d subscriptions, wanted one", len(list.Data))
	}
	subscribed.stop(t)
	get(t, "http://"+router+"/api/v1/subscriptions", key, &list)
	if len(list.Data) != 0 {
		t.Error("the receiver has left its subscription behind")
	}
	told.stop(t)
	if out, err := exec.Command(sender, "-config", config, "order.created", `{}`).CombinedOutput(); err == nil {
		t.Errorf("the sender does not say that a receiver is down:\n%s", out)
	}
}

func TestReceiver_HelpHidesSecrets(t *testing.T) {
	t.Parallel()
	receiver := buildProgram(t, "./receiver")
	used, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer used.Close()
	for _, c := range []struct{ flags, want string }{
		{"-h", "by default $SWITCHHOOK_KEY"},
		{"-addr=" + used.Addr().String(), "is in use: is another receiver running already? -addr gives another address"},
		{"-addr=127.0.0.1", "is not an address with a port"},
	} {
		cmd := exec.Command(receiver, c.flags)
		cmd.Env = append(os.Environ(), "SWITCHHOOK_KEY=hidden-key", "WEBHOOK_SECRET=whsec_aGlkZGVu")
		out, _ := cmd.CombinedOutput()
		if text := string(out); !strings.Contains(text, c.want) || strings.Contains(text, "hidden-key") || strings.Contains(text, "whsec_aGlk") {
			t.Errorf("%s: %s", c.flags, text)
		}
	}
}
