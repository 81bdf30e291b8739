package server

import (
	"switchhook/engine"
	"switchhook/engine/signature"
)

// Delivery settings in the API's form, for commands that read them from files or print them. Errors
// are *api.Error with the field.

// The members of a policy, of batches and of debouncing.
var (
	PolicyMembers   = fieldNames(&policyInput{})
	RateMembers     = fieldNames(&rateView{})
	BackoffMembers  = fieldNames(&backoff{})
	BatchMembers    = fieldNames(&batchView{})
	DebounceMembers = fieldNames(&debounceView{})
)

// ReadPolicy parses a policy; null is the zero Policy.
func ReadPolicy(raw []byte) (engine.Policy, error) { return applyPolicy(raw, engine.Policy{}) }

// ReadBatch parses batch settings; null is the zero Batch.
func ReadBatch(raw []byte) (engine.Batch, error) { return applyBatch(raw, engine.Batch{}) }

// ReadDebounce parses debounce settings; null is the zero Debounce.
func ReadDebounce(raw []byte) (engine.Debounce, error) {
	return applyDebounce(raw, engine.Debounce{})
}

// DeliverySettings holds all delivery settings of a subscription, with every member present: as a
// PATCH it replaces all of them.
type DeliverySettings struct {
	Policy     policyView         `json:"policy"`
	Batch      *batchView         `json:"batch"`
	Debounce   *debounceView      `json:"debounce"`
	Signatures []signature.Scheme `json:"signatures"`
	Numbered   bool               `json:"numbered"`
}

// DeliverySettingsOf returns the settings of sub.
func DeliverySettingsOf(sub *engine.Subscription) DeliverySettings {
	return DeliverySettings{viewPolicy(&sub.Policy), viewBatch(sub.Batch), viewDebounce(sub.Debounce), sub.Signatures, sub.Numbered}
}
