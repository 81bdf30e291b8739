package engine

import (
	"context"
	"encoding/json"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"switchhook/engine/order"
	"switchhook/scripts/jsondoc"
)

// operationalPrefix begins the event types that the router itself publishes, to the
// account concerned. Nobody else may, and "*" does not match them: who asks for all
// events of a shop did not ask for these.
const operationalPrefix = "switchhook."

// The operational events.
const (
	typeDeactivated = "switchhook.subscription.deactivated"
	typeRecovered   = "switchhook.subscription.recovered"
	typeDead        = "switchhook.delivery.dead"
	typeQuarantined = "switchhook.script.quarantined"
)

// Operational tells whether an event type is the router's own.
func Operational(eventType string) bool { return strings.HasPrefix(eventType, operationalPrefix) }

// operationalTypes are always in the catalogue.
var operationalTypes = []*EventType{
	{
		Name: typeDeactivated, Description: "The router switched a subscription off: its target answered 410, or nothing but failure came for too long. PATCH it with {\"active\": true} to switch it on again.",
		Samples: [][]byte{[]byte(`{"subscription_id":"sub_0ABCDEFGHJKM2","target_url":"https://example.com/hooks","reason":"the target answered 410 Gone","at":"2026-01-31T09:30:00Z"}`)},
	},
	{
		Name: typeRecovered, Description: "A target that was down takes deliveries again, after a minute or more.",
		Samples: [][]byte{[]byte(`{"subscription_id":"sub_0ABCDEFGHJKM2","target_url":"https://example.com/hooks","failing_since":"2026-01-31T09:00:00Z","failures":17,"last_error":"the target answered 503 Service Unavailable","at":"2026-01-31T09:30:00Z"}`)},
	},
	{
		Name: typeDead, Description: "Deliveries of a subscription were given up. At most one event a second for each subscription, with how many and the newest of them.",
		Samples: [][]byte{[]byte(`{"subscription_id":"sub_0ABCDEFGHJKM2","target_url":"https://example.com/hooks","count":2,"deliveries":["dlv_0ABCDEFGHJKM2_0ABCDEFGHJKM3"],"reason":"the target answered 500 Internal Server Error","first_at":"2026-01-31T09:30:00Z","last_at":"2026-01-31T09:30:01Z"}`)},
	},
	{
		Name: typeQuarantined, Description: "A transform was stopped too often in a row. The subscription's deliveries wait for a new version of it.",
		Samples: [][]byte{[]byte(`{"subscription_id":"sub_0ABCDEFGHJKM2","target_url":"https://example.com/hooks","script_hash":"9f86d081884c7d65","reason":"stopped 3 times in a row: timeout after 50 ms","at":"2026-01-31T09:30:00Z"}`)},
	},
}

const (
	deadEvery   = time.Second // between two events for the dead letters of a subscription
	deadShown   = 10          // dead letters that one names
	noticesRoom = 10_000      // operational events that wait while the store can't be written
)

// notices are operational events on their way to being published.
type notices struct {
	mu      sync.Mutex
	waiting []EventInput
	dead    map[ID]*deadLetters
	wake    chan struct{}
}

// deadLetters are those of one subscription since the last event about them.
type deadLetters struct {
	route       *route
	count       int
	newest      []string
	reason      string
	first, last time.Time
}

// subject is what every operational event says of the subscription.
type subject struct {
	Subscription string `json:"subscription_id"`
	TargetURL    string `json:"target_url"` // without its query, which may hold a key
}

func subjectOf(s *Subscription) subject {
	shown := subject{Subscription: s.ID.Format(SubscriptionPrefix)}
	if u, err := url.Parse(s.TargetURL); err == nil {
		u.RawQuery, u.ForceQuery, u.User, u.Fragment = "", false, nil, ""
		shown.TargetURL = u.String()
	}
	return shown
}

func (e *Engine) announceDeactivated(s *Subscription) {
	e.announce(s.Account, typeDeactivated, struct {
		subject
		Reason string    `json:"reason"`
		At     time.Time `json:"at"`
	}{subjectOf(s), s.Reason, s.UpdatedAt})
}

func (e *Engine) announceRecovered(r *route, h Health) {
	e.announce(r.sub.Account, typeRecovered, struct {
		subject
		FailingSince time.Time `json:"failing_since"`
		Failures     int       `json:"failures"`
		LastError    string    `json:"last_error"`
		At           time.Time `json:"at"`
	}{subjectOf(r.sub), h.FailingSince, h.Failures, h.LastError, e.now()})
}

