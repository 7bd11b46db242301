package parquet

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/flight"
	"github.com/apache/arrow/go/v15/arrow/memory"
	pq "github.com/apache/arrow/go/v15/parquet"
	"github.com/apache/arrow/go/v15/parquet/file"
	"github.com/apache/arrow/go/v15/parquet/metadata"
	"github.com/apache/arrow/go/v15/parquet/pqarrow"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/dataset"
	"github.com/f708428e/engine/dataset/storage"
)

const (
	opRead         = "read parquet"
	arrowSchemaKey = "ARROW:schema"
	// streamBufferBytes is how much of a column chunk is read at a time, unless a page is larger. Reading whole chunks is no
	// faster from the page cache and takes the memory of a row group. Mapping files is ruled out: a file that is truncated
	// meanwhile would kill the process.
	streamBufferBytes = 64 << 10
)

// input is an open Parquet file whose footer has been read and checked.
type input struct {
	path     string
	size     int64
	file     dataset.Input
	counter  *countingReader
	parquet  *file.Reader
	manifest *pqarrow.SchemaManifest
	// fields are the columns in the order of the file, without metadata.
	fields []arrow.Field
	// places are the columns' places in fields.
	places map[string]int
	// notes are the pairs that the writer left in the footer.
	notes metadata.KeyValueMetadata
}

// openInput opens a file that is what it was when it was listed, and reads its footer. Errors name the file.
func openInput(ctx context.Context, from dataset.Storage, f dataset.File) (_ *input, err error) {
	in := &input{path: f.Path, size: f.SizeBytes, places: map[string]int{}}
	if in.file, err = storage.Open(ctx, from, opRead, f); err != nil {
		return nil, err
	}
	in.file.Expect(footerRanges(f)...)
	in.counter = &countingReader{from: in.file}
	if err := in.guard("footer", in.readFooter); err != nil {
		_ = in.file.Close()
		return nil, err
	}
	in.file.Forget(footerRanges(f)...)
	return in, nil
}

// openPath opens a file of this machine as it is now.
func openPath(path string) (*input, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, storage.Error(opRead, path, err)
	}
	return openInput(context.Background(), nil, dataset.File{Path: path, SizeBytes: info.Size(), ModifiedUnixNanos: info.ModTime().UnixNano()})
}

// footerRanges are what is read of a file to learn what is in it, unless its footer is longer.
func footerRanges(f dataset.File) []dataset.Range {
	const magicBytes, tailBytes = 4, 64 << 10
	return []dataset.Range{{End: magicBytes}, {Start: max(magicBytes, f.SizeBytes-tailBytes), End: f.SizeBytes}}
}

func (in *input) close() error { return in.file.Close() }

func (in *input) readFooter() error {
	size := in.size
	footerBytes, err := checkEnds(in.counter, size)
	if err != nil {
		return err
	}
	footer := make([]byte, footerBytes-8)
	if _, err := in.counter.ReadAt(footer, size-footerBytes); err != nil {
		return err
	}
	if err := verifyThrift(footer); err != nil {
		return err
	}
	props := pq.NewReaderProperties(memory.DefaultAllocator)
	props.BufferedStreamEnabled = true
	props.BufferSize = streamBufferBytes
	pages := &pageGuard{from: in.counter}
	if in.parquet, err = file.NewParquetReader(io.NewSectionReader(pages, 0, size), file.WithReadProps(props)); err != nil {
		return err
	}
	if err := checkRanges(in.parquet.MetaData(), size-footerBytes); err != nil {
		return err
	}
	if err := pages.watch(in.parquet.MetaData()); err != nil {
		return err
	}
	return in.readSchema()
}

