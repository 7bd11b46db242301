package parquet

import (
	"encoding/binary"
	"fmt"
	"unsafe"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/bitutil"
	"github.com/apache/arrow/go/v15/arrow/memory"
	pq "github.com/apache/arrow/go/v15/parquet"
	"github.com/apache/arrow/go/v15/parquet/compress"
	"github.com/apache/arrow/go/v15/parquet/file"
	"github.com/apache/arrow/go/v15/parquet/metadata"
)

// chunkWriter takes the values of one column of a row group, and keeps them encoded until the row group ends.
type chunkWriter interface {
	// write appends values.
	write(values arrow.Array) error
	// bytes is the size of the pages so far.
	bytes() int64
	// unpaged is the size of what is in no page yet, before it is compressed.
	unpaged() int64
	// close writes the chunk to the file.
	close() error
}

const (
	// numberedPageRows is how many rows a page has whose values are numbers of a dictionary's.
	numberedPageRows = 32 << 10
	// leastBlockBytes and mostBlockBytes bound the blocks of finished pages.
	leastBlockBytes, mostBlockBytes = 16 << 10, 1 << 20
)

// page is a finished page, compressed.
type page struct {
	bytes        []byte
	values       int
	uncompressed int
	encoding     pq.Encoding
}

// fixedChunk encodes a column chunk of numbers: by a dictionary as long as that is worth it, then plainly. It is used for the same
// column of one row group after the other, and keeps its memory.
type fixedChunk[W word] struct {
	pool     *pool
	codec    compress.Codec // nil if pages are not compressed
	level    int
	nullable bool
	// plainRows is how many rows a page of plain values has.
	plainRows int
	// pager writes into the file. It is shared by the columns, and used by close alone.
	pager func(*metadata.ColumnChunkMetaDataBuilder) (file.PageWriter, error)
	meta  *metadata.ColumnChunkMetaDataBuilder

	dictionary dictionary[W]
	// numbering says that values still go through the dictionary.
	numbering bool
	// rows, valid and nulls are those of the page in the making, of which values or numbers has those that are not null. valid has a
	// bit for every row, once there is a null.
	rows, nulls int
	valid       []byte
	values      []W
	numbers     []uint16

	scratch    []byte
	pages      []page
	blocks     [][]byte // of the pages; the last has room left
	totalBytes int64
	totalNulls int64
	extremes   extremes
}

func newFixedChunk[W word](g *flatGroups, meta *metadata.ColumnChunkMetaDataBuilder, plan columnPlan, kind pq.Type) (fixedColumn, error) {
	path := meta.Descr().Path()
	c := &fixedChunk[W]{
		pool: g.pool, level: g.properties.CompressionLevelFor(path), nullable: plan.nullable, pager: g.directPager,
		plainRows: int(g.properties.DataPageSize()) / int(unsafe.Sizeof(W(0))), extremes: extremes{kind: kind},
	}
	if compression := g.properties.CompressionFor(path); compression != compress.Codecs.Uncompressed {
		codec, err := compress.GetCodec(compression)
		if err != nil {
			return nil, err
		}
		c.codec = codec
	}
	return c, nil
}

// begin starts the chunk of another row group.
func (c *fixedChunk[W]) begin(meta *metadata.ColumnChunkMetaDataBuilder) {
	c.meta = meta
	c.dictionary.reset()
	c.numbering = true
	c.startPage()
	c.pages = c.pages[:0]
	for _, block := range c.blocks {
		c.pool.Free(block)
	}
	c.blocks = c.blocks[:0]
	c.totalBytes, c.totalNulls = 0, 0
	c.extremes = extremes{kind: c.extremes.kind}
}

func (c *fixedChunk[W]) startPage() {
	c.rows, c.nulls, c.values, c.numbers = 0, 0, c.values[:0], c.numbers[:0]
}

func (c *fixedChunk[W]) bytes() int64 { return c.totalBytes }

func (c *fixedChunk[W]) unpaged() int64 {
	width := int(unsafe.Sizeof(W(0)))
	return int64((len(c.values)+c.dictionary.size())*width + len(c.numbers)*bitWidth(c.dictionary.size())/8)
}

