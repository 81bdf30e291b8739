package scripts

// Explanation is a filter's verdict on an event, with the value of each of its terms.
type Explanation struct {
	Matched bool   `json:"matched"`
	Error   *Error `json:"error,omitempty"` // why there is no verdict; then Matched is false
	// Terms are the parts of the filter as its author wrote them: each before its own
	// parts, the first one is the whole. The evaluations of a predicate such as any for each
	// element are not among them.
	Terms []Term `json:"terms"`
}

// Term is one part of a filter: a condition, a comparison, a function call, a path.
type Term struct {
	Source string    `json:"source"` // as written, with line breaks as spaces; 500 characters at most
	Depth  int       `json:"depth"`  // 0 is the whole filter; operands of one chain of && or || have the same depth
	State  TermState `json:"state"`
	// Value is nil, a bool, a number, a text of at most 200 characters, or a small list
	// or object as json.RawMessage. It is nil if the term was not evaluated.
	Value   any    `json:"value"`
	Summary string `json:"summary,omitempty"` // a description of a value that is too large for Value
	Missing bool   `json:"missing,omitempty"` // a path at which the event has no value
	Result  *bool  `json:"result,omitempty"`  // of an evaluated condition: its result
	Error   string `json:"error,omitempty"`   // of the innermost term that failed
}

// TermState is the outcome of a term's evaluation.
type TermState string

// The states of a term.
const (
	TermEvaluated TermState = "evaluated"
	TermSkipped   TermState = "skipped" // not needed for the verdict, or not reached after an error
	TermFailed    TermState = "failed"  // it failed itself, or a part of it did
)
