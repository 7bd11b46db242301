package csv

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/apache/arrow/go/v15/arrow"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/dataset"
	"github.com/f708428e/engine/dataset/text"
)

// headBytes is how much of a file is read to find its header, unless that is longer.
const headBytes = 64 << 10

// head is what the beginning of a file says.
type head struct {
	// names are those in the header, nil without one.
	names []string
	// dataOffset is where the rows begin: after the byte order mark and the header.
	dataOffset int64
}

// headReader holds the beginning of a file.
type headReader struct {
	op     string
	source *Source
	file   *text.Input
	info   dataset.File
	b      []byte // padded
	end    int
	eof    bool // all of the file is there, and its last line ends
	length int  // of what has been read
}

// more makes at least size bytes of the file available, or all.
func (h *headReader) more(ctx context.Context, size int) error {
	if err := ctx.Err(); err != nil {
		return engine.WrapError(h.op, h.info.Path, err)
	}
	packed := h.file.Compressed()
	if !packed {
		size = int(min(int64(size), h.info.SizeBytes))
	}
	grown := make([]byte, size+1+padding)
	copy(grown, h.b[:h.end])
	h.b = grown
	n, err := h.file.ReadAt(h.b[h.end:size], int64(h.end))
	h.end += n
	h.eof = int64(h.end) == h.info.SizeBytes
	if packed {
		h.eof = errors.Is(err, io.EOF)
	}
	if h.end < size && !(packed && h.eof) {
		return text.ShortRead(h.op, h.info, int64(h.end), err)
	}
	h.length = h.end
	if h.eof && h.end > 0 && h.b[h.end-1] != '\n' {
		h.b[h.end] = '\n'
		h.end++
	}
	return nil
}

// at is the file and line of a place.
func (h *headReader) at(pos int) string {
	return fmt.Sprintf("%s:%d", h.info.Path, 1+bytes.Count(h.b[:pos], []byte{'\n'}))
}

// row returns the row at pos, and where the next begins. When the file does not hold it whole, or it has a flaw, that is an error;
// alone is that of afterQuote.
func (h *headReader) row(ctx context.Context, pos int, alone bool) ([]field, int, error) {
	longest := h.source.maxLineBytes
	for {
		fields, next, flaw := h.source.dialect.row(h.b, pos, h.end, nil)
		switch {
		case next-pos > longest, flaw == flawMore && h.end-pos > longest:
			return nil, 0, tooLong(h.op, h.at(pos), longest, flaw == flawMore && next < h.end)
		case flaw == flawNone:
			return fields, next, nil
		case flaw == flawAfterQuote:
			return nil, 0, afterQuote(h.op, h.at(next), h.b[next:h.end], len(fields)+1, alone && len(fields) == 0)
		case h.eof:
			return nil, 0, unterminated(h.op, h.at(next))
		}
		if err := h.more(ctx, 4*h.end); err != nil {
			return nil, 0, err
		}
	}
}

// skipBlank returns where the first line begins, from pos on, that is not empty, or the end of the file.
func (h *headReader) skipBlank(ctx context.Context, pos int) (int, error) {
	for {
		for n := 1; n > 0; pos += n {
			n = blank(h.b, pos, h.end)
		}
		if h.eof || pos+1 < h.end {
			return pos, nil
		}
		if err := h.more(ctx, 4*h.end); err != nil {
			return 0, err
		}
	}
}

// readHead reads the header of a file and, if sample is not nil, gives it the rows that follow.
func (s *Source) readHead(ctx context.Context, op string, file *text.Input, info dataset.File, sample *sample) (head, error) {
	h := &headReader{op: op, source: s, file: file, info: info}
	empty := engine.Errorf(engine.KindData, op, info.Path, "file is empty")
	if info.SizeBytes == 0 {
		return head{}, empty
	}
	size := s.headBytes
	switch {
	case sample != nil:
		size = sample.bytes
	case !s.options.Header:
		size = magicBytes
	}
	if err := h.more(ctx, max(size, magicBytes)); err != nil {
		return head{}, err
	}
	if err := s.checkMagic(op, info.Path, h.b[:h.end]); err != nil {
		return head{}, err
	}
	pos := 0
	switch b := h.b[:h.end]; {
	case bytes.HasPrefix(b, []byte("\xef\xbb\xbf")):
		pos = 3
	case bytes.HasPrefix(b, []byte("\xff\xfe")), bytes.HasPrefix(b, []byte("\xfe\xff")):
		return head{}, engine.Errorf(engine.KindData, op, info.Path, "file is not UTF-8: it begins with the byte order mark of UTF-16").
			WithHint("convert it, for example with iconv -f UTF-16 -t UTF-8")
	}
	if h.eof && pos == h.length {
		return head{}, empty
	}
	var names []string
	if s.options.Header {
		var err error
		if pos, err = h.skipBlank(ctx, pos); err != nil {
			return head{}, err
		}
		if pos == h.end {
			return head{}, engine.Errorf(engine.KindData, op, info.Path, "file has no header: its lines are empty")
		}
		fields, next, err := h.row(ctx, pos, true)
		if err != nil {
			return head{}, err
		}
		if names, err = headerNames(op, h.at(pos), fields); err != nil {
			return head{}, err
		}
		pos = next
	}
	if sample != nil {
		if err := sample.take(ctx, h, pos, names); err != nil {
			return head{}, err
		}
	}
	return head{names: names, dataOffset: int64(min(pos, h.length))}, nil
}

