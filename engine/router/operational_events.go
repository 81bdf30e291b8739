package router

import (
	"context"
	"encoding/json"
	"errors"

	"slices"
	"sync"
	"time"

	"switchhook/engine"
	"switchhook/engine/dispatchqueue"
	"switchhook/scripts/jsonindex"
)

// The operational events.
const (
	typeDeactivated = "switchhook.subscription.deactivated"
	typeRecovered   = "switchhook.subscription.recovered"
	typeDead        = "switchhook.delivery.dead"
	typeQuarantined = "switchhook.script.quarantined"
	typeFailing     = "switchhook.script.failing"
)

// operationalTypes are always in the catalogue.
var operationalTypes = []*engine.EventType{
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
	{
		Name: typeFailing, Description: "A subscription's transform or filter has failed five times in a row. Deliveries whose transform fails are tried again and then dead; a filter that fails matches nothing.",
		Samples: [][]byte{[]byte(`{"subscription_id":"sub_0ABCDEFGHJKM2","target_url":"https://example.com/hooks","kind":"transform","failing_since":"2026-01-31T09:00:00Z","failures":5,"last_error":"the transform fails at line 2, column 10; the attempts of its deliveries say more","at":"2026-01-31T09:30:00Z"}`)},
	},
}

const (
	deadLetterInterval = time.Second // between two events for the dead letters of a subscription
	deadShown          = 10          // dead letters that one names
	maxOutbox          = 10_000      // operational events that wait while the store can't be written
	maxAccountOutbox   = 1000        // of them, of an account
	flushBatch         = 100         // that are published together; all of one account
	// maxConcurrentFlushes is how many accounts' are being published at one time: their filters may
	// take long, and nobody else is to wait for that.
	maxConcurrentFlushes = 8
)

// operationalOutbox are operational events on their way to being published.
type operationalOutbox struct {
	mu         sync.Mutex
	waiting    map[string][]engine.EventInput // by account
	total      int                            // in waiting
	flushing   map[string]bool                // accounts whose events are being published
	dead       map[engine.ID]*deadLetters
	wake       chan struct{}
	slots      chan struct{} // one for each account in on that is at it
	publishing taskGroup     // as many as on has
}

func newOperationalOutbox() *operationalOutbox {
	return &operationalOutbox{
		waiting: map[string][]engine.EventInput{}, flushing: map[string]bool{}, dead: map[engine.ID]*deadLetters{},
		wake: make(chan struct{}, 1), slots: make(chan struct{}, maxConcurrentFlushes),
	}
}

// deadLetters are those of one subscription since the last event about them.
type deadLetters struct {
	route       *compiledSubscription
	count       int
	newest      []string
	reason      string
	first, last time.Time
}

// subscriptionRef is what every operational event says of the subscription.
type subscriptionRef struct {
	Subscription string `json:"subscription_id"`
	TargetURL    string `json:"target_url"` // masked: whoever may read events sees it
}

func subscriptionRefOf(s *engine.Subscription) subscriptionRef {
	return subscriptionRef{s.ID.Format(engine.SubscriptionPrefix), engine.MaskURL(s.TargetURL)}
}

func (e *Engine) emitDeactivated(s *engine.Subscription) {
	e.emit(s.Account, typeDeactivated, struct {
		subscriptionRef
		Reason string    `json:"reason"`
		At     time.Time `json:"at"`
	}{subscriptionRefOf(s), s.Reason, s.UpdatedAt})
}

func (e *Engine) emitRecovered(r *compiledSubscription, h engine.Health) {
	e.emit(r.sub.Account, typeRecovered, struct {
		subscriptionRef
		FailingSince time.Time `json:"failing_since"`
		Failures     int       `json:"failures"`
		LastError    string    `json:"last_error"`
		At           time.Time `json:"at"`
	}{subscriptionRefOf(r.sub), h.FailingSince, h.Failures, h.LastError, e.now()})
}

func (e *Engine) emitQuarantined(r *compiledSubscription, hash, reason string) {
	script := ""
	if r.transformRef.Script != 0 {
		script = r.transformRef.Script.Format(engine.ScriptPrefix)
	}
	e.emit(r.sub.Account, typeQuarantined, struct {
		subscriptionRef
		Script  string    `json:"script_id,omitempty"`
		Version int       `json:"script_version,omitempty"`
		Hash    string    `json:"script_hash"`
		Reason  string    `json:"reason"`
		At      time.Time `json:"at"`
	}{subscriptionRefOf(r.sub), script, r.transformRef.Version, hash, reason, e.now()})
}

