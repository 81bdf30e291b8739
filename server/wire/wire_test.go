package wire_test

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"switchhook/engine"
	"switchhook/scripts/jsonindex"
	"switchhook/server/api"
	"switchhook/server/wire"
)

func parse(t *testing.T, text string) jsonindex.Value {
	t.Helper()
	doc, err := jsonindex.Parse([]byte(text), jsonindex.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	return doc.Root()
}

func TestDecode_ReportsEveryWrongMember(t *testing.T) {
	errs := wire.Decode(parse(t, `{"active":5,"policy":{"timeout":"soon","in_flight":0,"retries":["0s",null,{}],"rate":{"count":1}},
		"batch":{"size":1.5},"visible_headers":["a",7],"filtr":"x","debounce":[],"expires_at":"today","account":"","id":"sub_1"}`), &api.SubscriptionRequest{}, "id")
	var fields []string
	for _, e := range errs {
		fields = append(fields, e.Field)
	}
	want := []string{"active", "policy.timeout", "policy.in_flight", "policy.retries[1]", "policy.retries[2]", "policy.rate.per", "batch.size", "visible_headers[1]", "filtr", "debounce", "expires_at", "account"}
	if !slices.Equal(fields, want) {
		t.Errorf("wrong are %v, want %v", fields, want)
	}
}

// "0" is a text like any other, and a duration of 0.
func TestDecode_RefusesZero(t *testing.T) {
	for body, field := range map[string]string{
		`{"account":"0"}`:            "",
		`{"account":""}`:             "account",
		`{"policy":{"timeout":"0"}}`: "policy.timeout",
		`{"policy":{"timeout":0}}`:   "policy.timeout",
		`{"policy":{"in_flight":0}}`: "policy.in_flight",
	} {
		errs := wire.Decode(parse(t, body), &api.SubscriptionRequest{})
		if len(errs) > 1 || len(errs) == 0 && field != "" || len(errs) == 1 && errs[0].Field != field {
			t.Errorf("%s: %v, want %q", body, errs, field)
		}
	}
}

func TestDecode_EndsAfterManyErrors(t *testing.T) {
	for name, body := range map[string]string{
		"unknown members": "{" + manyMembers(200_000) + "}",
		"wrong elements":  `{"events":[` + strings.Repeat("5,", 9_998) + `5]}`,
		"a long list":     `{"events":[` + strings.Repeat(`"a",`, 300_000) + `"a"]}`,
	} {
		t.Run(name, func(t *testing.T) {
			if errs := wire.Decode(parse(t, body), &api.SubscriptionRequest{}); len(errs) == 0 || len(errs) > 50 {
				t.Errorf("%d errors", len(errs))
			}
		})
	}
}

func manyMembers(n int) string {
	members := make([]string, n)
	for i := range members {
		members[i] = fmt.Sprintf(`"filter%d":1`, i)
	}
	return strings.Join(members, ",")
}

func TestDecode_MergesIntoCurrentValues(t *testing.T) {
	in := api.SubscriptionRequest{Policy: api.Some(api.Policy{Timeout: api.Some(api.Duration(time.Second)), InFlight: api.Some(4), Rate: api.Some(api.Rate{Count: api.Some(1), Per: api.Some(api.Duration(time.Minute))})})}
	if errs := wire.Decode(parse(t, `{"policy":{"timeout":null,"rate":{"count":2}}}`), &in); errs != nil {
		t.Fatal(errs.Err())
	}
	p := wire.ToPolicy(in.Policy.Or(api.Policy{}))
	if want := (engine.Policy{InFlight: 4, Rate: engine.Rate{Count: 2, Per: time.Minute}}); !reflect.DeepEqual(p, want) {
		t.Errorf("got %+v, want %+v", p, want)
	}
}

// A member that only one of the two types has makes the conversion panic here, not in production.
func TestSettings_RoundTrip(t *testing.T) {
	policies := []engine.Policy{{}, {
		Retries: engine.RetrySchedule{0, time.Second}, Timeout: time.Second, InFlight: 3, Rate: engine.Rate{Count: 5, Per: time.Minute},
		Ordering: engine.OrderingKeyed, OrderingKey: "data.id", GiveUpAfter: time.Hour,
	}}
	for i := range reflect.TypeFor[engine.Policy]().NumField() {
		if reflect.ValueOf(policies[1]).Field(i).IsZero() {
			t.Errorf("set %s in this test", reflect.TypeFor[engine.Policy]().Field(i).Name)
		}
	}
	for _, p := range policies {
		if got := wire.ToPolicy(wire.FromPolicy(&p)); !reflect.DeepEqual(got, p) {
			t.Errorf("%+v becomes %+v", p, got)
		}
	}
	for _, b := range []engine.Batch{{}, {Size: 5, Wait: time.Second}} {
		if got := wire.ToBatch(wire.FromBatch(b)); got != b {
			t.Errorf("%+v becomes %+v", b, got)
		}
	}
	for _, d := range []engine.Debounce{{}, {Key: "data.id", Within: time.Second}} {
		if got := wire.ToDebounce(wire.FromDebounce(d)); got != d {
			t.Errorf("%+v becomes %+v", d, got)
		}
	}
}
