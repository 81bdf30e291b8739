package engine

// Position is the place of a delivery among those of its subscription: ordering and debounce compare
// positions, never ids. The store assigns it when it stores the event (EventLog.Append), and gives
// it back with the delivery.
type Position int64

// The bounds of positions.
const (
	FirstPosition Position = 1
	LastPosition  Position = 1<<63 - 1
)

// PositionOf returns the position of an event's deliveries in a store that orders them by event id.
// Such a store must have one node: the ids of two nodes do not follow the order of publishing.
func PositionOf(event ID) Position { return Position(event) }

// NodeID identifies a router process among those that share a store. It is a part of every id that
// the node makes.
type NodeID uint8
