package dispatch

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"net/http"
	"strconv"
	"time"

	"switchhook/engine"
	"switchhook/engine/catalog"
	"switchhook/engine/dispatchqueue"
	"switchhook/engine/outbound"
	"switchhook/engine/resources"
	"switchhook/engine/retry"
	"switchhook/engine/snowflake"
	"switchhook/engine/telemetry"
)

const (
	// maxBatchBody limits the body of a batch, so that receivers can set a limit of their own. A
	// single event may be larger.
	maxBatchBody = 1 << 20
)

// batchPrefix begins the webhook-id of a POST that holds several events.
const batchPrefix = "bat_"

// batchElement is one delivery of a batch that is being sent.
type batchElement struct {
	entry   dispatchqueue.Entry
	attempt *engine.Attempt
	event   *engine.Event
	request *outbound.DeliveryRequest // nil: nothing is sent for it
	body    []byte                    // its element of the array
	verdict verdict
	result  retry.Result // of a delivery that failed before the POST

	giveUpAt time.Time
	expired  bool // giveUpAt is over: dead without an attempt
}

// batch is the result of collectBatch.
type batch struct {
	elements []*batchElement
	next     int                 // index of the first delivery that was left out; the length if none was
	single   bool                // one element is sent, as it is and not in an array
	why      *resources.Shortage // the shortage that delivery next met; nil: none
}

// deliverBatch makes one attempt of several deliveries, in one POST. Deliveries that can't be sent
// together with the first return to the queue.
func (d *Dispatcher) deliverBatch(q *queue, r *catalog.CompiledSubscription, p dispatchqueue.Batch) {
	began := time.Now()
	traced, span := d.traces.Deliver(r.Sub, &p, &engine.Attempt{Number: p.First.Attempts + 1})
	ctx, cancel := context.WithTimeout(traced, r.Policy.Timeout)
	defer cancel()
	b := d.collectBatch(ctx, r, &p)
	if len(b.elements) == 0 {
		telemetry.EndSpan(span, "put back")
		d.requeue(q, p, b.why)
		return
	}
	if b.next < p.Len() {
		rest := dispatchqueue.Batch{First: *p.At(b.next), Rest: p.Rest[b.next:], Queue: p.Queue}
		p.Rest = p.Rest[:b.next-1]
		known, list := d.scheduler.requeueRest(q, rest)
		d.afterRequeue(q, rest, known, list)
	}
	sent, x, post := d.sendBatch(ctx, r, b)
	if x.Status == http.StatusRequestEntityTooLarge && len(sent) > 1 {
		d.log.Info("batch refused as too large, to be sent in halves", "subscription_id", r.Sub.ID.Format(engine.SubscriptionPrefix), "events", len(sent))
		telemetry.EndSpan(span, "too large")
		d.scheduler.batchTooLarge(q, len(sent))
		d.requeue(q, p, nil)
		return
	}
	if why := d.resources.ShortageIn(x, post.Phase); why != nil {
		telemetry.EndSpan(span, "put back")
		d.requeue(q, p, why)
		return
	}
	took := time.Since(began)
	d.metrics.Duration.Observe(took.Seconds())
	outcome := verdict{} // of the POST, for the circuit breaker
	verdicts := make([]*verdict, len(b.elements))
	for i, el := range b.elements {
		verdicts[i] = &el.verdict
		if !el.expired { // markExpired releases those
			el.entry.Release()
		}
		el.attempt.Duration = took
		if el.request != nil && el.result.Err == nil {
			el.attempt.Phase, el.attempt.TimedOut = post.Phase, post.TimedOut
			el.attempt.Response, el.attempt.Resent = post.Response, post.Resent
			if el != sent[0] && !b.single {
				el.attempt.Response = post.Response.TruncatedFor(len(sent))
			}
			d.decideElement(r, el, x)
			outcome = el.verdict
		} else if el.result.Err != nil {
			d.decideElement(r, el, el.result)
		} else if el.verdict.State == engine.StateDropped {
			d.metrics.Attempted(r.Sub.Account, el.entry, el.attempt, engine.StateDropped)
		}
	}
	if len(sent) > 1 && outcome.State == engine.StateSucceeded {
		d.scheduler.batchAccepted(q)
	}
	if p.Queue != nil {
		d.completeOrdered(q, &p, verdicts)
	}
	d.traces.Delivered(span, &engine.Attempt{Phase: post.Phase}, outcome.State)
	n := d.scheduler.finish(q, r, p, outcome.Decision)
	if outcome.Deactivate || n.failingTooLong || n.recovered {
		d.applyTransition(r, outcome.Decision, n, d.isOperationalEvent(r, p.First))
	}
	for _, el := range b.elements {
		if el.expired {
			d.markExpired(q, r, el.entry)
			continue
		}
		if el.verdict.State == engine.StateDead {
			d.reportDeadLetter(r, el.entry, deadReason(el.attempt, el.verdict))
		}
		d.recordAttempt(q, r, el.entry, el.attempt, el.verdict)
	}
}

