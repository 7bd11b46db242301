package table

import (
	"errors"
	"fmt"
	"math"
	"unsafe"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/arrow/bitutil"
	"github.com/apache/arrow/go/v15/arrow/memory"
)

// maxLength is how long an array may be. Most are bounded by their buffers; those of null values and of runs are not.
const maxLength = math.MaxInt64 >> 8

// loader makes arrays of the messages of one stream.
type loader struct {
	// memory is the parent of the buffers that lie over the bytes.
	memory  *memory.Buffer
	trusted bool
	// copyBudget is how many bytes may still be copied.
	copyBudget   int64
	dictionaries map[int64]*loadedDictionary
	batch        batch
	zstd         zstdDecoder
	// spare and places are where the buffers of a batch, and arrays' lists of them, are taken from: a few objects of Go's heap
	// instead of hundreds.
	spare  []memory.Buffer
	places []*memory.Buffer
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

// loadedDictionary is the state of one dictionary as the stream goes on.
type loadedDictionary struct {
	values *node
	// parts are the dictionary and the deltas since; they are made one when an array asks for it.
	parts []*array.Data
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
	left := int64(len(body))
	for i := range b.buffers.count {
		size := b.buffers.int64(2*i + 1)
		if size < 0 || size > left {
			return 0, fmt.Errorf("buffer %d has %d bytes, and together they have more than the body's %d", i, size, len(body))
		}
		left -= size
	}
	l.batch = b
	l.spare = make([]memory.Buffer, 0, b.buffers.count)
	l.places = make([]*memory.Buffer, 0, b.buffers.count+b.nodes.count)
	return int(length), nil
}

// record makes a record of a message.
func (l *loader) record(schema *arrow.Schema, nodes []*node, p parsed, body []byte) (arrow.Record, error) {
	rows, err := l.enter(p.header, p.version, body)
	if err != nil {
		return nil, err
	}
	columns := make([]arrow.Array, len(nodes))
	for i, n := range nodes {
		data, err := l.load(n)
		if err == nil && data.Len() != rows {
			err = fmt.Errorf("%d values in a batch of %d rows", data.Len(), rows)
		}
		if err == nil {
			columns[i], err = makeArray(n, data)
		}
		if err != nil {
			return nil, fmt.Errorf("column %q: %w", schema.Field(i).Name, err)
		}
	}
	return newRecord(schema, columns, int64(rows)), nil
}

// makeArray makes an array of its data, which it releases.
func makeArray(n *node, data *array.Data) (made arrow.Array, err error) {
	if n.typ.ID() == arrow.EXTENSION {
		// The constructor of a type that is not ours may refuse what it finds.
		defer func() {
			if cause := recover(); cause != nil {
				err = fmt.Errorf("extension type %q: %v", n.typ.(arrow.ExtensionType).ExtensionName(), cause)
			}
		}()
	}
	made = array.MakeFromData(data)
	data.Release()
	if n.encoded {
		touch(made)
	}
	return made, nil
}

// touch makes the dictionaries of an array's dictionary arrays, which arrow/go otherwise makes at first use, without a lock: two
// readers at a time would race, and one's reference would stay for ever.
func touch(made arrow.Array) {
	switch a := made.(type) {
	case *array.Dictionary:
		touch(a.Dictionary())
	case array.ExtensionArray:
		touch(a.Storage())
	case *array.Struct:
		for i := range a.NumField() {
			touch(a.Field(i))
		}
	case *array.Map:
		touch(a.ListValues())
		touch(a.Keys())
		touch(a.Items())
	case array.ListLike:
		touch(a.ListValues())
	case array.Union:
		for i := range a.NumFields() {
			touch(a.Field(i))
		}
	case *array.RunEndEncoded:
		touch(a.Values())
	}
}

// dictionary takes up a dictionary or a part of one.
func (l *loader) dictionary(p parsed, body []byte) error {
	id := p.header.int64(dictionaryID)
	delta := p.header.bool(dictionaryDelta)
	table := p.header.table(dictionaryData)
	if table.flat.broken {
		return errBroken
	}
	known, ok := l.dictionaries[id]
	if !ok {
		return fmt.Errorf("dictionary %d, which no column has", id)
	}
	rows, err := l.enter(table, p.version, body)
	if err != nil {
		return fmt.Errorf("dictionary %d: %w", id, err)
	}
	data, err := l.load(known.values)
	if err == nil && data.Len() != rows {
		err = fmt.Errorf("%d values in a batch of %d rows", data.Len(), rows)
	}
	if err != nil {
		return fmt.Errorf("dictionary %d: %w", id, err)
	}
	if !delta {
		known.release()
	}
	known.parts = append(known.parts, data)
	return nil
}

func (d *loadedDictionary) release() {
	for _, part := range d.parts {
		part.Release()
	}
	d.parts = nil
}

// finish releases what arrays have not taken.
func (l *loader) finish() {
	for _, known := range l.dictionaries {
		known.release()
	}
}

// resolve returns a dictionary as it is at this point of the stream; it stays the loader's.
func (l *loader) resolve(id int64) (*array.Data, error) {
	known := l.dictionaries[id]
	switch len(known.parts) {
	case 0:
		// A writer may leave out the dictionary of a column that has nothing but nulls.
		current := l.batch
		l.batch = batch{empty: true, version: version5}
		empty, err := l.load(known.values)
		l.batch = current
		if err != nil {
			return nil, err
		}
		known.parts = []*array.Data{empty}
	case 1:
	default:
		joined, err := l.join(known.parts)
		if err != nil {
			return nil, fmt.Errorf("dictionary %d in %d parts: %w", id, len(known.parts), err)
		}
		known.release()
		known.parts = []*array.Data{joined}
	}
	return known.parts[0], nil
}

// join makes one array of several.
func (l *loader) join(parts []*array.Data) (joined *array.Data, err error) {
	var size int64
	arrays := make([]arrow.Array, len(parts))
	// arrow/go's concatenation was not made for data of others.
	defer func() {
		if cause := recover(); cause != nil {
			joined, err = nil, fmt.Errorf("%v", cause)
		}
		for _, a := range arrays {
			if a != nil {
				a.Release()
			}
		}
	}()
	for i, part := range parts {
		size += sizeOf(part)
		arrays[i] = array.MakeFromData(part)
	}
	if err := l.copies(size); err != nil {
		return nil, err
	}
	whole, err := array.Concatenate(arrays, memory.DefaultAllocator)
	if err != nil {
		return nil, err
	}
	defer whole.Release()
	whole.NullN()
	data := whole.Data().(*array.Data)
	data.Retain()
	return data, nil
}

func sizeOf(data arrow.ArrayData) (size int64) {
	for _, b := range data.Buffers() {
		if b != nil {
			size += int64(b.Len())
		}
	}
	for _, child := range data.Children() {
		size += sizeOf(child)
	}
	return size
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
	if len(l.spare) == cap(l.spare) {
		l.spare = make([]memory.Buffer, 0, 1)
	}
	l.spare = append(l.spare, *memory.SliceBuffer(l.memory, int(start), len(raw)))
	return span{raw, &l.spare[len(l.spare)-1]}, nil
}

// list returns an empty list with room for so many buffers.
func (l *loader) list(room int) []*memory.Buffer {
	if cap(l.places)-len(l.places) < room {
		l.places = make([]*memory.Buffer, 0, room)
	}
	at := len(l.places)
	l.places = l.places[:at+room]
	return l.places[at : at : at+room]
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
