package server_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/valyala/fasthttp"

	"switchhook/server"
)

// Requests that a proxy might parse differently are refused, and the rest of their connection is not
// read: it might be a request that the proxy never saw.
func TestFraming_AmbiguousRequestsAreRefused(t *testing.T) {
	r := start(t)
	const event = `{"type":"a","data":1}`
	const chunked = "15\r\n" + event + "\r\n0\r\n\r\n"
	const hidden = `{"type":"smuggled","data":1}`
	next := fmt.Sprintf("POST /api/v1/events HTTP/1.1\r\nHost: x\r\nX-API-Key: %s\r\nContent-Length: %d\r\n\r\n%s", r.acme.key, len(hidden), hidden)
	length := fmt.Sprintf("Content-Length: %d\r\n", len(event))
	const host, coding = "Host: x\r\n", "Transfer-Encoding: chunked\r\n"
	const line = "POST /api/v1/events HTTP/1.1\r\n"
	for name, test := range map[string]struct{ line, headers, body string }{
		// The length of the body.
		"two lengths":                     {line, host + length + fmt.Sprintf("Content-Length: %d\r\n", len(event)+len(next)), event},
		"two lengths, the other first":    {line, host + fmt.Sprintf("content-LENGTH: %d\r\n", len(event)+len(next)) + length, event},
		"the same length twice":           {line, host + length + length, event},
		"a list of lengths":               {line, host + "Content-Length: 21, 21\r\n", event},
		"a list of one":                   {line, host + "Content-Length: 21,\r\n", event},
		"a sign":                          {line, host + "Content-Length: +21\r\n", event},
		"negative":                        {line, host + "Content-Length: -1\r\n", event},
		"hexadecimal":                     {line, host + "Content-Length: 0x15\r\n", event},
		"with a point":                    {line, host + "Content-Length: 21.0\r\n", event},
		"an exponent":                     {line, host + "Content-Length: 2e1\r\n", event},
		"an underscore":                   {line, host + "Content-Length: 2_1\r\n", event},
		"in quotes":                       {line, host + "Content-Length: \"21\"\r\n", event},
		"two words":                       {line, host + "Content-Length: 2 1\r\n", event},
		"an empty length":                 {line, host + "Content-Length:\r\n", event},
		"a length of white space":         {line, host + "Content-Length: \t\r\n", event},
		"VT before the length":            {line, host + "Content-Length: \v21\r\n", event},
		"NUL after the length":            {line, host + "Content-Length: 21\x00\r\n", event},
		"no ASCII digits":                 {line, host + "Content-Length: ２１\r\n", event},
		"more than there are":             {line, host + "Content-Length: 99999999999999999999\r\n", event},
		"more than 64 bits":               {line, host + "Content-Length: 18446744073709551637\r\n", event},
		"a space before the colon":        {line, host + "Content-Length : 21\r\n", event},
		"a tab before the colon":          {line, host + "Content-Length\t: 21\r\n", event},
		"a space and another length":      {line, host + "Content-Length : 3\r\n" + length, event},
		"a space before the coding":       {line, host + "Transfer-Encoding : chunked\r\n" + length, chunked},
		"a folded length":                 {line, host + "Content-Length:\r\n 21\r\n", event},
		"a length folded by a tab":        {line, host + "Content-Length:\r\n\t21\r\n", event},
		"digits folded":                   {line, host + "Content-Length: 2\r\n 1\r\n", event},
		"a length within a folded header": {line, host + "X-A: b\r\n Content-Length: 3\r\n" + length, event},
		"a length folded by a bare LF":    {line, host + "Content-Length:\n 21\r\n", event},
		"a folded first line":             {line, " X: y\r\n" + host + length, event},

		"chunked and a length":           {line, host + length + coding, chunked},
		"chunked and a length after it":  {line, host + coding + length, chunked},
		"chunked and a length of 0":      {line, host + "Content-Length: 0\r\n" + coding, chunked},
		"chunked twice":                  {line, host + coding + coding, chunked},
		"chunked, then identity":         {line, host + coding + "Transfer-Encoding: identity\r\n", chunked},
		"identity, then chunked":         {line, host + "Transfer-Encoding: identity\r\n" + coding, chunked},
		"chunked, then an unknown one":   {line, host + coding + "Transfer-Encoding: x\r\n", chunked},
		"chunked, then an empty one":     {line, host + coding + "Transfer-Encoding:\r\n", chunked},
		"a list":                         {line, host + "Transfer-Encoding: chunked, identity\r\n", chunked},
		"a list, chunked last":           {line, host + "Transfer-Encoding: identity, chunked\r\n", chunked},
		"a list of the same":             {line, host + "Transfer-Encoding: chunked, chunked\r\n", chunked},
		"a list of one coding":           {line, host + "Transfer-Encoding: chunked,\r\n", chunked},
		"gzip before chunked":            {line, host + "Transfer-Encoding: gzip, chunked\r\n", chunked},
		"no coding that is known":        {line, host + "Transfer-Encoding: xchunked\r\n", chunked},
		"identity with a length":         {line, host + "Transfer-Encoding: identity\r\n" + length, event},
		"a parameter":                    {line, host + "Transfer-Encoding: chunked;q=1\r\n", chunked},
		"a coding in quotes":             {line, host + "Transfer-Encoding: \"chunked\"\r\n", chunked},
		"VT before chunked":              {line, host + "Transfer-Encoding: \vchunked\r\n", chunked},
		"FF after chunked":               {line, host + "Transfer-Encoding: chunked\f\r\n", chunked},
		"NUL in the coding":              {line, host + "Transfer-Encoding: chun\x00ked\r\n", chunked},
		"a folded coding":                {line, host + "Transfer-Encoding:\r\n chunked\r\n", chunked},
		"a coding folded in its name":    {line, host + "Transfer-\r\n Encoding: chunked\r\n" + length, chunked},
		"an empty coding":                {line, host + "Transfer-Encoding:\r\n" + length, event},
		"a coding with HTTP/1.0":         {"POST /api/v1/events HTTP/1.0\r\n", host + "Connection: keep-alive\r\n" + coding, chunked},
		"a coding after a bare CR":       {line, host + "X-A: b\rTransfer-Encoding: chunked\r\n" + length, event},
		"a coding after a bare LF":       {line, host + "X-A: b\nTransfer-Encoding: chunked\r\n", chunked},
		"a length after NEL":             {line, host + "X-A: b\x85Content-Length: 3\r\nContent-Length : 21\r\n", event},
		"a name in a language not ASCII": {line, host + "Content-Length: 21\r\nTransfer‐Encoding: chunked\r\n", event},

		// Chunks.
		"bare LF in an extension":        {line, host + coding, "15;a\nb\r\n" + event + "\r\n0\r\n\r\n"},
		"bare CR in an extension":        {line, host + coding, "15;a\rb\r\n" + event + "\r\n0\r\n\r\n"},
		"bare LF after a size":           {line, host + coding, "15\n" + event + "\r\n0\r\n\r\n"},
		"bare LF after a chunk":          {line, host + coding, "15\r\n" + event + "\n0\r\n\r\n"},
		"bare CR after a chunk":          {line, host + coding, "15\r\n" + event + "\r0\r\n\r\n"},
		"nothing after a chunk":          {line, host + coding, "15\r\n" + event + "0\r\n\r\n"},
		"more than the chunk":            {line, host + coding, "14\r\n" + event + "\r\n0\r\n\r\n"},
		"a size with a prefix":           {line, host + coding, "0x15\r\n" + event + "\r\n0\r\n\r\n"},
		"a size with a sign":             {line, host + coding, "+15\r\n" + event + "\r\n0\r\n\r\n"},
		"a negative size":                {line, host + coding, "-15\r\n" + event + "\r\n0\r\n\r\n"},
		"a space before a size":          {line, host + coding, " 15\r\n" + event + "\r\n0\r\n\r\n"},
		"an underscore in a size":        {line, host + coding, "1_5\r\n" + event + "\r\n0\r\n\r\n"},
		"no size":                        {line, host + coding, "\r\n" + event + "\r\n0\r\n\r\n"},
		"an extension without a size":    {line, host + coding, ";a\r\n" + event + "\r\n0\r\n\r\n"},
		"a word after a size":            {line, host + coding, "15 b\r\n" + event + "\r\n0\r\n\r\n"},
		"VT after a size":                {line, host + coding, "15\v\r\n" + event + "\r\n0\r\n\r\n"},
		"NUL after a size":               {line, host + coding, "15\x00\r\n" + event + "\r\n0\r\n\r\n"},
		"a size beyond 64 bits":          {line, host + coding, "10000000000000015\r\n" + event + "\r\n0\r\n\r\n"},
		"a size that would overflow":     {line, host + coding, "fffffffffffffff\r\n" + event + "\r\n0\r\n\r\n"},
		"a last chunk with bare LF":      {line, host + coding, "15\r\n" + event + "\r\n0\n\r\n"},
		"a trailer":                      {line, host + coding, "15\r\n" + event + "\r\n0\r\nX-Checksum: abc\r\n\r\n"},
		"a key in the trailer":           {line, host + "Trailer: X-API-Key\r\n" + coding, "15\r\n" + event + "\r\n0\r\nX-API-Key: " + r.rival.key + "\r\n\r\n"},
		"a trailer, an empty body":       {line, host + coding, "0\r\nX-Checksum: abc\r\n\r\n"},
		"a trailer with a bad name":      {line, host + coding, "15\r\n" + event + "\r\n0\r\nX Y: z\r\n\r\n"},
		"a trailer that is not a header": {line, host + coding, "15\r\n" + event + "\r\n0\r\nGET / HTTP/1.1\r\n\r\n"},
		"a length in the trailer":        {line, host + coding, "15\r\n" + event + "\r\n0\r\nContent-Length: 3\r\n\r\n"},
		"a coding in the trailer":        {line, host + coding, "15\r\n" + event + "\r\n0\r\nTransfer-Encoding: chunked\r\n\r\n"},
		"a trailer with a bare LF":       {line, host + coding, "15\r\n" + event + "\r\n0\r\nX: a\nY: b\r\n\r\n"},
		"a trailer with NUL":             {line, host + coding, "15\r\n" + event + "\r\n0\r\nX\x00: a\r\n\r\n"},
		"a trailer with a folded line":   {line, host + coding, "15\r\n" + event + "\r\n0\r\nX: a\r\n Y: b\r\n\r\n"},

		// Header fields and the request line.
		"no Host":                       {line, length, event},
		"an empty Host":                 {line, "Host:\r\n" + length, event},
		"two Hosts":                     {line, host + "Host: y\r\n" + length, event},
		"the same Host twice":           {line, host + host + length, event},
		"a Host with a space before":    {line, "Host : x\r\n" + length, event},
		"a folded Host":                 {line, "Host:\r\n x\r\n" + length, event},
		"a Host with a path":            {line, "Host: x/y\r\n" + length, event},
		"a Host with a user":            {line, "Host: u@x\r\n" + length, event},
		"a Host with a space":           {line, "Host: x y\r\n" + length, event},
		"a list of Hosts":               {line, "Host: x, y\r\n" + length, event},
		"NUL in a name":                 {line, host + "X\x00A: b\r\n" + length, event},
		"NUL in a value":                {line, host + "X-A: b\x00\r\n" + length, event},
		"a name with a space":           {line, host + "X A: b\r\n" + length, event},
		"no name":                       {line, host + ": b\r\n" + length, event},
		"no colon":                      {line, host + "nonsense\r\n" + length, event},
		"bare LF after a header":        {line, host + "X-A: b\n" + length, event},
		"bare LF after the first line":  {"POST /api/v1/events HTTP/1.1\n", host + length + "X-A: b\n", event},
		"bare LF at the end of headers": {line, host + "Content-Length: 21\n\r\n", event},
		"two spaces":                    {"POST  /api/v1/events HTTP/1.1\r\n", host + length, event},
		"a tab in the first line":       {"POST\t/api/v1/events\tHTTP/1.1\r\n", host + length, event},
		"a space at the end":            {"POST /api/v1/events HTTP/1.1 \r\n", host + length, event},
		"a space in the path":           {"POST /api/v1/events x HTTP/1.1\r\n", host + length, event},
		"NUL in the path":               {"POST /api/v1/events\x00 HTTP/1.1\r\n", host + length, event},
		"no version":                    {"POST /api/v1/events\r\n", host + length, event},
		"lower case":                    {"POST /api/v1/events http/1.1\r\n", host + length, event},
		"a version that is none":        {"POST /api/v1/events HTTP/1.10\r\n", host + length, event},
		"a version of the future":       {"POST /api/v1/events HTTP/4.0\r\n", host + length, event},
		"HTTP/2 without a preface":      {"POST /api/v1/events HTTP/2.0\r\n", host + length, event},
		"HTTP/0.9":                      {"POST /api/v1/events HTTP/0.9\r\n", host + length, event},
		"no slash":                      {"POST api/v1/events HTTP/1.1\r\n", host + length, event},
		"a method with a colon":         {"POST: /api/v1/events HTTP/1.1\r\n", host + length, event},
	} {
		t.Run(name, func(t *testing.T) {
			conn := r.dial(t)
			_, err := io.WriteString(conn, test.line+test.headers+"X-API-Key: "+r.acme.key+"\r\nContent-Type: application/json\r\n\r\n"+test.body+next)
			must(t, err)
			answers := bufio.NewReader(conn)
			res, err := http.ReadResponse(answers, nil)
			must(t, err)
			text, err := io.ReadAll(res.Body)
			must(t, err)
			if status := res.StatusCode; status != 400 && status != 413 && status != 505 || !res.Close || res.Header.Get("Content-Type") != "application/problem+json" {
				t.Errorf("%d, close is %v: %s", res.StatusCode, res.Close, text)
			}
			if more, err := io.ReadAll(answers); len(more) > 0 || errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("there is another answer: %q %v", more, err)
			}
		})
	}
	if got := r.acme.get("/api/v1/events").want(200).column("type"); len(got) > 0 {
		t.Errorf("events came through: %v", got)
	}
}

