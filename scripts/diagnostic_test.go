package scripts

import "testing"

func TestLocate(t *testing.T) {
	const source = "let é = 1\r\n\treturn totl + 😀\n"
	cases := []struct{ line, column, endLine, endColumn, wantEndLine, wantEndColumn int }{
		{1, 1, 0, 0, 1, 4},   // a word
		{1, 5, 0, 0, 1, 6},   // with any letter
		{1, 4, 0, 0, 1, 5},   // a space
		{2, 9, 0, 0, 2, 13},  // after a tab
		{2, 16, 0, 0, 2, 17}, // one code point, two in UTF-16
		{2, 17, 0, 0, 2, 17}, // the end of a line
		{3, 1, 0, 0, 3, 1},   // the end of the source
		{1, 1, 1, 10, 1, 10}, // as given
		{1, 5, 2, 3, 2, 3},   // over lines
		{1, 5, 1, 2, 1, 6},   // an end before the beginning
		{2, 1, 2, 0, 2, 2},   // an unknown column
	}
	for _, c := range cases {
		l := Locate(source, c.line, c.column, c.endLine, c.endColumn)
		if l.Line != c.line || l.Column != c.column || l.EndLine != c.wantEndLine || l.EndColumn != c.wantEndColumn {
			t.Errorf("%+v: %+v", c, l)
		}
	}
	if l := Locate(source, 1, 99, 0, 0); l.Column != 10 || l.EndColumn != 10 {
		t.Errorf("behind the end: %+v", l)
	}
	if l := Locate(source, 1, -1, 0, 0); l.Column != 1 || l.EndColumn != 4 {
		t.Errorf("before the beginning: %+v", l)
	}
	for _, line := range []int{-1, 0, 4} {
		if l := Locate(source, line, 1, 0, 0); l != (Location{}) {
			t.Errorf("line %d: %+v", line, l)
		}
	}
	if l := LocateOffsets(source, 19, 23); l != (Location{2, 9, 2, 13, " return totl + 😀\n        ^"}) {
		t.Errorf("%+v", l)
	}
	if l := LocateOffsets(source, 4, 19); l.Line != 1 || l.Column != 5 || l.EndLine != 2 || l.EndColumn != 9 {
		t.Errorf("%+v", l)
	}
}

func TestError_Diagnostics(t *testing.T) {
	e := &Error{Message: "first", Location: Location{Line: 1, Column: 2}, Others: []Diagnostic{{Severity: SeverityError, Message: "second"}}}
	list := e.Diagnostics("filter")
	if len(list) != 2 || list[0] != (Diagnostic{"filter", SeverityError, "first", Location{Line: 1, Column: 2}}) || list[1].Source != "filter" {
		t.Errorf("%+v", list)
	}
	if e.Others[0].Source != "" || (*Error)(nil).Diagnostics("filter") != nil {
		t.Errorf("%+v", e)
	}
}
