package server

import (
	"encoding/json"
	"math"
	"slices"
	"strings"

	"github.com/gofiber/fiber/v2"
	"github.com/valyala/fasthttp"

	"switchhook/engine"
	"switchhook/scripts/jsondoc"
	"switchhook/server/dialect"
)

// OpenDialects serves the built-in dialects that are named and those in the files of a
// folder, which may be empty for none. From then until Shutdown, files that change are
// taken over. Any mistake in a file is an error here; later it is logged.
func (s *Server) OpenDialects(folder string, builtIn []string) error {
	loader, err := dialect.NewLoader(folder, builtIn, s.dialectWords(), s.log)
	if err != nil {
		return err
	}
	set, err := loader.Load()
	if err != nil {
		return err
	}
	s.serveDialects(set)
	s.background.Go(func() {
		if err := loader.Watch(s.streams, s.serveDialects); err != nil {
			s.log.Error("dialects are not read again when they change", "error", err)
		}
	})
	return nil
}

func (s *Server) serveDialects(set *dialect.Set) {
	s.engine.SetDialectBodies(set.Bodies())
	s.dialectSet.Store(set)
	orphans := map[string]int{}
	for _, sub := range s.engine.Subscriptions(engine.SubscriptionQuery{Limit: math.MaxInt}) {
		if sub.Dialect != "" && !slices.Contains(set.Names(), sub.Dialect) {
			orphans[sub.Dialect]++
		}
	}
	for name, n := range orphans {
		s.log.Warn("subscriptions were made in a dialect that is not served: their deliveries have the router's own form", "dialect", name, "subscriptions", n)
	}
	s.log.Info("dialects", "served", set.Names())
}

// dialectWords is what files of dialects may speak of, and where nothing may be mounted.
func (s *Server) dialectWords() dialect.Words {
	words := dialect.Words{Subscription: viewNames, Input: ownNames, QueryKeys: s.cfg.AllowQueryKey}
	for _, r := range s.routes() {
		for _, path := range append(r.aliases, r.path) {
			if rest, ok := strings.CutPrefix(path, apiPath+"/"); ok {
				noun, _, _ := strings.Cut(rest, "/")
				path = apiPath + "/" + noun
			}
			if !slices.Contains(words.Reserved, path) {
				words.Reserved = append(words.Reserved, path)
			}
		}
	}
	return words
}

// dialectOf is the dialect of the path that a request goes to; nil where it is none's.
func (s *Server) dialectOf(header *fasthttp.RequestHeader) *dialect.Dialect {
	set := s.dialectSet.Load()
	if set == nil {
		return nil
	}
	path, _, _ := strings.Cut(string(header.RequestURI()), "?")
	d, _, _ := set.At(path)
	return d
}

// dialectLocal is where a request that is in a dialect has it, for the form of its errors.
const dialectLocal = "dialect"

// inDialects answers what no route of our own does.
func (s *Server) inDialects(c *fiber.Ctx) error {
	set := s.dialectSet.Load()
	if set == nil {
		return c.Next()
	}
	d, operations, id := set.At(c.Path())
	if d == nil {
		return c.Next()
	}
	c.Locals(dialectLocal, d)
	var allowed []string
	for _, op := range operations {
		if op.Method == c.Method() || op.Method == fiber.MethodGet && c.Method() == fiber.MethodHead {
			access := subscribe
			if op.Action == dialect.Get || op.Action == dialect.List || op.Action == dialect.Catalogue {
				access = read
			}
			c.Locals(routeLocal{}, "dialect/"+d.Name)
			return s.handle(route{access: access, handler: s.inDialect(d, op, strings.Clone(id))})(c)
		}
		if allowed = append(allowed, op.Method); op.Method == fiber.MethodGet {
			allowed = append(allowed, fiber.MethodHead)
		}
	}
	c.Set(fiber.HeaderAllow, strings.Join(allowed, ", "))
	return fiber.ErrMethodNotAllowed
}