func (c *fixedChunk[W]) write(values arrow.Array) error {
	data := values.Data()
	n, offset := data.Len(), data.Offset()
	if n == 0 {
		return nil
	}
	raw := wordsOf[W](data)
	if len(raw) != n {
		return fmt.Errorf("%s does not have %d bytes a value", values.DataType(), unsafe.Sizeof(W(0)))
	}
	var validity []byte
	if values.NullN() > 0 {
		validity = values.NullBitmapBytes()
	}
	for from := 0; from < n; {
		if c.rows >= c.pageRows() { // an abandoned dictionary's page may have more
			c.finishPage()
		}
		rows := min(n-from, c.pageRows()-c.rows)
		if validity == nil {
			c.addLevels(nil, 0, rows, 0)
			c.add(raw[from : from+rows])
		} else {
			nulls := rows - bitutil.CountSetBits(validity, offset+from, rows)
			c.addLevels(validity, offset+from, rows, nulls)
			for _, run := range validRuns(validity, offset+from, rows) {
				c.add(raw[from+run[0] : from+run[1]])
			}
		}
		from += rows
	}
	return nil
}

func (c *fixedChunk[W]) pageRows() int {
	if c.numbering {
		return numberedPageRows
	}
	return c.plainRows
}

// wordsOf views an array's values.
func wordsOf[W word](data arrow.ArrayData) []W {
	b := data.Buffers()[1].Bytes()
	size := int(unsafe.Sizeof(W(0)))
	if len(b) < (data.Offset()+data.Len())*size {
		return nil
	}
	return unsafe.Slice((*W)(unsafe.Pointer(unsafe.SliceData(b))), len(b)/size)[data.Offset() : data.Offset()+data.Len()]
}

// validRuns returns the ranges of rows that are not null.
func validRuns(validity []byte, offset, rows int) [][2]int {
	var runs [][2]int
	for i := 0; i < rows; i++ {
		if !bitutil.BitIsSet(validity, offset+i) {
			continue
		}
		from := i
		for i < rows && bitutil.BitIsSet(validity, offset+i) {
			i++
		}
		runs = append(runs, [2]int{from, i})
	}
	return runs
}

// addLevels notes which of the next rows of the page are null.
func (c *fixedChunk[W]) addLevels(validity []byte, offset, rows, nulls int) {
	if !c.nullable {
		c.rows += rows
		return
	}
	if nulls > 0 && c.nulls == 0 {
		if c.valid == nil {
			c.valid = make([]byte, numberedPageRows/8)
		}
		bitutil.SetBitsTo(c.valid, 0, int64(c.rows), true)
	}
	if nulls > 0 {
		bitutil.CopyBitmap(validity, offset, rows, c.valid, c.rows)
	} else if c.nulls > 0 {
		bitutil.SetBitsTo(c.valid, int64(c.rows), int64(rows), true)
	}
	c.nulls += nulls
	c.rows += rows
}

// add appends values that are not null to the page.
func (c *fixedChunk[W]) add(values []W) {
	if c.numbering {
		at := len(c.numbers)
		c.numbers = extend(c.numbers, len(values), numberedPageRows)
		done := c.dictionary.number(values, c.numbers[at:])
		if done == len(values) {
			return
		}
		c.numbers = c.numbers[:at+done]
		c.abandon()
		values = values[done:]
	}
	at := len(c.values)
	c.values = extend(c.values, len(values), c.plainRows)
	copy(c.values[at:], values)
}

// abandon gives up on the dictionary. What the page in the making has is written plainly; if it is all there is, nothing of the
// dictionary remains.
func (c *fixedChunk[W]) abandon() {
	c.numbering = false
	known := c.dictionary.distinct()
	c.values = extend(c.values[:0], len(c.numbers), c.plainRows)
	for i, number := range c.numbers {
		c.values[i] = known[number]
	}
	c.numbers = c.numbers[:0]
	if len(c.pages) == 0 {
		c.dictionary.reset()
	}
}

func extend[T any](s []T, n, usual int) []T {
	if len(s)+n <= cap(s) {
		return s[:len(s)+n]
	}
	larger := make([]T, len(s)+n, max(len(s)+n, min(usual, 2*cap(s))))
	copy(larger, s)
	return larger
}

// finishPage encodes and compresses the page in the making.
func (c *fixedChunk[W]) finishPage() {
	if c.rows == 0 {
		return
	}
	b := c.appendLevels(c.scratch[:0])
	encoding := pq.Encodings.Plain
	if c.numbering {
		encoding = pq.Encodings.RLEDict
		width := bitWidth(c.dictionary.size())
		if need := len(b) + 1 + hybridBound(len(c.numbers), width); cap(b) < need {
			b = append(make([]byte, 0, need), b...)
		}
		b = append(b, byte(width))
		b = appendHybrid(b, c.numbers, width)
	} else {
		b = append(b, bytesOf(c.values)...)
		c.note(c.values)
	}
	c.scratch = b
	c.pages = append(c.pages, page{bytes: c.keep(b), values: c.rows, uncompressed: len(b), encoding: encoding})
	c.totalBytes += int64(len(c.pages[len(c.pages)-1].bytes))
	c.totalNulls += int64(c.nulls)
	c.startPage()
}

