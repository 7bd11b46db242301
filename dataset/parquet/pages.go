package parquet

import (
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/apache/arrow/go/v15/arrow/memory"
	pq "github.com/apache/arrow/go/v15/parquet"
	"github.com/apache/arrow/go/v15/parquet/compress"
)

// pageKind is the format's PageType.
type pageKind int32

const (
	dataPage, dictionaryPage, dataPageV2 pageKind = 0, 2, 3
)

// pageHeader is what we need of the format's PageHeader.
type pageHeader struct {
	kind                     pageKind
	uncompressed, compressed int
	// values are the rows of a data page, or the values of a dictionary.
	values int
	// encoding is that of the values, levelEncoding that of the definition levels of a page of version 1.
	encoding, levelEncoding pq.Encoding
	// The rest is for pages of version 2: the levels' lengths, and whether the values after them are compressed.
	definitionBytes, repetitionBytes int
	plain                            bool
}

// parsePageHeader reads a header in Thrift's compact protocol from the beginning of b, and returns its length.
func parsePageHeader(b []byte) (h pageHeader, size int, ok bool) {
	w := thriftWalker{rest: b}
	found := map[int16]bool{}
	ok = w.fields(func(field int16, kind byte) bool {
		found[field] = true
		switch {
		case field == 1 && kind == thriftInt32:
			v, ok := w.int32()
			h.kind = pageKind(v)
			return ok
		case field == 2 && kind == thriftInt32:
			return w.length(&h.uncompressed)
		case field == 3 && kind == thriftInt32:
			return w.length(&h.compressed)
		case (field == 5 || field == 7 || field == 8) && kind == thriftStruct:
			return w.fields(func(inner int16, kind byte) bool { return w.pageField(&h, field, inner, kind) })
		default:
			return w.value(kind, maxDepth)
		}
	})
	switch h.kind {
	case dataPage:
		ok = ok && found[5]
	case dictionaryPage:
		ok = ok && found[7]
	case dataPageV2:
		ok = ok && found[8]
	}
	return h, len(b) - len(w.rest), ok && found[1] && found[2] && found[3]
}

const thriftTrue, thriftFalse, thriftInt32, thriftStruct = 1, 2, 5, 12

// pageField reads a field of the header within the header: DataPageHeader is 5, DictionaryPageHeader 7, DataPageHeaderV2 8.
func (w *thriftWalker) pageField(h *pageHeader, outer, field int16, kind byte) bool {
	const values, encoding = 1, 2
	switch {
	case kind != thriftInt32:
		if outer == 8 && field == 7 {
			h.plain = kind == thriftFalse
		}
		return kind == thriftTrue || kind == thriftFalse || w.value(kind, maxDepth)
	case field == values:
		return w.length(&h.values)
	case field == encoding && outer != 8, field == 4 && outer == 8:
		return w.encoding(&h.encoding)
	case field == 3 && outer == 5:
		return w.encoding(&h.levelEncoding)
	case field == 5 && outer == 8:
		return w.length(&h.definitionBytes)
	case field == 6 && outer == 8:
		return w.length(&h.repetitionBytes)
	default:
		return w.value(kind, maxDepth)
	}
}

// fields visits the fields of a struct. A field that is true or false has no value of its own.
func (w *thriftWalker) fields(visit func(field int16, kind byte) bool) bool {
	var last int16
	for {
		head, ok := w.byte()
		if !ok {
			return false
		}
		if head == 0 {
			return true
		}
		if delta := int16(head >> 4); delta > 0 {
			last += delta
		} else {
			id, ok := w.varint()
			if !ok {
				return false
			}
			last = int16(id>>1) ^ -int16(id&1)
		}
		kind := head & 15
		if (kind == thriftTrue || kind == thriftFalse) && last < 5 {
			continue
		}
		if !visit(last, kind) {
			return false
		}
	}
}

func (w *thriftWalker) int32() (int32, bool) {
	v, ok := w.varint()
	return int32(v>>1) ^ -int32(v&1), ok && v <= math.MaxUint32
}

// length reads a number that must not be negative.
func (w *thriftWalker) length(to *int) bool {
	v, ok := w.int32()
	*to = int(v)
	return ok && v >= 0
}

func (w *thriftWalker) encoding(to *pq.Encoding) bool {
	v, ok := w.int32()
	*to = pq.Encoding(v)
	return ok
}

// pageReader reads the pages of a column chunk from its beginning to its end. Arrow's takes new memory for every page.
type pageReader struct {
	from io.ReaderAt
	// at is where the chunk has been read to, end its end.
	at, end int64
	codec   compress.Codec // nil if pages are not compressed
	// compression is that of codec.
	compression compress.Compression
	allocator   memory.Allocator

	buffer []byte // read, of which [next:have] has not been used
	next   int
	have   int
	page   []byte // the last page, if it was compressed
}

