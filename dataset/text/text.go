// Package text is what the formats of lines share: inputs that may be compressed, line numbers for messages, and the texts of dates,
// timestamps, and floats.
package text

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/dataset"
	"github.com/f708428e/engine/dataset/storage"
)

// Input is a file that is read by offset, unpacked if its name says that it is compressed. It is not safe for concurrent use.
type Input struct {
	op   string
	info dataset.File
	file dataset.Input
	// unpacked is nil for a file that is not compressed, packing its format.
	unpacked *unpacker
	packing  packing
}

// Open opens a file that is still what it was when it was listed; op begins messages, and from may be nil for a file of this machine. A
// file that has changed is an error of kind engine.KindData; others are of kind engine.KindNotFound and engine.KindPermission, or those of
// a bucket. ctx must live until the Input is closed.
func Open(ctx context.Context, from dataset.Storage, op string, info dataset.File) (*Input, error) {
	in, err := OpenPlain(ctx, from, op, info)
	if err == nil {
		if in.packing = packingOf(info.Path); in.packing != nil {
			in.file.Expect(dataset.Range{End: info.SizeBytes})
		}
	}
	return in, err
}

// OpenPlain is Open for a file that is read as it stands, whatever its name says.
func OpenPlain(ctx context.Context, from dataset.Storage, op string, info dataset.File) (*Input, error) {
	file, err := storage.Open(ctx, from, op, info)
	if err != nil {
		return nil, err
	}
	return &Input{op: op, info: info, file: file}, nil
}

// Expect announces what will be read, see dataset.Input. Of a compressed file it does nothing: all of it is expected.
func (in *Input) Expect(ranges ...dataset.Range) {
	if in.packing == nil {
		in.file.Expect(ranges...)
	}
}

// Forget says what will not be read any more, see dataset.Input. Of a compressed file it does nothing.
func (in *Input) Forget(ranges ...dataset.Range) {
	if in.packing == nil {
		in.file.Forget(ranges...)
	}
}

// Compressed tells whether the name of a file says that it is compressed: then only a whole file can be a split.
func Compressed(path string) bool { return packingOf(path) != nil }

// Path is the file's.
func (in *Input) Path() string { return in.info.Path }

// Compressed tells whether the input is unpacked as it is read. The length of what comes out is then not known before its end.
func (in *Input) Compressed() bool { return in.packing != nil }

// ReadAt reads len(p) bytes at an offset of the text, or fewer and an error that is io.EOF at the end of the text. Of a compressed
// file, an offset before the last read's end costs as much as reading up to there again. Errors that are not io.EOF are engine.Errors
// that name the file; a compressed file that is damaged or cut off is one of kind engine.KindCorrupt, one that unpacks to far more
// than data does is one of kind engine.KindData.
func (in *Input) ReadAt(p []byte, offset int64) (int, error) {
	if in.packing == nil {
		return in.file.ReadAt(p, offset)
	}
	if in.unpacked == nil || offset < in.unpacked.offset {
		in.stop()
		var err error
		if in.unpacked, err = in.packing(in.file); err != nil {
			return 0, in.damaged(err)
		}
	}
	if err := in.unpacked.skip(offset); err != nil {
		return 0, in.readError(err)
	}
	n, err := io.ReadFull(in.unpacked, p)
	if errors.Is(err, io.ErrUnexpectedEOF) && in.unpacked.ended {
		err = io.EOF
	}
	return n, in.readError(err)
}

func (in *Input) readError(err error) error {
	var tooMuch *ratioError
	var failed *fileError
	switch {
	case err == nil, errors.Is(err, io.EOF):
		return err
	case errors.As(err, &tooMuch):
		return engine.Errorf(engine.KindData, in.op, in.info.Path, "%w", err).
			WithHint("unpack it yourself if it really holds that much")
	case errors.As(err, &failed):
		return storage.Error(in.op, in.info.Path, failed.cause)
	}
	return in.damaged(err)
}

func (in *Input) damaged(err error) error {
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return engine.Errorf(engine.KindCorrupt, in.op, in.info.Path, "the compressed file is cut off: its end is missing")
	}
	return engine.Errorf(engine.KindCorrupt, in.op, in.info.Path, "is not a whole compressed file, as its name says: %w", err)
}

// ReadBytes is how many bytes of a compressed file have been read since its beginning.
func (in *Input) ReadBytes() int64 {
	if in.unpacked == nil {
		return 0
	}
	return in.unpacked.in.read
}

// Check tells whether the file is still what it was when it was listed.
func (in *Input) Check() error { return in.file.Check() }

// Close closes the file. It may be called more than once.
func (in *Input) Close() error {
	in.stop()
	return in.file.Close()
}

func (in *Input) stop() {
	if in.unpacked != nil {
		in.unpacked.close()
		in.unpacked = nil
	}
}

// ShortRead is the error about a read that ended before it should have, at an offset.
func ShortRead(op string, info dataset.File, end int64, err error) error {
	return storage.ShortRead(op, info, end, err)
}

// shownRunes is how much of a value an error message shows.
const shownRunes = 60

// Shown is a value as error messages show it: quoted, and cut off if it is long.
func Shown(b []byte) string {
	s := string(b)
	count := 0
	for i := range s {
		if count == shownRunes {
			return fmt.Sprintf("%q", s[:i]+"…")
		}
		count++
	}
	return fmt.Sprintf("%q", s)
}

// Reason is what an error about a value of a column, or a row if that is empty, says, without where: operation, file, line, and column.
func Reason(err error, column string) string {
	var known *engine.Error
	reason := err.Error()
	if errors.As(err, &known) && known.Err != nil {
		reason = known.Err.Error()
		if known.Hint != "" {
			reason += " (" + known.Hint + ")"
		}
	}
	if _, after, ok := strings.Cut(reason, fmt.Sprintf("column %q: ", column)); ok && column != "" {
		return after
	}
	return reason
}
