package csv

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/dataset"
	"github.com/f708428e/engine/dataset/text"
)

const (
	// blockBytes is how much is read at once. A block should stay in the second-level cache while it is parsed.
	blockBytes = 512 << 10
	// firstRows is for how many rows the columns of a record batch have room at first, unless it is known that fewer come.
	firstRows = 1024
)

// reader returns the record batches of one split. It implements dataset.Reader.
//
// A block of the file lies in block[:end], followed by padding. parse turns rows into values until it comes to limit, which is
// just after the last LF: up to there, rows without quotes are whole. A row that is not whole is taken back, and parsed again when
// there is more.
type reader struct {
	// Constant.
	source    *Source
	dialect   dialect
	options   dataset.ReadOptions
	schema    *arrow.Schema // of the records
	file      *text.Input
	info      dataset.File
	stop      int64 // where the split ends
	maxRows   int   // of a record batch, by options.BatchRows and by options.BatchBytes where rows have one width
	rowBits   int64 // of a row without the bytes of its texts
	texts     []int // the columns that are text
	textLimit int64 // bits of a record batch with texts

	columns []column
	missing []int // places in the records of columns that the file lacks

	block   []byte
	base    int64 // offset in the file of block[0]
	pos     int   // where the next row begins in block
	limit   int
	end     int
	eof     bool // the block holds the end of the split
	scratch []byte

	rows   int     // of the record batch at work
	room   int     // rows for which columns have room
	starts []int64 // where these rows begin in the file
	ready  int     // rows of the last record batch that was returned: the first of starts

	lines     text.LineCounter
	finder    *text.Finder
	bytesRead int64
	err       error // what Read returns from now on
}

// outcome is why parse stopped.
type outcome uint8

const (
	// parsedAll: pos has come to limit, or rows to room.
	parsedAll outcome = iota
	// parsedFull: the record batch has reached its size in bytes.
	parsedFull
	// parsedPart: the row at pos is not whole in the block.
	parsedPart
	// parsedBad: something is wrong with the row at pos.
	parsedBad
)

// Open starts the reading of a split. Errors are of kind engine.KindNotFound, engine.KindPermission, engine.KindInvalidArgument, and
// engine.KindData, the latter if the file or its header have changed since planning.
func (s *Source) Open(ctx context.Context, split dataset.Split, options dataset.ReadOptions) (dataset.Reader, error) {
	if err := ctx.Err(); err != nil {
		return nil, engine.WrapError("read csv", split.File.Path, err)
	}
	switch {
	case options.Schema == nil || options.Allocator == nil:
		return nil, engine.Errorf(engine.KindInvalidArgument, "read csv", split.File.Path, "schema and allocator are required")
	case options.BatchRows < 1 || options.BatchBytes < 1:
		return nil, engine.Errorf(engine.KindInvalidArgument, "read csv", split.File.Path,
			"a record batch of %d rows and %d bytes: both must be at least 1", options.BatchRows, options.BatchBytes)
	case split.StartOffsetBytes < 0 || split.EndOffsetBytes < split.StartOffsetBytes || split.EndOffsetBytes > split.File.SizeBytes:
		return nil, engine.Errorf(engine.KindInvalidArgument, "read csv", split.File.Path,
			"bytes %d to %d are no part of %d bytes", split.StartOffsetBytes, split.EndOffsetBytes, split.File.SizeBytes)
	}
	file, err := text.Open(ctx, options.Storage, "read csv", split.File)
	if err != nil {
		return nil, err
	}
	file.Expect(dataset.Range{End: int64(s.headBytes)}, dataset.Range{Start: split.StartOffsetBytes, End: split.EndOffsetBytes})
	r := &reader{
		source: s, dialect: s.dialect, options: options, file: file, info: split.File, stop: split.EndOffsetBytes,
		lines: text.NewLineCounter(ctx, options.Storage, split.File), finder: text.NewFinder(ctx, options.Storage, split.File, s.rows(options.Schema)),
	}
	if err := r.prepare(ctx, split); err != nil {
		_ = file.Close()
		return nil, err
	}
	return r, nil
}

// rows is how files are made of rows.
func (s *Source) rows(schema *arrow.Schema) text.Rows {
	rows := text.Rows{Delimiter: s.dialect.delimiter, Header: s.options.Header, Empty: schema.NumFields() == 1}
	if s.dialect.quoting {
		rows.Quote = s.dialect.quote
	}
	return rows
}

