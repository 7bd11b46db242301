package csv

import (
	"io"
	"strings"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/memory"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/dataset"
	"github.com/f708428e/engine/dataset/text"
)

const opWrite = "write csv"

// SinkOptions says how files are written.
type SinkOptions struct {
	// Delimiter stands between fields, as in Options. Zero means a comma.
	Delimiter byte
	// Header says that the first row of every file names the columns.
	Header bool
	// Compression is that of the files, which have its extension.
	Compression text.Compression
}

// Sink writes CSV files as RFC 4180 has them, but for line ends, which are LF. A null is an empty field, an empty text is "". In a
// table of one column a null is "" too, also of texts: its row would be an empty line, which most readers skip. Floats have as few
// digits as give them back exactly; NaN, inf, and -inf are written so. Metadata has no place in the format.
type Sink struct{ options SinkOptions }

var _ dataset.Sink = (*Sink)(nil)

// NewSink returns a Sink, or an error of kind engine.KindInvalidArgument for a delimiter that no Source takes.
func NewSink(options SinkOptions) (*Sink, error) {
	if err := (Options{Delimiter: options.Delimiter, Quote: '"'}).Validate(); err != nil {
		return nil, err
	}
	return &Sink{options}, nil
}

// Extension returns ".csv", and then that of the compression.
func (s *Sink) Extension() string { return ".csv" + s.options.Compression.Extension() }

// HoldsMetadata returns false.
func (s *Sink) HoldsMetadata() bool { return false }

// Metadata is an error: the format has no place for it.
func (s *Sink) Metadata(path string) (map[string]string, error) {
	return nil, engine.Errorf(engine.KindInternal, opWrite, path, "CSV has no metadata")
}

// Create begins an output file in w. A column whose type CSV cannot hold is an error of kind engine.KindInvalidArgument.
func (s *Sink) Create(w io.Writer, schema *arrow.Schema, _ memory.Allocator) (dataset.Writer, error) {
	delimiter := s.options.Delimiter
	if delimiter == 0 {
		delimiter = DefaultDelimiter
	}
	if schema.NumFields() == 0 {
		return nil, engine.Errorf(engine.KindInvalidArgument, opWrite, "", "a CSV file needs a column")
	}
	special := string(delimiter) + "\"\r\n"
	quoted := func(dst []byte, value string) []byte {
		if value != "" && !strings.ContainsAny(value, special) {
			return append(dst, value...)
		}
		dst = append(dst, '"')
		for {
			before, after, found := strings.Cut(value, `"`)
			dst = append(dst, before...)
			if !found {
				return append(dst, '"')
			}
			dst = append(dst, `""`...)
			value = after
		}
	}
	style := &text.Style{NaN: "NaN", Infinity: "inf", MinusInfinity: "-inf", Text: quoted}
	if schema.NumFields() == 1 {
		style.Null = `""`
	}
	var head []byte
	for i, f := range schema.Fields() {
		if !text.Writable(f.Type) {
			return nil, engine.Errorf(engine.KindInvalidArgument, opWrite, "", "column %q is %s, which a CSV file cannot hold", f.Name, dataset.TypeName(f.Type)).
				WithHint("leave it out with the step select, or write Parquet, Arrow, or JSON")
		}
		if !s.options.Header {
			continue
		}
		if i > 0 {
			head = append(head, delimiter)
		}
		head = quoted(head, f.Name)
	}
	if s.options.Header {
		head = append(head, '\n')
	}
	return text.NewWriter(opWrite, w, s.options.Compression, schema, head, func(record arrow.Record) text.Appender {
		columns := make([]text.Appender, record.NumCols())
		for i, column := range record.Columns() {
			columns[i] = text.NewAppender(column, style)
		}
		return func(dst []byte, row int) []byte {
			for i, column := range columns {
				if i > 0 {
					dst = append(dst, delimiter)
				}
				dst = column(dst, row)
			}
			return append(dst, '\n')
		}
	})
}
