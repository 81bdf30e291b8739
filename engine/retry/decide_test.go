package retry

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

func TestDecide(t *testing.T) {
	schedule := []time.Duration{0, 5 * time.Second, 5 * time.Minute}
	for name, c := range map[string]struct {
		number     int
		x          Result
		decision   Action
		after      time.Duration
		deactivate bool
		pauseFor   time.Duration
		overloaded bool
		err        string
	}{
		"200 succeeds":                       {1, Result{Status: 200}, ActionSucceed, 0, false, 0, false, ""},
		"204 succeeds on the last attempt":   {3, Result{Status: 204}, ActionSucceed, 0, false, 0, false, ""},
		"500 is retried by the schedule":     {1, Result{Status: 500}, ActionRetry, 5 * time.Second, false, 0, false, "500 Internal Server Error"},
		"404 is retried":                     {2, Result{Status: 404}, ActionRetry, 5 * time.Minute, false, 0, false, "404 Not Found"},
		"after the last attempt it is dead":  {3, Result{Status: 500}, ActionDead, 0, false, 0, false, "500"},
		"beyond the schedule it stays dead":  {11, Result{Status: 500}, ActionDead, 0, false, 0, false, "500"},
		"a redirect is a failure":            {1, Result{Status: 302}, ActionRetry, 5 * time.Second, false, 0, false, "redirects are not followed"},
		"199 is a failure":                   {1, Result{Status: 199}, ActionRetry, 5 * time.Second, false, 0, false, "199"},
		"an unknown status is a failure":     {1, Result{Status: 799}, ActionRetry, 5 * time.Second, false, 0, false, "the target answered 799"},
		"410 deactivates":                    {1, Result{Status: 410}, ActionDead, 0, true, 0, false, "410 Gone"},
		"508 is a loop, not retried":         {1, Result{Status: 508, RetryAfter: []string{"1"}}, ActionDead, 0, false, 0, false, "508 Loop Detected; this is not retried"},
		"429 slows the target down":          {1, Result{Status: 429}, ActionRetry, 5 * time.Second, false, time.Second, true, "429"},
		"503 with Retry-After":               {1, Result{Status: 503, RetryAfter: []string{"120"}}, ActionRetry, 2 * time.Minute, false, 2 * time.Minute, true, "503"},
		"a short Retry-After does not hurry": {1, Result{Status: 503, RetryAfter: []string{"1"}}, ActionRetry, 5 * time.Second, false, time.Second, true, "503"},
		"a huge Retry-After is cut":          {1, Result{Status: 503, RetryAfter: []string{"99999999999999999999"}}, ActionRetry, 24 * time.Hour, false, time.Hour, true, "503"},
		"a date in Retry-After":              {1, Result{Status: 500, RetryAfter: []string{noon.Add(time.Minute).Format(http.TimeFormat)}}, ActionRetry, time.Minute, false, 0, false, "500"},
		"a past date is ignored":             {1, Result{Status: 502, RetryAfter: []string{noon.Add(-time.Hour).Format(http.TimeFormat)}}, ActionRetry, 5 * time.Second, false, time.Second, true, "502"},
		"nonsense in Retry-After":            {1, Result{Status: 504, RetryAfter: []string{"soon"}}, ActionRetry, 5 * time.Second, false, time.Second, true, "504"},
		"a negative Retry-After":             {1, Result{Status: 504, RetryAfter: []string{"-5"}}, ActionRetry, 5 * time.Second, false, time.Second, true, "504"},
		"no answer is retried":               {1, Result{Err: errors.New("connection refused"), Silent: true}, ActionRetry, 5 * time.Second, false, 0, true, "connection refused"},
		"a script error":                     {1, Result{Err: errors.New("boom")}, ActionRetry, 5 * time.Second, false, 0, false, "boom"},
	} {
		v := Decide(Schedule{Waits: schedule, GiveUpAt: never}, c.number, c.x, noon, 0.5)
		var after time.Duration
		if !v.NextAt.IsZero() {
			after = v.NextAt.Sub(noon)
		}
		if v.Action != c.decision || after != c.after || v.Deactivate != c.deactivate || v.PauseFor != c.pauseFor || v.Overloaded != c.overloaded || !strings.Contains(v.Reason, c.err) {
			t.Errorf("%s: got %+v, next after %s", name, v, after)
		}
	}
}

