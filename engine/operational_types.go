package engine

// The operational events.
const (
	TypeDeactivated = "switchhook.subscription.deactivated"
	TypeRecovered   = "switchhook.subscription.recovered"
	TypeDead        = "switchhook.delivery.dead"
	TypeQuarantined = "switchhook.script.quarantined"
	TypeFailing     = "switchhook.script.failing"
)

// OperationalTypes are the event types that the catalog always has.
var OperationalTypes = []*EventType{
	{
		Name: TypeDeactivated, Description: "The router switched a subscription off: its target answered 410, or nothing but failure came for too long. PATCH it with {\"active\": true} to switch it on again.",
		Samples: [][]byte{[]byte(`{"subscription_id":"sub_0ABCDEFGHJKM2","target_url":"https://example.com/hooks","reason":"the target answered 410 Gone","at":"2026-01-31T09:30:00Z"}`)},
	},
	{
		Name: TypeRecovered, Description: "A target that was down takes deliveries again, after a minute or more.",
		Samples: [][]byte{[]byte(`{"subscription_id":"sub_0ABCDEFGHJKM2","target_url":"https://example.com/hooks","failing_since":"2026-01-31T09:00:00Z","failures":17,"last_error":"the target answered 503 Service Unavailable","at":"2026-01-31T09:30:00Z"}`)},
	},
	{
		Name: TypeDead, Description: "Deliveries of a subscription became dead. At most one event a second for each subscription, with how many and the newest of them.",
		Samples: [][]byte{[]byte(`{"subscription_id":"sub_0ABCDEFGHJKM2","target_url":"https://example.com/hooks","count":2,"deliveries":["dlv_0ABCDEFGHJKM2_0ABCDEFGHJKM3"],"reason":"the target answered 500 Internal Server Error","first_at":"2026-01-31T09:30:00Z","last_at":"2026-01-31T09:30:01Z"}`)},
	},
	{
		Name: TypeQuarantined, Description: "A transform was stopped too often in a row. The subscription's deliveries wait for a new version of it.",
		Samples: [][]byte{[]byte(`{"subscription_id":"sub_0ABCDEFGHJKM2","target_url":"https://example.com/hooks","script_hash":"9f86d081884c7d65","reason":"stopped 3 times in a row: timeout after 50 ms","at":"2026-01-31T09:30:00Z"}`)},
	},
	{
		Name: TypeFailing, Description: "A subscription's transform or filter has failed five times in a row. Deliveries whose transform fails are retried and then become dead; a filter that fails matches nothing. At most one event a minute for each subscription and script.",
		Samples: [][]byte{[]byte(`{"subscription_id":"sub_0ABCDEFGHJKM2","target_url":"https://example.com/hooks","kind":"transform","failing_since":"2026-01-31T09:00:00Z","failures":5,"last_error":"the transform fails at line 2, column 10; the attempts of its deliveries say more","at":"2026-01-31T09:30:00Z"}`)},
	},
}