// decideElement decides the outcome of one delivery, by its own retry schedule.
func (d *Dispatcher) decideElement(r *catalog.CompiledSubscription, el *batchElement, x retry.Result) {
	el.verdict = d.decide(r, el.giveUpAt, el.attempt, x)
	el.attempt.Error = el.verdict.Reason
	d.metrics.Attempted(r.Sub.Account, el.entry, el.attempt, el.verdict.State)
	d.logAttempt(r, el.entry, el.attempt, el.verdict)
	d.recordPreparation(r, el.entry, el.attempt, el.verdict, x.Err)
}

// collectBatch prepares deliveries, one after the other, until they fill a batch or one of them
// can't be sent together with those before it.
func (d *Dispatcher) collectBatch(ctx context.Context, r *catalog.CompiledSubscription, p *dispatchqueue.Batch) (b batch) {
	began, size, going := time.Now(), 2, 0
	for ; b.next < p.Len(); b.next++ {
		if b.next > 0 && time.Since(began) > r.Policy.Timeout/2 { // the POST needs its time too
			return b
		}
		el := &batchElement{entry: *p.At(b.next), attempt: &engine.Attempt{Number: p.At(b.next).Attempts + 1, At: d.life.Now()}}
		el.giveUpAt = r.GiveUpAt(&el.entry, p.ResumedAt)
		if el.expired = d.cfg.Now().After(el.giveUpAt); el.expired {
			el.verdict.State = engine.StateDead
			b.elements = append(b.elements, el)
			continue
		}
		alone, why := d.prepareElement(ctx, r, el)
		if why != nil {
			b.why = why
			return b
		}
		if el.result.Err != nil { // it fails; in an ordered queue, later deliveries may have to wait for it
			if p.Queue != nil && b.next > 0 {
				return b
			}
			b.elements = append(b.elements, el)
			if p.Queue != nil {
				b.next++
				return b
			}
			continue
		}
		if el.request == nil {
			b.elements = append(b.elements, el)
			continue
		}
		if going > 0 && (alone || size+len(el.body)+1 > maxBatchBody) {
			return b
		}
		b.elements = append(b.elements, el)
		size += len(el.body) + 1
		going++
		if alone {
			b.single = true
			b.next++
			return b
		}
	}
	return b
}