func TestDecide_GiveUpAt(t *testing.T) {
	schedule := []time.Duration{0, time.Minute, time.Minute}
	for name, c := range map[string]struct {
		giveUpAt time.Time
		x        Result
		decision Action
	}{
		"just in time":                    {noon.Add(time.Minute), Result{Status: 500}, ActionRetry},
		"too late":                        {noon.Add(time.Minute - 1), Result{Status: 500}, ActionDead},
		"too late by Retry-After":         {noon.Add(time.Hour), Result{Status: 503, RetryAfter: []string{"3601"}}, ActionDead},
		"success is never too late":       {noon.Add(-time.Hour), Result{Status: 200}, ActionSucceed},
		"an old delivery that is retried": {noon.Add(-time.Hour), Result{Status: 500}, ActionDead},
	} {
		v := Decide(Schedule{Waits: schedule, GiveUpAt: c.giveUpAt}, 1, c.x, noon, 0.5)
		if v.Action != c.decision || v.Action == ActionDead && !strings.Contains(v.Reason, "give_up_after") {
			t.Errorf("%s: %+v", name, v)
		}
	}
}

func TestDecide_TargetSignal(t *testing.T) {
	for want, list := range map[TargetSignal][]Result{
		SignalHealthy:     {{Status: 200}, {Status: 299}},
		SignalRejecting:   {{Status: 400}, {Status: 404}, {Status: 410}, {Status: 302}, {Err: errors.New("not allowed"), Refused: true}},
		SignalUnavailable: {{Status: 500}, {Status: 503}, {Status: 599}, {Status: 429}, {Err: errors.New("timeout"), Silent: true}},
		SignalUnknown:     {{Err: errors.New("the script threw")}},
	} {
		for _, x := range list {
			if v := Decide(Schedule{Waits: []time.Duration{0, time.Minute}, GiveUpAt: never}, 1, x, noon, 0.5); v.Signal != want {
				t.Errorf("%+v: %d, want %d", x, v.Signal, want)
			}
		}
	}
}

func TestDecide_JitterWithinAFifth(t *testing.T) {
	for _, j := range []float64{0, 0.25, 0.999} {
		v := Decide(Schedule{Waits: []time.Duration{0, 100 * time.Second}, GiveUpAt: never}, 1, Result{Status: 500}, noon, j)
		if d := v.NextAt.Sub(noon); d < 80*time.Second || d > 120*time.Second {
			t.Errorf("jitter %v: %s", j, d)
		}
	}
}

func TestTruncate_LongError(t *testing.T) {
	v := Decide(Schedule{Waits: []time.Duration{0}, GiveUpAt: never}, 1, Result{Err: errors.New(strings.Repeat("é", 4000))}, noon, 0)
	if len(v.Reason) > maxErrorBytes+8 {
		t.Errorf("%d bytes", len(v.Reason))
	}
}

