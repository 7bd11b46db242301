package table

import (
	"slices"

	"github.com/apache/arrow/go/v15/arrow"

	"github.com/f708428e/engine"
)

// Encoding is a table that has been measured and is ready to be written. It holds its records until Release. It is not safe for
// concurrent use.
type Encoding struct {
	pieces        []Piece
	size          int64
	rows, batches int64
	records       []arrow.Record
}

// Piece is a part of the encoded bytes: bytes that exist, or as many zeros.
type Piece struct {
	// Data is nil for zeros. It belongs to the Encoding or its records.
	Data []byte
	// Zeros is how many zero bytes there are if Data is nil.
	Zeros int
}

// Encode measures a table. Records must have the schema; there may be none. Of a slice, what it shows is written and nothing else. A
// dictionary is written once, and again only where a record has another one. Errors are of kind engine.KindInvalidArgument and name
// the column: its type is one that Arrow IPC cannot hold, or differs from the schema's, or its array is not a valid one.
func Encode(schema *arrow.Schema, records ...arrow.Record) (*Encoding, error) {
	e := encoders.Get().(*encoder)
	defer e.recycle()
	if err := e.encode(schema, records); err != nil {
		return nil, engine.Errorf(engine.KindInvalidArgument, "encode table", "", "%w", err)
	}
	encoding := &Encoding{pieces: slices.Clone(e.pieces), size: e.size, batches: int64(len(records)), records: records}
	for _, record := range records {
		record.Retain()
		encoding.rows += record.NumRows()
	}
	return encoding, nil
}

// Join makes a stream of messages, the schema first, that came one by one, as over Arrow Flight. The messages' bytes are held, not
// copied. Only their lengths are looked at: to find out whether they are a table, write the stream and Open it. Errors are of
// kind engine.KindCorrupt.
func Join(messages []Message) (*Encoding, error) {
	e := &encoder{}
	encoding := &Encoding{}
	var metadata flat
	for i, m := range messages {
		parsed, err := parse(&metadata, m)
		if err == nil && int64(len(m.Body)) != parsed.bodyLength {
			err = errBody(parsed.bodyLength, len(m.Body))
		}
		if err != nil {
			return nil, engine.Errorf(engine.KindCorrupt, "join messages", "", "message %d: %w", i, err)
		}
		if parsed.kind == headerRecordBatch {
			rows := parsed.header.int64(batchLength)
			if rows < 0 || rows > maxLength-encoding.rows {
				return nil, engine.Errorf(engine.KindCorrupt, "join messages", "", "message %d: a batch of %d rows", i, rows)
			}
			encoding.batches++
			encoding.rows += rows
		}
		e.put(e.frame(m.Header))
		e.put(m.Body)
	}
	e.put(endOfStream)
	encoding.pieces, encoding.size = e.pieces, e.size
	return encoding, nil
}

// SizeBytes is the exact length of the encoded table.
func (e *Encoding) SizeBytes() int64 { return e.size }

// Rows is the number of rows of all record batches.
func (e *Encoding) Rows() int64 { return e.rows }

// Batches is the number of record batches.
func (e *Encoding) Batches() int64 { return e.batches }

// Pieces are the encoded bytes in order. They are the encoding's own: read them only, and not after Release.
func (e *Encoding) Pieces() []Piece { return e.pieces }

// CopyTo writes the encoded table; dst has SizeBytes bytes. Every byte is written once.
func (e *Encoding) CopyTo(dst []byte) {
	copyPiece := func(dst, src []byte) int { return copy(dst, src) }
	if e.size >= streamBytes {
		copyPiece = copyLarge
	}
	for _, piece := range e.pieces {
		if piece.Data == nil {
			clear(dst[:piece.Zeros])
			dst = dst[piece.Zeros:]
			continue
		}
		dst = dst[copyPiece(dst, piece.Data):]
	}
}

// Release gives the records back. Calling it again does nothing.
func (e *Encoding) Release() {
	for _, record := range e.records {
		record.Release()
	}
	e.records, e.pieces = nil, nil
}
