// Package scriptstest has what tests and benchmarks of the packages about scripts share.
package scriptstest

import (
	"fmt"
	"strings"
)

// Order is an order as a shop would send it, as JSON: about 240 bytes for each item.
func Order(items int) []byte {
	var b strings.Builder
	b.WriteString(`{"id":"ord_1","total":129.5,"customer":{"name":"Ada","country":"US"},"items":[`)
	for i := range items {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, `{"sku":"SKU-%05d","title":"A thing of beauty %d","quantity":%d,"price":%d.25,"tags":["new","sale"],"weight":1.5,"attributes":{"color":"red","size":"L"},"note":null,"gift":false,"vendor":"Acme Corporation"}`, i, i, i%5+1, i*3)
	}
	b.WriteString(`]}`)
	return []byte(b.String())
}
