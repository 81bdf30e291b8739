package settings

import (
	"net/http"
	"testing"
)

// The default transport keeps as many idle connections to a target as may be in use.
func TestConfig_DefaultsThatDependOnOthers(t *testing.T) {
	var c Config
	c.Defaults()
	if transport, ok := c.Transport.(*http.Transport); !ok || transport.MaxIdleConnsPerHost != c.InFlight || c.InFlight == 0 {
		t.Errorf("%d in flight, %+v", c.InFlight, c.Transport)
	}
}
