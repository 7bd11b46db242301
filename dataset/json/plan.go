package json

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/apache/arrow/go/v15/arrow"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/dataset"
	"github.com/f708428e/engine/dataset/storage"
	"github.com/f708428e/engine/dataset/text"
)

// sampleBytes is how much of the first file is looked at to infer types; of the others it is a sixteenth. Of a file with longer lines
// it is one line.
const sampleBytes = 1 << 20

// forms is a set of forms.
type forms uint16

func (f forms) has(other form) bool { return f&(1<<other) != 0 }

const (
	someNumber = forms(1<<formInteger | 1<<formDecimal)
	someBool   = forms(1<<formTrue | 1<<formFalse)
)

// evidence is what the samples say of one column.
type evidence struct {
	name  string
	known arrow.DataType // not to be inferred
	forms forms
	first [formObject + 1]string // where each form was seen first
	// Of texts: all were of that form.
	dates, timestamps bool
	// notNumbers says which list holds something other than numbers, tooLarge which integer is beyond int64.
	notNumbers, tooLarge string
	why                  string // which text is no date and no timestamp
	place                string // where the key was found first
}

// samples collects evidence from several files.
type samples struct {
	source  *Source
	known   func(name string) arrow.DataType
	places  map[string]int
	columns []evidence
	closed  bool // no further columns are taken
	scratch []byte
}

func (s *samples) add(name, place string) *evidence {
	if i, ok := s.places[name]; ok {
		return &s.columns[i]
	}
	if s.closed {
		return nil
	}
	s.places[name] = len(s.columns)
	s.columns = append(s.columns, evidence{name: name, known: s.known(name), dates: true, timestamps: true, place: place})
	return &s.columns[len(s.columns)-1]
}

// line looks at one line. where is called for evidence alone.
func (s *samples) line(b []byte, where func() string) (*scanner, error) {
	scan := &scanner{b: b}
	more := scan.begin()
	for first := more; more; first = false {
		var key, v value
		if key, v, more = scan.member(first); !more {
			break
		}
		s.scratch = append(s.scratch[:0], contents(s.scratch, b, key)...)
		var e *evidence
		if place, ok := s.places[string(s.scratch)]; ok {
			e = &s.columns[place]
		} else if e = s.add(string(s.scratch), where()); e == nil {
			continue
		}
		if len(s.columns) > maxKeys {
			return nil, engine.Errorf(engine.KindData, opPlan, where(), "over %d different keys", maxKeys)
		}
		e.see(b, v, where)
	}
	return scan, nil
}

func (e *evidence) see(b []byte, v value, where func() string) {
	if e.known != nil || v.form == formNull {
		return
	}
	if !e.forms.has(v.form) {
		e.forms |= 1 << v.form
		e.first[v.form] = where()
	}
	switch v.form {
	case formInteger:
		if e.tooLarge == "" {
			if _, ok := parseInt(b[v.start:v.end], v.form); !ok {
				e.tooLarge = fmt.Sprintf("%s in %s", b[v.start:min(v.end, v.start+60)], where())
			}
		}
	case formText:
		if !e.dates && !e.timestamps {
			return
		}
		content := contents(nil, b, v)
		before := e.dates || e.timestamps
		if e.dates {
			_, e.dates = text.ParseDate(content)
		}
		if e.timestamps {
			_, e.timestamps = text.ParseTimestamp(content)
		}
		if before && !e.dates && !e.timestamps {
			e.why = fmt.Sprintf("%s in %s", text.Shown(content), where())
		}
	case formList:
		if e.notNumbers == "" && !numbers(b[v.start:v.end], nil) {
			e.notNumbers = where()
		}
	}
}

// kinds lists what a column's values may be, in the words of messages.
var kinds = []struct {
	name  string
	forms forms
}{{"a number", someNumber}, {"a boolean", someBool}, {"a text", 1 << formText}, {"a list", 1 << formList}}

