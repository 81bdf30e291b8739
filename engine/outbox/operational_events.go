package outbox

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"time"

	"switchhook/engine"
	"switchhook/engine/catalog"
	"switchhook/scripts/jsonindex"
)

const (
	deadLetterInterval = time.Second // between two events for the dead letters of a subscription
	deadShown          = 10          // dead letters listed in one event
	maxOutbox          = 10_000      // waiting operational events, while the store can't be written
	maxAccountOutbox   = 1000        // of one account
	flushBatch         = 100         // published together; all of one account
	// maxConcurrentFlushes is how many accounts' events are published at the same time: an
	// account's slow filters must not delay the others.
	maxConcurrentFlushes = 8
)

// deadLetters are the dead letters of one subscription since the last event about them.
type deadLetters struct {
	route       *catalog.CompiledSubscription
	count       int
	newest      []string
	reason      string
	first, last time.Time
	hops        int // the most of their events
}

// subscriptionRef identifies the subscription in an operational event.
type subscriptionRef struct {
	Subscription string `json:"subscription_id"`
	TargetURL    string `json:"target_url"` // masked: everyone who may read events sees it
}

func subscriptionRefOf(s *engine.Subscription) subscriptionRef {
	return subscriptionRef{s.ID.Format(engine.SubscriptionPrefix), engine.MaskURL(s.TargetURL)}
}

// EmitDeactivated notifies the account that the router deactivated a subscription.
func (o *Outbox) EmitDeactivated(s *engine.Subscription) {
	o.emit(s.Account, engine.TypeDeactivated, 0, struct {
		subscriptionRef
		Reason string    `json:"reason"`
		At     time.Time `json:"at"`
	}{subscriptionRefOf(s), s.Reason, s.UpdatedAt})
}

// EmitRecovered notifies the account that a long-failing target accepted a delivery.
func (o *Outbox) EmitRecovered(r *catalog.CompiledSubscription, h engine.Health) {
	o.emit(r.Sub.Account, engine.TypeRecovered, 0, struct {
		subscriptionRef
		FailingSince time.Time `json:"failing_since"`
		Failures     int       `json:"failures"`
		LastError    string    `json:"last_error"`
		At           time.Time `json:"at"`
	}{subscriptionRefOf(r.Sub), h.FailingSince, h.Failures, h.LastError, o.life.Now()})
}

// EmitQuarantined notifies the account that a transform was quarantined.
func (o *Outbox) EmitQuarantined(r *catalog.CompiledSubscription, hash, reason string) {
	script := ""
	if r.Transform.Ref.Script != 0 {
		script = r.Transform.Ref.Script.Format(engine.ScriptPrefix)
	}
	o.emit(r.Sub.Account, engine.TypeQuarantined, 0, struct {
		subscriptionRef
		Script  string    `json:"script_id,omitempty"`
		Version int       `json:"script_version,omitempty"`
		Hash    string    `json:"script_hash"`
		Reason  string    `json:"reason"`
		At      time.Time `json:"at"`
	}{subscriptionRefOf(r.Sub), script, r.Transform.Ref.Version, hash, reason, o.life.Now()})
}

// emit queues an operational event; it does nothing if there are no subscribers. hops are those of
// the event that it tells of.
func (o *Outbox) emit(account, eventType string, hops int, data any) {
	if len(o.catalog.Candidates(account, eventType)) == 0 {
		return
	}
	raw, err := json.Marshal(data)
	if err != nil {
		panic(err) // can't fail: strings, numbers and times
	}
	doc, err := jsonindex.Parse(raw, jsonindex.Limits{})
	if err != nil {
		o.log.Error("operational event not made", "type", eventType, "error", err)
		return
	}
	if !o.add(engine.EventInput{Account: account, Type: eventType, Data: doc.Root(), Hops: hops}) {
		o.log.Error("operational event left out: too many wait", "account", account, "type", eventType)
	}
}