// emit publishes an operational event soon; where nobody subscribed there is none.
func (e *Engine) emit(account, eventType string, data any) {
	if len(e.index.candidates(account, eventType)) == 0 {
		return
	}
	raw, err := json.Marshal(data)
	if err != nil {
		panic(err) // strings, numbers and times
	}
	doc, err := jsonindex.Parse(raw, jsonindex.Limits{})
	if err != nil {
		e.log.Error("operational event not made", "type", eventType, "error", err)
		return
	}
	if !e.operational.add(engine.EventInput{Account: account, Type: eventType, Data: doc.Root()}) {
		e.log.Error("operational event left out: too many wait", "account", account, "type", eventType)
	}
}

// enqueue lets an operational event wait for being published; false where too many wait.
func (n *operationalOutbox) add(in engine.EventInput) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.total >= maxOutbox || len(n.waiting[in.Account]) >= maxAccountOutbox {
		return false
	}
	n.waiting[in.Account] = append(n.waiting[in.Account], in)
	n.total++
	select {
	case n.wake <- struct{}{}:
	default:
	}
	return true
}

// countDeadLetter counts a dead letter. A thousand in one moment are one event.
func (e *Engine) countDeadLetter(r *compiledSubscription, en dispatchqueue.Entry, reason string) {
	if len(e.index.candidates(r.sub.Account, typeDead)) == 0 || e.isOperationalEvent(r, en) {
		return
	}
	now := e.now()
	n := e.operational
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
	d.newest = append(d.newest, engine.DeliveryID{Event: en.Event, Subscription: r.sub.ID}.String())
}

// isOperationalEvent tells whether en is the delivery of an operational event. What becomes
// of those raises none in turn: two dead targets would go on about each other for ever.
func (e *Engine) isOperationalEvent(r *compiledSubscription, en dispatchqueue.Entry) bool {
	if !slices.ContainsFunc(r.sub.Events, engine.Operational) {
		return false
	}
	ev, err := e.loadEvent(context.Background(), en)
	return err != nil || engine.Operational(ev.Type)
}

// operationalLoop publishes operational events.
func (e *Engine) operationalLoop() {
	ticker := time.NewTicker(deadLetterInterval)
	defer ticker.Stop()
	for {
		select {
		case <-e.stop:
			return
		case <-e.operational.wake:
		case <-ticker.C:
			e.emitDeadLetters()
		}
		e.flushOutbox()
	}
}

// emitDeadLetters makes events of the dead letters that have gathered.
func (e *Engine) emitDeadLetters() {
	n := e.operational
	n.mu.Lock()
	gathered := n.dead
	n.dead = map[engine.ID]*deadLetters{}
	n.mu.Unlock()
	for _, d := range gathered {
		e.emit(d.route.sub.Account, typeDead, struct {
			subscriptionRef
			Count      int       `json:"count"`
			Deliveries []string  `json:"deliveries"` // the newest
			Reason     string    `json:"reason"`     // of the last one
			FirstAt    time.Time `json:"first_at"`
			LastAt     time.Time `json:"last_at"`
		}{subscriptionRefOf(d.route.sub), d.count, d.newest, d.reason, d.first, d.last})
	}
}

// flushOutbox begins to publish what waits, each account's by itself. What can't be
// stored now waits on.
func (e *Engine) flushOutbox() {
	n := e.operational
	n.mu.Lock()
	defer n.mu.Unlock()
	for account := range n.waiting {
		if n.flushing[account] {
			continue
		}
		n.flushing[account] = true
		n.publishing.Go(func() {
			for most := flushBatch; most > 0; {
				most = e.flushAccount(account, most)
			}
		})
	}
}

// flushAll publishes what waits when the router stops, until ctx is over.
func (e *Engine) flushAll(ctx context.Context) error {
	e.flushOutbox()
	published := make(chan struct{})
	go func() {
		e.operational.publishing.Wait()
		close(published)
	}()
	select {
	case <-published:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// flushAccount publishes the oldest of an account's operational events, most at once. It
// gives how many are to be tried next, 0 where the account is through for now.
func (e *Engine) flushAccount(account string, most int) (next int) {
	n := e.operational
	n.slots <- struct{}{}
	defer func() { <-n.slots }()
	n.mu.Lock()
	some := n.waiting[account]
	some = some[:min(len(some), most)]
	n.mu.Unlock()
	_, err := e.publish(context.Background(), some)
	through := len(some)
	switch slow := errors.Is(err, errFiltersTooSlow); {
	case slow && len(some) > 1:
		return len(some) / 2
	case slow:
		e.log.Error("operational event left out: the account's filters take too long", "account", account, "type", some[0].Type)
	case err != nil:
		e.log.Error("operational events not published yet", "account", account, "error", err)
		through = 0
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.total -= through
	if n.waiting[account] = n.waiting[account][through:]; len(n.waiting[account]) > 0 && through > 0 {
		return most
	}
	if len(n.waiting[account]) == 0 {
		delete(n.waiting, account)
	}
	delete(n.flushing, account)
	return 0
}