// prepareElement builds the request of one delivery. alone means that it can't be an element of an
// array: its transform changed the request, or made a body that is not JSON. why is the shortage
// that it met, or nil.
func (d *Dispatcher) prepareElement(ctx context.Context, r *catalog.CompiledSubscription, el *batchElement) (alone bool, why *resources.Shortage) {
	if r.ConfigErr != nil {
		el.attempt.Phase, el.result.Err = engine.PhaseRefused, r.ConfigErr
		return false, nil
	}
	var err error
	if el.event, err = d.loadEvent(ctx, el.entry); err != nil {
		el.attempt.Phase, el.result.Err = engine.PhaseEvent, err
		return false, d.resources.ShortageIn(el.result, engine.PhaseEvent)
	}
	out, dropped, err := d.sender.BuildUnsigned(ctx, r, el.event, el.attempt, d.sender.BuildBatchElement)
	if r.Transform.Source != "" {
		d.monitor.RecordRun(r, el.event, el.attempt, dropped, err)
	}
	switch {
	case err != nil:
		el.attempt.Phase, el.result.Err = engine.PhaseTransform, err
		return false, d.resources.ShortageIn(el.result, engine.PhaseTransform)
	case dropped != "":
		el.verdict = DroppedVerdict(dropped)
		el.attempt.Error = dropped
		return false, nil
	}
	el.request, el.body = out, out.Body
	if el.attempt.Request.Plain == engine.FormatStandard {
		el.body = outbound.WithEventID(out.Body, el.event.ID)
	}
	isJSON := r.Transform.Source == "" || out.ContentType == "application/json" && json.Valid(out.Body)
	return out.Changed || !isJSON || outbound.ArrayType(out.ContentType) == "", nil
}

// sendBatch sends the elements of a batch that have a request, and records the request in each
// attempt. result holds the answer.
func (d *Dispatcher) sendBatch(ctx context.Context, r *catalog.CompiledSubscription, b batch) (sent []*batchElement, x retry.Result, result engine.Attempt) {
	for _, el := range b.elements {
		if el.request != nil && el.result.Err == nil {
			sent = append(sent, el)
		}
	}
	if len(sent) == 0 {
		return nil, retry.Result{}, result
	}
	out, id := sent[0].request, sent[0].event.ID.Format(engine.EventPrefix)
	if !b.single {
		id = batchID(r.Sub.ID, sent)
		var body bytes.Buffer
		for i, el := range sent {
			body.WriteByte(",["[min(1, max(0, 1-i))])
			body.Write(el.body)
		}
		body.WriteByte(']')
		out.Body, out.ContentType = body.Bytes(), outbound.ArrayType(out.ContentType)
	}
	if numbers := sequences(r.Sub.ID, sent); numbers != "" {
		out.Headers[engine.SequenceHeader] = []string{numbers}
	}
	d.sender.Sign(out, r, id, sent[0].attempt.At)
	sending, span := d.traces.Send(ctx, out.Method, out.TargetURL, out.Headers, out.Redact, sent[0].attempt)
	headers, url := out.Redact.Request(out.Headers), out.Redact.URL(out.TargetURL.String())
	for _, el := range sent {
		el.attempt.Request.Method, el.attempt.Request.URL, el.attempt.Request.Headers = out.Method, url, headers
		if !b.single {
			el.attempt.Batch = len(sent)
		}
	}
	x = d.sender.Send(sending, r.Policy.Timeout, out, &result)
	d.traces.Sent(span, x, &result)
	return sent, x, result
}

// sequences lists the sequence numbers of the sent deliveries, in their order: "4-6,9" is 4, 5, 6
// and 9, so that the header of a large batch stays small. 0 stands for a delivery without one; the
// list is empty if none has a number.
func sequences(subscription engine.ID, sent []*batchElement) string {
	var list []byte
	numbered := false
	for i := 0; i < len(sent); {
		first := sent[i].event.Sequence(subscription)
		numbered = numbered || first > 0
		last := first
		for i++; i < len(sent) && first > 0 && sent[i].event.Sequence(subscription) == last+1; i++ {
			last++
		}
		if len(list) > 0 {
			list = append(list, ',')
		}
		if list = strconv.AppendInt(list, first, 10); last > first {
			list = strconv.AppendInt(append(list, '-'), last, 10)
		}
	}
	if !numbered {
		return ""
	}
	return string(list)
}

// batchID returns the webhook-id of a POST of several events: the same for the same events, so that
// a receiver can deduplicate.
func batchID(subscription engine.ID, sent []*batchElement) string {
	h := sha256.New()
	var b [8]byte
	write := func(id engine.ID) {
		binary.BigEndian.PutUint64(b[:], uint64(id))
		h.Write(b[:])
	}
	write(subscription)
	for _, el := range sent {
		write(el.entry.Event)
	}
	return batchPrefix + snowflake.Encoding.EncodeToString(h.Sum(nil)[:16])
}
