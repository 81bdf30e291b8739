package server

import (
	"fmt"
	"net/url"
	"strings"

	"github.com/gofiber/fiber/v2"
	"github.com/gofiber/fiber/v2/middleware/cors"
)

// AnyOrigin, among Config.Origins, lets every page read answers.
const AnyOrigin = "*"

// CheckOrigins tells what is wrong with a list of origins; nil where nothing is. With
// queryKeys set keys may be in addresses, which every page can make up and have followed.
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
			return fmt.Errorf("%q is no origin such as https://app.example.com (https://*.example.com for all below)", origin)
		}
	}
	return nil
}

// cors answers what browsers ask before they let a page of another origin call, and lets
// it read the answers. No cookie is ever involved: a page must have a key of its own.
func (s *Server) cors() fiber.Handler {
	return cors.New(cors.Config{
		AllowOrigins:  strings.Join(s.cfg.Origins, ","),
		AllowMethods:  "GET,HEAD,POST,PUT,PATCH,DELETE",
		AllowHeaders:  "", // whatever is asked for: a dialect's key may be in any header
		ExposeHeaders: "ETag,Link,Location,Retry-After,Idempotent-Replayed",
		MaxAge:        600,
	})
}

// options answers OPTIONS on a path that is there: Fiber has listed its methods in Allow.
func (s *Server) options(c *fiber.Ctx) error {
	s.setSecurityHeaders(c)
	c.Append(fiber.HeaderAllow, fiber.MethodOptions)
	return c.SendStatus(fiber.StatusNoContent)
}
