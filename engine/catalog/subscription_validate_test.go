package catalog

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"switchhook/engine"
	"switchhook/engine/signature"
)

// fieldsOf returns the fields of an error with their codes.
func fieldsOf(t *testing.T, err error) (fields []string) {
	t.Helper()
	var wrong *engine.Error
	if !errors.As(err, &wrong) || wrong.Code != engine.CodeInvalid {
		t.Fatalf("error is %v, want a CodeInvalid", err)
	}
	for _, f := range wrong.Fields() {
		if f.Message == "" || f.Code == engine.FieldScript && f.Script == nil {
			t.Errorf("incomplete: %+v", f)
		}
		fields = append(fields, f.Field+" "+string(f.Code))
	}
	return fields
}

func TestValidateDeliverySettings_AllFields(t *testing.T) {
	err := ValidateDeliverySettings(&engine.Subscription{
		PayloadFormat: "xml",
		Signatures:    []signature.Scheme{"md5"},
		Headers:       map[string]string{"B ad": "1", "X-A": "1", "x-a": "2"},
		Verification:  engine.Verification{Mode: "phone"},
		Policy:        engine.Policy{Timeout: time.Hour, InFlight: -1, Rate: engine.Rate{Count: -1, Per: 1}, Ordering: engine.OrderingKeyed, Retries: engine.RetrySchedule{1, -1}},
		Batch:         engine.Batch{Size: 1, Wait: -1},
		Debounce:      engine.Debounce{Key: "data.(", Within: 1},
	})
	want := []string{
		"signatures invalid", "payload_format unknown", "headers invalid", "headers duplicate", "verify unknown",
		"policy.retries invalid", "policy.retries out_of_range", "policy.timeout out_of_range", "policy.in_flight out_of_range",
		"policy.rate.count out_of_range", "policy.rate.per out_of_range", "policy.ordering_key required",
		"batch.size out_of_range", "batch.wait out_of_range", "debounce.within out_of_range", "debounce conflict", "debounce conflict",
		"debounce.key script_error",
	}
	if got := fieldsOf(t, err); !slices.Equal(got, want) {
		t.Errorf("fields are %q, want %q", got, want)
	}
	if err := ValidateDeliverySettings(&engine.Subscription{}); err != nil {
		t.Errorf("defaults are refused: %v", err)
	}
}

func TestValidatePatterns_EachPosition(t *testing.T) {
	got := fieldsOf(t, validatePatterns(&engine.Subscription{Events: []string{"a", "b c", "a", "*"}}).Err())
	if want := []string{"events[1] invalid", "events[2] duplicate"}; !slices.Equal(got, want) {
		t.Errorf("fields are %q, want %q", got, want)
	}
}

func TestFieldErrors_HostileInputGetsFew(t *testing.T) {
	many := &engine.Subscription{Headers: map[string]string{}, VisibleHeaders: slices.Repeat([]string{"b ad"}, MaxHeaders)}
	for i := range MaxHeaders {
		many.Headers[fmt.Sprintf("b ad %d", i)] = "1"
	}
	if got := fieldsOf(t, ValidateDeliverySettings(many)); len(got) != 50 {
		t.Errorf("%d fields are listed, want 50", len(got))
	}
}

func TestValidateDeliverySettings_BatchingAndDebounce(t *testing.T) {
	for field, s := range map[string]engine.Subscription{
		"batch.size out_of_range":          {Batch: engine.Batch{Size: 1}},
		"batch.wait out_of_range":          {Batch: engine.Batch{Size: 5, Wait: time.Hour}},
		"debounce.within out_of_range":     {Debounce: engine.Debounce{Key: "data.k", Within: time.Millisecond}},
		"debounce.key script_error":        {Debounce: engine.Debounce{Key: "data.k +", Within: time.Second}},
		"policy.ordering_key script_error": {Policy: engine.Policy{Ordering: engine.OrderingKeyed, OrderingKey: "now()"}},
		"debounce conflict":                {Debounce: engine.Debounce{Within: time.Second}, Policy: engine.Policy{Ordering: engine.OrderingFIFO}},
	} {
		if got := fieldsOf(t, ValidateDeliverySettings(&s)); !slices.Equal(got, []string{field}) {
			t.Errorf("got %q, want %q", got, field)
		}
	}
}
