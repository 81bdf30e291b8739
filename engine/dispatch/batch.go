package dispatch

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"slices"
	"strconv"
	"time"

	"switchhook/engine"
	"switchhook/engine/catalog"
	"switchhook/engine/dispatchqueue"
	"switchhook/engine/outbound"
	"switchhook/engine/resources"
	"switchhook/engine/retry"
	"switchhook/engine/snowflake"
)

const (
	// maxBatchBody limits the body of a batch, so that receivers can set a limit of their own. A
	// single event may be larger.
	maxBatchBody = 1 << 20
)

// batchPrefix begins the webhook-id of a POST that holds several events.
const batchPrefix = "bat_"

// attempt is one delivery of a batch.
type attempt struct {
	entry   dispatchqueue.Entry
	record  *engine.Attempt
	event   *engine.Event
	request *outbound.DeliveryRequest // nil: nothing is sent for it
	body    []byte                    // its element of the array
	verdict verdict
	result  retry.Result

	giveUpAt time.Time
	expired  bool // giveUpAt is over: dead without an attempt
}

// deadReason returns the reason that the operational event of a dead letter gives. The error of a
// script may hold the event's data, which is only stored with the attempt.
func (at *attempt) deadReason() string {
	if at.record.Phase == engine.PhaseTransform {
		return "the transform failed; see the delivery's attempts"
	}
	return at.verdict.Reason
}

// batch holds the deliveries of one request.
type batch struct {
	attempts []attempt
	sent     int                 // of the attempts, those that have a request
	single   bool                // one event is sent, as it is and not in an array
	why      *resources.Shortage // the shortage that the first delivery left out met; nil: none
}

// lead returns the first delivery that has a request, or else the first. It holds the answer.
func (b *batch) lead() *attempt {
	for i := range b.attempts {
		if b.attempts[i].request != nil {
			return &b.attempts[i]
		}
	}
	return &b.attempts[0]
}

// prepareBatch prepares deliveries, one after the other, until they fill a request or one of them
// can't be sent together with those before it.
func (d *Dispatcher) prepareBatch(ctx context.Context, r *catalog.CompiledSubscription, p *dispatchqueue.Batch) batch {
	b := batch{attempts: make([]attempt, 0, p.Len()), single: r.Sub.Batch.Size == 0}
	began, size := time.Now(), len("[]")
	for n := range p.Len() {
		if n > 0 && time.Since(began) > r.Policy.Timeout/2 { // the POST needs its time too
			return b
		}
		en := *p.At(n)
		b.attempts = append(b.attempts, attempt{entry: en, record: &engine.Attempt{Number: en.Attempts + 1, At: d.life.Now()}})
		at := &b.attempts[n]
		at.giveUpAt = r.GiveUpAt(&at.entry, p.ResumedAt)
		if at.expired = d.cfg.Now().After(at.giveUpAt); at.expired {
			at.verdict.State = engine.StateDead
			continue
		}
		alone, why := d.prepare(ctx, r, at, !b.single)
		failed, going := at.result.Err != nil, at.request != nil
		if size += len(at.body) + 1; why != nil ||
			failed && p.Queue != nil && n > 0 || // in an ordered queue, later deliveries may have to wait for it
			going && b.sent > 0 && (alone || size > maxBatchBody) {
			b.attempts, b.why = b.attempts[:n], why
			return b
		}
		if going {
			b.sent++
			b.single = alone
		}
		if going && alone || failed && p.Queue != nil {
			return b
		}
	}
	return b
}

// prepare builds the request of one delivery, to be an element of an array if array is set. alone
// means that it can't be one: its transform changed the request, or made a body that is not JSON. why
// is the shortage that it met, or nil.
func (d *Dispatcher) prepare(ctx context.Context, r *catalog.CompiledSubscription, at *attempt, array bool) (alone bool, why *resources.Shortage) {
	fail := func(phase string, err error) (bool, *resources.Shortage) {
		at.record.Phase, at.result.Err = phase, err
		return false, d.resources.ShortageIn(at.result, phase)
	}
	if r.ConfigErr != nil {
		return fail(engine.PhaseRefused, r.ConfigErr)
	}
	var err error
	if at.event, err = d.loadEvent(ctx, at.entry); err != nil {
		return fail(engine.PhaseEvent, err)
	}
	out, dropped, err := d.sender.BuildUnsigned(ctx, r, at.event, at.record, array)
	if r.Transform.Source != "" {
		d.monitor.RecordRun(r, at.event, at.record, dropped, err)
	}
	switch {
	case err != nil:
		return fail(engine.PhaseTransform, err)
	case dropped != "":
		at.verdict = DroppedVerdict(dropped)
		return false, nil
	}
	at.request, at.body = out, out.Body
	if !array {
		return true, nil
	}
	if at.record.Request.Plain == engine.FormatStandard {
		at.body = outbound.WithEventID(out.Body, at.event.ID)
	}
	isJSON := r.Transform.Source == "" || out.ContentType == "application/json" && json.Valid(out.Body)
	return out.Changed || !isJSON || outbound.ArrayType(out.ContentType) == "", nil
}