func TestRetryAfter(t *testing.T) {
	in := noon.Add(2 * time.Hour)
	for name, c := range map[string]struct {
		headers []string
		date    string
		want    time.Duration // negative: it can't be read
	}{
		"none":                     {nil, "", -1},
		"seconds":                  {[]string{"120"}, "", 2 * time.Minute},
		"zero":                     {[]string{"0"}, "", 0},
		"spaces":                   {[]string{" 5\t"}, "", 5 * time.Second},
		"a fraction":               {[]string{"1.5"}, "", 1500 * time.Millisecond},
		"a tiny fraction":          {[]string{"0.00001"}, "", time.Millisecond},
		"a point at the end":       {[]string{"5."}, "", 5 * time.Second},
		"below zero":               {[]string{"-5"}, "", -1},
		"an exponent":              {[]string{"1e3"}, "", -1},
		"not a number":             {[]string{"NaN"}, "", -1},
		"infinite":                 {[]string{"Inf"}, "", -1},
		"beyond a day":             {[]string{"999999"}, "", 24 * time.Hour},
		"beyond all":               {[]string{strings.Repeat("9", 400)}, "", 24 * time.Hour},
		"beyond all, a fraction":   {[]string{strings.Repeat("9", 400) + ".5"}, "", 24 * time.Hour},
		"nonsense":                 {[]string{"soon"}, "", -1},
		"empty":                    {[]string{""}, "", -1},
		"IMF-fixdate":              {[]string{in.Format(http.TimeFormat)}, "", 2 * time.Hour},
		"RFC 850":                  {[]string{in.Format("Monday, 02-Jan-06 15:04:05 GMT")}, "", 2 * time.Hour},
		"asctime":                  {[]string{in.Format(time.ANSIC)}, "", 2 * time.Hour},
		"UTC":                      {[]string{in.Format("Mon, 02 Jan 2006 15:04:05 UTC")}, "", 2 * time.Hour},
		"utc in lower case":        {[]string{in.Format("Mon, 02 Jan 2006 15:04:05") + " utc"}, "", 2 * time.Hour},
		"UT":                       {[]string{in.Format("Mon, 02 Jan 2006 15:04:05") + " UT"}, "", 2 * time.Hour},
		"+0000":                    {[]string{in.Format("Mon, 02 Jan 2006 15:04:05") + " +0000"}, "", 2 * time.Hour},
		"+00:00":                   {[]string{in.Format("Mon, 02 Jan 2006 15:04:05") + " +00:00"}, "", 2 * time.Hour},
		"another offset":           {[]string{in.Add(-5*time.Hour).Format("Mon, 02 Jan 2006 15:04:05") + " -0500"}, "", 2 * time.Hour},
		"an unknown zone":          {[]string{in.Format("Mon, 02 Jan 2006 15:04:05") + " EST"}, "", -1},
		"a day of one digit":       {[]string{"Fri, 2 Jan 2026 14:00:00 GMT"}, "Fri, 02 Jan 2026 12:00:00 GMT", 2 * time.Hour},
		"no day of the week":       {[]string{in.Format("02 Jan 2006 15:04:05 +0000")}, "", 2 * time.Hour},
		"RFC 3339":                 {[]string{in.Format(time.RFC3339)}, "", 2 * time.Hour},
		"a date that is over":      {[]string{noon.Add(-time.Hour).Format(http.TimeFormat)}, "", -1},
		"a date far away":          {[]string{noon.Add(1000 * time.Hour).Format(http.TimeFormat)}, "", 24 * time.Hour},
		"several":                  {[]string{"120", "240", "60"}, "", 4 * time.Minute},
		"several, one is nonsense": {[]string{"soon", "240"}, "", 4 * time.Minute},
		"a list":                   {[]string{"120, 240"}, "", 4 * time.Minute},
		"a clock that is behind":   {[]string{noon.Add(-10 * time.Hour).Format(http.TimeFormat)}, noon.Add(-11 * time.Hour).Format(http.TimeFormat), time.Hour},
		"a clock that is ahead":    {[]string{noon.Add(11 * time.Hour).Format(http.TimeFormat)}, noon.Add(10 * time.Hour).Format(http.TimeFormat), time.Hour},
		"a Date of nonsense":       {[]string{in.Format(http.TimeFormat)}, "now", 2 * time.Hour},
	} {
		got, ok := retryAfter(c.headers, c.date, noon)
		if ok != (c.want >= 0) || ok && got != c.want {
			t.Errorf("%s: %s, %v", name, got, ok)
		}
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

func TestDecide_LeastWait(t *testing.T) {
	schedule := Schedule{Waits: []time.Duration{0, 0, time.Second, 2 * time.Second}, Least: time.Second, GiveUpAt: never}
	for number, want := range map[int]time.Duration{1: time.Second, 2: time.Second, 3: 1600 * time.Millisecond} {
		for _, x := range []Result{{Status: 500}, {Status: 503, RetryAfter: []string{"0"}}, {Err: errors.New("refused"), Silent: true}} {
			if v := Decide(schedule, number, x, noon, 0); v.Action != ActionRetry || v.NextAt.Sub(noon) != want {
				t.Errorf("after attempt %d and %+v: %+v, want a retry after %s", number, x, v, want)
			}
		}
	}
	schedule.GiveUpAt = noon.Add(time.Second - 1)
	if v := Decide(schedule, 1, Result{Status: 500}, noon, 0); v.Action != ActionDead {
		t.Errorf("a retry after give_up_after: %+v", v)
	}
}
