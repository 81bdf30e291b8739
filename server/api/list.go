package api

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"net/http"
	"reflect"
	"strconv"
	"strings"
	"time"
)

// Page is one page of a list.
type Page[T any] struct {
	Data       []T     `json:"data"`
	NextCursor *string `json:"next_cursor"` // null on the last page
}

// Complete implements Completer.
func (p *Page[T]) Complete() bool { return p.Data != nil }

// maxLine limits how much of a stream is read for one line, in bytes.
const maxLine = 16 << 20

// pageSize is the number of entries that the client asks for at once.
const pageSize = "500"

// List iterates over all entries of a list. It fetches a page when the one before is used up, and
// ends with the first error. The option Query("limit", …) changes the size of a page.
func List[T any](ctx context.Context, c *Client, path string, params any, options ...Option) iter.Seq2[T, error] {
	options = append([]Option{Query("limit", pageSize), Params(params)}, options...)
	return func(yield func(T, error) bool) {
		for cursor := ""; ; {
			var page Page[T]
			wanted := options
			if cursor != "" {
				wanted = append(wanted[:len(wanted):len(wanted)], Query("cursor", cursor))
			}
			if err := c.Do(ctx, http.MethodGet, path, nil, &page, wanted...); err != nil {
				yield(*new(T), err)
				return
			}
			for _, entry := range page.Data {
				if !yield(entry, nil) {
					return
				}
			}
			if page.NextCursor == nil {
				return
			}
			if *page.NextCursor == cursor {
				yield(*new(T), fmt.Errorf("%s: a page of %s has itself as the next page", c.URL, path))
				return
			}
			cursor = *page.NextCursor
		}
	}
}

// Collect returns all entries of a list, or the first error.
func Collect[T any](seq iter.Seq2[T, error]) ([]T, error) {
	list := []T{}
	for entry, err := range seq {
		if err != nil {
			return nil, err
		}
		list = append(list, entry)
	}
	return list, nil
}

// Stream calls an operation that answers with a JSON value a line (application/x-ndjson) and
// iterates over them as they arrive, without a limit of time. It ends with the first error.
func Stream[T any](ctx context.Context, c *Client, method, path string, in any, options ...Option) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		res, err := c.open(ctx, 0, method, path, in, append(options, Header("Accept", "application/x-ndjson")))
		if err != nil {
			yield(*new(T), err)
			return
		}
		defer res.Body.Close()
		limited := &io.LimitedReader{R: res.Body}
		for lines := json.NewDecoder(limited); ; {
			var line T
			limited.N = maxLine
			switch err := lines.Decode(&line); {
			case err == io.EOF:
				return
			case err != nil:
				yield(line, err)
				return
			case !yield(line, nil):
				return
			}
		}
	}
}

// Params adds the fields of a struct to the URL's parameters. A field's name is in its tag query;
// zero values are left out.
func Params(params any) Option {
	return func(c *call) {
		v := reflect.ValueOf(params)
		if !v.IsValid() {
			return
		}
		for i := range v.NumField() {
			name := v.Type().Field(i).Tag.Get("query")
			if f := v.Field(i); name != "" && !f.IsZero() {
				c.query.Set(name, queryText(reflect.Indirect(f).Interface()))
			}
		}
	}
}

func queryText(v any) string {
	switch v := v.(type) {
	case time.Time:
		return v.UTC().Format(time.RFC3339Nano)
	case bool:
		return strconv.FormatBool(v)
	case []string:
		return strings.Join(v, ",")
	}
	return fmt.Sprint(v)
}
