package server

import (
	"switchhook/engine"
	"switchhook/engine/signature"
)

// How deliveries are made, in the words of the API, for commands that read it from files or
// show it. Errors are *Problem with the field.

// The members of a policy, of batches and of debouncing.
var (
	PolicyMembers   = fieldNames(&policyInput{})
	RateMembers     = fieldNames(&rateView{})
	BackoffMembers  = fieldNames(&backoff{})
	BatchMembers    = fieldNames(&batchView{})
	DebounceMembers = fieldNames(&debounceView{})
)

// ReadPolicy reads a policy as clients write it; null is the zero Policy.
func ReadPolicy(raw []byte) (engine.Policy, error) { return applyPolicy(raw, engine.Policy{}) }

// ReadBatch reads how events go together; null is the zero Batch.
func ReadBatch(raw []byte) (engine.Batch, error) { return applyBatch(raw, engine.Batch{}) }

// ReadDebounce reads how events supersede one another; null is the zero Debounce.
func ReadDebounce(raw []byte) (engine.Debounce, error) {
	return applyDebounce(raw, engine.Debounce{})
}

// DeliverySettings is what a subscription says of how its deliveries are made, with every member
// named: as a PATCH it leaves nothing of what was there.
type DeliverySettings struct {
	Policy     policyView         `json:"policy"`
	Batch      *batchView         `json:"batch"`
	Debounce   *debounceView      `json:"debounce"`
	Signatures []signature.Scheme `json:"signatures"`
	Numbered   bool               `json:"numbered"`
}

// DeliverySettingsOf gives those of sub.
func DeliverySettingsOf(sub *engine.Subscription) DeliverySettings {
	return DeliverySettings{viewPolicy(&sub.Policy), viewBatch(sub.Batch), viewDebounce(sub.Debounce), sub.Signatures, sub.Numbered}
}
