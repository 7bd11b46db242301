package table

import (
	"errors"
	"fmt"
	"math"
	"sync"
	"unsafe"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/arrow/bitutil"
	"github.com/apache/arrow/go/v15/arrow/memory"
)

// maxLength is how long an array may be. Most are bounded by their buffers; those of null values and of runs are not.
const maxLength = math.MaxInt64 >> 8

// loader makes arrays of the messages of one stream. Its memory is used again.
type loader struct {
	scanner scanner
	// memory is the parent of the buffers that lie over the bytes.
	memory  *memory.Buffer
	trusted bool
	// copyBudget is how many bytes may still be copied.
	copyBudget   int64
	schema       *readSchema
	dictionaries map[int64]*loadedDictionary
	batch        batch
	zstd         zstdDecoder
	// spare, places, and datas are where the buffers of a batch, arrays' lists of them, and arrays' data are taken from: a few objects of
	// Go's heap instead of hundreds.
	spare  []memory.Buffer
	places []*memory.Buffer
	datas  []array.Data
}

var loaders = sync.Pool{New: func() any { return new(loader) }}

func newLoader(data []byte, parent *memory.Buffer, options Options) *loader {
	l := loaders.Get().(*loader)
	l.scanner.data, l.memory, l.trusted, l.copyBudget = data, parent, options.Trusted, options.MaxCopyBytes
	if l.copyBudget == 0 {
		l.copyBudget = DefaultMaxCopyBytes
	}
	return l
}

// recycle gives a loader back that refers to nothing of its stream any more. Unless what it made is needed by nobody, that is not used
// again.
func (l *loader) recycle(everything bool) {
	const most = 256
	again := loader{}
	if everything && cap(l.spare) <= most && cap(l.datas) <= most {
		clear(l.spare)
		clear(l.places)
		clear(l.datas)
		again.spare, again.places, again.datas = l.spare[:0], l.places[:0], l.datas[:0]
	}
	*l = again
	loaders.Put(l)
}

// batch is the RecordBatch that is being read. The zero batch has arrays of length zero alone, as many as are asked for.
type batch struct {
	nodes, buffers, variadic       flatVector
	nextNode, nextBuffer, nextView int
	body                           []byte
	compressed                     bool
	codec                          uint8
	version                        int16
	// empty says that it is the zero batch.
	empty bool
}

var errMore = errors.New("the schema has more arrays or buffers than the message")

// enter makes a RecordBatch table the current one and returns its number of rows.
func (l *loader) enter(t flatTable, version int16, body []byte) (rows int, err error) {
	b := batch{
		nodes: t.vector(batchNodes, 16), buffers: t.vector(batchBuffers, 16), variadic: t.vector(batchVariadic, 8),
		body: body, compressed: t.has(batchCompression), version: version,
	}
	if b.compressed {
		compression := t.table(batchCompression)
		b.codec = compression.uint8(compressionCodec, codecLZ4)
		if method := compression.uint8(compressionMethod, 0); method != 0 {
			return 0, fmt.Errorf("compression method %d cannot be read", method)
		}
		if b.codec != codecLZ4 && b.codec != codecZstd {
			return 0, fmt.Errorf("compression codec %d cannot be read: expected lz4 (0) or zstd (1)", b.codec)
		}
	}
	length := t.int64(batchLength)
	if t.flat.broken {
		return 0, errBroken
	}
	if length < 0 || length > maxLength {
		return 0, fmt.Errorf("a batch of %d rows", length)
	}
	// Buffers that overlap could make a short message cost any amount of time.
	left, filled := int64(len(body)), 0
	for i := range b.buffers.count {
		size := b.buffers.int64(2*i + 1)
		if size < 0 || size > left {
			return 0, fmt.Errorf("buffer %d has %d bytes, and together they have more than the body's %d", i, size, len(body))
		}
		left -= size
		if size > 0 {
			filled++
		}
	}
	l.batch = b
	l.spare = room(l.spare, filled)
	l.places = room(l.places, b.buffers.count)
	l.datas = room(l.datas, b.nodes.count)
	return int(length), nil
}

// room returns a slab with room for count more, or for many if it is a message alone that says that there are more.
func room[T any](slab []T, count int) []T {
	const many = 4096
	if cap(slab)-len(slab) >= min(count, many) {
		return slab
	}
	return make([]T, 0, min(count, many))
}

// data returns new data of an array. It takes over buffers and children.
func (l *loader) data(n *node, length int, buffers []*memory.Buffer, children []arrow.ArrayData, nulls int) *array.Data {
	l.datas = room(l.datas, 1)
	l.datas = l.datas[:len(l.datas)+1]
	data := &l.datas[len(l.datas)-1]
	data.Retain()
	data.Reset(n.typ, length, buffers, children, nulls, 0)
	for _, b := range buffers {
		if b != nil {
			b.Release()
		}
	}
	for _, child := range children {
		child.Release()
	}
	return data
}