// inDialect is the handler of a dialect's operation. It calls the engine as the API's own
// handlers do, and sees the subscriptions of the caller's account that were made in it.
func (s *Server) inDialect(d *dialect.Dialect, op *dialect.Operation, id string) handler {
	return func(c *fiber.Ctx, who caller) error {
		switch op.Action {
		case dialect.Subscribe:
			return s.dialectSubscribe(c, who, d, op)
		case dialect.Update:
			return s.dialectUpdate(c, who, d, op, id)
		case dialect.Unsubscribe:
			return s.dialectUnsubscribe(c, who, d, op, id)
		case dialect.Get:
			sub, err := s.dialectSubscription(who, d, id)
			if err != nil {
				return err
			}
			return s.dialectAnswer(c, op, s.viewSubscription(sub))
		}
		return s.dialectList(c, who, d, op)
	}
}

func (s *Server) dialectSubscribe(c *fiber.Ctx, who caller, d *dialect.Dialect, op *dialect.Operation) error {
	in, _, words, err := readDialect(c, d, op, d.Fixed)
	if err != nil {
		return err
	}
	sub := &engine.Subscription{Account: who.Account, Dialect: d.Name}
	if err := s.apply(in, sub, nil); err != nil {
		return words.inItsWords(err)
	}
	sub, created, err := s.storeSubscription(c, sub, in, false)
	if err != nil {
		return words.inItsWords(err)
	}
	view := s.viewSubscription(sub)
	if created {
		view.Secret = sub.Secret
	}
	return s.dialectAnswer(c, op, view)
}

func (s *Server) dialectUpdate(c *fiber.Ctx, who caller, d *dialect.Dialect, op *dialect.Operation, id string) error {
	stored, err := s.dialectSubscription(who, d, id)
	if err != nil {
		return err
	}
	in, present, words, err := readDialect(c, d, op, jsondoc.Value{})
	if err != nil {
		return err
	}
	sub, err := s.engine.UpdateSubscription(c.UserContext(), who.Account, stored.ID, engine.AnyVersion, func(sub *engine.Subscription) error {
		return s.apply(in, sub, present)
	})
	if err != nil {
		return words.inItsWords(err)
	}
	return s.dialectAnswer(c, op, s.viewSubscription(sub))
}

// dialectUnsubscribe deletes the subscription that the path or the body names by its id,
// or those that the body names by their target (and event, if it has one).
func (s *Server) dialectUnsubscribe(c *fiber.Ctx, who caller, d *dialect.Dialect, op *dialect.Operation, id string) error {
	var targets []*engine.Subscription
	said := map[string]string{}
	if id == "" {
		body, _, err := readJSONOrForm(c)
		if err != nil {
			return err
		}
		for ours, theirs := range op.Request {
			said[ours] = find(body.Root(), theirs).Text()
		}
		id = said["id"]
	}
	switch {
	case id != "":
		sub, err := s.dialectSubscription(who, d, id)
		if err != nil {
			return err
		}
		targets = append(targets, sub)
	case said["target_url"] != "":
		targets = s.engine.Subscriptions(engine.SubscriptionQuery{Account: who.Account, Dialect: d.Name, TargetURL: said["target_url"], Event: said["event"], Limit: math.MaxInt})
		if len(targets) == 0 {
			return engine.NotFound("subscription", shown(said["target_url"]))
		}
	default:
		return problemOf(fiber.StatusUnprocessableEntity, "the body does not say which subscription is to be deleted: give "+given(op, "id", "target_url"))
	}
	for _, sub := range targets {
		err := s.engine.DeleteSubscription(c.UserContext(), who.Account, sub.ID, engine.AnyVersion)
		if err != nil && (len(targets) == 1 || engine.ErrorCode(err) != engine.CodeNotFound) {
			return err
		}
	}
	return s.dialectAnswer(c, op, subscriptionView{})
}

