package json

import (
	"io"
	"unicode/utf8"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/arrow/memory"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/dataset"
	"github.com/f708428e/engine/dataset/text"
)

// Sink writes JSON lines. Every object has all columns in their order. Floats have as few digits as give them back exactly; NaN and
// infinities, which JSON lacks, become null, as null does. Dates and timestamps are texts. Metadata has no place in the format.
type Sink struct{ options SinkOptions }

// SinkOptions says how files are written.
type SinkOptions struct {
	// Compression is that of the files, which have its extension.
	Compression text.Compression
}

var _ dataset.Sink = (*Sink)(nil)

// NewSink returns a Sink.
func NewSink(options SinkOptions) *Sink { return &Sink{options} }

// Extension returns ".json", and then that of the compression.
func (s *Sink) Extension() string { return ".json" + s.options.Compression.Extension() }

// HoldsMetadata returns false.
func (s *Sink) HoldsMetadata() bool { return false }

// Metadata is an error: the format has no place for it.
func (s *Sink) Metadata(path string) (map[string]string, error) {
	return nil, engine.Errorf(engine.KindInternal, opWrite, path, "JSON lines have no metadata")
}

// style is how values are written.
var style = &text.Style{Null: "null", Quote: `"`, NaN: "null", Infinity: "null", MinusInfinity: "null", Text: appendText}

// Create begins an output file in w. A column whose type JSON cannot hold is an error of kind engine.KindInvalidArgument.
func (s *Sink) Create(w io.Writer, schema *arrow.Schema, _ memory.Allocator) (dataset.Writer, error) {
	keys := make([][]byte, schema.NumFields())
	for i, f := range schema.Fields() {
		if !writable(f.Type) {
			return nil, engine.Errorf(engine.KindInvalidArgument, opWrite, "", "column %q is %s, which JSON lines cannot hold", f.Name, dataset.TypeName(f.Type)).
				WithHint("leave it out with the step select, or write Parquet or Arrow")
		}
		lead := []byte{','}
		if i == 0 {
			lead = []byte{'{'}
		}
		keys[i] = append(appendText(lead, f.Name), ':')
	}
	return text.NewWriter(opWrite, w, s.options.Compression, schema, nil, func(record arrow.Record) text.Appender {
		columns := make([]text.Appender, record.NumCols())
		for i, column := range record.Columns() {
			columns[i] = appender(column)
		}
		return func(dst []byte, row int) []byte {
			if len(columns) == 0 {
				dst = append(dst, '{')
			}
			for i, column := range columns {
				dst = column(append(dst, keys[i]...), row)
			}
			return append(dst, '}', '\n')
		}
	})
}

func writable(t arrow.DataType) bool {
	if list, ok := t.(arrow.ListLikeType); ok && t.ID() != arrow.MAP {
		return writable(list.Elem())
	}
	return text.Writable(t)
}

// appender is text.NewAppender with lists.
func appender(column arrow.Array) text.Appender {
	list, ok := column.(array.ListLike)
	if !ok {
		return text.NewAppender(column, style)
	}
	items := appender(list.ListValues())
	return func(dst []byte, row int) []byte {
		if list.IsNull(row) {
			return append(dst, "null"...)
		}
		dst = append(dst, '[')
		first, end := list.ValueOffsets(row)
		for i := first; i < end; i++ {
			if i > first {
				dst = append(dst, ',')
			}
			dst = items(dst, int(i))
		}
		return append(dst, ']')
	}
}

// appendText appends a text in quotes. What is not UTF-8 becomes U+FFFD.
func appendText(dst []byte, s string) []byte {
	const digits = "0123456789abcdef"
	dst = append(dst, '"')
	start := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c >= ' ' && c != '"' && c != '\\' && c < utf8.RuneSelf {
			i++
			continue
		}
		if c >= utf8.RuneSelf {
			r, size := utf8.DecodeRuneInString(s[i:])
			if r == utf8.RuneError && size == 1 {
				dst = append(append(dst, s[start:i]...), "\ufffd"...)
				start = i + 1
			}
			i += size
			continue
		}
		dst = append(dst, s[start:i]...)
		switch c {
		case '"', '\\':
			dst = append(dst, '\\', c)
		case '\n':
			dst = append(dst, '\\', 'n')
		case '\r':
			dst = append(dst, '\\', 'r')
		case '\t':
			dst = append(dst, '\\', 't')
		default:
			dst = append(dst, '\\', 'u', '0', '0', digits[c>>4], digits[c&15])
		}
		i++
		start = i
	}
	return append(append(dst, s[start:]...), '"')
}