func (e *Engine) announceQuarantined(r *route, hash, reason string) {
	script := ""
	if r.transformRef.Script != 0 {
		script = r.transformRef.Script.Format(ScriptPrefix)
	}
	e.announce(r.sub.Account, typeQuarantined, struct {
		subject
		Script  string    `json:"script_id,omitempty"`
		Version int       `json:"script_version,omitempty"`
		Hash    string    `json:"script_hash"`
		Reason  string    `json:"reason"`
		At      time.Time `json:"at"`
	}{subjectOf(r.sub), script, r.transformRef.Version, hash, reason, e.now()})
}

// announce publishes an operational event soon; where nobody subscribed there is none.
func (e *Engine) announce(account, eventType string, data any) {
	if len(e.index.candidates(account, eventType)) == 0 {
		return
	}
	raw, err := json.Marshal(data)
	if err != nil {
		panic(err) // strings, numbers and times
	}
	doc, err := jsondoc.Parse(raw, jsondoc.Limits{})
	if err != nil {
		e.log.Error("operational event not made", "type", eventType, "error", err)
		return
	}
	n := &e.notices
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.waiting) >= noticesRoom {
		e.log.Error("operational event left out: too many wait", "account", account, "type", eventType)
		return
	}
	n.waiting = append(n.waiting, EventInput{Account: account, Type: eventType, Data: doc.Root()})
	select {
	case n.wake <- struct{}{}:
	default:
	}
}

// noteDead counts a dead letter. A thousand in one moment are one event.
func (e *Engine) noteDead(r *route, en order.Entry, reason string) {
	if len(e.index.candidates(r.sub.Account, typeDead)) == 0 || e.aboutOperational(r, en) {
		return
	}
	now := e.now()
	n := &e.notices
	n.mu.Lock()
	defer n.mu.Unlock()
	d := n.dead[r.sub.ID]
	if d == nil {
		d = &deadLetters{route: r, first: now}
		n.dead[r.sub.ID] = d
	}
	d.count++
	d.reason, d.last = reason, now
	if len(d.newest) == deadShown {
		d.newest = slices.Delete(d.newest, 0, 1)
	}
	d.newest = append(d.newest, DeliveryID{en.Event, r.sub.ID}.String())
}

// aboutOperational tells whether en is the delivery of an operational event. What becomes
// of those raises none in turn: two dead targets would go on about each other for ever.
func (e *Engine) aboutOperational(r *route, en order.Entry) bool {
	if !slices.ContainsFunc(r.sub.Events, Operational) {
		return false
	}
	ev, err := e.eventOf(context.Background(), en)
	return err != nil || Operational(ev.Type)
}

// noticeLoop publishes operational events.
func (e *Engine) noticeLoop() {
	ticker := time.NewTicker(deadEvery)
	defer ticker.Stop()
	for {
		select {
		case <-e.stop:
			return
		case <-e.notices.wake:
		case <-ticker.C:
			e.announceDead()
		}
		e.publishNotices()
	}
}

// announceDead makes events of the dead letters that have gathered.
func (e *Engine) announceDead() {
	n := &e.notices
	n.mu.Lock()
	gathered := n.dead
	n.dead = map[ID]*deadLetters{}
	n.mu.Unlock()
	for _, d := range gathered {
		e.announce(d.route.sub.Account, typeDead, struct {
			subject
			Count      int       `json:"count"`
			Deliveries []string  `json:"deliveries"` // the newest
			Reason     string    `json:"reason"`     // of the last one
			FirstAt    time.Time `json:"first_at"`
			LastAt     time.Time `json:"last_at"`
		}{subjectOf(d.route.sub), d.count, d.newest, d.reason, d.first, d.last})
	}
}

// publishNotices publishes what waits. What can't be stored now waits on.
func (e *Engine) publishNotices() {
	n := &e.notices
	n.mu.Lock()
	waiting := n.waiting
	n.waiting = nil
	n.mu.Unlock()
	for len(waiting) > 0 {
		some := waiting[:min(len(waiting), MaxBatch)]
		if _, err := e.publish(context.Background(), some); err != nil {
			e.log.Error("operational events not published yet", "error", err)
			n.mu.Lock()
			n.waiting = append(waiting, n.waiting...)
			n.mu.Unlock()
			return
		}
		waiting = waiting[len(some):]
	}
}
