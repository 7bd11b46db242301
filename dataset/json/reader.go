package json

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

// blockBytes is how much is read at once. A block should stay in the second-level cache while it is parsed.
const blockBytes = 512 << 10

// reader returns the record batches of one split. It implements dataset.Reader.
type reader struct {
	// Constant.
	source  *Source
	options dataset.ReadOptions
	schema  *arrow.Schema // of the records
	info    dataset.File
	rowBits int64 // of a row without what its texts and lists hold
	limit   int64 // bits of a record batch

	input *lineReader // nil once closed

	columns []column       // those of the source
	places  map[string]int // in columns, by key
	wanted  []int          // places in columns of those that are not skipped
	scratch []byte
	scanner scanner
	count   int64 // rows so far

	rows   int
	size   int64   // bits
	starts []int64 // where the rows of the last record batch begin

	lines  text.LineCounter
	finder *text.Finder
	end    int64 // of the last line that was read
	// dropped are the rows of the record batch at work that turned out to be bad after some of their values had been stored.
	dropped []int
	err     error // what Read returns from now on
}

// Open starts the reading of a split. Errors are of kind engine.KindNotFound, engine.KindPermission, engine.KindInvalidArgument, and
// engine.KindData, the latter if the file has changed since planning.
func (s *Source) Open(ctx context.Context, split dataset.Split, options dataset.ReadOptions) (dataset.Reader, error) {
	if err := ctx.Err(); err != nil {
		return nil, engine.WrapError(opRead, split.File.Path, err)
	}
	switch {
	case options.Schema == nil || options.Allocator == nil:
		return nil, engine.Errorf(engine.KindInvalidArgument, opRead, split.File.Path, "schema and allocator are required")
	case options.BatchRows < 1 || options.BatchBytes < 1:
		return nil, engine.Errorf(engine.KindInvalidArgument, opRead, split.File.Path,
			"a record batch of %d rows and %d bytes: both must be at least 1", options.BatchRows, options.BatchBytes)
	case split.StartOffsetBytes < 0 || split.EndOffsetBytes < split.StartOffsetBytes || split.EndOffsetBytes > split.File.SizeBytes:
		return nil, engine.Errorf(engine.KindInvalidArgument, opRead, split.File.Path,
			"bytes %d to %d are no part of %d bytes", split.StartOffsetBytes, split.EndOffsetBytes, split.File.SizeBytes)
	}
	r := &reader{
		source: s, options: options, info: split.File,
		lines: text.NewLineCounter(ctx, options.Storage, split.File), finder: text.NewFinder(ctx, options.Storage, split.File, text.Rows{Blanks: true}),
	}
	if err := r.layOut(); err != nil {
		return nil, err
	}
	input, err := text.Open(ctx, options.Storage, opRead, split.File)
	if err != nil {
		return nil, err
	}
	input.Expect(dataset.Range{Start: split.StartOffsetBytes, End: split.EndOffsetBytes})
	if err := s.skipMark(input, &split.StartOffsetBytes); err != nil {
		_ = input.Close()
		return nil, err
	}
	r.input = newLineReader(opRead, split.File, input, split.StartOffsetBytes, split.EndOffsetBytes, s.blockBytes, s.maxLineBytes)
	for _, place := range r.wanted {
		r.columns[place].build(options.Allocator)
	}
	return r, nil
}

// layOut lays out the columns.
func (r *reader) layOut() error {
	schema := r.options.Schema
	outputs := make([]int, schema.NumFields()) // in the records, by place in the schema
	for i := range outputs {
		outputs[i] = -1
		if r.options.Columns == nil {
			outputs[i] = i
		}
	}
	last := -1
	for i, place := range r.options.Columns {
		if place <= last || place >= len(outputs) {
			return engine.Errorf(engine.KindInvalidArgument, opRead, r.info.Path,
				"columns %v are not ascending places in %d columns", r.options.Columns, len(outputs))
		}
		outputs[place], last = i, place
	}
	r.columns = make([]column, len(outputs))
	r.places = make(map[string]int, len(outputs))
	var fields []arrow.Field
	for i := range r.columns {
		f := schema.Field(i)
		r.places[f.Name] = i
		r.columns[i] = column{name: f.Name, dataType: f.Type, place: outputs[i]}
		if outputs[i] < 0 {
			continue
		}
		c := &r.columns[i]
		if c.kind = kindOf(f.Type); c.kind == kindSkip {
			return engine.Errorf(engine.KindInvalidArgument, opRead, r.info.Path,
				"column %q: json has no values of type %s", f.Name, dataset.TypeName(f.Type))
		}
		_, declared := r.source.declared[f.Name]
		c.asText = declared && c.kind == kindText
		fields = append(fields, f)
		r.wanted = append(r.wanted, i)
		r.rowBits += c.kind.bits()
	}
	r.schema = arrow.NewSchema(fields, nil)
	// A larger record batch could not say where its texts are.
	r.limit = 8 * min(r.options.BatchBytes, math.MaxInt32)
	return nil
}

