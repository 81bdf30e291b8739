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

// subscriptionParameters are the parameters of the list of subscriptions.
var subscriptionParameters = append([]string{"event", "active", "target_url", "inline", "health"}, listParameters...)

// pageSizes are aliases of limit. Unlike limit, they may exceed the maximum.
var pageSizes = []string{"perpage", "pagesize", "size"}

const maxPage = 1 << 20

// subscriptionQuery parses the parameters of the list of subscriptions, in the API's names or a client's.
// Unknown ones are ignored, since clients find their hooks with the parameters of another service; one
// that looks like a misspelling is refused.
type subscriptionQuery struct {
	query
	find   catalog.SubscriptionQuery
	client map[string]string // parameters that are client members of subscriptions
	page   int               // the number of a page, from 1; 0: none is given
	names  map[string]string // by our name: the name under which each filter was given
}

func (s *Server) readSubscriptionQuery(c *fiber.Ctx, account string) (*subscriptionQuery, error) {
	q := &subscriptionQuery{query: query{c: c}, client: map[string]string{}, names: map[string]string{}}
	q.find = catalog.SubscriptionQuery{Account: account, After: q.id("cursor", engine.SubscriptionPrefix), Limit: q.limit() + 1}
	for k, v := range c.Context().QueryArgs().All() {
		name, text := string(k), string(v)
		switch meaning := aliases[fold(strings.TrimSuffix(name, "[]"))]; {
		case name == keyParameter && !s.cfg.AllowQueryKey:
			q.unknown(name, "is not a parameter of this list: keys are taken from addresses only if the router runs with --allow-query-key")
		case name == keyParameter, slices.Contains(listParameters, name), text == "":
		case meaning.member != "" && !meaning.ambiguous:
			q.filter(meaning, name, text)
		case !q.other(name, text) && s.clientsKnow(account, name):
			q.client[name] = text
		}
	}
	return q, q.err
}

// skip returns the number of entries before the page.
func (q *subscriptionQuery) skip() int { return max(q.page-1, 0) * (q.find.Limit - 1) }

// filter parses a filter by a member that has aliases. Two names may give the same value.
func (q *subscriptionQuery) filter(meaning alias, name, text string) {
	before, same := q.names[meaning.member], true
	switch meaning.member {
	case "events":
		same = before == "" || q.find.Event == text
		q.find.Event = text
	case "target_url":
		same = before == "" || q.find.TargetURL == text
		q.find.TargetURL = text
	case "active":
		on, ok := statusWords[strings.ToLower(text)]
		switch {
		case !ok && fold(name) == "status" && (text == "all" || text == "any"):
			return
		case !ok || name == meaning.member && text != "true" && text != "false":
			q.fail(name, "must be true or false")
			return
		}
		on = on != (fold(name) == "disabled")
		same = q.find.Active == nil || *q.find.Active == on
		q.find.Active = &on
	}
	if !same {
		q.fail(name, "and "+before+" name different "+meaning.noun+"; give one of them")
	}
	q.names[meaning.member] = name
}

// other parses any other parameter and reports whether it is one.
func (q *subscriptionQuery) other(name, text string) bool {
	folded := fold(name)
	switch meant := suggest.Closest(name, subscriptionParameters); {
	case name == "inline":
		if q.find.Inline = text == "true"; !q.find.Inline && text != "false" {
			q.fail(name, "must be true or false")
		}
	case name == "health":
		q.find.Health = engine.HealthState(text)
		if !slices.Contains([]engine.HealthState{engine.HealthHealthy, engine.HealthFailing, engine.HealthProbing}, q.find.Health) {
			q.fail(name, `must be "healthy", "failing" or "probing"`)
		}
	case slices.Contains(pageSizes, folded):
		if n, err := strconv.Atoi(text); err == nil && n > 0 && q.c.Query("limit") == "" {
			q.find.Limit = min(n, maxLimit) + 1
		}
	case folded == "page":
		n, err := strconv.Atoi(text)
		if err != nil || n < 0 || n > maxPage {
			q.fail(name, "must be the number of a page; next_cursor of each page leads to the next as well")
		}
		q.page = n
	case meant != "":
		q.unknown(name, fmt.Sprintf("is not a parameter of this list; did you mean %q? Its parameters are %s", meant, strings.Join(subscriptionParameters, ", ")))
	default:
		return false
	}
	return true
}

// clientsKnow reports whether one of the account's subscriptions has a client member of this name.
func (s *Server) clientsKnow(account, name string) bool {
	all := s.engine.Subscriptions(catalog.SubscriptionQuery{Account: account, Limit: math.MaxInt})
	return slices.ContainsFunc(all, func(sub *engine.Subscription) bool { return sub.Client[name] != nil })
}
