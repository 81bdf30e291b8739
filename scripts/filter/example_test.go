package filter_test

import (
	"fmt"

	"switchhook/scripts"
	"switchhook/scripts/filter"
)

func Example() {
	f, err := filter.Compile(`data.amount > 100 && data.customer.country in ["US", "CA"]`)
	if err != nil {
		fmt.Println(err)
		return
	}
	in := filter.NewInput(&scripts.Event{
		Type: "order.created",
		Data: []byte(`{"amount": 120, "customer": {"country": "CA"}}`),
	})
	defer in.Release()
	fmt.Println(f.Match(in))
	fmt.Println(f.Paths())
	// Output:
	// true <nil>
	// [data.amount data.customer.country]
}

func ExampleCompile_schema() {
	schema := []byte(`{"properties": {"amount": {"type": "number"}}}`)
	_, err := filter.Compile(`data.amuont > 100`, schema)
	fmt.Println(err)
	fmt.Println(err.(*scripts.Error).Snippet)
	// Output:
	// unknown field "amuont": did you mean "amount"? (line 1, column 6)
	// data.amuont > 100
	//      ^
}
