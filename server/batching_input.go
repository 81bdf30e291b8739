package server

import (
	"time"

	"switchhook/engine"
	"switchhook/scripts/jsonindex"
	"switchhook/server/api"
)

// batchView is the API's representation of a subscription's batching.
type batchView struct {
	Size int          `json:"size"`
	Wait api.Duration `json:"wait"`
}

// debounceView is the API's representation of debouncing.
type debounceView struct {
	Key    string       `json:"key"`
	Within api.Duration `json:"within"`
}

func viewBatch(b engine.Batch) *batchView {
	if b == (engine.Batch{}) {
		return nil
	}
	return &batchView{b.Size, api.Duration(b.Wait)}
}

func viewDebounce(d engine.Debounce) *debounceView {
	if d == (engine.Debounce{}) {
		return nil
	}
	return &debounceView{d.Key, api.Duration(d.Within)}
}

// applyBatchingAndDebounce merges the request's batch and debounce settings into sub, if set has them.
func applyBatchingAndDebounce(in *subscriptionInput, sub *engine.Subscription, set changeSet) (err error) {
	if set.replace {
		sub.Batch, sub.Debounce = engine.Batch{}, engine.Debounce{}
	}
	if set.sets("batch") {
		if sub.Batch, err = applyBatch(in.Batch, sub.Batch); err != nil {
			return err
		}
	}
	if set.sets("debounce") {
		sub.Debounce, err = applyDebounce(in.Debounce, sub.Debounce)
	}
	return err
}

// applyBatch returns old merged with the members of raw (RFC 7396); null disables batching.
func applyBatch(raw []byte, old engine.Batch) (engine.Batch, error) {
	if isNull(raw) {
		return engine.Batch{}, nil
	}
	in := batchView{old.Size, api.Duration(old.Wait)}
	if _, err := readMembers("batch", raw, &in); err != nil {
		return old, err
	}
	if in.Size == 0 {
		return old, invalidField("batch.size", `is missing: write {"size": 100, "wait": "5s"}, or null for no batches`)
	}
	return engine.Batch{Size: in.Size, Wait: time.Duration(in.Wait)}, nil
}

// applyDebounce returns old merged with the members of raw (RFC 7396); null disables debouncing.
func applyDebounce(raw []byte, old engine.Debounce) (engine.Debounce, error) {
	if isNull(raw) {
		return engine.Debounce{}, nil
	}
	in := debounceView{old.Key, api.Duration(old.Within)}
	present, err := readMembers("debounce", raw, &in)
	if err != nil {
		return old, err
	}
	if present["key"].Exists() && present["key"].Kind() == jsonindex.Null {
		in.Key = ""
	}
	if in.Within == 0 {
		return old, invalidField("debounce.within", `is missing: write {"key": "data.id", "within": "30s"}, or null to let every event go`)
	}
	return engine.Debounce{Key: in.Key, Within: time.Duration(in.Within)}, nil
}
