package cmd

import (
	"io"
	"net"
	"net/http"
	"sync"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

// receiver is a webhook receiver for demonstrations: it checks each delivery's signature
// as any receiver can, with the Standard Webhooks library.
type receiver struct {
	listener net.Listener
	server   http.Server

	mu     sync.Mutex
	secret string // as it was given with the subscription; empty: signatures are not checked
}

// received is a delivery that came in. signed is nil where the signature is right.
type received struct {
	path   string
	header http.Header
	body   []byte
	signed error
}

const largestDelivery = 16 << 20

// startReceiver listens on addr, which --addr gives; answer is asked for the status of each delivery.
func startReceiver(addr string, answer func(received) int) (*receiver, error) {
	l, err := listenOn("--addr", addr, "another receiver")
	if err != nil {
		return nil, err
	}
	r := &receiver{listener: l}
	r.server.Handler = http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, err := io.ReadAll(http.MaxBytesReader(w, req.Body, largestDelivery))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		w.WriteHeader(answer(received{req.URL.RequestURI(), req.Header, body, r.verify(body, req.Header)}))
	})
	go r.server.Serve(l)
	return r, nil
}

func (r *receiver) url() string { return "http://" + reachable(r.listener) }

func (r *receiver) setSecret(secret string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.secret = secret
}

func (r *receiver) verify(body []byte, header http.Header) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.secret == "" {
		return nil
	}
	wh, err := standardwebhooks.NewWebhook(r.secret)
	if err != nil {
		return err
	}
	return wh.Verify(body, header)
}

func (r *receiver) close() { r.server.Close() }