// copies spends some of the budget for copies.
func (l *loader) copies(size int64) error {
	if size > l.copyBudget {
		return fmt.Errorf("%d bytes would have to be copied, and %d may be", size, max(l.copyBudget, 0))
	}
	l.copyBudget -= size
	return nil
}

// node returns the next array's length and null count.
func (l *loader) node() (length, nulls int, err error) {
	b := &l.batch
	if b.empty {
		return 0, 0, nil
	}
	if b.nextNode >= b.nodes.count {
		return 0, 0, errMore
	}
	long, null := b.nodes.int64(2*b.nextNode), b.nodes.int64(2*b.nextNode+1)
	b.nextNode++
	if long < 0 || long > maxLength || null < 0 || null > long {
		return 0, 0, fmt.Errorf("an array of %d values with %d nulls", long, null)
	}
	return int(long), int(null), nil
}

// skip passes over a buffer that is not needed.
func (l *loader) skip() error {
	if !l.batch.empty {
		if l.batch.nextBuffer >= l.batch.buffers.count {
			return errMore
		}
		l.batch.nextBuffer++
	}
	return nil
}

// span is a buffer: its bytes, and arrow's buffer over them.
type span struct {
	bytes  []byte
	buffer *memory.Buffer
}

// nothing is the buffer of no bytes. It counts no references, so that all can share it.
var nothing = memory.NewBufferBytes(nil)

// zeros stand in for the one offset that an array of length zero has, where a writer left it out.
var zeros = memory.NewBufferBytes(make([]byte, 8))

// next returns the next buffer, whose address will be a multiple of align. It has at least need bytes, or there is an error.
func (l *loader) next(need, align int) (span, error) {
	if err := l.skip(); err != nil {
		return span{}, err
	}
	b := &l.batch
	var raw []byte
	if !b.empty {
		i := b.nextBuffer - 1
		offset, size := b.buffers.int64(2*i), b.buffers.int64(2*i+1)
		if offset < 0 || offset > int64(len(b.body))-size {
			return span{}, fmt.Errorf("buffer %d is at [%d, %d) of a body of %d bytes", i, offset, offset+size, len(b.body))
		}
		raw = b.body[offset : offset+size]
	}
	compressed := b.compressed && len(raw) > 0
	if compressed {
		var err error
		if raw, compressed, err = l.decompress(raw); err != nil {
			return span{}, fmt.Errorf("buffer %d: %w", b.nextBuffer-1, err)
		}
	}
	if len(raw) < need {
		return span{}, fmt.Errorf("buffer %d has %d bytes, expected at least %d", b.nextBuffer-1, len(raw), need)
	}
	switch {
	case len(raw) == 0:
		return span{buffer: nothing}, nil
	case compressed:
		return span{raw, memory.NewBufferBytes(raw)}, nil
	case uintptr(unsafe.Pointer(unsafe.SliceData(raw)))%uintptr(align) != 0:
		if err := l.copies(int64(len(raw))); err != nil {
			return span{}, fmt.Errorf("buffer %d is not aligned at %d bytes: %w", b.nextBuffer-1, align, err)
		}
		aligned := append(make([]byte, 0, (len(raw)+7)&^7), raw...)
		return span{aligned, memory.NewBufferBytes(aligned)}, nil
	}
	start := uintptr(unsafe.Pointer(unsafe.SliceData(raw))) - uintptr(unsafe.Pointer(unsafe.SliceData(l.memory.Buf())))
	l.spare = room(l.spare, 1)
	l.spare = append(l.spare, *memory.SliceBuffer(l.memory, int(start), len(raw)))
	return span{raw, &l.spare[len(l.spare)-1]}, nil
}

// list returns an empty list with room for so many buffers.
func (l *loader) list(count int) []*memory.Buffer {
	l.places = room(l.places, count)
	at := len(l.places)
	l.places = l.places[:at+count]
	return l.places[at : at : at+count]
}

// validity returns the bitmap of an array's values that are not null, or no buffer if all are.
func (l *loader) validity(n *node, length, nulls int) (span, error) {
	if !n.hasValidity() {
		if l.batch.version < version5 && (n.layout == layoutSparse || n.layout == layoutDense) {
			// Before version 5 unions had one.
			if nulls > 0 {
				return span{}, fmt.Errorf("a union with nulls of its own, as before version 5, cannot be read")
			}
			return span{}, l.skip()
		}
		return span{}, nil
	}
	if nulls == 0 {
		return span{}, l.skip()
	}
	s, err := l.next((length+7)/8, 1)
	if err != nil {
		return span{}, fmt.Errorf("validity: %w", err)
	}
	if !l.trusted {
		if set := bitutil.CountSetBits(s.bytes, 0, length); length-set != nulls {
			return span{}, fmt.Errorf("%d nulls, and %d values that are marked as such", nulls, length-set)
		}
	}
	return s, nil
}
