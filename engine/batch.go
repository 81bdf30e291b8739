package engine

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"net/http"
	"strconv"
	"time"

	"switchhook/engine/judge"
	"switchhook/engine/order"
	"switchhook/engine/snowflake"
)

const (
	maxBatchSize = 1000
	maxBatchWait = 5 * time.Minute
	// maxBatchBody is where a batch is cut, so that a receiver can set a limit of its own.
	// One event alone may be larger.
	maxBatchBody = 1 << 20
)

// batchPrefix begins the webhook-id of a POST that holds several events.
const batchPrefix = "bat_"

// element is one delivery of a batch on its way out.
type element struct {
	en   order.Entry
	a    *Attempt
	ev   *Event
	out  *outgoing // nil where nothing is to be sent
	body []byte    // its place in the array
	v    verdict
	x    judge.Exchange // where it failed by itself, why

	giveUpAt time.Time
	old      bool // that is over: it is given up without an attempt
}

// batch is what came of making a parcel ready.
type batch struct {
	elements []*element
	rest     int       // the first delivery of the parcel that is not in it; its length where all are
	alone    bool      // the one that is to be sent goes as it is, in no array
	why      *shortage // that the first of the rest met; nil: none
}

// deliverBatch makes one attempt of several deliveries, in one POST. What does not go with
// the first of them waits again.
func (e *Engine) deliverBatch(q *queue, r *route, p order.Parcel) {
	began := time.Now()
	traced, span := e.traces.deliver(r, &p, &Attempt{Number: p.First.Attempts + 1})
	ctx, cancel := context.WithTimeout(traced, r.terms.timeout)
	defer cancel()
	b := e.gather(ctx, r, &p)
	if len(b.elements) == 0 {
		end(span, "put back")
		e.putBack(q, p, b.why)
		return
	}
	if b.rest < p.Len() {
		rest := order.Parcel{First: *p.At(b.rest), Rest: p.Rest[b.rest:], From: p.From}
		p.Rest = p.Rest[:b.rest-1]
		known, list := e.scheduler.putRest(q, rest)
		e.afterPutBack(q, rest, known, list)
	}
	sent, x, post := e.post(ctx, r, b)
	if x.Status == http.StatusRequestEntityTooLarge && len(sent) > 1 {
		e.log.Info("batch refused as too large, to be sent in halves", "subscription_id", r.sub.ID.Format(SubscriptionPrefix), "events", len(sent))
		end(span, "too large")
		e.scheduler.tooLarge(q, len(sent))
		e.putBack(q, p, nil)
		return
	}
	if why := e.shortageIn(x, post.Phase); why != nil {
		end(span, "put back")
		e.putBack(q, p, why)
		return
	}
	took := time.Since(began)
	e.metrics.duration.Observe(took.Seconds())
	outcome := verdict{} // of the POST, for what it says of the target
	verdicts := make([]*verdict, len(b.elements))
	for i, el := range b.elements {
		verdicts[i] = &el.v
		if !el.old { // which giveUpOld does
			el.en.Release()
		}
		el.a.Duration = took
		if el.out != nil && el.x.Err == nil {
			el.a.Phase, el.a.Response, el.a.Resent = post.Phase, post.Response, post.Resent
			if el != sent[0] && !b.alone {
				el.a.Response = post.Response.shorter(len(sent))
			}
			e.judgeOne(r, el, x)
			outcome = el.v
		} else if el.x.Err != nil {
			e.judgeOne(r, el, el.x)
		} else if el.v.state == StateDropped {
			e.metrics.attempted(r.sub.Account, el.en, el.a, StateDropped)
		}
	}
	if len(sent) > 1 && outcome.state == StateSucceeded {
		e.scheduler.fits(q)
	}
	if p.From != nil {
		e.arrived(q, &p, verdicts)
	}
	e.traces.delivered(span, &Attempt{Phase: post.Phase}, outcome.state)
	n := e.scheduler.finish(q, r, p, outcome.Verdict)
	if outcome.Deactivate || n.hopeless || n.recovered {
		e.heed(r, outcome.Verdict, n, e.aboutOperational(r, p.First))
	}
	for _, el := range b.elements {
		if el.old {
			e.giveUpOld(q, r, el.en)
			continue
		}
		if el.v.state == StateDead {
			e.noteDead(r, el.en, deadReason(el.a, el.v))
		}
		e.recordAttempt(q, r, el.en, el.a, el.v)
	}
}

// judgeOne decides what follows for one delivery, by its own schedule.
func (e *Engine) judgeOne(r *route, el *element, x judge.Exchange) {
	el.v = e.judge(r, el.giveUpAt, el.a, x)
	el.a.Error = el.v.Reason
	e.metrics.attempted(r.sub.Account, el.en, el.a, el.v.state)
	e.logAttempt(r, el.en, el.a, el.v)
	e.noteOwn(r, el.en, el.a, el.v, x.Err)
}

// gather makes deliveries ready, one after the other, until they fill a batch or one comes
// that can't go with those before it.
func (e *Engine) gather(ctx context.Context, r *route, p *order.Parcel) (b batch) {
	began, size, going := time.Now(), 2, 0
	for ; b.rest < p.Len(); b.rest++ {
		if b.rest > 0 && time.Since(began) > r.terms.timeout/2 { // the POST needs its time too
			return b
		}
		el := &element{en: *p.At(b.rest), a: &Attempt{Number: p.At(b.rest).Attempts + 1, At: e.now()}}
		el.giveUpAt = r.giveUpAt(&el.en, p.Resumed)
		if el.old = e.cfg.Now().After(el.giveUpAt); el.old {
			el.v.state = StateDead
			b.elements = append(b.elements, el)
			continue
		}
		alone, why := e.ready(ctx, r, el)
		if why != nil {
			b.why = why
			return b
		}
		if el.x.Err != nil { // it fails; in a line that sorts, others may have to wait for it
			if p.From != nil && b.rest > 0 {
				return b
			}
			b.elements = append(b.elements, el)
			if p.From != nil {
				b.rest++
				return b
			}
			continue
		}
		if el.out == nil {
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
			b.alone = true
			b.rest++
			return b
		}
	}
	return b
}