// dataType is the column's type, or an error that names the values that it has none for.
func (e *evidence) dataType() (arrow.DataType, error) {
	fail := func(at, format string, args ...any) *engine.Error {
		return engine.Errorf(engine.KindData, opPlan, at, "key %s %s", text.Shown([]byte(e.name)), fmt.Sprintf(format, args...))
	}
	const nested = `give it to the engine in columns of its own, or declare the columns that you need and set source.json.unknown_keys: ignore`
	switch {
	case e.known != nil:
		return e.known, nil
	case e.forms.has(formObject):
		return nil, fail(e.first[formObject], "is an object, which no column can hold").WithHint(nested)
	case e.notNumbers != "":
		return nil, fail(e.notNumbers, "is a list of something other than numbers, which no column can hold").WithHint(nested)
	}
	var seen []string
	for _, k := range kinds {
		for f := range formObject {
			if k.forms.has(f) && e.forms.has(f) {
				seen = append(seen, fmt.Sprintf("%s in %s", k.name, e.first[f]))
				break
			}
		}
	}
	if len(seen) > 1 {
		err := fail("", "is %s and %s", seen[0], seen[1])
		if e.forms.has(formList) {
			return nil, err
		}
		return nil, err.WithHint("declare column %q as string", e.name)
	}
	switch {
	case e.forms == 0:
		return arrow.BinaryTypes.String, nil
	case e.forms&someBool != 0:
		return arrow.FixedWidthTypes.Boolean, nil
	case e.forms.has(formDecimal):
		return arrow.PrimitiveTypes.Float64, nil
	case e.tooLarge != "":
		return nil, fail("", "is beyond int64: %s", e.tooLarge).WithHint("declare column %q as string or float64", e.name)
	case e.forms.has(formInteger):
		return arrow.PrimitiveTypes.Int64, nil
	case e.forms.has(formList):
		return listType, nil
	case e.dates:
		return arrow.FixedWidthTypes.Date32, nil
	case e.timestamps:
		return &arrow.TimestampType{Unit: arrow.Microsecond}, nil
	}
	return arrow.BinaryTypes.String, nil
}

// Plan settles the schema from the declared and wanted types and a sample of the lines of every file, and cuts the files at line ends.
// A file is read around the places where it is cut alone.
//
// Errors are of kind engine.KindData for what is wrong with the files, and engine.KindNotFound or engine.KindPermission if they
// cannot be opened. Flaws of single lines are left to the readers, unless a sample has nothing else.
func (s *Source) Plan(ctx context.Context, files []dataset.File, options dataset.PlanOptions) (*dataset.Layout, error) {
	if len(files) == 0 {
		return nil, engine.Errorf(engine.KindInvalidArgument, opPlan, "", "there are no files")
	}
	target := options.TargetSplitBytes
	if target <= 0 {
		target = DefaultSplitBytes
	}
	seen := &samples{source: s, places: map[string]int{}, known: func(name string) arrow.DataType {
		if t := s.declared[name]; t != nil {
			return t
		}
		if t := options.WantedTypes[name]; t != nil && kindOf(t) != kindSkip {
			return t
		}
		return nil
	}}
	if s.options.IgnoreUnknown && len(s.options.Columns) > 0 {
		for _, c := range s.options.Columns {
			seen.add(c.Name, "")
		}
		seen.closed = true
	}
	layout := &dataset.Layout{}
	sampled := func(place int) int64 {
		if place == 0 {
			return int64(s.sampleBytes)
		}
		return int64(s.sampleBytes / 16)
	}
	ahead := storage.NewAhead(options.Storage, opPlan, files, func(place int, _ dataset.File) []dataset.Range {
		return []dataset.Range{{End: sampled(place) + int64(s.blockBytes)}}
	})
	defer func() { _ = ahead.Close() }()
	for i, info := range files {
		splits, err := s.planFile(ctx, ahead, info, target, sampled(i), seen)
		if err != nil {
			return nil, err
		}
		layout.Splits = append(layout.Splits, splits...)
	}
	for _, c := range s.options.Columns {
		seen.add(c.Name, "")
	}
	if len(seen.columns) == 0 {
		return nil, engine.Errorf(engine.KindData, opPlan, files[0].Path, "no file has a line that tells the columns").WithHint("declare the columns")
	}
	fields := make([]arrow.Field, len(seen.columns))
	for i := range seen.columns {
		e := &seen.columns[i]
		t, err := e.dataType()
		if err != nil {
			return nil, err
		}
		fields[i] = arrow.Field{Name: e.name, Type: t, Nullable: true}
		if e.why != "" {
			if layout.Texts == nil {
				layout.Texts = map[string]string{}
			}
			layout.Texts[e.name] = e.why
		}
	}
	layout.Schema = arrow.NewSchema(fields, nil)
	return layout, nil
}

// magicBytes is how much of a file checkMagic looks at.
const magicBytes = 8

