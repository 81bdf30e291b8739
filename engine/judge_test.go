package engine

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"
)

var (
	noon  = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	never = noon.AddDate(100, 0, 0)
)

func TestJudge(t *testing.T) {
	schedule := RetrySchedule{0, 5 * time.Second, 5 * time.Minute}
	for name, c := range map[string]struct {
		number     int
		x          exchange
		state      State
		after      time.Duration
		deactivate bool
		slowDown   time.Duration
		trouble    bool
		err        string
	}{
		"200 succeeds":                         {1, exchange{status: 200}, StateSucceeded, 0, false, 0, false, ""},
		"204 succeeds on the last attempt":     {3, exchange{status: 204}, StateSucceeded, 0, false, 0, false, ""},
		"500 is tried again by the schedule":   {1, exchange{status: 500}, StateFailed, 5 * time.Second, false, 0, false, "500 Internal Server Error"},
		"404 is tried again":                   {2, exchange{status: 404}, StateFailed, 5 * time.Minute, false, 0, false, "404 Not Found"},
		"after the last attempt it is dead":    {3, exchange{status: 500}, StateDead, 0, false, 0, false, "500"},
		"beyond the schedule it stays dead":    {11, exchange{status: 500}, StateDead, 0, false, 0, false, "500"},
		"a redirect is a failure":              {1, exchange{status: 302}, StateFailed, 5 * time.Second, false, 0, false, "redirects are not followed"},
		"199 and other odd ones are failures":  {1, exchange{status: 199}, StateFailed, 5 * time.Second, false, 0, false, "199"},
		"an unknown status is a failure":       {1, exchange{status: 799}, StateFailed, 5 * time.Second, false, 0, false, "the target answered 799"},
		"410 switches off at once":             {1, exchange{status: 410}, StateDead, 0, true, 0, false, "410 Gone"},
		"429 slows the target down":            {1, exchange{status: 429}, StateFailed, 5 * time.Second, false, time.Second, true, "429"},
		"503 with Retry-After waits so long":   {1, exchange{status: 503, retryAfter: "120"}, StateFailed, 2 * time.Minute, false, 2 * time.Minute, true, "503"},
		"a short Retry-After does not hurry":   {1, exchange{status: 503, retryAfter: "1"}, StateFailed, 5 * time.Second, false, time.Second, true, "503"},
		"a huge Retry-After is cut":            {1, exchange{status: 503, retryAfter: "99999999999999999999"}, StateFailed, 24 * time.Hour, false, time.Hour, true, "503"},
		"a date in Retry-After":                {1, exchange{status: 500, retryAfter: noon.Add(time.Minute).Format(http.TimeFormat)}, StateFailed, time.Minute, false, 0, false, "500"},
		"a past date is not heeded":            {1, exchange{status: 502, retryAfter: noon.Add(-time.Hour).Format(http.TimeFormat)}, StateFailed, 5 * time.Second, false, time.Second, true, "502"},
		"nonsense in Retry-After":              {1, exchange{status: 504, retryAfter: "soon"}, StateFailed, 5 * time.Second, false, time.Second, true, "504"},
		"a negative Retry-After":               {1, exchange{status: 504, retryAfter: "-5"}, StateFailed, 5 * time.Second, false, time.Second, true, "504"},
		"no answer is tried again":             {1, exchange{err: errors.New("connection refused"), silent: true}, StateFailed, 5 * time.Second, false, 0, true, "connection refused"},
		"a failing script is not the target's": {1, exchange{err: errors.New("boom")}, StateFailed, 5 * time.Second, false, 0, false, "boom"},
	} {
		v := judge(schedule, never, c.number, c.x, noon, 0.5)
		var after time.Duration
		if !v.nextAt.IsZero() {
			after = v.nextAt.Sub(noon)
		}
		if v.state != c.state || after != c.after || v.deactivate != c.deactivate || v.slowDown != c.slowDown || v.trouble != c.trouble || !strings.Contains(v.err, c.err) {
			t.Errorf("%s: got %+v, next after %s", name, v, after)
		}
	}
}

func TestADeliveryWhoseNextAttemptComesTooLateIsDead(t *testing.T) {
	schedule := RetrySchedule{0, time.Minute, time.Minute}
	for name, c := range map[string]struct {
		giveUpAt time.Time
		x        exchange
		state    State
	}{
		"just in time":               {noon.Add(time.Minute), exchange{status: 500}, StateFailed},
		"too late":                   {noon.Add(time.Minute - 1), exchange{status: 500}, StateDead},
		"too late by Retry-After":    {noon.Add(time.Hour), exchange{status: 503, retryAfter: "3601"}, StateDead},
		"success is never too late":  {noon.Add(-time.Hour), exchange{status: 200}, StateSucceeded},
		"an old one that is retried": {noon.Add(-time.Hour), exchange{status: 500}, StateDead},
	} {
		v := judge(schedule, c.giveUpAt, 1, c.x, noon, 0.5)
		if v.state != c.state || v.state == StateDead && !strings.Contains(v.err, "give_up_after") {
			t.Errorf("%s: %+v", name, v)
		}
	}
}

func TestWhatAnAttemptSaysOfItsTarget(t *testing.T) {
	for want, list := range map[reply][]exchange{
		replyGood: {{status: 200}, {status: 299}},
		replyBad:  {{status: 400}, {status: 404}, {status: 410}, {status: 302}, {err: errors.New("not allowed"), refused: true}},
		replyDown: {{status: 500}, {status: 503}, {status: 599}, {status: 429}, {err: errors.New("timeout"), silent: true}},
		replyNone: {{err: errors.New("the script threw")}},
	} {
		for _, x := range list {
			if v := judge(DefaultRetrySchedule, never, 1, x, noon, 0.5); v.reply != want {
				t.Errorf("%+v: %d, want %d", x, v.reply, want)
			}
		}
	}
}

func TestJitterStaysWithinAFifth(t *testing.T) {
	for _, j := range []float64{0, 0.25, 0.999} {
		v := judge(RetrySchedule{0, 100 * time.Second}, never, 1, exchange{status: 500}, noon, j)
		if d := v.nextAt.Sub(noon); d < 80*time.Second || d > 120*time.Second {
			t.Errorf("jitter %v: %s", j, d)
		}
	}
}

func TestDefaultScheduleSpansThreeDays(t *testing.T) {
	var sum time.Duration
	for _, d := range DefaultRetrySchedule {
		sum += d
	}
	if want := 75*time.Hour + 35*time.Minute + 5*time.Second; sum != want || len(DefaultRetrySchedule) != 10 {
		t.Errorf("%d attempts in %s", len(DefaultRetrySchedule), sum)
	}
}

func TestLongErrorsAreCut(t *testing.T) {
	v := judge(RetrySchedule{0}, never, 1, exchange{err: errors.New(strings.Repeat("é", 4000))}, noon, 0)
	if len(v.err) > maxErrorBytes+8 {
		t.Errorf("%d bytes", len(v.err))
	}
}

func FuzzParseRetryAfter(f *testing.F) {
	for _, s := range []string{"", "0", "120", "-1", "1e9", " 5 ", "Wed, 21 Oct 2026 07:28:00 GMT", "18446744073709551616"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, header string) {
		if wait, ok := parseRetryAfter(header, noon); ok && (wait < 0 || wait > maxRetryAfter) {
			t.Fatalf("%q: %s", header, wait)
		}
	})
}