const (
	leastHeaderBytes, mostHeaderBytes = 256, 16 << 20
	// pageSlack is how many bytes can be read beyond a page.
	pageSlack = 16
	// snappyRatio is more than what its format can express: 64 bytes by 3.
	snappyRatio = 32
)

func newPageReader(from io.ReaderAt, start, size int64, compression compress.Compression, allocator memory.Allocator) (*pageReader, error) {
	r := &pageReader{from: from, at: start, end: start + size, compression: compression, allocator: allocator}
	if compression == compress.Codecs.Uncompressed {
		return r, nil
	}
	codec, err := compress.GetCodec(compression)
	r.codec = codec
	return r, err
}

func (r *pageReader) close() {
	r.free(&r.buffer)
	r.free(&r.page)
}

func (r *pageReader) free(b *[]byte) {
	if *b != nil {
		r.allocator.Free(*b)
		*b = nil
	}
}

var errShortChunk = errors.New("the column ends within a page")

// fill makes sure that there are so many bytes in the buffer, or all that the chunk has.
func (r *pageReader) fill(want int) error {
	have := r.have - r.next
	if have >= want {
		return nil
	}
	size := int(min(int64(max(want-have, streamBufferBytes)), r.end-r.at))
	if size == 0 {
		return nil
	}
	if r.next+have+size+pageSlack > len(r.buffer) {
		old := r.buffer
		if have+size+pageSlack > len(old) {
			block := r.allocator.Allocate(max(have+size+pageSlack, streamBufferBytes+4*pageSlack))
			r.buffer = block
		}
		copy(r.buffer, old[r.next:r.have])
		if len(old) > 0 && &old[0] != &r.buffer[0] {
			r.allocator.Free(old)
		}
		r.next, r.have = 0, have
	}
	n, err := r.from.ReadAt(r.buffer[r.have:r.have+size], r.at)
	r.have += n
	r.at += int64(n)
	if n == size {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// read returns the next page of values or a dictionary, with its content, which is valid until the next call and followed by pageSlack
// bytes that may be read, or io.EOF. Pages of other kinds are left out.
func (r *pageReader) read() (pageHeader, []byte, error) {
	for {
		h, err := r.header()
		if err != nil {
			return h, nil, err
		}
		if err := r.fill(h.compressed); err != nil {
			return h, nil, err
		}
		if r.have-r.next < h.compressed {
			return h, nil, errShortChunk
		}
		stored := r.buffer[r.next : r.next+h.compressed]
		r.next += h.compressed
		if h.kind != dataPage && h.kind != dictionaryPage && h.kind != dataPageV2 {
			continue
		}
		content, err := r.content(h, stored)
		return h, content, err
	}
}

func (r *pageReader) header() (pageHeader, error) {
	for want := leastHeaderBytes; ; want *= 4 {
		if err := r.fill(want); err != nil {
			return pageHeader{}, err
		}
		have := r.have - r.next
		if have == 0 {
			return pageHeader{}, io.EOF
		}
		h, size, ok := parsePageHeader(r.buffer[r.next:r.have])
		if ok {
			r.next += size
			return h, nil
		}
		if have < want || want > mostHeaderBytes {
			return pageHeader{}, errors.New("the header of a page is damaged")
		}
	}
}

// maxPageRatio bounds how much larger than what is stored a page may be that has more than ratioFreeBytes, so that a few damaged bytes do
// not make us ask for gigabytes: codecs could fill any length from a few bytes, but no writer makes large pages of that kind. Pages have
// some MiB in practice, and at most maxPageBytes are read.
const (
	maxPageRatio   = 1000
	ratioFreeBytes = 64 << 20
	maxPageBytes   = 1 << 30
)

// content decompresses a page.
func (r *pageReader) content(h pageHeader, stored []byte) ([]byte, error) {
	levels := 0
	if h.kind == dataPageV2 {
		levels = h.definitionBytes + h.repetitionBytes
	}
	if levels > len(stored) || levels > h.uncompressed {
		return nil, errors.New("the levels of a page are longer than the page")
	}
	if r.codec == nil || h.kind == dataPageV2 && h.plain {
		if h.compressed != h.uncompressed {
			return nil, fmt.Errorf("a page has %d bytes, its header says %d", h.compressed, h.uncompressed)
		}
		return stored, nil
	}
	if err := h.checkSizes(r.compression); err != nil {
		return nil, err
	}
	if len(r.page) < h.uncompressed+pageSlack {
		r.free(&r.page)
		r.page = r.allocator.Allocate(h.uncompressed + pageSlack)
	}
	out := r.page[:h.uncompressed]
	copy(out, stored[:levels])
	if h.uncompressed == levels && len(stored) == levels {
		return out, nil
	}
	values := out[levels:len(out):len(out)]
	got := r.codec.Decode(values, stored[levels:])
	if len(got) != len(values) {
		return nil, errors.New("a page cannot be decompressed to the length that its header says")
	}
	if len(got) > 0 && &got[0] != &values[0] { // some codecs bring memory of their own
		copy(values, got)
	}
	return out, nil
}
