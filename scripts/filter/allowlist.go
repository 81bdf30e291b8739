package filter

// The functions that a filter may call. The list is closed: a function that a later version
// of expr adds is refused until it is reviewed and listed here.

// rule allows one function.
type rule struct {
	min, max  int    // arguments
	predicate bool   // its second argument is evaluated for each element
	static    any    // our replacement, if its work needs no charge
	metered   string // the metered function, if it has another name
}

var allowed = map[string]rule{
	// Predicates: each iteration costs a step; two levels at most.
	"any":    {min: 2, max: 2, predicate: true},
	"all":    {min: 2, max: 2, predicate: true},
	"none":   {min: 2, max: 2, predicate: true},
	"one":    {min: 2, max: 2, predicate: true},
	"count":  {min: 2, max: 2, predicate: true},
	"find":   {min: 2, max: 2, predicate: true},
	"filter": {min: 2, max: 2, predicate: true},
	"map":    {min: 2, max: 2, predicate: true},
	"sum":    {min: 1, max: 2, predicate: true},

	// The cost of reading a value is at most its length.
	"len":       {min: 1, max: 1},
	"first":     {min: 1, max: 1},
	"last":      {min: 1, max: 1},
	"lower":     {min: 1, max: 1},
	"upper":     {min: 1, max: 1},
	"trim":      {min: 1, max: 1},
	"indexOf":   {min: 2, max: 2},
	"hasPrefix": {min: 2, max: 2, metered: "startsWith"},
	"hasSuffix": {min: 2, max: 2, metered: "endsWith"},

	// Numbers cost next to nothing.
	"int":    {min: 1, max: 1, static: toInt},
	"float":  {min: 1, max: 1, static: toFloat},
	"string": {min: 1, max: 1, static: toText},
	"abs":    {min: 1, max: 1, static: absolute},
	"floor":  {min: 1, max: 1, static: floor},
	"ceil":   {min: 1, max: 1, static: ceil},
	"round":  {min: 1, max: 1, static: nearest},
	"min":    {min: 2, max: 2, static: minimum},
	"max":    {min: 2, max: 2, static: maximum},
}

// The reasons, shown to authors, why the other functions are refused.
const (
	tooMuchMemory = "it can make a value much larger than the payload"
	tooMuchWork   = "its work grows faster than the payload"
	notPure       = "a filter has no clock: the same event must always give the same answer"
	noUse         = "a filter answers yes or no, and has no need to rearrange data"
	oneByOne      = "any, all, none, one and count do what a filter needs"
)

var refused = map[string]string{
	"repeat":        tooMuchMemory,
	"replace":       tooMuchMemory,
	"join":          tooMuchMemory,
	"split":         tooMuchMemory,
	"splitAfter":    tooMuchMemory,
	"concat":        tooMuchMemory,
	"flatten":       tooMuchMemory,
	"toJSON":        tooMuchMemory,
	"fromJSON":      tooMuchMemory,
	"toBase64":      tooMuchMemory,
	"fromBase64":    tooMuchMemory,
	"reduce":        tooMuchWork,
	"uniq":          tooMuchWork,
	"sort":          tooMuchWork,
	"sortBy":        tooMuchWork,
	"groupBy":       tooMuchWork,
	"median":        tooMuchWork,
	"mean":          tooMuchWork,
	"now":           notPure,
	"date":          notPure + "; RFC 3339 times in UTC compare as texts",
	"duration":      notPure,
	"timezone":      notPure,
	"reverse":       noUse,
	"keys":          noUse + "; write `\"name\" in data`",
	"values":        noUse,
	"toPairs":       noUse,
	"fromPairs":     noUse,
	"take":          noUse,
	"findIndex":     oneByOne,
	"findLast":      oneByOne,
	"findLastIndex": oneByOne,
	"trimPrefix":    "write startsWith",
	"trimSuffix":    "write endsWith",
	"lastIndexOf":   "write contains or endsWith",
	"get":           "write data.name or data[\"name\"]",
	"type":          "`type` is the event's type",
	"bitand":        noUse,
	"bitor":         noUse,
	"bitxor":        noUse,
	"bitnand":       noUse,
	"bitnot":        noUse,
	"bitshl":        noUse,
	"bitshr":        noUse,
	"bitushr":       noUse,
}

// operators lists the allowed binary operators; refusedOperators has the reasons for others.
var operators = map[string]bool{
	"==": true, "!=": true, "<": true, "<=": true, ">": true, ">=": true,
	"&&": true, "and": true, "||": true, "or": true, "??": true,
	"in": true, "contains": true, "startsWith": true, "endsWith": true, "matches": true,
	"+": true, "-": true, "*": true, "/": true, "%": true,
}

var refusedOperators = map[string]string{
	"..": "write `x >= 1 && x <= 9`",
	"**": "a filter has no powers",
	"^":  "a filter has no powers",
}

// scope lists the names a filter can use.
var scope = []string{"type", "id", "account", "time", "headers", "data"}

// nameHints maps names that authors try to a hint about what to write instead.
var nameHints = map[string]string{
	"event":     "the event's parts are `data`, `type`, `id`, `account`, `time` and `headers`",
	"payload":   "the event's payload is `data`",
	"body":      "the event's payload is `data`",
	"$env":      "the event's parts are `data`, `type`, `id`, `account`, `time` and `headers`",
	"header":    "the event's headers are `headers`",
	"topic":     "the event's type is `type`",
	"timestamp": "the event's time is `time`",
	"now":       notPure,
	"null":      "write `nil`",
	"undefined": "write `nil`",
	"None":      "write `nil`",
	"True":      "write `true`",
	"False":     "write `false`",
}
