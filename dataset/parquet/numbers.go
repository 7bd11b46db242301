package parquet

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"unsafe"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/arrow/bitutil"
	"github.com/apache/arrow/go/v15/arrow/memory"
	pq "github.com/apache/arrow/go/v15/parquet"
	"github.com/apache/arrow/go/v15/parquet/compress"
)

// numberDecoder decodes a column of numbers, which lie in Arrow as they do in Parquet, whose pages are plain, split by bytes, or
// numbers of a dictionary's. Other encodings are left to arrow.
type numberDecoder[W word] struct {
	pages      *pageReader
	dataType   arrow.DataType
	allocator  memory.Allocator
	nullable   bool
	dictionary []W

	// left are the rows of the page that have not been read, from row on.
	row, left int
	// valid has a bit for every row of the page if some are null.
	nulls int
	valid []byte
	// plain are the page's plain values that have not been read; or else numbers has them.
	plain   []byte
	numbers hybridReader
	isPlain bool
	joined  []byte // see joinBytes
}

// byteStreamSplit is an encoding that arrow v15 cannot read.
const byteStreamSplit pq.Encoding = 9

// newNumberDecoder returns nil if the column is not one of these.
func newNumberDecoder(in *input, group, leaf int, t arrow.DataType, allocator memory.Allocator) (decoder, error) {
	column := in.parquet.MetaData().Schema.Column(leaf)
	if column.MaxRepetitionLevel() > 0 || column.MaxDefinitionLevel() > 1 || !isNumber(column.PhysicalType(), t) {
		return nil, nil
	}
	nullable := column.MaxDefinitionLevel() == 1
	m := in.parquet.MetaData().RowGroups[group].Columns[leaf].MetaData
	for _, e := range m.Encodings {
		switch e := pq.Encoding(e); {
		case e == pq.Encodings.Plain, e == pq.Encodings.RLE, e == pq.Encodings.RLEDict, e == pq.Encodings.PlainDict, e == byteStreamSplit:
		case e == pq.Encodings.BitPacked && !nullable: // some writers name it for the levels that there are none of
		default:
			return nil, nil
		}
	}
	r := chunkRange(m.DataPageOffset, m.DictionaryPageOffset, m.TotalCompressedSize)
	pages, err := newPageReader(in.counter, r.Start, r.End-r.Start, compress.Compression(m.Codec), allocator)
	if err != nil {
		return nil, err
	}
	switch column.PhysicalType() {
	case pq.Types.Int32, pq.Types.Float:
		return &numberDecoder[uint32]{pages: pages, dataType: t, allocator: allocator, nullable: nullable}, nil
	default:
		return &numberDecoder[uint64]{pages: pages, dataType: t, allocator: allocator, nullable: nullable}, nil
	}
}

// isNumber tells whether the values of a type lie in Arrow as they do in Parquet.
func isNumber(stored pq.Type, t arrow.DataType) bool {
	switch stored {
	case pq.Types.Int32:
		return oneOf(t, arrow.INT32, arrow.DATE32)
	case pq.Types.Int64:
		return oneOf(t, arrow.INT64, arrow.TIMESTAMP)
	case pq.Types.Float:
		return oneOf(t, arrow.FLOAT32)
	case pq.Types.Double:
		return oneOf(t, arrow.FLOAT64)
	default:
		return false
	}
}

func (d *numberDecoder[W]) close() {
	d.pages.close()
	d.dictionary, d.valid, d.plain, d.left = nil, nil, nil, 0
}

func (d *numberDecoder[W]) read(rows int64) (_ arrow.Array, err error) {
	buffer := memory.NewResizableBuffer(d.allocator)
	var validity *memory.Buffer
	defer func() {
		buffer.Release()
		if validity != nil {
			validity.Release()
		}
	}()
	buffer.Resize(int(rows) * int(unsafe.Sizeof(W(0))))
	values := unsafe.Slice((*W)(unsafe.Pointer(unsafe.SliceData(buffer.Bytes()))), rows)
	nulls := 0
	for at := 0; at < int(rows); {
		if d.left == 0 {
			if err := d.nextPage(); err != nil {
				if errors.Is(err, io.EOF) {
					err = fmt.Errorf("%d rows are missing", int(rows)-at)
				}
				return nil, err
			}
			continue
		}
		n := min(d.left, int(rows)-at)
		if d.nulls == 0 {
			if err := d.decode(values[at : at+n]); err != nil {
				return nil, err
			}
			if validity != nil {
				bitutil.SetBitsTo(validity.Bytes(), int64(at), int64(n), true)
			}
		} else {
			if validity == nil {
				validity = memory.NewResizableBuffer(d.allocator)
				validity.Resize(int(bitutil.BytesForBits(rows)))
				clear(validity.Bytes())
				bitutil.SetBitsTo(validity.Bytes(), 0, int64(at), true)
			}
			present := bitutil.CountSetBits(d.valid, d.row, n)
			if err := d.decode(values[at : at+present]); err != nil {
				return nil, err
			}
			spreadBits(values[at:at+n], d.valid, d.row, present)
			bitutil.CopyBitmap(d.valid, d.row, n, validity.Bytes(), at)
			nulls += n - present
		}
		d.row += n
		d.left -= n
		at += n
	}
	buffers := []*memory.Buffer{nil, buffer}
	if nulls > 0 {
		buffers[0] = validity
	}
	data := array.NewData(d.dataType, int(rows), buffers, nil, nulls, 0)
	defer data.Release()
	return array.MakeFromData(data), nil
}