// send sends those deliveries of a batch that have a request, and records the request in each. The
// first holds the answer.
func (d *Dispatcher) send(ctx context.Context, r *catalog.CompiledSubscription, b *batch) retry.Result {
	lead := b.lead()
	out := lead.request
	if out == nil {
		return retry.Result{}
	}
	var one [1]*engine.Event
	events := one[:0]
	for i := range b.attempts {
		if b.attempts[i].request != nil {
			events = append(events, b.attempts[i].event)
		}
	}
	id := lead.event.ID.Format(engine.EventPrefix)
	if !b.single {
		id = batchID(r.Sub.ID, events)
		out.Body, out.ContentType = b.array(), outbound.ArrayType(out.ContentType)
	}
	if numbers := sequences(r.Sub.ID, events); numbers != "" {
		out.Headers[engine.SequenceHeader] = []string{numbers}
	}
	hops := 0
	for _, ev := range events {
		hops = max(hops, ev.Hops)
	}
	d.sender.Sign(out, r, id, hops, lead.record.At)
	sending, span := d.traces.Send(ctx, out.Method, out.TargetURL, out.Headers)
	headers, url := out.Redact.Request(out.Headers), out.Redact.URL(out.TargetURL.String())
	for i := range b.attempts {
		at := &b.attempts[i]
		if at.request == nil {
			continue
		}
		at.record.Request.Method, at.record.Request.URL, at.record.Request.Headers = out.Method, url, headers
		if !b.single {
			at.record.Batch = len(events)
			at.request, at.body = out, nil // what it was made of is needed no more
		}
	}
	x := d.sender.Send(sending, r.Policy.Timeout, out, lead.record)
	d.traces.Sent(span, x, lead.record)
	return x
}

// array returns the body of a request that holds several deliveries.
func (b *batch) array() []byte {
	var body bytes.Buffer
	separator := byte('[')
	for i := range b.attempts {
		if b.attempts[i].request != nil {
			body.WriteByte(separator)
			body.Write(b.attempts[i].body)
			separator = ','
		}
	}
	body.WriteByte(']')
	return body.Bytes()
}

// sequences lists the sequence numbers of the sent deliveries, in their order: "4-6,9" is 4, 5, 6
// and 9, so that the header of a large batch stays small. 0 stands for a delivery without one; the
// list is empty if none has a number.
func sequences(subscription engine.ID, sent []*engine.Event) string {
	if !slices.ContainsFunc(sent, func(ev *engine.Event) bool { return ev.Sequence(subscription) > 0 }) {
		return ""
	}
	var list []byte
	for i := 0; i < len(sent); {
		first := sent[i].Sequence(subscription)
		last := first
		for i++; i < len(sent) && first > 0 && sent[i].Sequence(subscription) == last+1; i++ {
			last++
		}
		if len(list) > 0 {
			list = append(list, ',')
		}
		if list = strconv.AppendInt(list, first, 10); last > first {
			list = strconv.AppendInt(append(list, '-'), last, 10)
		}
	}
	return string(list)
}

// batchID returns the webhook-id of a POST of several events: the same for the same events, so that
// a receiver can deduplicate.
func batchID(subscription engine.ID, sent []*engine.Event) string {
	h := sha256.New()
	var b [8]byte
	write := func(id engine.ID) {
		binary.BigEndian.PutUint64(b[:], uint64(id))
		h.Write(b[:])
	}
	write(subscription)
	for _, ev := range sent {
		write(ev.ID)
	}
	return batchPrefix + snowflake.Encoding.EncodeToString(h.Sum(nil)[:16])
}
