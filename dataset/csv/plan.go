package csv

import (
	"context"
	"math"
	"strconv"
	"strings"

	"github.com/apache/arrow/go/v15/arrow"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/dataset"
	"github.com/f708428e/engine/dataset/storage"
	"github.com/f708428e/engine/dataset/text"
)

// wantedKey is the key in the metadata of a layout's schema under which the places of the columns stand whose type later steps need,
// so that a reader does not advise another one. It is not in the schema of record batches.
const wantedKey = "engine.wanted"

// wantedPlaces reads what Plan put under wantedKey.
func wantedPlaces(schema *arrow.Schema) map[int]bool {
	metadata := schema.Metadata()
	wanted := map[int]bool{}
	if i := metadata.FindKey(wantedKey); i >= 0 {
		for _, text := range strings.Fields(metadata.Values()[i]) {
			if place, err := strconv.Atoi(text); err == nil {
				wanted[place] = true
			}
		}
	}
	return wanted
}

// Plan settles the schema from the headers, the declared and wanted types, and a sample of the rows of every file, and finds where
// files can be cut. A file that is no larger than a split is not read beyond its sample; a larger one is read once if quoting is on,
// because a line end within quotes does not end a row; without quoting only around the places where it is cut.
//
// A wanted type that text cannot have, such as uint8, is not considered. A column without values in the sample is text.
//
// Errors are of kind engine.KindData for what is wrong with the files, and engine.KindNotFound or engine.KindPermission if they
// cannot be opened. Flaws of single rows are left to the readers.
func (s *Source) Plan(ctx context.Context, files []dataset.File, options dataset.PlanOptions) (*dataset.Layout, error) {
	const op = "plan csv"
	if len(files) == 0 {
		return nil, engine.Errorf(engine.KindInvalidArgument, op, "", "there are no files")
	}
	target := options.TargetSplitBytes
	if target <= 0 {
		target = DefaultSplitBytes
	}
	target = min(target, math.MaxInt64/4)
	seen := &sample{bytes: sampleBytes, known: func(name string) arrow.DataType {
		if t := s.declared(name); t != nil {
			return t
		}
		if t := options.WantedTypes[name]; t != nil && kindOf(t) != kindSkip {
			return t
		}
		return nil
	}}
	if len(s.options.Columns) > 0 && !s.options.Header {
		var names []string
		for _, column := range s.options.Columns {
			names = append(names, column.Name)
		}
		seen.setColumns(names)
	}
	layout := &dataset.Layout{}
	ahead := storage.NewAhead(options.Storage, op, files, func(place int, _ dataset.File) []dataset.Range {
		if place == 0 {
			return []dataset.Range{{End: sampleBytes}}
		}
		return []dataset.Range{{End: headBytes}}
	})
	defer func() { _ = ahead.Close() }()
	for _, info := range files {
		splits, err := s.planFile(ctx, ahead, op, info, target, seen)
		if err != nil {
			return nil, err
		}
		layout.Splits = append(layout.Splits, splits...)
		seen.bytes = headBytes
	}
	if s.options.Header {
		if err := s.checkDeclared(op, files[0].Path, seen.names); err != nil {
			return nil, err
		}
	}
	fields := make([]arrow.Field, len(seen.names))
	var wanted []string
	for i, name := range seen.names {
		fields[i] = arrow.Field{Name: name, Type: seen.columns[i].dataType(), Nullable: true}
		if s.declared(name) == nil && seen.columns[i].known != nil {
			wanted = append(wanted, strconv.Itoa(i))
		}
		if why := seen.columns[i].why; why != "" {
			if layout.Texts == nil {
				layout.Texts = map[string]string{}
			}
			layout.Texts[name] = why
		}
	}
	var metadata *arrow.Metadata
	if wanted != nil {
		m := arrow.NewMetadata([]string{wantedKey}, []string{strings.Join(wanted, " ")})
		metadata = &m
	}
	layout.Schema = arrow.NewSchema(fields, metadata)
	return layout, nil
}

// checkDeclared sees that all declared columns are there.
func (s *Source) checkDeclared(op, path string, names []string) error {
	there := make(map[string]bool, len(names))
	for _, name := range names {
		there[name] = true
	}
	var missing []string
	for _, column := range s.options.Columns {
		if !there[column.Name] {
			missing = append(missing, column.Name)
		}
	}
	if missing == nil {
		return nil
	}
	hint := s.options.DelimiterHint(names)
	if hint == "" {
		hint = "it has " + quotedList(names)
	}
	return engine.Errorf(engine.KindData, op, path, "header lacks %s, which source.csv.columns declares", quotedList(missing)).
		WithHint("%s", hint)
}

// planFile looks at one file.
func (s *Source) planFile(ctx context.Context, from dataset.Storage, op string, info dataset.File, target int64, seen *sample) ([]dataset.Split, error) {
	file, err := text.Open(ctx, from, op, info)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }()
	head, err := s.readHead(ctx, op, file, info, seen)
	if err != nil {
		return nil, err
	}
	ends, err := s.cut(ctx, op, file, info, head.dataOffset, target)
	if err != nil {
		return nil, err
	}
	splits := make([]dataset.Split, 0, len(ends))
	start := int64(0)
	for _, end := range ends {
		splits = append(splits, dataset.Split{File: info, StartOffsetBytes: start, EndOffsetBytes: end})
		start = end
	}
	return splits, nil
}

// cutBytes is how much is read at once in the search for the end of a row in a file without quotes, and cutsAhead how many of these are
// announced.
const cutBytes, cutsAhead = 64 << 10, 16

// expectCut announces what will be read where a split may end, if rows until then are not too long.
func expectCut(file *text.Input, offset int64) {
	file.Expect(dataset.Range{Start: offset, End: offset + 2*cutBytes})
}

// cut returns where the splits of a file end. The header stays in the first.
func (s *Source) cut(ctx context.Context, op string, file *text.Input, info dataset.File, dataOffset, target int64) ([]int64, error) {
	if file.Compressed() {
		return []int64{info.SizeBytes}, nil
	}
	c := cutter{dialect: s.dialect, size: info.SizeBytes, target: target, next: max(target, dataOffset)}
	if c.next >= c.size {
		return []int64{c.size}, nil
	}
	if !c.dialect.quoting {
		c.offset = c.next - 1
	} else {
		c.offset = min(dataOffset, c.size)
		c.previous = '\n' // a field begins here
	}
	scan := int64(s.scanBytes)
	if c.dialect.quoting {
		file.Expect(dataset.Range{Start: c.offset, End: c.size})
	} else {
		scan = min(scan, cutBytes)
		for i := range int64(cutsAhead) {
			expectCut(file, c.offset+i*target)
		}
	}
	block := make([]byte, min(scan, c.size-c.offset))
	for c.next < c.size && c.offset < c.size {
		if err := ctx.Err(); err != nil {
			return nil, engine.WrapError(op, info.Path, err)
		}
		if !c.dialect.quoting {
			file.Forget(dataset.Range{End: c.offset})
			expectCut(file, c.offset+cutsAhead*target)
		}
		b := block[:min(int64(len(block)), c.size-c.offset)]
		if n, err := file.ReadAt(b, c.offset); n < len(b) {
			return nil, text.ShortRead(op, info, c.offset+int64(n), err)
		}
		if !c.dialect.quoting {
			c.lines(b)
		} else {
			c.rows(b)
		}
	}
	return append(c.ends, c.size), nil
}