// spreadBits moves the first values to the places whose bit is set, and zeroes the others.
func spreadBits[W word](values []W, valid []byte, offset, present int) {
	for i := len(values) - 1; i >= 0; i-- {
		if !bitutil.BitIsSet(valid, offset+i) {
			values[i] = 0
			continue
		}
		present--
		values[i] = values[present]
	}
}

// decode reads the next values of the page.
func (d *numberDecoder[W]) decode(out []W) error {
	if !d.isPlain {
		return lookUp(&d.numbers, d.dictionary, out)
	}
	b := bytesOf(out)
	if len(d.plain) < len(b) {
		return errShortPage
	}
	copy(b, d.plain)
	d.plain = d.plain[len(b):]
	return nil
}

// nextPage goes to the next page of values. io.EOF is the end of the chunk.
func (d *numberDecoder[W]) nextPage() error {
	h, content, err := d.pages.read()
	if err != nil {
		return err
	}
	if h.kind == dictionaryPage {
		return d.readDictionary(h, content)
	}
	d.row, d.left, d.nulls = 0, h.values, 0
	at := 0 // where the values begin
	if h.kind == dataPageV2 {
		if h.repetitionBytes > 0 {
			return errors.New("a column without lists has repetition levels")
		}
		at = h.definitionBytes
		if d.nullable {
			if err := d.readLevels(content, 0, at); err != nil {
				return err
			}
		}
	} else if d.nullable {
		if h.levelEncoding != pq.Encodings.RLE {
			return fmt.Errorf("its levels are encoded as %s, which is not supported", h.levelEncoding)
		}
		if len(content) < 4 {
			return errShortPage
		}
		size := binary.LittleEndian.Uint32(content)
		if uint64(size) > uint64(len(content)-4) {
			return errors.New("the levels of a page are longer than the page")
		}
		at = 4 + int(size)
		if err := d.readLevels(content, 4, at); err != nil {
			return err
		}
	}
	return d.startValues(h, content, at)
}

func (d *numberDecoder[W]) readLevels(content []byte, from, to int) error {
	levels, _ := newHybridReader(content[:len(content)+pageSlack], from, to, 1)
	if d.left == 0 {
		return nil
	}
	if !levels.run() {
		return errShortPage
	}
	if !levels.packed && levels.value == 1 && levels.left >= d.left { // no nulls
		return nil
	}
	if need := (d.left + 7) / 8; cap(d.valid) < need {
		if need > 8*len(content)+1<<20 { // runs make levels small, but not that small
			return errors.New("a page has more rows than its bytes can hold")
		}
		d.valid = make([]byte, need)
	}
	d.valid = d.valid[:(d.left+7)/8]
	clear(d.valid)
	ones, err := levels.bits(d.valid, d.left)
	d.nulls = d.left - ones
	return err
}

func (d *numberDecoder[W]) startValues(h pageHeader, content []byte, at int) error {
	switch h.encoding {
	case pq.Encodings.Plain:
		d.isPlain, d.plain = true, content[at:]
		return nil
	case byteStreamSplit:
		d.isPlain, d.plain = true, d.joinBytes(content[at:])
		return nil
	case pq.Encodings.RLEDict, pq.Encodings.PlainDict:
		d.isPlain = false
		if h.values == d.nulls { // there may not even be a width
			return nil
		}
		if at >= len(content) {
			return errShortPage
		}
		numbers, ok := newHybridReader(content[:len(content)+pageSlack], at+1, len(content), int(content[at]))
		if !ok {
			return fmt.Errorf("its dictionary is numbered with %d bits", content[at])
		}
		d.numbers = numbers
		return nil
	default:
		return fmt.Errorf("a page has the encoding %s, which its column does not name", h.encoding)
	}
}

// joinBytes makes plain values of some whose first bytes stand together, then their second ones, and so on.
func (d *numberDecoder[W]) joinBytes(split []byte) []byte {
	size := int(unsafe.Sizeof(W(0)))
	n := len(split) / size
	d.joined = extend(d.joined[:0], n*size, n*size)
	for k := range size {
		stream := split[k*n : (k+1)*n]
		for i, b := range stream {
			d.joined[i*size+k] = b
		}
	}
	return d.joined
}

// readDictionary keeps the dictionary, which precedes all other pages.
func (d *numberDecoder[W]) readDictionary(h pageHeader, content []byte) error {
	if h.encoding != pq.Encodings.Plain && h.encoding != pq.Encodings.PlainDict {
		return fmt.Errorf("its dictionary has the encoding %s", h.encoding)
	}
	size := int(unsafe.Sizeof(W(0)))
	if h.values > len(content)/size {
		return errors.New("its dictionary has fewer values than its header says")
	}
	d.dictionary = make([]W, h.values)
	copy(bytesOf(d.dictionary), content)
	return nil
}