// prepare reads the file's header and lays out the columns.
func (r *reader) prepare(ctx context.Context, split dataset.Split) error {
	schema := r.options.Schema
	head, err := r.source.readHead(ctx, "read csv", r.file, r.info, nil)
	if err != nil {
		return err
	}
	places := make([]int, schema.NumFields()) // in the schema, by place in the file
	for i := range places {
		places[i] = i
	}
	if head.names != nil {
		if places, err = matchHeader("read csv", r.info.Path, "the table that the job was planned with", schemaNames(schema), head.names, r.source.options.Union); err != nil {
			return err
		}
	}
	wanted := r.options.Columns
	if wanted == nil {
		wanted = make([]int, schema.NumFields())
		for i := range wanted {
			wanted[i] = i
		}
	}
	outputs := make([]int, schema.NumFields()) // in the records, by place in the schema
	for i := range outputs {
		outputs[i] = -1
	}
	var fields []arrow.Field
	for i, place := range wanted {
		if place < 0 || place >= len(outputs) || i > 0 && place <= wanted[i-1] {
			return engine.Errorf(engine.KindInvalidArgument, "read csv", r.info.Path,
				"columns %v are not ascending places in %d columns", wanted, len(outputs))
		}
		outputs[place] = i
		fields = append(fields, schema.Field(place))
	}
	r.schema = arrow.NewSchema(fields, nil)
	there := make([]bool, len(outputs))
	for _, place := range places {
		there[place] = true
	}
	for i, column := range wanted {
		if !there[column] {
			r.missing = append(r.missing, i)
			r.rowBits += kindOf(fields[i].Type).valueBits()
		}
	}
	wantedTypes := wantedPlaces(schema)

	r.columns = make([]column, len(places))
	for i, place := range places {
		c := &r.columns[i]
		f := schema.Field(place)
		*c = column{end: r.dialect.delimiter, place: outputs[place], dataType: f.Type, name: f.Name, wanted: wantedTypes[place]}
		if c.place < 0 {
			continue
		}
		if c.kind = kindOf(f.Type); c.kind == kindSkip {
			return engine.Errorf(engine.KindInvalidArgument, "read csv", r.info.Path,
				"column %q: csv has no values of type %s", f.Name, dataset.TypeName(f.Type))
		}
		r.rowBits += c.kind.valueBits()
		if c.kind == kindText {
			r.texts = append(r.texts, i)
		}
	}
	if len(r.columns) > 0 {
		c := &r.columns[len(r.columns)-1]
		c.last, c.end = true, '\n'
	}
	// A larger record batch could not say where its texts are.
	maxBytes := min(r.options.BatchBytes, math.MaxInt32)
	if r.textLimit = math.MaxInt64; len(r.texts) > 0 {
		r.textLimit = maxBytes * 8
	}
	r.maxRows = int(min(r.options.BatchRows, math.MaxInt32))
	if r.rowBits > 0 {
		r.maxRows = min(r.maxRows, max(1, int(maxBytes*8/r.rowBits)))
	}
	if r.file.Compressed() {
		r.stop = math.MaxInt64 / 2 // The end comes when it comes.
	}
	r.base = min(max(split.StartOffsetBytes, head.dataOffset), r.stop)
	r.block = make([]byte, min(int64(r.source.blockBytes), r.stop-r.base)+1+padding)
	return nil
}

// Read returns the next record batch, or io.EOF. After an error it returns the same error again.
func (r *reader) Read(ctx context.Context) (arrow.Record, error) {
	if r.err != nil {
		return nil, r.err
	}
	if r.file == nil {
		return nil, engine.Errorf(engine.KindInternal, "read csv", r.info.Path, "reader is closed")
	}
	r.ready = 0
	if err := r.collect(ctx); err != nil {
		// What has been parsed is lost, so this is the end even if only ctx has ended.
		r.release()
		r.err = err
		return nil, err
	}
	if r.rows == 0 {
		r.release()
		r.err = io.EOF
		return nil, io.EOF
	}
	return r.record(), nil
}

// collect parses the rows of one record batch.
func (r *reader) collect(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return engine.WrapError("read csv", r.info.Path, err)
	}
	r.rows, r.room = 0, 0
	for r.rows < r.maxRows {
		if r.pos >= r.limit {
			if r.eof {
				return r.finish()
			}
			if err := r.fill(ctx); err != nil {
				return err
			}
			continue
		}
		if r.rows == r.room {
			r.grow()
		}
		switch r.parse() {
		case parsedFull:
			return nil
		case parsedPart:
			if r.eof {
				return r.placed(r.diagnose(ctx))
			}
			if err := r.fill(ctx); err != nil {
				return err
			}
		case parsedBad:
			if err := r.refuse(r.diagnose(ctx)); err != nil {
				return err
			}
		}
	}
	return nil
}

// grow makes room for more rows.
func (r *reader) grow() {
	// A field takes a byte at least, with what ends it.
	most := int64(r.end-r.pos) + max(0, r.stop-r.base-int64(r.end))
	if n := int64(len(r.columns)); n > 0 {
		most = most/n + 1
	}
	rows := max(2*r.room, firstRows, cap(r.starts))
	rows = min(rows, r.maxRows, r.rows+int(min(most, math.MaxInt32)))
	r.room = max(rows, r.rows+1)
	for i := range r.columns {
		r.columns[i].grow(r.room, r.options.Allocator)
	}
	if r.room > len(r.starts) {
		grown := make([]int64, r.room)
		copy(grown, r.starts[:r.rows])
		r.starts = grown
	}
}

