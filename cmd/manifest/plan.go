package manifest

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"switchhook/scripts/scripttest"
)

// State is what a router has, in the accounts that a Set speaks of.
type State struct {
	EventTypes    []*EventType
	Scripts       []*LiveScript
	Subscriptions []*LiveSubscription
}

// LiveScript is a script as it is, with the source of its live version.
type LiveScript struct {
	Script
	ID   string
	Ours bool // made by apply
}

// LiveSubscription is a subscription as it is. Its Name is empty where apply has not made it.
type LiveSubscription struct {
	Subscription
	ID          string
	Fingerprint string
	Waits       bool // for its target to confirm; until then it is not active, whatever its owner wants
}

// Accounts lists the accounts that the set speaks of; otherwise is the one where it
// speaks of none.
func (s *Set) Accounts(otherwise string) []string {
	found := map[string]bool{}
	for _, sc := range s.Scripts {
		found[sc.Account] = true
	}
	for _, sub := range s.Subscriptions {
		found[sub.Account] = true
	}
	if len(found) == 0 {
		found[otherwise] = true
	}
	return slices.Sorted(maps.Keys(found))
}

// Action is what is to be done with a thing.
type Action string

// The actions of a plan.
const (
	Create    Action = "create"
	Change    Action = "change"
	Unchanged Action = "keep"
	Delete    Action = "delete"
)

// Step is what is to be done with one thing.
type Step struct {
	Action  Action
	What    string // "event type", "script" or "subscription"
	Name    string
	Account string
	Detail  string // in a few words
	Diff    string // of a change: as suite.Diff

	ID           string        // of a script or subscription that there is
	EventType    *EventType    // what it is to become; nil where it is something else
	Script       *Script       // likewise
	Subscription *Subscription // likewise
	NewRecord    bool          // of a script: its description changes
	NewVersion   bool          // of a script: its source or its cases change
}

// Plan is the way from a State to a Set, in the order in which it must be gone: event
// types, scripts, subscriptions, and what goes in the opposite order.
type Plan struct{ Steps []*Step }

// Changes counts the steps that do something.
func (p *Plan) Changes() (n int) {
	for _, s := range p.Steps {
		if s.Action != Unchanged {
			n++
		}
	}
	return n
}

// NewPlan plans. With prune, what apply has made and the set does not have is deleted;
// event types stay, for all accounts share them. The error is Mistakes.
func NewPlan(set *Set, state *State, prune bool) (*Plan, error) {
	c := &comparison{set: set, state: state, kept: map[string]bool{}, plan: &Plan{}}
	for _, t := range set.EventTypes {
		c.eventType(t)
	}
	for _, s := range set.Scripts {
		c.script(s)
	}
	for _, s := range set.Subscriptions {
		c.subscription(s)
	}
	if prune {
		c.prune()
	}
	if len(c.mistakes) > 0 {
		return nil, c.mistakes
	}
	return c.plan, nil
}

type comparison struct {
	set      *Set
	state    *State
	kept     map[string]bool // ids
	plan     *Plan
	mistakes Problems
}

func (c *comparison) wrong(at Position, format string, args ...any) {
	c.mistakes = append(c.mistakes, &Problem{at.File, at.Line, fmt.Sprintf(format, args...)})
}

// add adds a step whose thing was, and is to become, what the texts say.
func (c *comparison) add(s *Step, was, will string) {
	switch {
	case s.Action == Create:
	case was == will:
		s.Action = Unchanged
	default:
		s.Action, s.Diff = Change, scripttest.Diff(was, will)
	}
	c.plan.Steps = append(c.plan.Steps, s)
}

func (c *comparison) eventType(t *EventType) {
	s := &Step{Action: Create, What: "event type", Name: t.Name, EventType: t}
	was := ""
	for _, old := range c.state.EventTypes {
		if old.Name == t.Name {
			s.Action, was = Change, old.text()
		}
	}
	c.add(s, was, t.text())
}

func (c *comparison) script(sc *Script) {
	s := &Step{Action: Create, What: "script", Name: sc.Name, Account: sc.Account, Script: sc, NewVersion: true}
	s.Detail = sc.Kind
	if n := len(sc.Cases); n > 0 {
		s.Detail = fmt.Sprintf("%s, %d test %s", sc.Kind, n, plural(n, "case"))
	}
	was := ""
	if old := c.findScript(sc.Account, sc.Name); old != nil {
		if old.Kind != sc.Kind {
			c.wrong(sc.Place, "the router has a %s called %q already, and this is a %s: a script's kind can't be changed", old.Kind, sc.Name, sc.Kind)
			return
		}
		c.kept[old.ID] = true
		s.Action, s.ID, was = Change, old.ID, old.text()
		s.NewVersion = old.Source != sc.Source || casesText(old.Cases) != casesText(sc.Cases)
		s.NewRecord = old.Description != sc.Description
	}
	c.add(s, was, sc.text())
}

func (c *comparison) findScript(account, name string) *LiveScript {
	for _, old := range c.state.Scripts {
		if old.Account == account && old.Name == name {
			return old
		}
	}
	return nil
}

func (c *comparison) subscription(sub *Subscription) {
	s := &Step{Action: Create, What: "subscription", Name: sub.Name, Account: sub.Account, Subscription: sub, Detail: strings.Join(sub.Events, ", ")}
	c.refers(sub, "filter", sub.FilterScript)
	c.refers(sub, "transform", sub.TransformScript)
	was, will := "", ""
	for _, old := range c.state.Subscriptions {
		if old.Account != sub.Account || old.Name != sub.Name {
			continue
		}
		if s.ID != "" {
			c.wrong(sub.Place, "the router has two subscriptions with %q %q in their metadata, %s and %s: take it away from one of them", NameKey, sub.Name, s.ID, old.ID)
			return
		}
		c.kept[old.ID] = true
		s.Action, s.ID = Change, old.ID
		was, will = subscriptionTexts(old, sub)
	}
	c.add(s, was, will)
}

func (c *comparison) refers(sub *Subscription, kind string, ref *Ref) {
	if ref == nil {
		return
	}
	found := ""
	var names []string
	for _, s := range c.set.Scripts {
		if s.Account == sub.Account {
			if names = append(names, s.Name); s.Name == ref.Name {
				found = s.Kind
			}
		}
	}
	if old := c.findScript(sub.Account, ref.Name); old != nil && found == "" {
		found = old.Kind
	}
	switch {
	case found == "":
		c.wrong(sub.Place, "subscription %q: %s_script names no script of this folder or of the router: %q%s", sub.Name, kind, ref.Name, didYouMean(ref.Name, names))
	case found != kind:
		c.wrong(sub.Place, "subscription %q: %s_script names %q, which is a %s", sub.Name, kind, ref.Name, found)
	}
}

func (c *comparison) prune() {
	for _, old := range c.state.Subscriptions {
		if old.Name != "" && !c.kept[old.ID] {
			c.plan.Steps = append(c.plan.Steps, &Step{Action: Delete, What: "subscription", Name: old.Name, Account: old.Account, ID: old.ID, Detail: old.ID})
		}
	}
	for _, old := range c.state.Scripts {
		if old.Ours && !c.kept[old.ID] {
			c.plan.Steps = append(c.plan.Steps, &Step{Action: Delete, What: "script", Name: old.Name, Account: old.Account, ID: old.ID, Detail: old.ID})
		}
	}
}
