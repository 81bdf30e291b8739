// Command sender publishes one event in the two ways that the webhook world knows:
//
//   - "webhooks": somebody typed the receiver's URL and secret into our configuration. We
//     sign and POST to it ourselves. One try, and we wait for it; retries, a record of
//     what was sent, slow receivers and a receiver's wish to have less are ours to build.
//   - "REST Hooks": receivers subscribe by themselves, at a Switchhook router. We hand it
//     the event once and know neither how many receivers there are nor where.
package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"strconv"
	"switchhook/server/api"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

// config is the sender's configuration file. Either part may be left out.
type config struct {
	Webhooks []struct {
		URL    string `json:"url"`    // entered by hand
		Secret string `json:"secret"` // whsec_…, agreed with the operator of that URL
	} `json:"webhooks"`
	Switchhook *struct {
		URL string `json:"url"`
		Key string `json:"key"`
	} `json:"switchhook"`
}

// event is an event of the sender's own system. Its id makes it safe to send again:
// receivers drop a known webhook-id, and the router a known id.
type event struct {
	id   string
	kind string
	at   time.Time
	data json.RawMessage
}

var client = &http.Client{Timeout: 15 * time.Second}

func main() {
	log.SetFlags(0)
	file := flag.String("config", "examples/sender/config.json", "configuration file")
	flag.Parse()
	if flag.NArg() != 2 {
		log.Fatal(`usage: sender -config FILE order.created '{"id": 1001, "total": 129.5}'`)
	}
	cfg, err := read(*file)
	if err != nil {
		log.Fatal(err)
	}
	ev := event{id: "msg_" + rand.Text(), kind: flag.Arg(0), at: time.Now().UTC(), data: json.RawMessage(flag.Arg(1))}
	failed := false
	for _, target := range cfg.Webhooks {
		status, err := post(target.URL, target.Secret, ev)
		report("direct     "+target.URL, status, err)
		failed = failed || err != nil
	}
	if cfg.Switchhook != nil {
		matched, err := publish(cfg.Switchhook.URL, cfg.Switchhook.Key, ev)
		report("switchhook "+cfg.Switchhook.URL, fmt.Sprintf("accepted, %d subscriptions get it", matched), err)
		failed = failed || err != nil
	}
	if failed {
		os.Exit(1)
	}
}

func read(file string) (cfg config, err error) {
	text, err := os.ReadFile(file)
	if err == nil {
		err = json.Unmarshal(text, &cfg)
	}
	return cfg, err
}

func report(way, result string, err error) {
	if err != nil {
		result = "failed: " + err.Error()
	}
	fmt.Printf("%s  %s\n", way, result)
}

// post sends to the configured URL as Standard Webhooks specifies: envelope, id, timestamp,
// signature. If it fails, the event is lost to this receiver.
func post(url, secret string, ev event) (status string, err error) {
	body, err := json.Marshal(map[string]any{"type": ev.kind, "timestamp": ev.at, "data": ev.data})
	if err != nil {
		return "", err
	}
	signer, err := standardwebhooks.NewWebhook(secret)
	if err != nil {
		return "", err
	}
	now := time.Now()
	signature, err := signer.Sign(ev.id, now, body)
	if err != nil {
		return "", err
	}
	return send(url, body, http.Header{
		"Webhook-Id":        {ev.id},
		"Webhook-Timestamp": {strconv.FormatInt(now.Unix(), 10)},
		"Webhook-Signature": {signature},
	})
}

// publish sends to the subscribers: once the router has answered, the event is on its disk,
// and the router does filters, transforms, signatures, retries and their log.
func publish(router, key string, ev event) (matched int, err error) {
	accepted, err := api.NewClient(router, key).Publish(context.Background(), api.PublishRequest{ID: ev.id, Type: ev.kind, Time: &ev.at, Data: ev.data})
	if err != nil {
		return 0, err
	}
	return accepted.Matched, nil
}

func send(url string, body []byte, header http.Header) (status string, err error) {
	req, err := http.NewRequest(http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return "", err
	}
	req.Header = header
	req.Header.Set("Content-Type", "application/json")
	res, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(io.LimitReader(res.Body, 64<<10))
	if err != nil {
		return "", err
	}
	if res.StatusCode >= 300 {
		return "", errors.New(res.Status + " " + string(text))
	}
	return res.Status, nil
}
