package engine

import (
	"strings"

	"switchhook/engine/snowflake"
)

// ID identifies an event, a subscription or another stored object. The zero ID means none.
type ID = snowflake.ID

// The prefixes of ids as users see them: "evt_" and 13 letters and digits.
const (
	EventPrefix        = "evt"
	SubscriptionPrefix = "sub"
	KeyPrefix          = "key"
	DeliveryPrefix     = "dlv"
	ReplayPrefix       = "rpl"
	AuditPrefix        = "aud"
)

// DeliveryID identifies the delivery of one event to one subscription.
type DeliveryID struct {
	Event        ID
	Subscription ID
}

// String returns the id as users see it: "dlv_" and 26 letters and digits.
func (d DeliveryID) String() string { return d.Event.Format(DeliveryPrefix) + d.Subscription.Encode() }

// ParseDeliveryID parses the result of String; ok is false if s has another form.
func ParseDeliveryID(s string) (d DeliveryID, ok bool) {
	rest, found := strings.CutPrefix(s, DeliveryPrefix+"_")
	if !found || len(rest) != 2*snowflake.Chars {
		return d, false
	}
	var ok1, ok2 bool
	d.Event, ok1 = snowflake.Decode(rest[:snowflake.Chars])
	d.Subscription, ok2 = snowflake.Decode(rest[snowflake.Chars:])
	return d, ok1 && ok2
}