// checkEnds looks at the first and last bytes of a file and returns the length of its footer.
func checkEnds(r io.ReaderAt, size int64) (int64, error) {
	const magic, encrypted = "PAR1", "PARE"
	if size == 0 {
		return 0, errors.New("not a Parquet file: it is empty")
	}
	var head, tail [8]byte
	if size >= 12 {
		if _, err := r.ReadAt(head[:4], 0); err != nil {
			return 0, err
		}
		if _, err := r.ReadAt(tail[:], size-8); err != nil {
			return 0, err
		}
	}
	switch {
	case size < 12:
		return 0, fmt.Errorf("not a Parquet file: it has %d bytes; truncated?", size)
	case string(head[:4]) == encrypted || string(tail[4:]) == encrypted:
		return 0, errors.New("encrypted Parquet files are not supported")
	case string(head[:4]) != magic:
		return 0, errors.New("not a Parquet file: no PAR1 magic at its beginning")
	case string(tail[4:]) != magic:
		return 0, errors.New("not a whole Parquet file: no PAR1 magic at its end; truncated?")
	}
	footer := int64(binary.LittleEndian.Uint32(tail[:4])) + 8
	if footer+4 > size {
		return 0, fmt.Errorf("not a whole Parquet file: its footer should have %d bytes, the file has %d", footer, size)
	}
	return footer, nil
}

// checkRanges refuses a footer that contradicts itself or the file, before anything is allocated by its word.
func checkRanges(md *metadata.FileMetaData, end int64) error {
	columns := md.Schema.NumColumns()
	var rows int64
	for i, group := range md.RowGroups {
		if group == nil || len(group.Columns) != columns {
			return fmt.Errorf("row group %d does not have the %d columns of the schema", i, columns)
		}
		if group.NumRows < 0 {
			return fmt.Errorf("row group %d has %d rows", i, group.NumRows)
		}
		if rows += group.NumRows; rows < 0 {
			return fmt.Errorf("row group %d has %d rows", i, group.NumRows)
		}
		for c, chunk := range group.Columns {
			name := md.Schema.Column(c).Path()
			if chunk == nil || chunk.MetaData == nil {
				return fmt.Errorf("row group %d, column %q: no metadata", i, name)
			}
			if chunk.FilePath != nil && *chunk.FilePath != "" {
				return fmt.Errorf("row group %d, column %q is in another file, which is not supported", i, name)
			}
			size := chunk.MetaData.TotalCompressedSize
			start := chunkRange(chunk.MetaData.DataPageOffset, chunk.MetaData.DictionaryPageOffset, size).Start
			if start < 0 || size < 0 || start > end || size > end-start {
				return fmt.Errorf("row group %d, column %q: bytes %d to %d are outside of the file's data, which ends at %d; truncated?", i, name, start, start+size, end)
			}
			if md.Schema.Column(c).MaxRepetitionLevel() == 0 && chunk.MetaData.NumValues != group.NumRows {
				return fmt.Errorf("row group %d, column %q has %d values for %d rows", i, name, chunk.MetaData.NumValues, group.NumRows)
			}
			if pq.Type(chunk.MetaData.Type) != md.Schema.Column(c).PhysicalType() {
				return fmt.Errorf("row group %d, column %q is stored as %s, the schema says %s", i, name, chunk.MetaData.Type, md.Schema.Column(c).PhysicalType())
			}
		}
	}
	if rows != md.NumRows {
		return fmt.Errorf("its row groups have %d rows, the footer says %d", rows, md.NumRows)
	}
	return nil
}

// chunkRange is where a column chunk lies.
func chunkRange(data int64, dictionary *int64, size int64) dataset.Range {
	start := data
	if dictionary != nil && *dictionary > 0 && *dictionary < start {
		start = *dictionary
	}
	return dataset.Range{Start: start, End: start + size}
}

