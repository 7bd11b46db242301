package csv

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/dataset"
	"github.com/f708428e/engine/dataset/text"
)

// shown is a value as error messages show it.
func shown(b []byte) string { return text.Shown(b) }

// quotedList is names as error messages list them.
func quotedList(names []string) string {
	var b strings.Builder
	for i, name := range names {
		if i == 10 {
			fmt.Fprintf(&b, " and %d more", len(names)-i)
			break
		}
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(shown([]byte(name)))
	}
	return b.String()
}

// badRow is a row that is refused.
type badRow struct {
	// err names file and line. It is never nil.
	err error
	// column is the one whose value is at fault; empty if the row as a whole is.
	column string
	// next is where the next row begins in the block; -1 if nobody can tell.
	next int
	// unread says that the row could not be read to its end, for a reason that is not in it.
	unread bool
}

// refuse passes over a bad row, if it may be left out; else it returns its error.
func (r *reader) refuse(bad badRow) error {
	if r.options.BadRow == nil || bad.next < 0 {
		return r.placed(bad)
	}
	info := r.finder.Place(r.base + int64(r.pos))
	info.Raw = bytes.Clone(trimEnd(r.block[r.pos:bad.next]))
	r.pos = bad.next
	return r.options.BadRow(dataset.BadRow{RowInfo: info, Column: bad.column, Reason: text.Reason(bad.err, bad.column)})
}

// placed is the error about a bad row at pos, with the row's number, if it is known, and where it begins.
func (r *reader) placed(bad badRow) error {
	known, ok := errors.AsType[*engine.Error](bad.err)
	if !ok || bad.unread {
		return bad.err
	}
	where := fmt.Sprintf("byte %d", r.base+int64(r.pos))
	if info := r.finder.Place(r.base + int64(r.pos)); info.Row > 0 {
		where = fmt.Sprintf("row %d, %s", info.Row, where)
	}
	known.Err = fmt.Errorf("%w (%s)", known.Err, where)
	return bad.err
}

// diagnose finds out what is wrong with the row at pos, taking it apart with care.
//
// That the row is too long comes before all else, then flaws of its fields' quotes, then their number, then their values: so the
// error does not depend on where splits and blocks begin, nor, but for the last, on the columns that are wanted.
func (r *reader) diagnose(ctx context.Context) badRow {
	const op = "read csv"
	fatal := func(err error) badRow { return badRow{err: err, next: -1} }
	longest := r.source.maxLineBytes
	fields, next, flaw := r.dialect.row(r.block, r.pos, r.end, nil)
	for flaw == flawMore && !r.eof && r.end-r.pos <= longest {
		if err := r.fill(ctx); err != nil {
			return badRow{err: err, next: -1, unread: true}
		}
		fields, next, flaw = r.dialect.row(r.block, r.pos, r.end, nil)
	}
	begin := r.base + int64(r.pos)
	switch {
	case next-r.pos > longest, flaw == flawMore && r.end-r.pos > longest:
		return fatal(tooLong(op, r.at(begin), longest, flaw == flawMore && next < r.end))
	case flaw == flawMore:
		return fatal(unterminated(op, r.at(r.base+int64(next))))
	case flaw == flawAfterQuote:
		err := afterQuote(op, r.at(r.base+int64(next)), r.block[next:r.end], len(fields)+1, len(r.columns) == 1)
		if r.options.BadRow == nil {
			return fatal(err)
		}
		// Where the row was meant to end nobody knows; the line ends here.
		end := bytes.IndexByte(r.block[next:r.end], '\n')
		for end < 0 && !r.eof && r.end-r.pos <= longest {
			at := next - r.pos
			if failed := r.fill(ctx); failed != nil {
				return badRow{err: failed, next: -1, unread: true}
			}
			next = r.pos + at
			end = bytes.IndexByte(r.block[next:r.end], '\n')
		}
		if end < 0 || next+end+1-r.pos > longest {
			return fatal(tooLong(op, r.at(begin), longest, false))
		}
		return badRow{err: err, next: next + end + 1}
	case len(fields) != len(r.columns):
		return badRow{next: next, err: engine.Errorf(engine.KindData, op, r.at(begin), "expected %d fields, found %d, in the row that begins with %s",
			len(r.columns), len(fields), shown(fields[0].text))}
	}
	for i, f := range fields {
		c := &r.columns[i]
		isText := c.kind == kindText
		value := f.text
		if !isText {
			value = trim(value)
		}
		switch {
		case c.kind == kindSkip, r.source.nulls.is(value, f.quoted, isText):
		case isText:
			if problem := textFlaw(value, f.quoted); problem != "" {
				return badRow{err: badText(op, r.at(begin), fmt.Sprintf("column %q", c.name), problem, value), column: c.name, next: next}
			}
		case !c.kind.accepts(value):
			err := engine.Errorf(engine.KindData, op, r.at(begin), "column %q: expected %s, found %s",
				c.name, dataset.TypeName(c.dataType), shown(value))
			err.Hint = r.hint(c, value)
			return badRow{err: err, column: c.name, next: next}
		}
	}
	return fatal(engine.Errorf(engine.KindInternal, op, r.at(begin), "row was refused without a reason"))
}

