package server

import (
	"fmt"
	"net/url"
	"strings"

	"github.com/gofiber/fiber/v2"
	"github.com/gofiber/fiber/v2/middleware/cors"
)

// AnyOrigin, in Config.Origins, lets every page read responses.
const AnyOrigin = "*"

// CheckOrigins validates a list of origins. queryKeys says that keys may be in URLs, which any page
// can construct and request.
func CheckOrigins(origins []string, queryKeys bool) error {
	for _, origin := range origins {
		if origin == AnyOrigin {
			if queryKeys {
				return fmt.Errorf("%q can't be allowed while keys are taken from addresses", origin)
			}
			if len(origins) > 1 {
				return fmt.Errorf("%q stands alone: it is every origin", origin)
			}
			continue
		}
		u, err := url.Parse(origin)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || strings.Contains(strings.TrimPrefix(u.Host, "*."), "*") || strings.Contains(origin, ",") || origin != u.Scheme+"://"+u.Host {
			return fmt.Errorf("%q is not an origin such as https://app.example.com (https://*.example.com for all below)", origin)
		}
	}
	return nil
}

// cors answers preflight requests and lets pages of the allowed origins read responses. Cookies are
// never used: a page needs a key of its own.
func (s *Server) cors() fiber.Handler {
	return cors.New(cors.Config{
		AllowOrigins:  strings.Join(s.cfg.Origins, ","),
		AllowMethods:  "GET,HEAD,POST,PUT,PATCH,DELETE",
		AllowHeaders:  "", // any header: a dialect may carry its key in any
		ExposeHeaders: "ETag,Link,Location,Retry-After,Idempotent-Replayed",
		MaxAge:        600,
	})
}

// options answers OPTIONS for an existing path: Fiber has set Allow.
func (s *Server) options(c *fiber.Ctx) error {
	s.setSecurityHeaders(c)
	c.Append(fiber.HeaderAllow, fiber.MethodOptions)
	return c.SendStatus(fiber.StatusNoContent)
}