// fill moves what is left of the block to its front and reads on. It does nothing at the end of the split.
func (r *reader) fill(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return engine.WrapError("read csv", r.info.Path, err)
	}
	left := r.end - r.pos
	if left > r.source.maxLineBytes {
		return r.placed(r.diagnose(ctx))
	}
	// The largest block is one that shows that a row is too long.
	room := len(r.block) - padding - 1
	if unread := r.stop - r.base - int64(r.end); left > room/2 && unread > int64(room-left) {
		room = int(min(int64(max(2*room, r.source.blockBytes)), int64(left)+unread))
		grown := make([]byte, room+1+padding)
		copy(grown, r.block[r.pos:r.end])
		r.block = grown
	} else {
		copy(r.block, r.block[r.pos:r.end])
	}
	r.base += int64(r.pos)
	r.pos, r.end = 0, left

	want := int(min(int64(room-left), r.stop-r.base-int64(left)))
	n, err := r.file.ReadAt(r.block[left:left+want], r.base+int64(left))
	if r.file.Compressed() {
		r.bytesRead = r.file.ReadBytes()
	} else {
		r.bytesRead += int64(n)
	}
	r.end += n
	switch {
	case n == want:
	case r.file.Compressed() && errors.Is(err, io.EOF):
		r.stop = r.base + int64(r.end)
	default:
		return text.ShortRead("read csv", r.info, r.base+int64(r.end), err)
	}
	if r.base+int64(r.end) == r.stop {
		r.eof = true
		if r.end > 0 && r.block[r.end-1] != '\n' {
			r.block[r.end] = '\n' // for the last row without a line end; nothing else can be missing here
			r.end++
		}
	}
	clear(r.block[r.end : r.end+padding])
	r.limit = bytes.LastIndexByte(r.block[:r.end], '\n') + 1
	return nil
}

// finish checks at the end of the split that the file is still what it was.
func (r *reader) finish() error {
	return r.file.Check()
}

// record makes a record batch of the rows that are there.
func (r *reader) record() arrow.Record {
	arrays := make([]arrow.Array, r.schema.NumFields())
	for i := range r.columns {
		if c := &r.columns[i]; c.kind != kindSkip {
			arrays[c.place] = c.array(r.rows)
		}
	}
	for _, place := range r.missing {
		arrays[place] = array.MakeArrayOfNull(r.options.Allocator, r.schema.Field(place).Type, r.rows)
	}
	record := array.NewRecord(r.schema, arrays, int64(r.rows))
	for _, a := range arrays {
		a.Release()
	}
	r.ready = r.rows
	return record
}

// Where names file and line of a row of the last record batch. It reads the file up to there.
func (r *reader) Where(row int64) string {
	if row < 0 || row >= int64(r.ready) {
		return r.info.Path
	}
	return r.at(r.starts[row])
}

// Mark implements dataset.Marker.
func (r *reader) Mark() dataset.Locator {
	return &mark{reader: r, starts: slices.Clone(r.starts[:r.ready]), end: r.base + int64(r.pos)}
}

// mark finds the rows of a record batch. Of its reader it uses what does not change.
type mark struct {
	reader *reader
	starts []int64
	end    int64 // of the last row, or of bad ones behind it
}

// Locate implements dataset.Locator.
func (m *mark) Locate(row int64) dataset.RowInfo {
	begin, until := m.starts[row], m.end
	if row+1 < int64(len(m.starts)) {
		until = m.starts[row+1]
	}
	return m.reader.finder.Find(begin, until, func(b []byte) []byte {
		// The last row of a file may lack its line end. Rows that were left out may follow this one.
		padded := append(append(b, '\n'), make([]byte, padding)...)
		_, next, _ := m.reader.dialect.row(padded, 0, len(b)+1, nil)
		return trimEnd(b[:min(next, len(b))])
	})
}

// trimEnd drops the line end of a row.
func trimEnd(row []byte) []byte {
	return bytes.TrimSuffix(bytes.TrimSuffix(row, []byte{'\n'}), []byte{'\r'})
}

// at is the file and the line of an offset, as errors name it.
func (r *reader) at(offset int64) string {
	line, err := r.lines.At(offset)
	if err != nil {
		return fmt.Sprintf("%s: byte %d", r.info.Path, offset)
	}
	return fmt.Sprintf("%s:%d", r.info.Path, line)
}

// BytesRead counts the bytes of the split that have been read, of a compressed file before they were unpacked. What is read for the header and for line numbers is not counted, so
// that all splits together come to the size of the input.
func (r *reader) BytesRead() int64 { return r.bytesRead }

// Close releases what the reader holds. Records that were returned stay.
func (r *reader) Close() error {
	r.release()
	if r.file == nil {
		return nil
	}
	err := r.file.Close()
	r.file, r.block = nil, nil
	r.lines.Close()
	r.finder.Close()
	return err
}

func (r *reader) release() {
	for i := range r.columns {
		r.columns[i].release()
	}
}
