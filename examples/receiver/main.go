// Command receiver receives webhooks and prints them. It shows the duties of every
// receiver: verify the signature over the bytes as received, drop repeats, answer quickly.
//
// With -subscribe it creates its own subscription at a Switchhook router when it starts and
// deletes it when it ends, which is the idea of REST Hooks: no URL is typed by hand.
package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"
)

func main() {
	log.SetFlags(0)
	addr := flag.String("addr", "127.0.0.1:9000", "address to receive on")
	secret := flag.String("secret", "", "signing secret (whsec_…) agreed with the sender, or its public key (whpk_…), by default $WEBHOOK_SECRET; with -subscribe the router makes one")
	verify := flag.String("verify", "standard", "how to verify: standard (webhook-signature), hook (X-Hook-Signature) or url (?token= in the URL)")
	router := flag.String("subscribe", "", "subscribe at this Switchhook router, such as http://127.0.0.1:8080")
	key := flag.String("key", "", "API key for -subscribe, by default $SWITCHHOOK_KEY")
	event := flag.String("event", "order.*", "event type or pattern for -subscribe")
	flag.Parse()
	// Not the flags' defaults, since -h prints those.
	*secret, *key = cmp.Or(*secret, os.Getenv("WEBHOOK_SECRET")), cmp.Or(*key, os.Getenv("SWITCHHOOK_KEY"))

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	listener, err := listen(*addr)
	if err != nil {
		log.Fatal(err)
	}
	url := "http://" + reachable(listener) + "/webhooks"
	subscription := "none: the sender has to be told the URL"
	if *router != "" {
		if subscription, *secret, err = subscribe(*router, *key, *event, url); err != nil {
			log.Fatal("subscribe: ", err)
		}
		defer unsubscribe(*router, *key, subscription)
	}
	genuine, err := checkBy(*verify, *secret)
	if err != nil {
		log.Fatal(err)
	}
	server := &http.Server{Handler: receive(genuine), ReadTimeout: 10 * time.Second}
	go server.Serve(listener)
	fmt.Printf("receiving on %s\nsubscription %s\n", url, subscription)
	<-ctx.Done()
	server.Shutdown(context.Background())
}

func listen(addr string) (net.Listener, error) {
	if _, _, err := net.SplitHostPort(addr); err != nil {
		return nil, fmt.Errorf("-addr: %q is not an address with a port, such as 127.0.0.1:9000", addr)
	}
	l, err := net.Listen("tcp", addr)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("%s is in use: is another receiver running already? -addr gives another address", addr)
	}
	return l, err
}

// reachable returns the address at which a router on this machine reaches a listener on
// every address.
func reachable(l net.Listener) string {
	if at, ok := l.Addr().(*net.TCPAddr); ok && at.IP.IsUnspecified() {
		return fmt.Sprintf("127.0.0.1:%d", at.Port)
	}
	return l.Addr().String()
}

// receive answers deliveries: 2xx only once the delivery is safely handled.
func receive(genuine check) http.HandlerFunc {
	var seen ids
	return func(w http.ResponseWriter, r *http.Request) {
		if consent(w, r) {
			return
		}
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 1<<20))
		if err != nil {
			http.Error(w, "can't be read", http.StatusBadRequest)
			return
		}
		// The signature covers the bytes: verify it before anything parses them.
		if err := genuine(r, body); err != nil {
			fmt.Println("refused", err)
			http.Error(w, "the signature is wrong", http.StatusUnauthorized)
			return
		}
		id := r.Header.Get("webhook-id")
		if seen.add(id) {
			fmt.Printf("received %s %s\n", id, body)
		} else {
			fmt.Printf("repeated %s\n", id)
		}
		w.WriteHeader(http.StatusNoContent)
	}
}

// ids records the received ids. Delivery is at least once, so repeats do occur. A real
// receiver stores the id in its database, in the same transaction as its work.
type ids struct {
	mu    sync.Mutex
	known map[string]bool
}

// add reports whether the id is new.
func (s *ids) add(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.known[id] {
		return false
	}
	if s.known == nil || len(s.known) == 100_000 { // bounded, which is enough for an example
		s.known = map[string]bool{}
	}
	s.known[id] = true
	return true
}

// subscribe subscribes to events at the router and returns the subscription's id and
// secret. The router shows the secret only in this answer.
func subscribe(router, key, event, url string) (id, secret string, err error) {
	var made struct{ ID, Secret string }
	err = call(http.MethodPost, router+"/api/v1/subscriptions", key, map[string]string{"event": event, "target_url": url}, &made)
	if err == nil && made.ID == "" {
		err = errors.New(router + " answered, but is not a Switchhook router")
	}
	return made.ID, made.Secret, err
}

func unsubscribe(router, key, id string) {
	if err := call(http.MethodDelete, router+"/api/v1/subscriptions/"+id, key, nil, nil); err != nil {
		log.Print("unsubscribe: ", err)
	}
}

func call(method, url, key string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	req, err := http.NewRequest(method, url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+key)
	req.Header.Set("Content-Type", "application/json")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(res.Body)
	if err != nil {
		return err
	}
	if res.StatusCode >= 300 {
		return errors.New(res.Status + ": " + string(answer))
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(answer, out)
}
