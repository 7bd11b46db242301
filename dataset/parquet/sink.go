package parquet

import (
	"errors"
	"fmt"
	"io"
	"runtime"
	"strconv"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/memory"
	"github.com/apache/arrow/go/v15/parquet/compress"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/dataset"
)

const opWrite = "write parquet"

// rowsKey is the pair that Metadata adds if the file has none of that name.
const rowsKey = "engine.rows"

// SinkOptions says how files are written.
type SinkOptions struct {
	// Compression is snappy (the default, if empty), zstd, gzip, lz4, brotli, or none.
	Compression string
}

// Sink writes Parquet files: pages of version 1, statistics for every column, dictionaries for texts and for numbers that repeat, row
// groups of at most 256 Ki rows and about 64 MiB. The Arrow schema stands in the footer, so that readers that know it restore types that
// Parquet lacks, such as lists of fixed size.
type Sink struct {
	codec compress.Compression
}

var _ dataset.Sink = (*Sink)(nil)

// NewSink returns a Sink. An unknown compression is an error of kind engine.KindInvalidArgument.
func NewSink(options SinkOptions) (*Sink, error) {
	codec, err := parseCompression(options.Compression)
	if err != nil {
		return nil, err
	}
	return &Sink{codec: codec}, nil
}

// Extension returns ".parquet".
func (s *Sink) Extension() string { return ".parquet" }

// HoldsMetadata returns true.
func (s *Sink) HoldsMetadata() bool { return true }

// Create begins an output file in w. A column whose type Parquet cannot hold is an error of kind engine.KindInvalidArgument.
func (s *Sink) Create(w io.Writer, schema *arrow.Schema, allocator memory.Allocator) (dataset.Writer, error) {
	return newWriter(w, schema, s.codec, allocator)
}

// Metadata returns the pairs that were given to Writer.Finish and, unless it is among them, "engine.rows", the number of rows.
// It reads the footer alone.
func (s *Sink) Metadata(path string) (map[string]string, error) {
	in, err := openPath(path)
	if err != nil {
		return nil, err
	}
	pairs := make(map[string]string, len(in.notes)+1)
	pairs[rowsKey] = strconv.FormatInt(in.parquet.NumRows(), 10)
	for _, note := range in.notes {
		if note.Key != arrowSchemaKey {
			pairs[note.Key] = note.GetValue()
		}
	}
	if err := in.close(); err != nil {
		return nil, err
	}
	return pairs, nil
}

// guardWrite turns a panic inside arrow into an error. One about the type of an array is of kind engine.KindInvalidArgument.
func guardWrite(what string, work func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			if cause, ok := r.(error); ok {
				kind := engine.KindInternal
				var assertion *runtime.TypeAssertionError
				if errors.As(cause, &assertion) {
					kind = engine.KindInvalidArgument
				}
				err = engine.Errorf(kind, opWrite, what, "%w", cause)
			} else {
				err = engine.Errorf(engine.KindInternal, opWrite, what, "%s", fmt.Sprint(r))
			}
		}
	}()
	return work()
}
