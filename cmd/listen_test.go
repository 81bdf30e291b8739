package cmd

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"switchhook/engine/testkit"
	"sync"
	"syscall"
	"testing"
)

func TestSendAndListen(t *testing.T) {
	t.Parallel()
	p := serve(t, t.TempDir())
	l := command("listen", "--addr", "127.0.0.1:0", "--server", p.api.URL, "--key", testKey, "--subscribe", "order.*", "--filter", "data.n > 1", "--headers")
	stdout, err := l.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Start(); err != nil {
		t.Fatal(err)
	}
	defer l.Process.Kill()
	var mu sync.Mutex
	var printed strings.Builder
	read := make(chan struct{})
	go func() {
		defer close(read)
		for lines := bufio.NewScanner(stdout); lines.Scan(); {
			mu.Lock()
			fmt.Fprintln(&printed, lines.Text())
			mu.Unlock()
		}
	}()
	shows := func(want string) {
		t.Helper()
		testkit.WaitFor(t, "listen prints "+want, func() bool {
			mu.Lock()
			defer mu.Unlock()
			return strings.Contains(printed.String(), want)
		})
	}
	shows("subscribed to order.*")

	send := func(stdin string, args ...string) string {
		t.Helper()
		c := command(append([]string{"send", "--server", p.api.URL, "--key", testKey}, args...)...)
		c.Stdin = strings.NewReader(stdin)
		out, err := c.CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return string(out)
	}
	if out := send("", "order.created", `{"n":1}`); !strings.Contains(out, "matched 0 subscriptions") {
		t.Error(out)
	}
	if out := send("", "order.created", `{"n":2}`); !strings.Contains(out, "matched 1 subscription") {
		t.Error(out)
	}
	shows("signature ok")
	shows(`"n": 2`)
	var lines strings.Builder
	for i := range 450 {
		fmt.Fprintf(&lines, `{"type":"order.paid","data":{"n":%d}}`+"\n\n", 1000+i)
	}
	if out := send(lines.String(), "--file", "-"); !strings.Contains(out, "accepted 450 events, matched 450 subscriptions") {
		t.Error(out)
	}
	shows(`"n": 1449`)

	bad := command("send", "--server", p.api.URL, "--key", testKey, "--file", "-")
	bad.Stdin = strings.NewReader("{\"type\":\"a.b\",\"data\":1}\n{\"type\":\n")
	if out, err := bad.CombinedOutput(); err == nil || !strings.Contains(string(out), "line 2") {
		t.Errorf("%v %s", err, out)
	}

	l.Process.Signal(syscall.SIGTERM)
	<-read
	if err := l.Wait(); err != nil {
		t.Error(err)
	}
	shows("deleted the subscription")
	var left struct{ Data []json.RawMessage }
	if err := p.api.call(context.Background(), http.MethodGet, "/api/v1/subscriptions", nil, &left); err != nil || len(left.Data) != 0 {
		t.Errorf("%v, %d subscriptions left", err, len(left.Data))
	}
}

func TestListen_AnyAddressSubscribesReachableURL(t *testing.T) {
	r, err := startReceiver("0.0.0.0:0", func(received) int { return http.StatusOK })
	if err != nil {
		t.Fatal(err)
	}
	defer r.close()
	if !strings.HasPrefix(r.url(), "http://127.0.0.1:") {
		t.Error(r.url())
	}
}
