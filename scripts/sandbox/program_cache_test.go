package sandbox

import (
	"fmt"
	"strings"
	"testing"

	"switchhook/scripts"
)

func TestProgramCache_AccountDrivesOutItsOwn(t *testing.T) {
	for name, size := range map[string]int{"many": 0, "large": 64 << 10} {
		t.Run(name, func(t *testing.T) {
			var c programCache
			has := map[uint64]bool{} // as the child does
			number := uint64(0)
			use := func(account, hash string, size int) (sent bool) {
				if n, ok := c.use(hash); ok {
					if !has[n] {
						t.Fatalf("the child does not have %s", hash)
					}
					return false
				}
				number++
				for _, old := range c.add(account, &scripts.Program{Hash: hash, Source: strings.Repeat(" ", size)}, number) {
					if !has[old] {
						t.Fatalf("the child does not have %d", old)
					}
					delete(has, old)
				}
				has[number] = true
				return true
			}
			for i := range 10 {
				use("good", fmt.Sprint("good", i), 1000)
			}
			resent, hostile := 0, 0
			for i := range 2000 {
				if use("hostile", fmt.Sprint(i%800), size) {
					hostile++
				}
				if use("good", fmt.Sprint("good", i%10), 1000) {
					resent++
				}
			}
			if resent != 0 || hostile < 1000 {
				t.Errorf("%d programs were sent again to the one account, %d to the other", resent, hostile)
			}
			if c.bytes > maxProgramBytes || len(c.programs) != len(has) {
				t.Errorf("%d bytes, %d programs, the child has %d", c.bytes, len(c.programs), len(has))
			}
			// Many accounts with one each.
			for i := range 3000 {
				use(fmt.Sprint("account", i), fmt.Sprint("of", i), 10_000)
			}
			if c.bytes > maxProgramBytes || len(c.programs) != len(has) || len(c.accounts) > len(has) {
				t.Errorf("%d bytes, %d programs of %d accounts, the child has %d", c.bytes, len(c.programs), len(c.accounts), len(has))
			}
		})
	}
}
