package server

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strings"

	"github.com/gofiber/fiber/v2"

	"switchhook/engine"
	"switchhook/scripts/jsonindex"
)

// storedAnswer is the stored response to a request with an idempotency key.
type storedAnswer struct {
	Status  int               `json:"status"`
	Headers map[string]string `json:"headers"`
	Body    []byte            `json:"body"`
}

// answerHeaders are the stored headers; the others belong to the connection.
var answerHeaders = []string{fiber.HeaderContentType, fiber.HeaderLocation, fiber.HeaderETag, fiber.HeaderCacheControl}

// once makes a handler idempotent by Idempotency-Key: a repeated request gets the first response, with
// Idempotent-Replayed, and changes nothing. A key belongs to the account of the API key, and to one
// request: its path, parameters and body. A request that changed nothing, as its status says,
// releases its key.
func (s *Server) once(h handler) handler {
	return func(c *fiber.Ctx, who caller) error {
		key, err := idempotencyKey(c)
		if err != nil {
			return err
		}
		if key == "" {
			return h(c, who)
		}
		r, stored, err := s.engine.BeginRequest(c.UserContext(), who.Account, key, requestDigest(c, who))
		if err != nil {
			return err
		}
		if stored != nil {
			return replayAnswer(c, stored)
		}
		known := false // the outcome is known; after a panic it is not
		defer func() {
			if !known {
				s.engine.AbandonRequest(r)
			}
		}()
		err = h(c, who)
		known = true
		if err != nil {
			s.forget(c, r)
			return err
		}
		res := c.Response()
		if status := res.StatusCode(); status < 200 || status > 299 {
			s.forget(c, r)
			return nil
		}
		answer := storedAnswer{Status: res.StatusCode(), Headers: map[string]string{}, Body: res.Body()}
		for _, name := range answerHeaders {
			if value := res.Header.Peek(name); len(value) > 0 {
				answer.Headers[name] = string(value)
			}
		}
		r.Answer, err = json.Marshal(answer)
		if err == nil {
			err = s.engine.FinishRequest(c.UserContext(), r)
		}
		if err != nil {
			s.engine.AbandonRequest(r)
			s.log.Error("the answer to a request with an Idempotency-Key is not stored: a repeat will be refused", "error", err)
		}
		return nil
	}
}

// forget releases the key of a request that changed nothing.
func (s *Server) forget(c *fiber.Ctx, r *engine.IdempotentRequest) {
	if err := s.engine.ForgetRequest(c.UserContext(), r); err != nil {
		s.log.Error("the idempotency key of a refused request could not be released", "error", err)
	}
}

func replayAnswer(c *fiber.Ctx, stored *engine.IdempotentRequest) error {
	var answer storedAnswer
	if err := json.Unmarshal(stored.Answer, &answer); err != nil {
		return fmt.Errorf("read the stored answer of a request: %w", err)
	}
	for name, value := range answer.Headers {
		c.Set(name, value)
	}
	c.Set(replayedHeader, "true")
	return c.Status(answer.Status).Send(answer.Body)
}

// requestDigest returns a hash that identifies a request. JSON bodies with equal content have equal
// hashes, whatever their white space and the order of members. An admin key's requests differ from
// those of other keys of its account, whose answers must not show other accounts.
func requestDigest(c *fiber.Ctx, who caller) engine.KeyHash {
	route, _ := c.Locals(routeLocal{}).(string)
	parameters := url.Values{}
	for k, v := range c.Context().QueryArgs().All() {
		if string(k) != keyParameter {
			parameters.Add(string(k), string(v))
		}
	}
	if c.Locals(dialectLocal) != nil {
		route += " " + strings.TrimSuffix(c.Path(), "/")
	}
	if who.Admin {
		route += " admin"
	}
	body := string(withoutBOM(c.BodyRaw()))
	if doc, err := jsonindex.Parse([]byte(body), jsonindex.Limits{NoDuplicates: true}); err == nil {
		body = string(jsonindex.AppendCanonical(nil, doc.Root()))
	}
	return engine.RequestDigest(c.Method(), route, c.Params("id"), c.Params("name"), c.Params("version"), parameters.Encode(), body)
}
