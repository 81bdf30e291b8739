package manifest

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"switchhook/scripts/scripttest"
	"switchhook/server/api"
)

// State is the current state of a router, in the accounts that a Set names.
type State struct {
	EventTypes    []*api.EventType
	Scripts       []*LiveScript
	Subscriptions []*api.Subscription // each with its account as the Set names it
}

// LiveScript is an existing script with the source of its live version.
type LiveScript struct {
	Script
	ID      string
	Managed bool // made by apply
}

// Accounts lists the accounts that the set names; otherwise is the one if it names none.
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

// Action is the change that a Step makes.
type Action string

// The actions of a plan.
const (
	Create    Action = "create"
	Change    Action = "change"
	Unchanged Action = "keep"
	Delete    Action = "delete"
)

// Step is the change of one thing.
type Step struct {
	Action  Action
	What    string // "event type", "script" or "subscription"
	Name    string
	Account string
	Detail  string // a short description
	Diff    string // of a change: in the format of scripttest.Diff

	ID           string        // of an existing script or subscription
	EventType    *EventType    // desired state; nil if the step concerns another kind
	Script       *Script       // likewise
	Subscription *Subscription // likewise
	NewRecord    bool          // of a script: its description changes
	NewVersion   bool          // of a script: its source or its cases change
}

// Plan is the list of steps from a State to a Set, in the required order: event types,
// scripts, subscriptions, and deletions in reverse order.
type Plan struct{ Steps []*Step }

// Changes counts the steps that change something.
func (p *Plan) Changes() (n int) {
	for _, s := range p.Steps {
		if s.Action != Unchanged {
			n++
		}
	}
	return n
}

// NewPlan returns the plan. With prune, it deletes what apply has made and the set does not
// contain; event types stay, since all accounts share them. The error is Problems.
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

// add adds a step. was and will are the texts of the current and the desired state.
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
			s.Action, was = Change, eventTypeText(old)
		}
	}
	c.add(s, was, eventTypeText(&t.EventType))
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
	s := &Step{Action: Create, What: "subscription", Name: sub.Name, Account: sub.Account, Subscription: sub, Detail: strings.Join(sub.Events.Or(nil), ", ")}
	c.refers(sub, "filter", sub.FilterScript)
	c.refers(sub, "transform", sub.TransformScript)
	was, will := "", ""
	for _, old := range c.state.Subscriptions {
		if old.Account != sub.Account || old.Text(NameKey) != sub.Name {
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

func (c *comparison) refers(sub *Subscription, kind string, script api.Optional[api.ScriptRef]) {
	ref, ok := script.Get()
	if !ok {
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
		if name := old.Text(NameKey); name != "" && !c.kept[old.ID] {
			c.plan.Steps = append(c.plan.Steps, &Step{Action: Delete, What: "subscription", Name: name, Account: old.Account, ID: old.ID, Detail: old.ID})
		}
	}
	for _, old := range c.state.Scripts {
		if old.Managed && !c.kept[old.ID] {
			c.plan.Steps = append(c.plan.Steps, &Step{Action: Delete, What: "script", Name: old.Name, Account: old.Account, ID: old.ID, Detail: old.ID})
		}
	}
}
