package dialect

import (
	"iter"
	"slices"

	"switchhook/scripts/jsonindex"
	"switchhook/scripts/jsontemplate"
)

// Template is a response body: see jsontemplate.
type Template = jsontemplate.Template[Scope]

// Scope holds the values of a template's placeholders by name, and lists by the name that $each uses; an
// entry of "event_types" is $event_type, one of "subscriptions" $subscription.
type Scope struct {
	Values map[string]jsonindex.Value
	Lists  map[string][]jsonindex.Value
}

var (
	// EventTypeMembers are the members of $event_type.
	EventTypeMembers = []string{"name", "description", "subscribed", "subscription"}
	// errorMembers are the members of $error.
	errorMembers = []string{"status", "code", "title", "detail", "field"}
)

type language = jsontemplate.Language[Scope]

// language returns the placeholders of an action's response, or of an error response.
func (w Words) language(action Action) *language {
	subscription := valueLanguage("subscription", w.Subscription)
	switch action {
	case Subscribe, Update, Get:
		return subscription
	case List, Catalogue:
		return &language{Field: unknownField, Lists: map[string]jsontemplate.List[Scope]{
			"subscriptions": {Entries: entries("subscriptions", "subscription"), Entry: subscription},
			"event_types":   {Entries: entries("event_types", "event_type"), Entry: valueLanguage("event_type", EventTypeMembers)},
		}}
	case errorResponse:
		return valueLanguage("error", errorMembers)
	}
	return &language{Field: unknownField}
}

// errorResponse stands for an action in the language of error responses.
const errorResponse Action = "errors"

func unknownField(...string) jsontemplate.Field[Scope] { return nil }

// valueLanguage has one name with members; these may have any members.
func valueLanguage(name string, members []string) *language {
	return &language{
		Members: map[string][]string{name: members},
		Field: func(path ...string) jsontemplate.Field[Scope] {
			if path[0] != name || len(path) > 1 && !slices.Contains(members, path[1]) {
				return nil
			}
			return func(b []byte, s Scope) []byte {
				v := s.Values[name]
				for _, member := range path[1:] {
					v = v.Get(member)
				}
				return append(b, v.Raw()...)
			}
		},
	}
}

func entries(list, entry string) func(Scope) iter.Seq[Scope] {
	return func(s Scope) iter.Seq[Scope] {
		return func(yield func(Scope) bool) {
			for _, v := range s.Lists[list] {
				if !yield(Scope{Values: map[string]jsonindex.Value{entry: v}}) {
					return
				}
			}
		}
	}
}

// defaultAnswers are the responses of actions for which a dialect names none.
var defaultAnswers = map[Action]string{
	Subscribe: `"$subscription"`, Update: `"$subscription"`, Get: `"$subscription"`, Unsubscribe: `{}`,
	List: `[{"$each":"subscriptions","$item":"$subscription"}]`, Catalogue: `[{"$each":"event_types","$item":"$event_type"}]`,
}

func (r *reader) defaultAnswer(action Action) *Template {
	doc, err := jsonindex.Parse([]byte(defaultAnswers[action]), jsonindex.Limits{})
	if err != nil {
		panic(err) // the texts are part of the program
	}
	return r.template(doc.Root(), "", action)
}

func (r *reader) template(v jsonindex.Value, at string, action Action) *Template {
	t, err := jsontemplate.Compile(v, at, r.words.language(action))
	if err != nil {
		r.wrong(err.Value, err.Path, "%s", err.Message)
	}
	return t
}
