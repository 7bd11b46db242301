// Package csv reads delimited text. It has a reader of its own, made for tables of numbers: fields are parsed where they lie in
// the block that was read, and values are written straight into the memory of the Arrow array that is returned.
//
// The format is RFC 4180 as it is met in practice:
//
//   - Fields are separated by one ASCII character; rows end with LF or CRLF, the last one also with the end of the file. A CR
//     that is not followed by LF is refused outside quotes, in the header and in text columns, so that a file with old Macintosh
//     line ends is not taken for one long line.
//   - A field whose first character is the quote ends with the next quote that is not doubled, and may hold delimiters and line
//     ends. After it must come a delimiter or the end of the row. A quote elsewhere is an ordinary character.
//   - Text is UTF-8 without NUL; a byte order mark at the beginning of a file is skipped.
//   - An empty line is skipped, except in a table of one column, where it is a row with an empty field.
//   - All rows have as many fields as the header, or as the first row if there is no header.
//   - All files of a source have the same columns. With a header their order may differ from file to file.
//
// Blanks and tabs around a value are dropped in all columns but those of text. A value is then
//
//	bool       true, false, 1, 0; "true" and "false" also as True and TRUE
//	int32/64   decimal digits, perhaps after a sign
//	float32/64 a decimal number, perhaps with an exponent; nan, inf, infinity in any case, perhaps after a sign. The result is the
//	           nearest float, as strconv.ParseFloat has it. A number beyond the range is an error.
//	date       2006-01-02
//	timestamp  2006-01-02T15:04:05.000000Z: a blank may stand for the T; the fraction, or the whole time of day, may be missing; instead
//	           of Z there may be +hh:mm or nothing, which means UTC. A fraction finer than a microsecond is an error.
//	text       the field as it is
//
// Columns that a reader is not asked for are skipped: the number of fields and their quotes are checked, their values are not.
package csv

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/apache/arrow/go/v15/arrow"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/dataset"
)

const (
	// DefaultDelimiter stands for a zero Options.Delimiter.
	DefaultDelimiter = ','
	// DefaultMaxLineBytes stands for a zero Options.MaxLineBytes.
	DefaultMaxLineBytes = 16 << 20
	// DefaultSplitBytes stands for a zero dataset.PlanOptions.TargetSplitBytes.
	DefaultSplitBytes = 64 << 20

	maxMaxLineBytes = 1 << 30
)

// Column declares one column.
type Column struct {
	// Name is the column's name. Required.
	Name string
	// Type is bool, int32, int64, float32, float64, utf8, date32, or timestamp in microseconds without a zone. Nil means that it
	// is inferred.
	Type arrow.DataType
}

// Options is the dialect of the files and what is known of their columns. The zero value is comma separated text without
// header and without quotes.
type Options struct {
	// Delimiter stands between fields: one ASCII character, also a control character such as \x01, but no letter, digit, sign,
	// point, or line end, and not the quote. Zero means a comma.
	Delimiter byte
	// Header says that the first row of every file names the columns.
	Header bool
	// Quote stands around fields and is doubled inside them. Zero turns quoting off: every line end then ends a row.
	Quote byte
	// Nulls are the unquoted texts that mean null. None means the empty field alone; otherwise the empty field is a null only if it is
	// listed. A quoted field is never null, except a quoted empty one in a column that is not text, where the empty field is.
	Nulls []string
	// Columns declares columns. With a header: types for those named. Without: all columns in order; empty means as many as
	// the first row has, named f0, f1, and so on.
	Columns []Column
	// Union lets files have different columns, by their headers: the table has all of them, and a column is null in the rows of a file
	// that lacks it.
	Union bool
	// MaxLineBytes bounds one row with its line ends, and the memory that a broken file can take. Zero means 16 MiB; at most
	// 1 GiB.
	MaxLineBytes int
}

