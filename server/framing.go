package server

import (
	"bytes"

	"switchhook/server/api"

	"github.com/gofiber/fiber/v2"
	"github.com/valyala/fasthttp"
)

// checkFraming refuses a request that another HTTP implementation might parse differently: one whose body
// length is not given in exactly one way, or whose header fields have a form that RFC 9112 forbids or
// only some parsers accept. fasthttp is lenient with several of them. Behind a proxy that parses them
// differently, the difference would be a request that the proxy has not seen (request smuggling).
func checkFraming(ctx *fasthttp.RequestCtx) *api.Error {
	header := &ctx.Request.Header
	if protocol := header.Protocol(); !bytes.HasPrefix(protocol, []byte("HTTP/1.")) {
		return newProblem(fiber.StatusHTTPVersionNotSupported, "this server speaks HTTP/1.1 and HTTP/1.0 only")
	}
	var lengths, codings int
	for rest := header.RawHeaders(); len(rest) > 0; {
		end := bytes.IndexByte(rest, '\n')
		if end < 1 || rest[end-1] != '\r' {
			return newProblem(fiber.StatusBadRequest, "a line of the request's headers does not end with CR LF")
		}
		line := rest[:end-1]
		rest = rest[end+1:]
		if len(line) == 0 {
			break
		}
		colon := bytes.IndexByte(line, ':')
		if colon < 1 || bytes.IndexByte(line[:colon], ' ') >= 0 || bytes.IndexByte(line[:colon], '\t') >= 0 {
			// A line that begins with a space continues the previous one (obs-fold).
			return newProblem(fiber.StatusBadRequest, "a header is folded over several lines, or has white space in its name or before its colon; write each as \"Name: value\" on one line")
		}
		name, value := line[:colon], bytes.Trim(line[colon+1:], " \t")
		switch len(name) {
		case len("Host"):
			if bytes.EqualFold(name, []byte("Host")) && bytes.ContainsAny(value, "/\\?#@<>\"'`^{}|, \t") {
				return newProblem(fiber.StatusBadRequest, "Host must be a host name or address, with a port or without")
			}
		case len("Content-Length"):
			if bytes.EqualFold(name, []byte("Content-Length")) {
				lengths++
			}
		case len("Transfer-Encoding"):
			if bytes.EqualFold(name, []byte("Transfer-Encoding")) {
				if codings++; !bytes.EqualFold(value, []byte("chunked")) {
					return ambiguousLength()
				}
			}
		}
	}
	if lengths+codings > 1 || codings > 0 && !header.IsHTTP11() {
		return ambiguousLength()
	}
	if before, chunked := ctx.UserValue(fieldCount{}).(int); chunked && countFields(header) != before {
		return newProblem(fiber.StatusBadRequest, "fields after a chunked body (trailers) are not supported; send them as headers")
	}
	return nil
}

// fieldCount is the key of a user value: the number of header fields before a chunked body. fasthttp
// appends those after the body (trailers) to the same list, and a proxy that removes or sets a
// header, such as a key, has not seen them.
type fieldCount struct{}

// countFields counts a request's header fields, except those that fasthttp changes while it reads the
// body.
func countFields(header *fasthttp.RequestHeader) (n int) {
	for name := range header.All() {
		if !bytes.EqualFold(name, []byte(fiber.HeaderContentLength)) && !bytes.EqualFold(name, []byte(fiber.HeaderTransferEncoding)) {
			n++
		}
	}
	return n
}

func ambiguousLength() *api.Error {
	return newProblem(fiber.StatusBadRequest, "the request gives the length of its body in more than one way, or in one that is not supported: send one Content-Length or, with HTTP/1.1, one \"Transfer-Encoding: chunked\"")
}
