// Package scriptstest has helpers for tests and benchmarks of the script packages.
package scriptstest

import (
	"fmt"
	"strings"
)

// Order returns an order of a shop as JSON: about 240 bytes for each item.
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