// readSchema settles the columns' types.
func (in *input) readSchema() error {
	md := in.parquet.MetaData()
	// Arrow would make its own manifest of these for every reader.
	in.notes = md.KeyValueMetadata()
	md.FileMetaData.KeyValueMetadata = nil
	// The manifest that arrow makes of the writer's Arrow schema may ask for types that arrow then cannot read, or that no step
	// knows. An Arrow schema that we cannot read is no reason to refuse the file: Parquet's own types are enough.
	properties := &pqarrow.ArrowReadProperties{}
	if kv, ok := plainArrowSchema(in.notes); ok {
		if manifest, err := newManifest(md, kv, properties); err == nil {
			in.manifest = manifest
		}
	}
	if in.manifest == nil {
		manifest, err := newManifest(md, nil, properties)
		if err != nil {
			return err
		}
		in.manifest = manifest
	}
	in.fields = make([]arrow.Field, len(in.manifest.Fields))
	for i, f := range in.manifest.Fields {
		in.fields[i] = arrow.Field{Name: f.Field.Name, Type: in.fieldType(&in.manifest.Fields[i]), Nullable: f.Field.Nullable}
		if _, ok := in.places[f.Field.Name]; ok {
			return engine.Errorf(engine.KindData, opRead, in.path, "two columns are named %q", f.Field.Name)
		}
		in.places[f.Field.Name] = i
	}
	return nil
}

func newManifest(md *metadata.FileMetaData, kv metadata.KeyValueMetadata, properties *pqarrow.ArrowReadProperties) (_ *pqarrow.SchemaManifest, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("schema: %v", r)
		}
	}()
	return pqarrow.NewSchemaManifest(md.Schema, kv, properties)
}

// plainArrowSchema rewrites the Arrow schema that a writer left in the footer with the types that we read its columns as.
func plainArrowSchema(kv metadata.KeyValueMetadata) (_ metadata.KeyValueMetadata, ok bool) {
	value := kv.FindValue(arrowSchemaKey)
	if value == nil {
		return nil, false
	}
	defer func() {
		if recover() != nil {
			ok = false
		}
	}()
	raw, err := base64.StdEncoding.DecodeString(*value)
	if err != nil {
		if raw, err = base64.RawStdEncoding.DecodeString(*value); err != nil {
			return nil, false
		}
	}
	if raw, err = verifyArrowSchema(raw); err != nil {
		return nil, false
	}
	schema, err := flight.DeserializeSchema(raw, memory.DefaultAllocator)
	if err != nil {
		return nil, false
	}
	fields := make([]arrow.Field, schema.NumFields())
	for i, f := range schema.Fields() {
		fields[i] = arrow.Field{Name: f.Name, Type: plainType(f.Type), Nullable: f.Nullable}
	}
	raw = flight.SerializeSchema(arrow.NewSchema(fields, nil), memory.DefaultAllocator)
	var plain metadata.KeyValueMetadata
	if err := plain.Append(arrowSchemaKey, base64.StdEncoding.EncodeToString(raw)); err != nil {
		return nil, false
	}
	return plain, true
}

// guard runs a piece of work inside arrow and turns what goes wrong into an error that names the file. Arrow panics on some
// damaged files; what names the part of the file.
func (in *input) guard(what string, work func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = in.corrupt(what, fmt.Errorf("%v", r))
		}
	}()
	if err := work(); err != nil {
		var known *engine.Error
		switch {
		case errors.As(err, &known) && known.ID == "":
			return engine.WrapError(opRead, in.path, err)
		case known != nil, errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
			return err
		case in.counter.failed != nil:
			return in.counter.failed
		default:
			return in.corrupt(what, err)
		}
	}
	return nil
}

func (in *input) corrupt(what string, err error) error {
	if what == "footer" {
		return engine.Errorf(engine.KindCorrupt, opRead, in.path, "%w", err)
	}
	return engine.Errorf(engine.KindCorrupt, opRead, in.path, "%s: %w", what, err)
}

// countingReader counts the bytes read and remembers a failure of the storage, which is not the file's fault.
type countingReader struct {
	from   io.ReaderAt
	bytes  int64
	failed error
}

// ReadAt reads as the underlying reader does.
func (r *countingReader) ReadAt(p []byte, off int64) (int, error) {
	n, err := r.from.ReadAt(p, off)
	r.bytes += int64(n)
	if err != nil && !errors.Is(err, io.EOF) {
		r.failed = err
	}
	return n, err
}