// ready makes one delivery ready. alone says that it can't stand in an array: its transform
// changed the request, or made a body that is no JSON. why is what the router lacked for it.
func (e *Engine) ready(ctx context.Context, r *route, el *element) (alone bool, why *shortage) {
	if r.broken != nil {
		el.a.Phase, el.x.Err = phaseRefused, r.broken
		return false, nil
	}
	var err error
	if el.ev, err = e.eventOf(ctx, el.en); err != nil {
		el.a.Phase, el.x.Err = phaseEvent, err
		return false, e.shortageIn(el.x, phaseEvent)
	}
	out, dropped, err := e.composeUnsealed(ctx, r, el.ev, el.a, e.element)
	if r.transformSource != "" {
		e.noteRun(r, el.ev, el.a, dropped, err)
	}
	switch {
	case err != nil:
		el.a.Phase, el.x.Err = phaseTransform, err
		return false, e.shortageIn(el.x, phaseTransform)
	case dropped != "":
		el.v = droppedFor(dropped)
		el.a.Error = dropped
		return false, nil
	}
	el.out, el.body = out, out.body
	if el.a.Request.Plain == FormatStandard {
		el.body = identified(out.body, el.ev.ID)
	}
	isJSON := r.transformSource == "" || out.contentType == "application/json" && json.Valid(out.body)
	return out.changed || !isJSON || arrayType(out.contentType) == "", nil
}

// identified puts an event's id into its envelope, so that a receiver can drop repeats.
func identified(envelope []byte, event ID) []byte {
	body := make([]byte, 0, len(envelope)+32)
	body = append(body, `{"id":"`...)
	body = append(body, event.Format(EventPrefix)...)
	body = append(body, `",`...)
	return append(body, envelope[1:]...)
}

// post sends what is to be sent of a batch, and notes in each attempt what went. The answer
// is in result.
func (e *Engine) post(ctx context.Context, r *route, b batch) (sent []*element, x judge.Exchange, result Attempt) {
	for _, el := range b.elements {
		if el.out != nil && el.x.Err == nil {
			sent = append(sent, el)
		}
	}
	if len(sent) == 0 {
		return nil, judge.Exchange{}, result
	}
	out, id := sent[0].out, sent[0].ev.ID.Format(EventPrefix)
	if !b.alone {
		id = batchID(r.sub.ID, sent)
		var body bytes.Buffer
		for i, el := range sent {
			body.WriteByte(",["[min(1, max(0, 1-i))])
			body.Write(el.body)
		}
		body.WriteByte(']')
		out.body, out.contentType = body.Bytes(), arrayType(out.contentType)
	}
	if numbers := sequences(r.sub.ID, sent); numbers != "" {
		out.headers[sequenceHeader] = []string{numbers}
	}
	e.seal(out, r, id, sent[0].a.At)
	sending, span := e.traces.send(ctx, out, sent[0].a)
	headers, url := out.redact.request(out.headers), out.redact.url(out.url.String())
	for _, el := range sent {
		el.a.Request.Method, el.a.Request.URL, el.a.Request.Headers = out.method, url, headers
		if !b.alone {
			el.a.Batch = len(sent)
		}
	}
	x = e.send(sending, r.terms.timeout, out, &result)
	e.traces.sent(span, x, &result)
	return sent, x, result
}

// sequences lists the numbers of what is sent, in its order: "4-6,9" is 4, 5, 6 and 9, so
// that the header of a large batch stays small. 0 stands for a delivery without one; the
// list is empty where no one has any.
func sequences(subscription ID, sent []*element) string {
	var list []byte
	numbered := false
	for i := 0; i < len(sent); {
		first := sent[i].ev.Sequence(subscription)
		numbered = numbered || first > 0
		last := first
		for i++; i < len(sent) && first > 0 && sent[i].ev.Sequence(subscription) == last+1; i++ {
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

// batchID names a POST of several events: the same for the same events, so that a receiver
// that has taken it can drop a repeat.
func batchID(subscription ID, sent []*element) string {
	h := sha256.New()
	var b [8]byte
	write := func(id ID) {
		binary.BigEndian.PutUint64(b[:], uint64(id))
		h.Write(b[:])
	}
	write(subscription)
	for _, el := range sent {
		write(el.en.Event)
	}
	return batchPrefix + snowflake.Encoding.EncodeToString(h.Sum(nil)[:16])
}

// shorter is the answer as it is kept with all but the first of n deliveries that it is the
// answer for: so that n of it take no more room than a few.
func (a AttemptResponse) shorter(n int) AttemptResponse {
	const least = 256
	if most := max(least, keepBody/n); len(a.Body) > most {
		a.Body, a.Truncated = a.Body[:most], true
	}
	size := 0
	for i, h := range a.Headers {
		if size += len(h.Name) + len(h.Value); size > max(4*least, keepHeaders/n) {
			a.Headers = a.Headers[:i]
			break
		}
	}
	return a
}