// appendLevels encodes which rows of the page are null: in runs of bits, like those of appendHybrid.
func (c *fixedChunk[W]) appendLevels(b []byte) []byte {
	if !c.nullable {
		return b
	}
	b = append(b, 0, 0, 0, 0)
	switch c.nulls {
	case 0, c.rows:
		b = binary.AppendUvarint(b, uint64(c.rows)<<1)
		level := byte(1)
		if c.nulls > 0 {
			level = 0
		}
		b = append(b, level)
	default:
		groups := (c.rows + 7) / 8
		b = binary.AppendUvarint(b, uint64(groups)<<1|1)
		b = append(b, c.valid[:groups]...)
		if rest := c.rows % 8; rest > 0 {
			b[len(b)-1] &= 1<<rest - 1
		}
	}
	binary.LittleEndian.PutUint32(b, uint32(len(b)-4))
	return b
}

func (c *fixedChunk[W]) note(values []W) {
	if len(values) > 0 {
		c.extremes.add(unsafe.Pointer(unsafe.SliceData(values)), len(values))
	}
}

func bytesOf[W word](values []W) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(values))), len(values)*int(unsafe.Sizeof(W(0))))
}

// keep compresses a page into memory that lasts until the chunk is written.
func (c *fixedChunk[W]) keep(b []byte) []byte {
	need := len(b)
	if c.codec != nil {
		need = int(c.codec.CompressBound(int64(len(b))))
	}
	room := c.room(need)
	var out []byte
	if c.codec == nil {
		out = room[:len(b)]
		copy(out, b)
	} else {
		out = c.codec.EncodeLevel(room, b, c.level)
	}
	if len(out) > 0 && &out[0] == &room[:1][0] { // a codec that needs more than it said has taken memory of its own
		last := &c.blocks[len(c.blocks)-1]
		*last = (*last)[:len(*last)+len(out)]
	}
	return out
}

// room returns an empty slice with as much capacity, which is the rest of the last block.
func (c *fixedChunk[W]) room(need int) []byte {
	if n := len(c.blocks); n > 0 {
		last := c.blocks[n-1]
		if cap(last)-len(last) >= need {
			return last[len(last) : len(last) : len(last)+need]
		}
	}
	size := leastBlockBytes
	if n := len(c.blocks); n > 0 {
		size = min(2*cap(c.blocks[n-1]), mostBlockBytes)
	}
	block := c.pool.Allocate(max(size, need))[:0]
	c.blocks = append(c.blocks, block)
	return block[:0:need]
}

// close writes the chunk to the file.
func (c *fixedChunk[W]) close() error {
	if c.numbering && len(c.pages) == 0 && 2*c.dictionary.size() > len(c.numbers) {
		c.abandon()
	}
	c.finishPage()
	pager, err := c.pager(c.meta)
	if err != nil {
		return err
	}
	known := c.dictionary.distinct()
	c.note(known)
	numbered, plain, rows := false, false, 0
	for _, p := range c.pages {
		numbered = numbered || p.encoding == pq.Encodings.RLEDict
		plain = plain || p.encoding == pq.Encodings.Plain
		rows += p.values
	}
	if numbered { // be it empty: all values may be null
		dictionary := file.NewDictionaryPage(memory.NewBufferBytes(bytesOf(known)), int32(len(known)), pq.Encodings.Plain)
		_, err := pager.WriteDictionaryPage(dictionary)
		dictionary.Release()
		if err != nil {
			return err
		}
	}
	for _, p := range c.pages {
		data := file.NewDataPageV1(memory.NewBufferBytes(p.bytes), int32(p.values), p.encoding, pq.Encodings.RLE, pq.Encodings.RLE, int32(p.uncompressed))
		_, err := pager.WriteDataPage(data)
		data.Release()
		if err != nil {
			return err
		}
	}
	if rows > 0 {
		c.meta.SetStats(c.extremes.encode(c.totalNulls))
	}
	return pager.Close(numbered, numbered && plain)
}
