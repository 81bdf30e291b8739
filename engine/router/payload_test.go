package router_test

import (
	"net/http"
	"testing"

	"switchhook/engine"
	"switchhook/engine/outbound"
	"switchhook/engine/testkit"
)

// last returns the headers and the body of the last request.
func last(receiver *testkit.Receiver) (http.Header, string) {
	all := receiver.Requests()
	sent := all[len(all)-1]
	return sent.Header, sent.Body
}

func TestDialect_BodyTemplate(t *testing.T) {
	t.Parallel()
	r := start(t, nil)
	template := func(source string) *outbound.BodyTemplate {
		b, err := outbound.CompileBodyTemplate([]byte(source))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	r.SetDialectBodies(map[string]*outbound.BodyTemplate{"crm": template(`{"hook":"$subscription.id","data":"$event.data"}`)})
	s := r.subscribe(func(s *engine.Subscription) { s.Dialect, s.PayloadFormat = "crm", "" })
	want := `{"hook":"` + s.ID.Format("sub") + `","data":{"n": 1.0}}`
	a := r.publish("a", `{"n": 1.0}`)
	r.delivery(a.ID, s, engine.StateSucceeded)
	if h, body := last(r.sink); body != want || h.Get("Content-Type") != "application/json" {
		t.Errorf("the target got %s, %v", body, h)
	}
	// What was sent is what is shown, also after the template was changed.
	r.SetDialectBodies(map[string]*outbound.BodyTemplate{"crm": template(`{"other":"$event.data"}`)})
	if _, attempts := r.delivery(a.ID, s, engine.StateSucceeded); string(attempts[0].Request.Body) != want {
		t.Errorf("the attempt shows %s", attempts[0].Request.Body)
	}
	r.delivery(r.publish("a", `2`).ID, s, engine.StateSucceeded)
	if _, body := last(r.sink); body != `{"other":2}` {
		t.Errorf("after the change the target got %s", body)
	}
	// Neither another dialect's subscriptions, nor those that ask for a format, follow it.
	for _, c := range []struct {
		dialect string
		format  engine.PayloadFormat
	}{{"crm", engine.FormatData}, {"", engine.FormatData}, {"gone", engine.FormatData}} {
		s := r.subscribe(func(s *engine.Subscription) {
			s.Dialect, s.PayloadFormat, s.Events = c.dialect, c.format, []string{"b"}
		})
		if _, attempts := r.delivery(r.publish("b", `3`).ID, s, engine.StateSucceeded); string(attempts[0].Request.Body) != "3" {
			t.Errorf("%+v: the target got %s", c, attempts[0].Request.Body)
		}
	}
	s = r.subscribe(func(s *engine.Subscription) {
		s.Dialect, s.PayloadFormat, s.Events, s.Transform = "crm", "", []string{"c"}, "export default () => 'mine'"
	})
	r.delivery(r.publish("c", `4`).ID, s, engine.StateSucceeded)
	if r.sink.Times("mine") != 1 {
		t.Error("the transform did not make the body")
	}
}