// Read returns the next record batch, or io.EOF. After an error it returns the same error again.
func (r *reader) Read(ctx context.Context) (arrow.Record, error) {
	if r.err != nil {
		return nil, r.err
	}
	if r.input == nil {
		return nil, engine.Errorf(engine.KindInternal, opRead, r.info.Path, "reader is closed")
	}
	err := r.collectAny(ctx)
	if err != nil {
		// What has been parsed is lost, so this is the end even if only ctx has ended.
		r.err, r.rows = err, 0
		return nil, err
	}
	arrays := make([]arrow.Array, len(r.wanted))
	for _, place := range r.wanted {
		c := &r.columns[place]
		arrays[c.place] = c.builder.NewArray()
	}
	if err := r.drop(arrays); err != nil {
		r.err = err
		return nil, err
	}
	record := array.NewRecord(r.schema, arrays, int64(r.rows))
	for _, a := range arrays {
		a.Release()
	}
	return record, nil
}

// collectAny collects a record batch of which a row at least is not dropped. Without one it returns io.EOF.
func (r *reader) collectAny(ctx context.Context) error {
	for {
		r.rows, r.size, r.starts, r.dropped = 0, 0, r.starts[:0], r.dropped[:0]
		switch err := r.collect(ctx); {
		case err != nil:
			return err
		case r.rows == 0:
			return io.EOF
		case r.rows > len(r.dropped):
			return nil
		}
		for _, place := range r.wanted {
			r.columns[place].builder.NewArray().Release()
		}
	}
}

// collect parses the rows of one record batch.
func (r *reader) collect(ctx context.Context) error {
	for int64(r.rows) < r.options.BatchRows {
		line, offset, err := r.input.next(ctx)
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case errors.Is(err, errLong):
			return engine.Errorf(engine.KindData, opRead, r.at(offset), "byte %d: line is longer than %d bytes", offset, r.source.maxLineBytes)
		case err != nil:
			return err
		}
		r.end = offset + int64(len(line))
		size, err := r.scan(line, offset)
		if err != nil {
			if err := r.leaveOut(err, "", line, offset); err != nil {
				return err
			}
			continue
		}
		if r.size+size > r.limit && r.rows > 0 {
			r.input.back(offset)
			return nil
		}
		var bad *column
		for _, place := range r.wanted {
			c := &r.columns[place]
			v := c.value
			if c.row != r.count {
				v.form = formNone
			}
			if bad != nil {
				c.builder.AppendNull()
			} else if !c.add(line, v, &r.scratch) {
				bad = c
				if c.builder.Len() == r.rows {
					c.builder.AppendNull()
				}
			}
		}
		if bad != nil {
			if err := r.leaveOut(r.refuse(bad, line, offset), bad.name, line, offset); err != nil {
				return err
			}
			r.dropped = append(r.dropped, r.rows)
		}
		r.starts = append(r.starts, offset)
		r.size += size
		r.rows++
	}
	return nil
}

// leaveOut passes over a bad line, if it may; else it returns its error.
func (r *reader) leaveOut(err error, column string, line []byte, offset int64) error {
	if r.options.BadRow == nil {
		return err
	}
	info := r.finder.Place(offset)
	info.Raw = bytes.Clone(line)
	return r.options.BadRow(dataset.BadRow{RowInfo: info, Column: column, Reason: text.Reason(err, column)})
}

// drop takes the rows out of arrays that are to be dropped. It gives up the arrays if it fails.
func (r *reader) drop(arrays []arrow.Array) error {
	if len(r.dropped) == 0 {
		return nil
	}
	for i, whole := range arrays {
		var pieces []arrow.Array
		from := 0
		for _, row := range append(r.dropped, r.rows) {
			pieces = append(pieces, array.NewSlice(whole, int64(from), int64(row)))
			from = row + 1
		}
		var err error
		arrays[i], err = array.Concatenate(pieces, r.options.Allocator)
		whole.Release()
		for _, p := range pieces {
			p.Release()
		}
		if err != nil {
			return engine.Errorf(engine.KindInternal, opRead, r.info.Path, "%w", err)
		}
	}
	for _, row := range slices.Backward(r.dropped) {
		r.starts = slices.Delete(r.starts, row, row+1)
	}
	r.rows -= len(r.dropped)
	return nil
}

// Mark implements dataset.Marker.
func (r *reader) Mark() dataset.Locator {
	return &mark{finder: r.finder, starts: slices.Clone(r.starts), end: r.end}
}

// mark finds the rows of a record batch.
type mark struct {
	finder *text.Finder
	starts []int64
	end    int64
}

