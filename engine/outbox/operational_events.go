package outbox

import (
	"context"
	"encoding/json"
	"errors"

	"slices"
	"sync"
	"time"

	"switchhook/engine"
	"switchhook/engine/catalog"
	"switchhook/engine/dispatchqueue"
	"switchhook/engine/lifecycle"
	"switchhook/scripts/jsonindex"
)

const (
	deadLetterInterval = time.Second // between two events for the dead letters of a subscription
	deadShown          = 10          // dead letters that one names
	maxOutbox          = 10_000      // operational events that wait while the store can't be written
	maxAccountOutbox   = 1000        // of them, of an account
	flushBatch         = 100         // that are published together; all of one account
	// maxConcurrentFlushes is how many accounts' are being published at the same time: their filters may
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
	slots      chan struct{}       // one for each account in on that is at it
	publishing lifecycle.TaskGroup // as many as on has
}

func newOperationalOutbox() *operationalOutbox {
	return &operationalOutbox{
		waiting: map[string][]engine.EventInput{}, flushing: map[string]bool{}, dead: map[engine.ID]*deadLetters{},
		wake: make(chan struct{}, 1), slots: make(chan struct{}, maxConcurrentFlushes),
	}
}

// deadLetters are those of one subscription since the last event about them.
type deadLetters struct {
	route       *catalog.CompiledSubscription
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

// EmitDeactivated tells the account that the router deactivated a subscription.
func (o *Outbox) EmitDeactivated(s *engine.Subscription) {
	o.emit(s.Account, engine.TypeDeactivated, struct {
		subscriptionRef
		Reason string    `json:"reason"`
		At     time.Time `json:"at"`
	}{subscriptionRefOf(s), s.Reason, s.UpdatedAt})
}

// EmitRecovered tells the account that a target that failed for long took a delivery.
func (o *Outbox) EmitRecovered(r *catalog.CompiledSubscription, h engine.Health) {
	o.emit(r.Sub.Account, engine.TypeRecovered, struct {
		subscriptionRef
		FailingSince time.Time `json:"failing_since"`
		Failures     int       `json:"failures"`
		LastError    string    `json:"last_error"`
		At           time.Time `json:"at"`
	}{subscriptionRefOf(r.Sub), h.FailingSince, h.Failures, h.LastError, o.life.Now()})
}

// EmitQuarantined tells the account that a transform was quarantined.
func (o *Outbox) EmitQuarantined(r *catalog.CompiledSubscription, hash, reason string) {
	script := ""
	if r.TransformRef.Script != 0 {
		script = r.TransformRef.Script.Format(engine.ScriptPrefix)
	}
	o.emit(r.Sub.Account, engine.TypeQuarantined, struct {
		subscriptionRef
		Script  string    `json:"script_id,omitempty"`
		Version int       `json:"script_version,omitempty"`
		Hash    string    `json:"script_hash"`
		Reason  string    `json:"reason"`
		At      time.Time `json:"at"`
	}{subscriptionRefOf(r.Sub), script, r.TransformRef.Version, hash, reason, o.life.Now()})
}

// emit publishes an operational event soon; where nobody subscribed there is none.
func (o *Outbox) emit(account, eventType string, data any) {
	if len(o.catalog.Candidates(account, eventType)) == 0 {
		return
	}
	raw, err := json.Marshal(data)
	if err != nil {
		panic(err) // strings, numbers and times
	}
	doc, err := jsonindex.Parse(raw, jsonindex.Limits{})
	if err != nil {
		o.log.Error("operational event not made", "type", eventType, "error", err)
		return
	}
	if !o.operational.add(engine.EventInput{Account: account, Type: eventType, Data: doc.Root()}) {
		o.log.Error("operational event left out: too many wait", "account", account, "type", eventType)
	}
}

// enqueue lets an operational event wait for being published; false if too many wait.
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

// WantsDeadLetters reports whether a subscription of the account takes events of dead letters.
func (o *Outbox) WantsDeadLetters(account string) bool {
	return len(o.catalog.Candidates(account, engine.TypeDead)) > 0
}

// CountDeadLetter counts a dead letter. A thousand in one moment are one event.
func (o *Outbox) CountDeadLetter(r *catalog.CompiledSubscription, en dispatchqueue.Entry, reason string) {
	now := o.life.Now()
	n := o.operational
	n.mu.Lock()
	defer n.mu.Unlock()
	d := n.dead[r.Sub.ID]
	if d == nil {
		d = &deadLetters{route: r, first: now}
		n.dead[r.Sub.ID] = d
	}
	d.count++
	d.reason, d.last = reason, now
	if len(d.newest) == deadShown {
		d.newest = slices.Delete(d.newest, 0, 1)
	}
	d.newest = append(d.newest, engine.DeliveryID{Event: en.Event, Subscription: r.Sub.ID}.String())
}

// OperationalLoop publishes operational events.
func (o *Outbox) OperationalLoop() {
	ticker := time.NewTicker(deadLetterInterval)
	defer ticker.Stop()
	for {
		select {
		case <-o.life.Stopping():
			return
		case <-o.operational.wake:
		case <-ticker.C:
			o.EmitDeadLetters()
		}
		o.flushOutbox()
	}
}

// EmitDeadLetters makes events of the dead letters that have gathered.
func (o *Outbox) EmitDeadLetters() {
	n := o.operational
	n.mu.Lock()
	gathered := n.dead
	n.dead = map[engine.ID]*deadLetters{}
	n.mu.Unlock()
	for _, d := range gathered {
		o.emit(d.route.Sub.Account, engine.TypeDead, struct {
			subscriptionRef
			Count      int       `json:"count"`
			Deliveries []string  `json:"deliveries"` // the newest
			Reason     string    `json:"reason"`     // of the last one
			FirstAt    time.Time `json:"first_at"`
			LastAt     time.Time `json:"last_at"`
		}{subscriptionRefOf(d.route.Sub), d.count, d.newest, d.reason, d.first, d.last})
	}
}

// flushOutbox begins to publish what waits, each account's by itself. What can't be
// stored now waits on.
func (o *Outbox) flushOutbox() {
	n := o.operational
	n.mu.Lock()
	defer n.mu.Unlock()
	for account := range n.waiting {
		if n.flushing[account] {
			continue
		}
		n.flushing[account] = true
		n.publishing.Go(func() {
			for most := flushBatch; most > 0; {
				most = o.flushAccount(account, most)
			}
		})
	}
}

// FlushAll publishes what waits when the router stops, until ctx is over.
func (o *Outbox) FlushAll(ctx context.Context) error {
	o.flushOutbox()
	published := make(chan struct{})
	go func() {
		o.operational.publishing.Wait()
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
// gives how many are to be tried next, 0 if the account is through for now.
func (o *Outbox) flushAccount(account string, most int) (next int) {
	n := o.operational
	n.slots <- struct{}{}
	defer func() { <-n.slots }()
	n.mu.Lock()
	some := n.waiting[account]
	some = some[:min(len(some), most)]
	n.mu.Unlock()
	err := o.publisher.PublishInternal(some)
	through := len(some)
	switch slow := errors.Is(err, catalog.ErrFiltersTooSlow); {
	case slow && len(some) > 1:
		return len(some) / 2
	case slow:
		o.log.Error("operational event left out: the account's filters take too long", "account", account, "type", some[0].Type)
	case err != nil:
		o.log.Error("operational events not published yet", "account", account, "error", err)
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
