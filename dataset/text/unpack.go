package text

import (
	"bufio"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

const (
	// maxRatio bounds how much larger than the file the text may be, once ratioFreeBytes have come out. Logs of nothing but equal
	// lines come to some hundreds.
	maxRatio       = 1000
	ratioFreeBytes = 256 << 20
	// maxWindowBytes bounds the memory of a zstd file: what zstd --long makes by default.
	maxWindowBytes = 128 << 20

	packedBufferBytes = 128 << 10
)

// packing makes an unpacker of a file, which begins at its first byte.
type packing func(file io.ReaderAt) (*unpacker, error)

// packingOf returns what unpacks a file of that name, or nil.
func packingOf(path string) packing {
	switch strings.ToLower(filepath.Ext(path)) {
	case ".gz":
		return newGzip
	case ".zst", ".zstd":
		return newZstd
	}
	return nil
}

// unpacker reads a compressed file from its beginning. Nothing of it runs by itself.
type unpacker struct {
	in     *packedReader
	out    io.Reader
	close  func()
	offset int64 // of the next byte that comes out
	ended  bool
}

func newGzip(file io.ReaderAt) (*unpacker, error) {
	in := &packedReader{file: file}
	out, err := gzip.NewReader(bufio.NewReaderSize(in, packedBufferBytes))
	if err != nil {
		if in.read == 0 {
			return nil, io.ErrUnexpectedEOF
		}
		return nil, in.or(err)
	}
	return &unpacker{in: in, out: out, close: func() { _ = out.Close() }}, nil
}

func newZstd(file io.ReaderAt) (*unpacker, error) {
	in := &packedReader{file: file}
	out, err := zstd.NewReader(in, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxWindowBytes))
	if err != nil {
		return nil, in.or(err)
	}
	return &unpacker{in: in, out: out, close: out.Close}, nil
}

// packedReader reads a file from its beginning, and remembers when that failed: what unpacks does not always say.
type packedReader struct {
	file   io.ReaderAt
	read   int64
	failed error
}

func (r *packedReader) Read(p []byte) (int, error) {
	n, err := r.file.ReadAt(p, r.read)
	r.read += int64(n)
	if n > 0 {
		return n, nil
	}
	if err != nil && err != io.EOF {
		r.failed = err
	}
	return n, err
}

// or returns why the file could not be read, if that is why, or else err.
func (r *packedReader) or(err error) error {
	if r.failed != nil {
		return &fileError{r.failed}
	}
	return err
}

// fileError says that the file could not be read.
type fileError struct{ cause error }

func (e *fileError) Error() string { return e.cause.Error() }

// ratioError says that a file unpacks to too much.
type ratioError struct{ packed, text int64 }

func (e *ratioError) Error() string {
	return fmt.Sprintf("the compressed file unpacks to over %d times its size: %d bytes of it to %d", int64(maxRatio), e.packed, e.text)
}

// Read returns io.EOF at the end of the text alone.
func (u *unpacker) Read(p []byte) (int, error) {
	n, err := u.out.Read(p)
	u.offset += int64(n)
	switch {
	case err == io.EOF: //nolint:errorlint // This is how a reader says that it has come to its end; a wrapped one is a damage.
		u.ended = true
	case err != nil:
		err = u.in.or(err)
	case u.offset > ratioFreeBytes && u.offset/maxRatio > u.in.read:
		err = &ratioError{u.in.read, u.offset}
	}
	return n, err
}

// skip reads up to an offset, or to the end.
func (u *unpacker) skip(offset int64) error {
	if u.offset >= offset {
		return nil
	}
	_, err := io.CopyN(io.Discard, u, offset-u.offset)
	return err
}