// magicBytes is how much of a file checkMagic looks at.
const magicBytes = 8

// checkMagic refuses files that are known to be something else by their first bytes.
func (s *Source) checkMagic(op, path string, b []byte) error {
	b = b[:min(len(b), magicBytes)]
	// A table may have a column PAR1. In a Parquet file a binary header follows.
	parquet := len(b) > 4 && b[4] < ' ' && b[4] != '\t' && b[4] != '\r' && b[4] != '\n' && b[4] != s.dialect.delimiter
	for _, known := range []struct {
		magic, what string
		is          bool
		hint        string
	}{
		{"\x1f\x8b", "a gzip file, not CSV text", true, "give it a name that ends in .gz, and it is unpacked as it is read"},
		{"\x28\xb5\x2f\xfd", "a zstd file, not CSV text", true, "give it a name that ends in .zst, and it is unpacked as it is read"},
		{"PK\x03\x04", "a zip file, not CSV text", true, "unpack it first; export a spreadsheet as CSV"},
		{"PAR1", "a Parquet file, not CSV text", parquet, "read it with source.parquet"},
		{"ARROW1\x00\x00", "an Arrow file, not CSV text", true, "read it with source.arrow"},
	} {
		if known.is && bytes.HasPrefix(b, []byte(known.magic)) {
			return engine.Errorf(engine.KindData, op, path, "is %s", known.what).WithHint("%s", known.hint)
		}
	}
	return nil
}

// headerNames checks the fields of a header.
func headerNames(op, at string, fields []field) ([]string, error) {
	names := make([]string, len(fields))
	first := make(map[string]int, len(fields))
	for i, f := range fields {
		name := string(f.text)
		switch problem := textFlaw(f.text, f.quoted); {
		case problem != "":
			return nil, badText(op, at, fmt.Sprintf("header: column %d", i+1), problem, f.text)
		case name == "":
			return nil, engine.Errorf(engine.KindData, op, at, "header: column %d has no name", i+1)
		case first[name] > 0:
			return nil, engine.Errorf(engine.KindData, op, at, "header: columns %d and %d are both named %s", first[name], i+1, shown(f.text))
		}
		names[i] = name
		first[name] = i + 1
	}
	return names, nil
}

// matchHeader returns the places in want of the names in a file's header, which must be the same, in any order; with union some may be
// missing.
func matchHeader(op, path, first string, want, have []string, union bool) ([]int, error) {
	places := make([]int, len(have))
	known := make(map[string]int, len(want))
	for i, name := range want {
		known[name] = i + 1
	}
	var extra, missing []string
	for i, name := range have {
		places[i] = known[name] - 1
		if places[i] < 0 {
			extra = append(extra, name)
		}
		known[name] = 0
	}
	for _, name := range want {
		if known[name] > 0 && !union {
			missing = append(missing, name)
		}
	}
	switch {
	case missing == nil && extra == nil:
		return places, nil
	case extra == nil:
		return nil, engine.Errorf(engine.KindData, op, path, "header lacks %s, which %s has", quotedList(missing), first)
	case missing == nil:
		return nil, engine.Errorf(engine.KindData, op, path, "header has %s, which %s lacks", quotedList(extra), first)
	}
	return nil, engine.Errorf(engine.KindData, op, path, "header lacks %s and has %s, unlike %s", quotedList(missing), quotedList(extra), first)
}

func schemaNames(schema *arrow.Schema) []string {
	names := make([]string, schema.NumFields())
	for i := range names {
		names[i] = schema.Field(i).Name
	}
	return names
}
