package ipc

import (
	"context"
	"errors"
	"io"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/ipc"
	"github.com/apache/arrow/go/v15/arrow/memory"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/dataset"
	"github.com/f708428e/engine/dataset/text"
)

// SinkOptions says how files are written.
type SinkOptions struct {
	// Stream says that the files are streams and not files, which have a footer.
	Stream bool
	// Compression of record batches is none (the default, if empty), lz4, or zstd.
	Compression string
}

// Sink writes Arrow IPC. Metadata is not written: what would be known only at the end has no place that arrow writes to.
type Sink struct {
	stream  bool
	options []ipc.Option
}

var _ dataset.Sink = (*Sink)(nil)

// NewSink returns a Sink. An unknown compression is an error of kind engine.KindInvalidArgument.
func NewSink(options SinkOptions) (*Sink, error) {
	s := &Sink{stream: options.Stream}
	switch options.Compression {
	case "", "none":
	case "lz4":
		s.options = append(s.options, ipc.WithLZ4())
	case "zstd":
		s.options = append(s.options, ipc.WithZstd())
	default:
		return nil, engine.Errorf(engine.KindInvalidArgument, opWrite, "compression", "%q is none of none, lz4, zstd", options.Compression)
	}
	return s, nil
}

// Extension returns ".arrow", or ".arrows" for streams.
func (s *Sink) Extension() string {
	if s.stream {
		return ".arrows"
	}
	return ".arrow"
}

// HoldsMetadata returns false.
func (s *Sink) HoldsMetadata() bool { return false }

// Metadata is an error: files have none.
func (s *Sink) Metadata(path string) (map[string]string, error) {
	return nil, engine.Errorf(engine.KindInternal, opWrite, path, "Arrow files have no metadata")
}

// Create begins an output file in w. A column whose type Arrow IPC cannot hold is an error of kind engine.KindInvalidArgument.
func (s *Sink) Create(w io.Writer, schema *arrow.Schema, allocator memory.Allocator) (dataset.Writer, error) {
	if err := checkSchema(schema); err != nil {
		return nil, err
	}
	out := &writer{schema: schema}
	options := append([]ipc.Option{ipc.WithSchema(schema), ipc.WithAllocator(allocator)}, s.options...)
	if s.stream {
		out.file = ipc.NewWriter(w, options...)
		return out, nil
	}
	file, err := ipc.NewFileWriter(&position{w: w}, options...)
	if err != nil {
		return nil, engine.Errorf(engine.KindInternal, opWrite, "", "%w", err)
	}
	out.file = file
	return out, nil
}

// position is a writer that knows its place, which is all that arrow seeks for.
type position struct {
	w      io.Writer
	offset int64
}

func (p *position) Write(b []byte) (int, error) {
	n, err := p.w.Write(b)
	p.offset += int64(n)
	return n, err
}

// Seek tells the place; others cannot be gone to.
func (p *position) Seek(offset int64, whence int) (int64, error) {
	if offset != 0 || whence != io.SeekCurrent {
		return 0, errors.New("the file is written from its beginning to its end")
	}
	return p.offset, nil
}

// writer writes one file.
type writer struct {
	schema *arrow.Schema
	file   interface {
		Write(arrow.Record) error
		Close() error
	}
	failed   error
	finished bool
}

// Write appends a record batch.
func (w *writer) Write(ctx context.Context, record arrow.Record) error {
	switch {
	case w.failed != nil:
		return w.failed
	case ctx.Err() != nil:
		return ctx.Err()
	case w.finished:
		return engine.Errorf(engine.KindInternal, opWrite, "", "the file is finished")
	}
	if w.failed = text.CheckRecord(opWrite, w.schema, record); w.failed == nil {
		w.failed = w.classify(w.write(record))
	}
	return w.failed
}

func (w *writer) write(record arrow.Record) error {
	// Arrow compares the schemas with their metadata.
	if record.Schema() != w.schema {
		same := withSchema(w.schema, record)
		defer same.Release()
		record = same
	}
	return w.file.Write(record)
}

// classify gives an error of arrow its kind; one of the underlying writer has its own.
func (w *writer) classify(err error) error {
	var known *engine.Error
	if err == nil || errors.As(err, &known) {
		return err
	}
	return engine.Errorf(engine.KindInternal, opWrite, "", "%w", err)
}

// PendingBytes implements dataset.Writer: every record batch is handed on at once.
func (w *writer) PendingBytes() int64 { return 0 }

// Finish completes the file. It drops the metadata.
func (w *writer) Finish(map[string]string) error {
	if w.failed == nil && !w.finished {
		w.finished = true
		w.failed = w.classify(w.file.Close())
	}
	return w.failed
}

// Close implements dataset.Writer.
func (w *writer) Close() error { return nil }
