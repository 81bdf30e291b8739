package catalog

import (
	"time"

	"switchhook/engine"
)

// validatePolicy validates a policy; inFlight is the router's limit over all subscriptions, and
// retryWait the shortest wait before a retry.
func validatePolicy(p *engine.Policy, inFlight int, retryWait time.Duration) (errs engine.FieldErrors) {
	errs.Append(validateRetries(p.Retries, retryWait)...)
	bad := func(outside bool, field, format string, args ...any) {
		if outside {
			errs.Add("policy."+field, engine.FieldOutOfRange, format, args...)
		}
	}
	most := min(maxInFlight, inFlight)
	bad(p.Timeout != 0 && (p.Timeout < minTimeout || p.Timeout > maxTimeout), "timeout", "is %s; %s to %s are allowed", p.Timeout, minTimeout, maxTimeout)
	bad(p.InFlight < 0 || p.InFlight > most, "in_flight", "is %d; 1 to %d are allowed here", p.InFlight, most)
	if r := p.Rate; r != (engine.Rate{}) {
		bad(r.Count < 1 || r.Count > maxRateCount, "rate.count", "is %d; 1 to %d are allowed", r.Count, maxRateCount)
		bad(r.Per < minRatePer || r.Per > maxRatePer, "rate.per", "is %s; %s to %s are allowed", r.Per, minRatePer, maxRatePer)
	}
	bad(p.GiveUpAfter != 0 && (p.GiveUpAfter < minGiveUpAfter || p.GiveUpAfter > maxGiveUpAfter), "give_up_after", "is %s; %s to %s (30 days) are allowed", p.GiveUpAfter, minGiveUpAfter, maxGiveUpAfter)
	switch p.Ordering {
	case engine.OrderingNone, engine.OrderingFIFO:
		if p.OrderingKey != "" {
			errs.Add("policy.ordering_key", engine.FieldConflict, `goes with "ordering": "key" only`)
		}
	case engine.OrderingKeyed:
		if p.OrderingKey == "" {
			errs.Add("policy.ordering_key", engine.FieldRequired, `is missing: "ordering": "key" needs an expression such as "data.customer.id"`)
		}
	default:
		errs.Add("policy.ordering", engine.FieldUnknown, `%.40q is not known: use "none", "fifo" or "key"`, string(p.Ordering))
	}
	return errs
}

func validateRetries(schedule engine.RetrySchedule, least time.Duration) (errs engine.FieldErrors) {
	if len(schedule) > maxRetries {
		errs.Add("policy.retries", engine.FieldTooMany, "makes %d attempts, %d are allowed", len(schedule), maxRetries)
		return errs
	}
	for i, wait := range schedule {
		if i == 0 && wait != 0 {
			errs.Add("policy.retries", engine.FieldInvalid, "begins with %s: the first attempt is made at once, so begin with \"0s\"", wait)
		} else if i > 0 && (wait < least || wait > maxRetryWait) {
			errs.Add("policy.retries", engine.FieldOutOfRange, "waits %s before attempt %d; %s to %s (30 days) are allowed", wait, i+1, least, maxRetryWait)
			break
		}
	}
	return errs
}
