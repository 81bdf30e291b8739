package server

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/gofiber/fiber/v2"

	"switchhook/engine"
	"switchhook/engine/catalog"
	"switchhook/scripts/suggest"
)

// listParameters are the parameters of every list.
var listParameters = []string{"limit", "cursor", "account", "format"}

// pageSizes are aliases of limit. Unlike limit, they may exceed the maximum.
var pageSizes = []string{"perpage", "pagesize", "size"}

// subscriptionQuery parses the parameters of the list of subscriptions, in the API's names or a client's.
// Unknown ones are ignored, since clients find their hooks with the parameters of another service; one
// that looks like a misspelling is refused. client holds the parameters that are client members of
// subscriptions; skip is the number of entries before the page.
func (s *Server) subscriptionQuery(c *fiber.Ctx, account string) (find catalog.SubscriptionQuery, client map[string]string, skip int, err error) {
	q := &query{c: c}
	find = catalog.SubscriptionQuery{Account: account, After: q.id("cursor", engine.SubscriptionPrefix), Limit: q.limit() + 1}
	own := append([]string{"event", "active", "target_url", "inline", "health"}, listParameters...)
	names, page := map[string]string{}, 0 // the name under which each was given
	set := func(ours, name string, same bool) {
		if before := names[ours]; before != "" && !same {
			q.fail(name, "and "+before+" name different "+aliases[fold(ours)].noun+"; give one of them")
		}
		names[ours] = name
	}
	for k, v := range c.Context().QueryArgs().All() {
		name, text := string(k), string(v)
		folded := fold(strings.TrimSuffix(name, "[]"))
		group := ""
		if meaning := aliases[folded]; !meaning.ambiguous {
			group = meaning.member
		}
		switch {
		case name == keyParameter && !s.cfg.AllowQueryKey:
			q.fail(name, "is no parameter of this list: keys are taken from addresses only if the router runs with --allow-query-key")
		case name == keyParameter, slices.Contains(listParameters, name), text == "":
		case name == "inline":
			if find.Inline = text == "true"; !find.Inline && text != "false" {
				q.fail(name, "must be true or false")
			}
		case name == "health":
			find.Health = engine.HealthState(text)
			if !slices.Contains([]engine.HealthState{engine.HealthHealthy, engine.HealthFailing, engine.HealthProbing}, find.Health) {
				q.fail(name, `must be "healthy", "failing" or "probing"`)
			}
		case group == "events":
			set(group, name, find.Event == text)
			find.Event = text
		case group == "target_url":
			set(group, name, find.TargetURL == text)
			find.TargetURL = text
		case group == "active":
			word, ok := statusWords[strings.ToLower(text)]
			if !ok && (folded == "status" && (text == "all" || text == "any")) {
				continue
			}
			if !ok || name == group && text != "true" && text != "false" {
				q.fail(name, "must be true or false")
				continue
			}
			word = word != (folded == "disabled")
			set(group, name, find.Active != nil && *find.Active == word)
			find.Active = &word
		case slices.Contains(pageSizes, folded):
			if n, err := strconv.Atoi(text); err == nil && n > 0 && c.Query("limit") == "" {
				find.Limit = min(n, maxLimit) + 1
			}
		case folded == "page":
			if n, err := strconv.Atoi(text); err != nil || n < 0 || n > 1<<20 {
				q.fail(name, "must be the number of a page; next_cursor of each page leads to the next as well")
			} else {
				page = n
			}
		case suggest.Closest(name, own) != "":
			q.fail(name, fmt.Sprintf("is no parameter of this list; did you mean %q? There are %s", suggest.Closest(name, own), strings.Join(own, ", ")))
		case s.clientsKnow(account, name):
			if client == nil {
				client = map[string]string{}
			}
			client[name] = text
		}
	}
	if page > 1 {
		skip = (page - 1) * (find.Limit - 1)
	}
	return find, client, skip, q.err
}

// clientsKnow reports whether one of the account's subscriptions has a client member of this name.
func (s *Server) clientsKnow(account, name string) bool {
	return slices.ContainsFunc(s.engine.Subscriptions(catalog.SubscriptionQuery{Account: account, Limit: math.MaxInt}), func(sub *engine.Subscription) bool {
		return sub.Client[name] != nil
	})
}
