package sqlite

import (
	"database/sql/driver"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"switchhook/engine"
)

// Encoding of values in columns. Nil lists and maps become NULL and are read as nil.

// Times are microseconds since 1970, NULL if zero.

func timeColumn(t time.Time) driver.Value {
	if t.IsZero() {
		return nil
	}
	return t.UnixMicro()
}

func columnTime(us *int64) time.Time {
	if us == nil {
		return time.Time{}
	}
	return time.UnixMicro(*us).UTC()
}

// Targets are 8 bytes each, so that their number is the length divided by 8.

const targetBytes = 8

func targetsColumn(targets []engine.ID) []byte {
	b := make([]byte, 0, targetBytes*len(targets))
	for _, id := range targets {
		b = binary.BigEndian.AppendUint64(b, uint64(id))
	}
	return b
}

func columnTargets(b []byte) []engine.ID {
	if len(b) == 0 {
		return nil
	}
	targets := make([]engine.ID, len(b)/targetBytes)
	for i := range targets {
		targets[i] = engine.ID(binary.BigEndian.Uint64(b[i*targetBytes:]))
	}
	return targets
}

// Sequences are 8 bytes each.

func sequencesColumn(sequences []int64) driver.Value {
	if sequences == nil {
		return nil
	}
	b := make([]byte, 0, targetBytes*len(sequences))
	for _, n := range sequences {
		b = binary.BigEndian.AppendUint64(b, uint64(n))
	}
	return b
}

func columnSequences(b []byte) []int64 {
	if len(b) == 0 {
		return nil
	}
	sequences := make([]int64, len(b)/targetBytes)
	for i := range sequences {
		sequences[i] = int64(binary.BigEndian.Uint64(b[i*targetBytes:]))
	}
	return sequences
}

// Header fields and console lines are strings, each after its length as a varint: bytes
// that are not UTF-8 survive, and writing them costs one copy.

func appendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func headersColumn(headers []engine.Header) []byte {
	if headers == nil {
		return nil
	}
	size := 0
	for _, h := range headers {
		size += len(h.Name) + len(h.Value) + 4
	}
	b := make([]byte, 0, size)
	for _, h := range headers {
		b = appendString(appendString(b, h.Name), h.Value)
	}
	return b
}

func columnHeaders(b []byte) ([]engine.Header, error) {
	parts, err := columnStrings(b)
	if parts == nil || err != nil {
		return nil, err
	}
	if len(parts)%2 != 0 {
		return nil, errDamaged
	}
	headers := make([]engine.Header, len(parts)/2)
	for i := range headers {
		headers[i] = engine.Header{Name: parts[2*i], Value: parts[2*i+1]}
	}
	return headers, nil
}

func stringsColumn(list []string) []byte {
	if list == nil {
		return nil
	}
	b := []byte{}
	for _, s := range list {
		b = appendString(b, s)
	}
	return b
}

func columnStrings(b []byte) ([]string, error) {
	if b == nil {
		return nil, nil
	}
	list := []string{}
	for len(b) > 0 {
		size, n := binary.Uvarint(b)
		if n <= 0 || size > uint64(len(b)-n) {
			return nil, errDamaged
		}
		list = append(list, string(b[n:n+int(size)]))
		b = b[n+int(size):]
	}
	return list, nil
}

var errDamaged = errors.New("a list of strings in the database is damaged")

// Values that are read seldom are JSON, which is readable in any SQLite tool.

func jsonMapColumn(m map[string]string) driver.Value {
	if m == nil {
		return nil
	}
	return mustJSON(m)
}

func jsonListColumn[T any](list []T) driver.Value {
	if list == nil {
		return nil
	}
	return mustJSON(list)
}

// mustJSON encodes values of strings, numbers and times, which cannot fail.
func mustJSON(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("sqlite: encode %T: %v", v, err))
	}
	return string(b)
}

// columnJSON leaves v unchanged if the column is NULL.
func columnJSON(text *string, v any) error {
	if text == nil {
		return nil
	}
	if err := json.Unmarshal([]byte(*text), v); err != nil {
		return fmt.Errorf("read JSON from the database: %w", err)
	}
	return nil
}

// bytesColumn stores nil as NULL and an empty slice as an empty blob.
func bytesColumn(b []byte) driver.Value {
	if b == nil {
		return nil
	}
	return b
}

// textColumn stores the empty string as NULL, which saves no space but reads better in
// columns that are mostly unused.
func textColumn(s string) driver.Value {
	if s == "" {
		return nil
	}
	return s
}

func columnText(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// flagColumn stores true as 1, and false as NULL.
func flagColumn(is bool) driver.Value {
	if is {
		return int64(1)
	}
	return nil
}

// numberColumn stores 0 as NULL.
func numberColumn(n int64) driver.Value {
	if n == 0 {
		return nil
	}
	return n
}
