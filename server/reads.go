package server

import (
	"errors"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"

	"switchhook/engine"
	"switchhook/engine/fairlimit"
	"switchhook/engine/telemetry"
)

// DefaultMaxResponses is the default of Config.MaxResponses.
const DefaultMaxResponses = 64 << 20

const (
	// readers is how many requests read the store at the same time: it has one reader more, for
	// deliveries.
	readers, accountReaders = 5, 2
	// waitingReads is how many requests of an account wait; more are refused at once.
	waitingReads = 512
	// smallResponse is the size up to which the operating system takes a response at once, whether or
	// not the client reads it.
	smallResponse = 64 << 10
)

// readLimits limit what requests that read use at the same time: turns to read, and memory for their
// responses until these are written.
type readLimits struct {
	turns  *fairlimit.Limiter
	memory *fairlimit.Limiter // in bytes
}

func newReadLimits(cfg *Config) *readLimits {
	l := &readLimits{
		turns: fairlimit.New(fairlimit.Limits{Units: readers, PerAccount: accountReaders, Wait: cfg.ReadWait, MaxWaiting: waitingReads}),
		// A quarter for each account: if clients of two don't read their responses, half is left.
		memory: fairlimit.New(fairlimit.Limits{Units: cfg.MaxResponses, PerAccount: cfg.MaxResponses / 4, Wait: cfg.ReadWait, MaxWaiting: waitingReads}),
	}
	if cfg.Registerer != nil {
		cfg.Registerer.MustRegister(telemetry.NewPlacesCollector("reads", l.turns), telemetry.NewPlacesCollector("response_bytes", l.memory))
	}
	return l
}

// heldResponse is the memory that the response of a request uses. It is a user value of the request,
// which fasthttp closes once the response is written, or the connection has ended.
type heldResponse struct{ *fairlimit.Hold }

type heldResponseKey struct{}

// Close implements io.Closer.
func (h heldResponse) Close() error {
	h.Release()
	return nil
}

// read runs a handler that reads for an account, or for a client without one, within the limits. size
// is the most that its response is expected to have, in bytes.
func (l *readLimits) read(c *fiber.Ctx, account string, size int64, handler func() error) error {
	ctx := c.UserContext()
	held, err := l.memory.Hold(ctx, account, "", 2*size) // what is read, and the response made of it
	if err != nil {
		return refusedRead(err, "the memory for responses is in use", "the responses of this account use as much memory as they may")
	}
	c.Locals(heldResponseKey{}, heldResponse{held})
	done, err := l.turns.Acquire(ctx, account, "", 1)
	if err != nil {
		return refusedRead(err, "too many requests are reading", "too many requests of this account are reading")
	}
	defer done()
	return handler()
}

// countResponse counts the memory that a response was found to use, until the client has taken it.
func countResponse(c *fiber.Ctx) {
	held, ok := c.Locals(heldResponseKey{}).(heldResponse)
	if !ok { // a stream, perhaps, of which Body would wait for the end
		return
	}
	if size := len(c.Response().Body()); size > smallResponse {
		held.Shrink(int64(size))
	} else {
		held.Release()
	}
}

// refusedRead returns the error of a request that did not get what it needs.
func refusedRead(err error, full, accountFull string) error {
	e := &engine.Error{Code: engine.CodeUnavailable, Message: full, Wait: time.Second}
	switch {
	case errors.Is(err, fairlimit.ErrAccountFull):
		e.Code, e.Message = engine.CodeBusy, accountFull
	case !errors.Is(err, fairlimit.ErrFull):
		return err
	}
	e.Message += "; try again in a moment, with fewer requests at the same time"
	return e
}

// entrySize is how large the response of an operation, or an entry of its list, can be.
type entrySize struct {
	bodies int64 // as often as Config.MaxBody
	bytes  int64
	list   bool
}

// entrySizes has the operations whose responses can be large; they are estimates, since the memory
// that a response was found to use counts in the end.
var entrySizes = map[string]entrySize{
	"/api/v1/events":                             {bodies: 1, list: true},
	"/api/v1/events/:id":                         {bodies: 1, bytes: maxLimit << 10},
	"/api/v1/deliveries":                         {bytes: 1 << 10, list: true},
	"/api/v1/deliveries/:id":                     {bytes: defaultLimit * 16 << 10},
	"/api/v1/deliveries/:id/attempts":            {bytes: 16 << 10, list: true},
	"/api/v1/deliveries/:id/attempts/:number":    {bodies: 2},
	"/api/v1/subscriptions":                      {bytes: 16 << 10, list: true},
	"/api/v1/event-types":                        {bytes: 16 << 10, list: true},
	"/api/v1/event-types/:name/samples":          {bodies: 8},
	"/api/v1/scripts":                            {bytes: 4 << 10, list: true},
	"/api/v1/scripts/:id":                        {bodies: 1},
	"/api/v1/scripts/:id/subscriptions":          {bytes: 16 << 10, list: true},
	"/api/v1/scripts/:id/versions":               {bodies: 1, list: true},
	"/api/v1/scripts/:id/versions/:version":      {bodies: 1},
	"/api/v1/scripts/:id/versions/:version/diff": {bodies: 2},
	"/api/v1/replays":                            {bytes: 2 << 10, list: true},
	"/api/v1/replays/:id":                        {bytes: 4 << 10},
	"/api/v1/accounts":                           {bytes: 1 << 10, list: true},
	"/api/v1/accounts/:name":                     {bytes: 4 << 10},
	"/api/v1/audit":                              {bytes: 16 << 10, list: true},
	"/api/v1/switchhook.d.ts":                    {bytes: pageBytes},
	dialectPath:                                  {bytes: pageBytes},
}

// dialectPath stands for the paths of dialects that read, in entrySizes.
const dialectPath = "dialect"

// reads reports whether the operation reads so much, or so long, that accounts share a limit of it.
func (r route) reads() bool {
	_, known := entrySizes[r.path]
	return known && (r.method == fiber.MethodGet || r.path == dialectPath)
}

// responseSize returns the most that the response of an operation is expected to have, in bytes.
func (s *Server) responseSize(c *fiber.Ctx, path string) int64 {
	size := entrySizes[path]
	entry := size.bodies*int64(s.cfg.MaxBody) + size.bytes
	if !size.list {
		return entry
	}
	n := int64(max(1, min(c.QueryInt("limit", defaultLimit), maxLimit)))
	return min(n*entry, max(pageBytes, entry))
}

// readFor returns whose share of the limits a request uses: that of the account that an admin key
// names, or else of the key's.
func readFor(c *fiber.Ctx, key *engine.Key) string {
	if named := c.Query("account"); key.Admin && engine.ValidAccount(named) {
		return strings.Clone(named)
	}
	return key.Account
}