// Locate implements dataset.Locator.
func (m *mark) Locate(row int64) dataset.RowInfo {
	begin, until := m.starts[row], m.end
	if row+1 < int64(len(m.starts)) {
		until = m.starts[row+1]
	}
	return m.finder.Find(begin, until, func(b []byte) []byte {
		line, _, _ := bytes.Cut(b, []byte{'\n'})
		return bytes.TrimSuffix(line, []byte{'\r'})
	})
}

// scan takes a line apart, and returns how many bits its row takes at most.
func (r *reader) scan(line []byte, offset int64) (int64, error) {
	s := &r.scanner
	*s = scanner{b: line}
	r.count++
	size := r.rowBits
	expected := 0
	more := s.begin()
	for first := more; more; first = false {
		var key, v value
		if key, v, more = s.member(first); !more {
			break
		}
		name := contents(r.scratch, line, key)
		place, ok := expected, true
		if place >= len(r.columns) || r.columns[place].name != string(name) {
			place, ok = r.places[string(name)]
		}
		if !ok {
			if r.source.options.IgnoreUnknown {
				continue
			}
			return 0, engine.Errorf(engine.KindData, opRead, r.at(offset), "byte %d: key %s is no column: the beginnings of the files have none of that name",
				offset+int64(key.start)-1, text.Shown(name)).
				WithHint("declare it in source.json.columns, or set source.json.unknown_keys: ignore")
		}
		c := &r.columns[place]
		if c.row == r.count {
			return 0, engine.Errorf(engine.KindData, opRead, r.at(offset), "byte %d: the object has the key %s twice", offset+int64(key.start)-1, text.Shown(name))
		}
		c.row, c.value = r.count, v
		size += c.size(v)
		expected = place + 1
	}
	if s.problem != "" {
		return 0, malformed(opRead, r.at(offset), offset, s)
	}
	return size, nil
}

// malformed is the error about a line that is not an object.
func malformed(op, at string, offset int64, s *scanner) error {
	err := engine.Errorf(engine.KindData, op, at, "byte %d: %s", offset+int64(s.pos), s.problem)
	rest := s.b[min(s.pos, len(s.b)):]
	switch {
	case bytes.HasPrefix(rest, []byte("NaN")), bytes.HasPrefix(rest, []byte("Infinity")), bytes.HasPrefix(rest, []byte("nan")):
		return err.WithHint("JSON has no NaN and no infinity; write null")
	case len(rest) == 0 && len(bytes.TrimSpace(s.b)) > 0:
		return err.WithHint("every line holds one whole object; jq -c . makes such lines")
	case len(rest) > 0 && rest[0] == '[' && len(bytes.TrimSpace(s.b[:s.pos])) == 0:
		return err.WithHint("every line holds one object; jq -c '.[]' makes such lines of a list")
	}
	return err
}

// refuse is the error about a value that is none of its column's.
func (r *reader) refuse(c *column, line []byte, offset int64) error {
	v := c.value
	var found string
	switch v.form {
	case formList:
		found = "a list"
	case formObject:
		found = "an object"
	case formText:
		found = text.Shown(contents(nil, line, v))
	default:
		found = string(line[v.start:min(v.end, v.start+60)])
	}
	err := engine.Errorf(engine.KindData, opRead, r.at(offset), "byte %d: column %q: expected %s, found %s",
		offset+int64(v.start), c.name, dataset.TypeName(c.dataType), found)
	_, declared := r.source.declared[c.name]
	number := v.form == formInteger || v.form == formDecimal
	switch {
	case declared:
	case number && c.kind == kindInt64:
		return err.WithHint("declare column %q as float64", c.name)
	case number && c.kind == kindInt32:
		return err.WithHint("declare column %q as int64 or float64", c.name)
	case v.form < formText && c.kind == kindText, v.form == formText:
		return err.WithHint("declare column %q as string", c.name)
	}
	return err
}

// Where names file and line of a row of the last record batch. It reads the file up to there.
func (r *reader) Where(row int64) string {
	if row < 0 || row >= int64(r.rows) {
		return r.info.Path
	}
	return r.at(r.starts[row])
}

// at is the file and the line of an offset, as errors name it.
func (r *reader) at(offset int64) string { return at(&r.lines, offset) }

func at(lines *text.LineCounter, offset int64) string {
	line, err := lines.At(offset)
	if err != nil {
		return lines.File.Path
	}
	return fmt.Sprintf("%s:%d", lines.File.Path, line)
}

// BytesRead counts the bytes of the split that have been read, of a compressed file before they were unpacked.
func (r *reader) BytesRead() int64 {
	if r.input == nil {
		return 0
	}
	return r.input.bytesRead()
}

// Close releases what the reader holds. Records that were returned stay.
func (r *reader) Close() error {
	for i := range r.columns {
		r.columns[i].release()
	}
	r.lines.Close()
	r.finder.Close()
	if r.input == nil {
		return nil
	}
	err := r.input.in.Close()
	r.input = nil
	return err
}
