package scripttest_test

import (
	"context"
	"fmt"

	"switchhook/scripts/scripttest"
)

func Example() {
	cases, err := scripttest.ParseCases([]byte(`[
	  {"name": "large orders pass", "event": {"type": "order.created", "data": {"total": 120}}, "expect": {"matches": true}},
	  {"name": "small ones do not", "event": {"type": "order.created", "data": {"total": 20}}, "expect": {"matches": false}}
	]`))
	if err != nil {
		fmt.Println(err)
		return
	}
	// A filter alone needs no Runner; a transform runs in a *sandbox.Pool.
	report := scripttest.Run(context.Background(), nil, scripttest.Suite{Filter: "data.total > 10", Cases: cases})
	fmt.Println(report.OK(), report.String())
	fmt.Println(report.Cases[1].Failures[0].Message)
	// Output:
	// false 1 passed, 1 failed
	// the filter lets this event through
}