// given lists what an operation's clients call our members.
func given(op *dialect.Operation, ours ...string) string {
	var names []string
	for _, name := range ours {
		if theirs := op.Request[name]; theirs != "" {
			names = append(names, theirs)
		}
	}
	return strings.Join(names, " or ")
}

// dialectSubscription finds a subscription of the caller's account that was made in d.
func (s *Server) dialectSubscription(who caller, d *dialect.Dialect, id string) (*engine.Subscription, error) {
	parsed, ok := engine.ParseID(engine.SubscriptionPrefix, id)
	if !ok {
		return nil, engine.NotFound("subscription", shown(id))
	}
	sub, err := s.engine.Subscription(who.Account, parsed)
	if err == nil && sub.Dialect != d.Name {
		return nil, engine.NotFound("subscription", shown(id))
	}
	return sub, err
}

// dialectPage is how many subscriptions a dialect's list has unless ?limit= says otherwise:
// its clients don't know of pages.
const dialectPage = 1000

func (s *Server) dialectList(c *fiber.Ctx, who caller, d *dialect.Dialect, op *dialect.Operation) error {
	all := engine.SubscriptionQuery{Account: who.Account, Dialect: d.Name, Limit: math.MaxInt}
	scope := dialect.Scope{Lists: map[string][]jsondoc.Value{}}
	if op.Answer.Uses("subscriptions") {
		q := &query{c: c}
		all.After = q.id("cursor", engine.SubscriptionPrefix)
		limit := dialectPage
		if c.Query("limit") != "" {
			limit = q.limit()
		}
		if q.err != nil {
			return q.err
		}
		all.Limit = limit + 1
		found := s.engine.Subscriptions(all)
		if len(found) > limit {
			found = found[:limit]
			linkNext(c, found[limit-1].ID.Format(engine.SubscriptionPrefix))
		}
		for _, sub := range found {
			v, err := asValue(s.viewSubscription(sub))
			if err != nil {
				return err
			}
			scope.Lists["subscriptions"] = append(scope.Lists["subscriptions"], v)
		}
	}
	if op.Answer.Uses("event_types") {
		all.After, all.Limit = 0, math.MaxInt
		mine := s.engine.Subscriptions(all)
		for _, t := range s.engine.EventTypes() {
			if engine.Operational(t.Name) {
				continue // the service that the client was written for had none
			}
			v, err := asValue(s.catalogueEntry(t, mine))
			if err != nil {
				return err
			}
			scope.Lists["event_types"] = append(scope.Lists["event_types"], v)
		}
	}
	return sendAnswer(c, op, scope)
}

// catalogueEntry is an event type as $event_type: dialect.EventTypeMembers.
type catalogueEntry struct {
	Name         string            `json:"name"`
	Description  string            `json:"description"`
	Subscribed   bool              `json:"subscribed"`   // and active
	Subscription *subscriptionView `json:"subscription"` // the oldest to it, an active one if there is one
}

func (s *Server) catalogueEntry(t *engine.EventType, mine []*engine.Subscription) catalogueEntry {
	e := catalogueEntry{Name: t.Name, Description: t.Description}
	for _, sub := range mine {
		if e.Subscribed || e.Subscription != nil && !sub.Active || !slices.ContainsFunc(sub.Events, func(p string) bool { return engine.MatchesPattern(p, t.Name) }) {
			continue
		}
		view := s.viewSubscription(sub)
		e.Subscription, e.Subscribed = &view, sub.Active
	}
	return e
}

func (s *Server) dialectAnswer(c *fiber.Ctx, op *dialect.Operation, view subscriptionView) error {
	v, err := asValue(view)
	if err != nil {
		return err
	}
	return sendAnswer(c, op, dialect.Scope{Values: map[string]jsondoc.Value{"subscription": v}})
}