// hint says what to do about a value that is none of its column's type.
func (r *reader) hint(c *column, value []byte) string {
	numeric := c.kind >= kindFloat64 && c.kind <= kindInt32
	_, isDecimal := parseFloat(value)
	switch {
	case (c.kind == kindInt32 || c.kind == kindInt64) && isDecimal && !c.wanted:
		if _, fits := parseInt(value); fits && c.kind == kindInt32 {
			return fmt.Sprintf("declare column %q as int64", c.name)
		}
		return fmt.Sprintf("declare column %q as float64", c.name)
	case numeric && r.dialect.delimiter != ',' && isDecimalComma(value):
		return "numbers need a decimal point, not a comma"
	case len(value) == 0 || isNullWord(value):
		return fmt.Sprintf("list %s in nulls if it means null", shown(value))
	case c.wanted:
		return fmt.Sprintf("the job's steps need column %q as %s", c.name, dataset.TypeName(c.dataType))
	case r.source.declared(c.name) == nil:
		return fmt.Sprintf("declare column %q as string if it holds text", c.name)
	}
	return ""
}

func isDecimalComma(value []byte) bool {
	_, ok := parseFloat([]byte(strings.Replace(string(value), ",", ".", 1)))
	return ok
}

func isNullWord(value []byte) bool {
	switch strings.ToLower(string(value)) {
	case "na", "n/a", "#n/a", "nan", "null", "nil", "none", "-", "--", "?", ".", "\\n", "missing":
		return true
	}
	return false
}

func tooLong(op, at string, longest int, inQuotes bool) error {
	err := engine.Errorf(engine.KindData, op, at, "row is longer than %d bytes", longest)
	if inQuotes {
		return err.WithHint("perhaps a quote is not closed")
	}
	return err
}

func unterminated(op, at string) error {
	return engine.Errorf(engine.KindData, op, at, "quoted field begins here and does not end before the file does")
}

// afterQuote is the error about the bytes that follow a closing quote. alone says that no row with several fields has been seen: then
// perhaps the delimiter is another.
func afterQuote(op, at string, rest []byte, place int, alone bool) error {
	err := engine.Errorf(engine.KindData, op, at, "field %d: closing quote is followed by %s", place, shown(firstRune(rest)))
	if alone && strings.IndexByte(usualDelimiters, rest[0]) >= 0 {
		return err.WithHint("%s", setDelimiter(rest[0]))
	}
	return err.WithHint("a quote inside a quoted field must be doubled")
}

// badText is the error about a text with a flaw; what begins the message.
func badText(op, at, what, problem string, text []byte) error {
	err := engine.Errorf(engine.KindData, op, at, "%s: %s: %s", what, problem, shown(text))
	if problem == notUTF8 {
		return err.WithHint("convert it to UTF-8, for example with iconv -f latin1 -t utf-8")
	}
	return err
}

func firstRune(b []byte) []byte {
	for i := range string(b[:min(len(b), 8)]) {
		if i > 0 {
			return b[:i]
		}
	}
	return b[:min(len(b), 1)]
}
