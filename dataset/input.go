package dataset

import (
	"context"
	"io"
)

// Storage opens inputs. It is safe for concurrent use. Package dataset/storage has what formats need to use one, and the one that reads
// from buckets.
type Storage interface {
	// Open opens a file; op begins the messages of its errors. It may send no request yet: whether the file is there, and still what it
	// was, shows with the first read at the latest. ctx must live until the Input is closed.
	Open(ctx context.Context, op string, file File) (Input, error)
}

// Input is an open file. Its methods may be called concurrently; Close comes last.
//
// Reading gives the bytes of the version that was listed, or an error of kind engine.KindData that says that the file has changed or
// vanished. All errors but io.EOF are engine.Errors that name the file.
type Input interface {
	io.ReaderAt
	// Expect announces ranges that will be read, each from its beginning to its end and about in this order, so that they can be on
	// their way before; they follow those announced earlier. Others may be read too. It does not block.
	Expect(ranges ...Range)
	// Forget says that what was announced of ranges will not be read any more.
	Forget(ranges ...Range)
	// Check tells whether the file is still what it was when it was listed, if reading would not.
	Check() error
	// Close ends the reading. It may be called more than once.
	Close() error
}

// Range is a range of a file in bytes, the end excluded.
type Range struct{ Start, End int64 }
