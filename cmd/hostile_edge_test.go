package cmd

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"switchhook/server/api"
)

// dialFrom connects to the router from another address of this machine.
func (w *hostileWorld) dialFrom(ctx context.Context, from string) (net.Conn, error) {
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	return dialer.DialContext(ctx, "tcp", strings.TrimPrefix(w.router.api.URL, "http://"))
}

// onConns sends a request again and again on n connections, until ctx ends, and counts the answers.
func (w *hostileWorld) onConns(ctx context.Context, n int, from, request string, pause time.Duration) {
	concurrently(ctx, n, func(ctx context.Context, _ int) {
		conn, err := w.dialFrom(ctx, from)
		if err != nil {
			return
		}
		defer conn.Close()
		defer context.AfterFunc(ctx, func() { conn.Close() })()
		answers := bufio.NewReader(conn)
		for ctx.Err() == nil {
			go io.WriteString(conn, request) // the answer may come before all is sent
			res, err := http.ReadResponse(answers, nil)
			if err != nil {
				return
			}
			io.Copy(io.Discard, res.Body)
			w.mu.Lock()
			w.outcomes[strconv.Itoa(res.StatusCode)]++
			w.mu.Unlock()
			if res.Close {
				return
			}
			select {
			case <-ctx.Done():
			case <-time.After(pause):
			}
		}
	})
}

func publishRequest(key, body string) string {
	return fmt.Sprintf("POST /api/v1/events HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", key, len(body), body)
}

// sendUnfinishedChunks sends bodies whose length is unknown, and which never end.
func sendUnfinishedChunks(ctx context.Context, w *hostileWorld) {
	var group sync.WaitGroup
	for _, account := range []string{"hostile", "hostile2"} {
		const size = 1 << 20
		request := fmt.Sprintf("POST /api/v1/events HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s",
			w.account(account).Key, size, strings.Repeat("x", size))
		group.Go(func() { w.onConns(ctx, 500, "127.0.0.2", request, 0) })
	}
	group.Wait()
}

// publishLargeOnManyConns publishes the largest event on each of many connections, and leaves them open.
func publishLargeOnManyConns(ctx context.Context, w *hostileWorld) {
	body := `{"type":"large","data":"` + strings.Repeat("x", 1<<20-100) + `"}`
	w.onConns(ctx, 500, "127.0.0.2", publishRequest(w.hostile().Key, body), time.Hour)
}

func publishOnManyConns(ctx context.Context, w *hostileWorld) {
	w.onConns(ctx, 2000, "127.0.0.2", publishRequest(w.hostile().Key, `{"type":"a","data":{"n":1}}`), 0)
}

// tryManyKeys is what a stranger does.
func tryManyKeys(ctx context.Context, w *hostileWorld) {
	w.onConns(ctx, 64, "127.0.0.3", publishRequest("whk_unknown", `{"type":"a","data":{"n":1}}`), 0)
}

// openManyConns opens as many connections as it can, from three addresses, and begins a request on each.
func openManyConns(ctx context.Context, w *hostileWorld) {
	var mu sync.Mutex
	var open []net.Conn
	concurrently(ctx, 6, func(ctx context.Context, i int) {
		conn, err := w.dialFrom(ctx, fmt.Sprintf("127.0.0.%d", 2+i%3))
		if err != nil {
			return
		}
		io.WriteString(conn, "GET /api/v1/me HTTP/1.1\r\nHost: a\r\nX-Large: "+strings.Repeat("x", 15<<10))
		mu.Lock()
		defer mu.Unlock()
		if open = append(open, conn); len(open) > 6000 {
			open[0].Close()
			open = open[1:]
		}
	})
	for _, conn := range open {
		conn.Close()
	}
}

const manyChanged = 300

func prepareManyChanges(w *hostileWorld) {
	for i := range manyChanged {
		s := w.subscribe(w.hostile(), api.SubscriptionRequest{Event: api.Some(api.EventNames{fmt.Sprintf("changed%d", i)}), TargetURL: api.Some(w.sink.URL)})
		w.changed = append(w.changed, s.ID)
	}
}

func changeMany(ctx context.Context, w *hostileWorld) {
	c := w.hostile()
	concurrently(ctx, 400, func(ctx context.Context, i int) {
		c.UpdateSubscription(ctx, w.changed[i%manyChanged], api.SubscriptionRequest{Description: api.Some(fmt.Sprint(i))})
	})
}

// previewManyValues previews events of as many JSON values as fit into a body, with keys of several accounts.
func previewManyValues(ctx context.Context, w *hostileWorld) {
	body := `{"transform":"export default e => e.data.length","event":{"type":"a","data":[` + strings.Repeat("1,", 500_000) + "1]}}"
	concurrently(ctx, 40, func(ctx context.Context, i int) {
		w.account(scriptAccounts[i%len(scriptAccounts)]).Do(ctx, http.MethodPost, "/api/v1/preview", json.RawMessage(body), nil)
	})
}