// Validate says what is wrong with the options, as an error of kind engine.KindInvalidArgument.
func (o Options) Validate() error {
	fail := func(format string, args ...any) error {
		return engine.Errorf(engine.KindInvalidArgument, "csv options", "", format, args...)
	}
	delimiter := o.delimiter()
	switch {
	case !special(delimiter):
		return fail("%q cannot be the delimiter: use one ASCII character that is no letter, digit, sign, point, or line end", delimiter)
	case o.Quote != 0 && (!special(o.Quote) || o.Quote <= ' ' || o.Quote == 0x7f):
		return fail("%q cannot be the quote: use one ASCII character that is no letter, digit, sign, point, blank, or control character", o.Quote)
	case o.Quote == delimiter:
		return fail("delimiter and quote are both %q", delimiter)
	case o.Union && !o.Header:
		return fail("union needs headers: without them nothing tells which columns a file has")
	case o.MaxLineBytes < 0 || o.MaxLineBytes > maxMaxLineBytes:
		return fail("max line bytes is %d: use 1 to %d, or 0 for %d", o.MaxLineBytes, maxMaxLineBytes, DefaultMaxLineBytes)
	}
	seen := map[string]bool{}
	for i, column := range o.Columns {
		switch {
		case column.Name == "":
			return fail("column %d has no name", i+1)
		case seen[column.Name]:
			return fail("column %q is declared twice", column.Name)
		case column.Type != nil && kindOf(column.Type) == kindSkip:
			return fail("column %q: csv has no values of type %s", column.Name, dataset.TypeName(column.Type))
		}
		seen[column.Name] = true
	}
	return nil
}

func (o Options) delimiter() byte {
	if o.Delimiter == 0 {
		return DefaultDelimiter
	}
	return o.Delimiter
}

// usualDelimiters are those that files have most.
const usualDelimiters = ",;\t|\x01"

// DelimiterHint says how to set the delimiter if the names of a table's columns look as if another one stood in the files: one name
// that holds a usual delimiter. Otherwise it is empty.
func (o Options) DelimiterHint(names []string) string {
	if len(names) != 1 || !o.Header {
		return ""
	}
	best, most := byte(0), 0
	for _, c := range []byte(usualDelimiters) {
		if n := strings.Count(names[0], string(rune(c))); n > most && c != o.delimiter() {
			best, most = c, n
		}
	}
	if most == 0 {
		return ""
	}
	return setDelimiter(best)
}

func setDelimiter(c byte) string {
	return "set source.csv.delimiter: " + strconv.Quote(string(rune(c)))
}

// special reports whether c can separate values without being mistaken for a part of one.
func special(c byte) bool {
	switch {
	case c == 0, c == '\n', c == '\r', c >= utf8.RuneSelf, c >= '0' && c <= '9', c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c == '+', c == '-', c == '.':
		return false
	}
	return true
}

// Source reads CSV files. It implements dataset.Source and is safe for concurrent use.
type Source struct {
	options      Options
	dialect      dialect
	nulls        nulls
	maxLineBytes int
	// How much is read at once: see blockBytes, headBytes, and scanBytes. Tests make them small.
	blockBytes, headBytes, scanBytes int
}

var _ dataset.Source = (*Source)(nil)

// New returns a source of files in the dialect of options, or what Validate says of them.
func New(options Options) (*Source, error) {
	if err := options.Validate(); err != nil {
		return nil, err
	}
	options.Nulls = slices.Clone(options.Nulls)
	options.Columns = slices.Clone(options.Columns)
	s := &Source{
		options:      options,
		dialect:      newDialect(options.delimiter(), options.Quote),
		nulls:        newNulls(options.Nulls),
		maxLineBytes: options.MaxLineBytes,
		blockBytes:   blockBytes,
		headBytes:    headBytes,
		scanBytes:    scanBytes,
	}
	if s.maxLineBytes == 0 {
		s.maxLineBytes = DefaultMaxLineBytes
	}
	return s, nil
}

// declared returns the type that the user gave a column, or nil.
func (s *Source) declared(name string) arrow.DataType {
	for _, column := range s.options.Columns {
		if column.Name == name {
			return column.Type
		}
	}
	return nil
}

// defaultNames names the columns of a table that has neither header nor declared columns.
func defaultNames(width int) []string {
	names := make([]string, width)
	for i := range names {
		names[i] = fmt.Sprintf("f%d", i)
	}
	return names
}
