// Package table writes and reads the bytes of an object: an Arrow IPC stream, with all buffers aligned at 64 bytes. Writing counts
// the exact size first and copies each buffer once, straight into its place. Reading copies nothing: arrays lie over the bytes.
//
// A stream is a message with the schema, then messages with dictionaries and record batches, then the end of the stream. Each is a
// flatbuffer with a body of buffers behind it. Written are all types that arrow/go can put into a stream, without compression. Read
// are streams of other writers too: buffers that are not aligned as Go needs it, or that are compressed, are copied, and so are
// dictionaries that come in parts. The format is https://arrow.apache.org/docs/format/Columnar.html.
package table

import (
	"sync/atomic"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/memory"

	"github.com/f708428e/engine"
)

// DefaultMaxCopyBytes is what Options.MaxCopyBytes of zero means.
const DefaultMaxCopyBytes = 1 << 30

// Options steers Open.
type Options struct {
	// Trusted says that the bytes were written by this package in a process that is trusted: values such as the offsets of texts are
	// not looked at. Structure and bounds always are.
	Trusted bool
	// MaxCopyBytes bounds the memory for what cannot lie over the bytes: buffers that are compressed or not aligned, dictionaries that
	// come in parts. Encode makes none of them. Zero means DefaultMaxCopyBytes, less than zero none.
	MaxCopyBytes int64
	// Release is called once, when the table and everything made of it has been released. May be nil. It is called by whoever
	// releases last, and must not block.
	Release func()
}

// Table is a decoded object. Its records lie over the bytes that it was opened from, and hold them until they are released. It is
// safe for concurrent use, and so are its records.
type Table struct {
	schema   *arrow.Schema
	records  []arrow.Record
	messages []Message
	rows     int64
	// memory is the bytes as the parent of all buffers over them.
	memory memory.Buffer
	users  atomic.Int64
}

// Open decodes an object. data must not change while anything of the table is in use. It must end with the end of the stream, so that
// what was cut off is noticed. Errors are of kind engine.KindCorrupt; whatever the bytes are, Open neither panics nor makes an array
// that reads outside of them. After an error Release is not called.
//
// Unless Trusted, all values that lead elsewhere are looked at: validity bitmaps and null counts, offsets, sizes, views, type codes,
// run ends, and dictionary indices; and texts are UTF-8. That takes time by the size of the object, where trusted bytes take it
// by the number of columns and batches.
func Open(data []byte, options Options) (*Table, error) {
	t := &Table{memory: *memory.NewBufferWithAllocator(data, releaser{options.Release})}
	t.users.Store(1)
	l := newLoader(data, &t.memory, options)
	defer l.recycle(false)
	if err := l.open(t); err != nil {
		// What was made is memory of Go alone, but for the bytes, which stay the caller's: nothing needs to be released.
		return nil, engine.Errorf(engine.KindCorrupt, "open table", "", "%w", err)
	}
	return t, nil
}

// Check tells whether Open would open an object, and how many rows and record batches it has. It makes no arrays, so that it takes less time
// and memory, and does not ask the constructors of extension types. options.Release is not called.
func Check(data []byte, options Options) (rows, batches int64, err error) {
	l := newLoader(data, memory.NewBufferBytes(data), options)
	defer l.recycle(true)
	if rows, batches, err = l.check(); err != nil {
		return 0, 0, engine.Errorf(engine.KindCorrupt, "check table", "", "%w", err)
	}
	return rows, batches, nil
}

// releaser is the allocator of the bytes: it allocates nothing, and frees them by telling their owner.
type releaser struct{ release func() }

// Allocate is never called: the buffer is made, and cannot grow.
func (r releaser) Allocate(int) []byte { panic("table: allocation from an object's bytes") }

// Reallocate is never called: the buffer is not mutable.
func (r releaser) Reallocate(int, []byte) []byte { panic("table: allocation from an object's bytes") }

// Free is called when the last buffer over the bytes is released.
func (r releaser) Free([]byte) {
	if r.release != nil {
		r.release()
	}
}

// Schema is the table's schema with its metadata. It holds nothing of the bytes.
func (t *Table) Schema() *arrow.Schema { return t.schema }

// Records are the table's record batches; they belong to the table, so whoever keeps one longer retains it.
func (t *Table) Records() []arrow.Record { return t.records }

// Rows is the number of rows of all record batches.
func (t *Table) Rows() int64 { return t.rows }

// Messages are the table's IPC messages in order, the schema first, for those who send them on. They lie over the bytes.
func (t *Table) Messages() []Message { return t.messages }

// Retain adds a user of the table.
func (t *Table) Retain() { t.users.Add(1) }

// Release is the counterpart of Retain; Open counts as one. The last gives the bytes back once no array made of them is in use.
func (t *Table) Release() {
	if t.users.Add(-1) != 0 {
		return
	}
	for _, record := range t.records {
		record.Release()
	}
	t.memory.Release()
}
