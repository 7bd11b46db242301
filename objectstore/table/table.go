// Package table writes and reads the bytes of an object: an Arrow IPC stream, with all buffers aligned at 64 bytes. Writing counts
// the exact size first and copies each buffer once, straight into its place. Reading copies nothing: arrays lie over the bytes.
package table

import (
	"github.com/apache/arrow/go/v15/arrow"

	"github.com/f708428e/engine"
)

// Encoding is a table that has been measured and is ready to be written. It holds its records until Release. It is not safe for
// concurrent use.
type Encoding struct{}

// Piece is a part of the encoded bytes: bytes that exist, or as many zeros.
type Piece struct {
	// Data is nil for zeros. It belongs to the Encoding or its records.
	Data []byte
	// Zeros is how many zero bytes there are if Data is nil.
	Zeros int
}

// Encode measures a table. Records must have the schema; there may be none. Errors are of kind engine.KindInvalidArgument and name the
// column whose type Arrow IPC cannot hold.
func Encode(schema *arrow.Schema, records ...arrow.Record) (*Encoding, error) { return nil, errStub }

// SizeBytes is the exact length of the encoded table.
func (e *Encoding) SizeBytes() int64 { return 0 }

// Rows and Batches count what the table holds.
func (e *Encoding) Rows() int64 { return 0 }

// Batches is the number of record batches.
func (e *Encoding) Batches() int64 { return 0 }

// Pieces are the encoded bytes in order.
func (e *Encoding) Pieces() []Piece { return nil }

// CopyTo writes the encoded table; dst has SizeBytes bytes.
func (e *Encoding) CopyTo(dst []byte) {}

// Release gives the records back.
func (e *Encoding) Release() {}

// Options steers Open.
type Options struct {
	// Trusted says that the bytes were written by this package in a process that is trusted: values such as the offsets of texts are
	// not looked at. Structure and bounds always are.
	Trusted bool
	// Release is called once, when the table and everything made of it has been released. May be nil.
	Release func()
}

// Table is a decoded object. Its records lie over the bytes that it was opened from, and hold them until they are released.
type Table struct{}

// Open decodes an object. data must not change while anything of the table is in use. Errors are of kind engine.KindCorrupt; whatever the
// bytes are, Open neither panics nor makes an array that reads outside of them. After an error Release is not called.
func Open(data []byte, options Options) (*Table, error) { return nil, errStub }

// Schema is the table's schema with its metadata.
func (t *Table) Schema() *arrow.Schema { return nil }

// Records are the table's record batches; they belong to the table, so whoever keeps one longer retains it.
func (t *Table) Records() []arrow.Record { return nil }

// Rows is the number of rows of all record batches.
func (t *Table) Rows() int64 { return 0 }

// Messages are the table's IPC messages in order, the schema first, for those who send them on. They lie over the bytes.
func (t *Table) Messages() []Message { return nil }

// Message is one encapsulated IPC message without its length prefix.
type Message struct {
	// Header is the message's flatbuffer, with its padding.
	Header []byte
	// Body is what follows it.
	Body []byte
}

// Retain and Release count the users of the table; the last Release gives the bytes back once no array made of it is in use.
func (t *Table) Retain() {}

// Release is the counterpart of Retain; Open counts as one.
func (t *Table) Release() {}

var errStub = engine.Errorf(engine.KindInternal, "table", "", "stub")