// add queues an operational event; false if too many wait.
func (o *Outbox) add(in engine.EventInput) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.total >= maxOutbox || len(o.waiting[in.Account]) >= maxAccountOutbox {
		return false
	}
	o.waiting[in.Account] = append(o.waiting[in.Account], in)
	o.total++
	select {
	case o.wake <- struct{}{}:
	default:
	}
	return true
}

// WantsDeadLetters reports whether a subscription of the account receives events about dead
// letters.
func (o *Outbox) WantsDeadLetters(account string) bool {
	return len(o.catalog.Candidates(account, engine.TypeDead)) > 0
}

// CountDeadLetter counts a dead letter. Many within a second become one event.
func (o *Outbox) CountDeadLetter(r *catalog.CompiledSubscription, ev *engine.Event, reason string) {
	now := o.life.Now()
	o.mu.Lock()
	defer o.mu.Unlock()
	d := o.dead[r.Sub.ID]
	if d == nil {
		d = &deadLetters{route: r, first: now}
		o.dead[r.Sub.ID] = d
	}
	d.count++
	d.reason, d.last, d.hops = reason, now, max(d.hops, ev.Hops)
	if len(d.newest) == deadShown {
		d.newest = slices.Delete(d.newest, 0, 1)
	}
	d.newest = append(d.newest, engine.DeliveryID{Event: ev.ID, Subscription: r.Sub.ID}.String())
}

// OperationalLoop publishes operational events.
func (o *Outbox) OperationalLoop() {
	ticker := time.NewTicker(deadLetterInterval)
	defer ticker.Stop()
	for {
		select {
		case <-o.life.Stopping():
			return
		case <-o.wake:
		case <-ticker.C:
			o.EmitDeadLetters()
		}
		o.flushOutbox()
	}
}

// EmitDeadLetters emits events about the collected dead letters.
func (o *Outbox) EmitDeadLetters() {
	o.mu.Lock()
	gathered := o.dead
	o.dead = map[engine.ID]*deadLetters{}
	o.mu.Unlock()
	for _, d := range gathered {
		o.emit(d.route.Sub.Account, engine.TypeDead, d.hops, struct {
			subscriptionRef
			Count      int       `json:"count"`
			Deliveries []string  `json:"deliveries"` // the newest
			Reason     string    `json:"reason"`     // of the last one
			FirstAt    time.Time `json:"first_at"`
			LastAt     time.Time `json:"last_at"`
		}{subscriptionRefOf(d.route.Sub), d.count, d.newest, d.reason, d.first, d.last})
	}
}

// flushOutbox starts publishing the waiting events, each account's separately. Events that can't be
// stored now keep waiting.
func (o *Outbox) flushOutbox() {
	o.mu.Lock()
	defer o.mu.Unlock()
	for account := range o.waiting {
		if o.flushing[account] {
			continue
		}
		o.flushing[account] = true
		o.publishing.Go(func() {
			for most := flushBatch; most > 0; {
				most = o.flushAccount(account, most)
			}
		})
	}
}

// FlushAll publishes the waiting events when the router stops, until ctx ends.
func (o *Outbox) FlushAll(ctx context.Context) error {
	o.flushOutbox()
	published := make(chan struct{})
	go func() {
		o.publishing.Wait()
		close(published)
	}()
	select {
	case <-published:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// flushAccount publishes the oldest of an account's operational events, at most most. It returns
// how many to try next, 0 if the account is finished for now.
func (o *Outbox) flushAccount(account string, most int) (next int) {
	_ = o.slots.Acquire(context.Background(), 1) // can't fail: the context does not end
	defer o.slots.Release(1)
	o.mu.Lock()
	some := o.waiting[account]
	some = some[:min(len(some), most)]
	o.mu.Unlock()
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
	o.mu.Lock()
	defer o.mu.Unlock()
	o.total -= through
	if o.waiting[account] = o.waiting[account][through:]; len(o.waiting[account]) > 0 && through > 0 {
		return most
	}
	if len(o.waiting[account]) == 0 {
		delete(o.waiting, account)
	}
	delete(o.flushing, account)
	return 0
}