// Requests that RFC 9112 allows are served, and the connection stays open.
func TestFraming_UnusualButValidRequestsAreServed(t *testing.T) {
	r := start(t)
	const event = `{"type":"a","data":1}`
	const chunked = "15\r\n" + event + "\r\n0\r\n\r\n"
	const host, length, coding = "Host: x\r\n", "Content-Length: 21\r\n", "Transfer-Encoding: chunked\r\n"
	const line = "POST /api/v1/events HTTP/1.1\r\n"
	for name, test := range map[string]struct{ line, headers, body string }{
		"a length":                    {line, host + length, event},
		"a length without a space":    {line, host + "Content-Length:21\r\n", event},
		"a length with white space":   {line, host + "Content-Length: \t 21 \t\r\n", event},
		"zeros before a length":       {line, host + "Content-Length: 0021\r\n", event},
		"a name in other case":        {line, "hOST: x\r\ncontent-length: 21\r\n", event},
		"chunks":                      {line, host + coding, chunked},
		"a coding in other case":      {line, host + "transfer-encoding: \t Chunked \r\n", chunked},
		"several chunks":              {line, host + coding, "5\r\n{\"typ\r\n010\r\ne\":\"a\",\"data\":1}\r\n000\r\n\r\n"},
		"an extension":                {line, host + coding, "15;a=b;c=\"d;e\"\r\n" + event + "\r\n0;f\r\n\r\n"},
		"trailers announced, none":    {line, host + "Trailer: X-Checksum\r\n" + coding, chunked},
		"an empty header":             {line, host + "X-Empty:\r\n" + length, event},
		"a colon in a value":          {line, host + "X-A: Content-Length: 3\r\n" + length, event},
		"Latin-1 in a value":          {line, host + "X-A: caf\xe9\r\n" + length, event},
		"a Host with a port":          {line, "Host: hooks.example.com.:8080\r\n" + length, event},
		"a Host that is IPv6":         {line, "Host: [2001:db8::1]:8080\r\n" + length, event},
		"empty lines before":          {"\r\n\r\n" + line, host + length, event},
		"an absolute address":         {"POST http://x/api/v1/events HTTP/1.1\r\n", host + length, event},
		"HTTP/1.0 and kept alive":     {"POST /api/v1/events HTTP/1.0\r\n", host + "Connection: keep-alive\r\n" + length, event},
		"HTTP/1.0 without a Host":     {"POST /api/v1/events HTTP/1.0\r\n", "Connection: keep-alive\r\n" + length, event},
		"a name that is only similar": {line, host + "X-Content-Length: 3\r\nX-Transfer-Encoding: gzip\r\n" + length, event},
	} {
		t.Run(name, func(t *testing.T) {
			conn := r.dial(t)
			answers := bufio.NewReader(conn)
			for range 2 {
				_, err := io.WriteString(conn, test.line+test.headers+"X-API-Key: "+r.acme.key+"\r\nContent-Type: application/json\r\n\r\n"+test.body)
				must(t, err)
				res, err := http.ReadResponse(answers, nil)
				must(t, err)
				text, err := io.ReadAll(res.Body)
				must(t, err)
				if res.StatusCode != 202 || res.Close {
					t.Fatalf("%d, close is %v: %s", res.StatusCode, res.Close, text)
				}
			}
		})
	}
}

// The server derives a request's context from the offset of its headers, which a version of fasthttp
// may change.
func TestAuth_ContextOfHeader(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	var found *fasthttp.RequestCtx
	s := &fasthttp.Server{
		HeaderReceived: func(header *fasthttp.RequestHeader) (conf fasthttp.RequestConfig) {
			found = server.ContextOf(header)
			if &found.Request.Header != header {
				t.Error("the headers are not those of the context that was found")
			}
			return conf
		},
		Handler: func(ctx *fasthttp.RequestCtx) {
			if found != ctx {
				t.Errorf("the context that was found is %p, the request's is %p", found, ctx)
			}
			fmt.Fprint(ctx, ctx.RemoteAddr())
		},
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(listener) }()
	defer func() {
		check(t, s.Shutdown())
		check(t, <-served)
	}()
	for range 2 {
		conn, err := net.Dial("tcp", listener.Addr().String())
		must(t, err)
		defer conn.Close()
		_, err = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
		must(t, err)
		answer, err := io.ReadAll(conn)
		must(t, err)
		if !strings.HasSuffix(string(answer), conn.LocalAddr().String()) || found == nil {
			t.Errorf("the answer is %q", answer)
		}
	}
}