func sendAnswer(c *fiber.Ctx, op *dialect.Operation, scope dialect.Scope) error {
	c.Status(op.Status)
	if op.Answer == nil {
		return nil
	}
	c.Set(fiber.HeaderContentType, fiber.MIMEApplicationJSON)
	return c.Send(op.Answer.Render(scope))
}

func asValue(v any) (jsondoc.Value, error) {
	text, err := encodeJSON(v)
	if err != nil {
		return jsondoc.Value{}, err
	}
	doc, err := jsondoc.Parse(text, jsondoc.Limits{})
	if err != nil {
		return jsondoc.Value{}, err
	}
	return doc.Root(), nil
}

// readDialect reads a body in a dialect's words: what the dialect names, and nothing else.
// fixed are members that are the same for all its subscriptions; they may be missing.
func readDialect(c *fiber.Ctx, d *dialect.Dialect, op *dialect.Operation, fixed jsondoc.Value) (in *subscriptionInput, present map[string]jsondoc.Value, words *translation, err error) {
	doc, form, err := readJSONOrForm(c)
	if err != nil {
		return nil, nil, nil, err
	}
	if err := wantObject(doc.Root()); err != nil {
		return nil, nil, nil, err
	}
	words = newTranslation(form, nil)
	for ours, theirs := range op.Request {
		v := find(doc.Root(), theirs)
		if !slices.Contains(ownNames, ours) {
			continue
		}
		if !v.Exists() { // an error that misses it names it as the dialect does
			words.places[ours] = theirs
			if ours == "events" {
				words.places["event"] = theirs
			}
			continue
		}
		m := said{ours, theirs, v}
		text := words.typed(m)
		if ours == "event" || ours == "events" {
			text = eventText(v, form)
		}
		words.put(ours, m, text)
	}
	if len(words.texts) == 0 {
		return nil, nil, nil, problemOf(fiber.StatusUnprocessableEntity, "the body has nothing of what is understood here: "+given(op, ownNames...))
	}
	for name, v := range fixed.Members() {
		words.put(name, said{name, "fixed." + name, v}, v.Raw())
	}
	in = &subscriptionInput{}
	if present, err = words.decode(in); err != nil {
		return nil, nil, nil, err
	}
	return in, present, words, nil
}

// find looks a member up by a name with "." for members of members. A name that has a "."
// itself comes first.
func find(v jsondoc.Value, name string) jsondoc.Value {
	if found := v.Get(name); found.Exists() {
		return found
	}
	head, rest, ok := strings.Cut(name, ".")
	if !ok {
		return jsondoc.Value{}
	}
	return find(v.Get(head), rest)
}

// dialectProblem gives an error the form of the dialect that the request is in; body is
// nil where that has no form of its own.
func dialectProblem(c *fiber.Ctx, p *Problem) (status int, body []byte) {
	d, ok := c.Locals(dialectLocal).(*dialect.Dialect)
	if !ok || d.Errors == nil {
		return p.Status, nil
	}
	status = p.Status
	if to := d.Errors.Status[status]; to != 0 {
		status = to
	}
	if d.Errors.Body == nil {
		return status, nil
	}
	text, err := json.Marshal(struct {
		Status int    `json:"status"`
		Title  string `json:"title"`
		Detail string `json:"detail"`
		Field  string `json:"field"`
	}{status, p.Title, p.Detail, p.Field})
	if err != nil {
		return status, nil
	}
	doc, err := jsondoc.Parse(text, jsondoc.Limits{})
	if err != nil {
		return status, nil
	}
	return status, d.Errors.Body.Render(dialect.Scope{Values: map[string]jsondoc.Value{"error": doc.Root()}})
}

// prefixedKey takes the key out of a header's value; ok is false where the prefix is not
// there.
func prefixedKey(value, prefix string) (key string, ok bool) {
	if len(value) < len(prefix) || !strings.EqualFold(value[:len(prefix)], prefix) {
		return "", false
	}
	return value[len(prefix):], true
}