// skipMark moves a start at the beginning of a file behind its byte order mark, and refuses files that are known to be something else.
func (s *Source) skipMark(in *text.Input, start *int64) error {
	if *start > 0 {
		return nil
	}
	b := make([]byte, magicBytes)
	n, err := in.ReadAt(b, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	b = b[:n]
	for _, known := range []struct{ magic, what, hint string }{
		{"\x1f\x8b", "a gzip file, not JSON lines", "give it a name that ends in .gz, and it is unpacked as it is read"},
		{"\x28\xb5\x2f\xfd", "a zstd file, not JSON lines", "give it a name that ends in .zst, and it is unpacked as it is read"},
		{"PAR1", "a Parquet file, not JSON lines", "read it with source.parquet"},
		{"ARROW1\x00\x00", "an Arrow file, not JSON lines", "read it with source.arrow"},
		{"\xff\xfe", "not UTF-8: it begins with the byte order mark of UTF-16", "convert it, for example with iconv -f UTF-16 -t UTF-8"},
		{"\xfe\xff", "not UTF-8: it begins with the byte order mark of UTF-16", "convert it, for example with iconv -f UTF-16 -t UTF-8"},
	} {
		if bytes.HasPrefix(b, []byte(known.magic)) {
			return engine.Errorf(engine.KindData, opRead, in.Path(), "is %s", known.what).WithHint("%s", known.hint)
		}
	}
	if bytes.HasPrefix(b, []byte("\xef\xbb\xbf")) {
		*start = 3
	}
	return nil
}

// planFile looks at one file.
func (s *Source) planFile(ctx context.Context, from dataset.Storage, info dataset.File, target, sample int64, seen *samples) ([]dataset.Split, error) {
	in, err := text.Open(ctx, from, opPlan, info)
	if err != nil {
		return nil, err
	}
	defer func() { _ = in.Close() }()
	var start int64
	if err := s.skipMark(in, &start); err != nil {
		return nil, err
	}
	if err := s.sampleFile(ctx, from, in, info, start, sample, seen); err != nil {
		return nil, err
	}
	ends := []int64{info.SizeBytes}
	if !in.Compressed() {
		if ends, err = s.cut(ctx, in, info, target); err != nil {
			return nil, err
		}
	}
	splits := make([]dataset.Split, 0, len(ends))
	start = 0
	for _, end := range ends {
		splits = append(splits, dataset.Split{File: info, StartOffsetBytes: start, EndOffsetBytes: end})
		start = end
	}
	return splits, nil
}

// sampleFile looks at the lines that begin within the first bytes of a file.
func (s *Source) sampleFile(ctx context.Context, from dataset.Storage, in *text.Input, info dataset.File, start, sample int64, seen *samples) error {
	lines := newLineReader(opPlan, info, in, start, max(start, info.SizeBytes), s.blockBytes, s.maxLineBytes)
	counter := text.NewLineCounter(ctx, from, info)
	defer counter.Close()
	var bad error
	for good := false; ; {
		line, offset, err := lines.next(ctx)
		switch {
		case errors.Is(err, io.EOF), err == nil && offset >= sample && (good || bad != nil):
			if good {
				return nil
			}
			return bad
		case errors.Is(err, errLong):
			return engine.Errorf(engine.KindData, opPlan, at(&counter, offset), "byte %d: line is longer than %d bytes", offset, s.maxLineBytes)
		case err != nil:
			return err
		}
		scan, err := seen.line(line, func() string { return at(&counter, offset) })
		switch {
		case err != nil:
			return err
		case scan.problem == "":
			good = true
		case bad == nil:
			bad = malformed(opPlan, at(&counter, offset), offset, scan)
		}
	}
}

// cutBytes is how much is read at once in the search for a line end, and cutsAhead how many of these are announced.
const cutBytes, cutsAhead = 64 << 10, 16

// cut returns where the splits of a file end.
func (s *Source) cut(ctx context.Context, in *text.Input, info dataset.File, target int64) ([]int64, error) {
	target = min(target, math.MaxInt64/4)
	var ends []int64
	block := make([]byte, min(cutBytes, info.SizeBytes))
	expect := func(offset int64) { // Lines until then may be long.
		in.Expect(dataset.Range{Start: offset, End: offset + 2*cutBytes})
	}
	for i := range int64(cutsAhead) {
		expect((i+1)*target - 1)
	}
	// The line end at or after the target, less one: a target just behind a line end is a boundary itself.
	for offset := target - 1; offset < info.SizeBytes; {
		if err := ctx.Err(); err != nil {
			return nil, engine.WrapError(opPlan, info.Path, err)
		}
		in.Forget(dataset.Range{End: offset})
		expect(offset + cutsAhead*target)
		b := block[:min(int64(len(block)), info.SizeBytes-offset)]
		if n, err := in.ReadAt(b, offset); n < len(b) {
			return nil, text.ShortRead(opPlan, info, offset+int64(n), err)
		}
		n := bytes.IndexByte(b, '\n')
		if n < 0 {
			offset += int64(len(b))
			continue
		}
		end := offset + int64(n) + 1
		if end < info.SizeBytes {
			ends = append(ends, end)
		}
		offset = end + target - 1
	}
	return append(ends, info.SizeBytes), nil
}
