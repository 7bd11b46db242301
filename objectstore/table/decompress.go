package table

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

// maxRatio is how much larger than its compressed bytes a buffer can be: zstd's shortest block is 4 bytes for 128 KiB. It keeps a
// few bytes from asking for all the memory that may be copied.
const maxRatio = 1 << 15

// decompress returns what a buffer of a compressed batch holds; copied is false if it turned out not to be compressed.
func (l *loader) decompress(raw []byte) (content []byte, copied bool, err error) {
	if len(raw) < 8 {
		return nil, false, fmt.Errorf("a compressed buffer of %d bytes, expected its length in 8", len(raw))
	}
	size := int64(binary.LittleEndian.Uint64(raw))
	raw = raw[8:]
	if size == -1 {
		return raw, false, nil
	}
	if size < 0 || size/maxRatio > int64(len(raw)) {
		return nil, false, fmt.Errorf("%d bytes that are said to be %d when decompressed", len(raw), size)
	}
	if err := l.copies(size); err != nil {
		return nil, false, err
	}
	// The decoders are others' work, and so are the bytes.
	defer func() {
		if cause := recover(); cause != nil {
			content, err = nil, fmt.Errorf("decompress %d bytes: %v", len(raw), cause)
		}
	}()
	if l.batch.codec == codecZstd {
		content, err = l.zstd.decode(raw, int(size))
	} else {
		content = make([]byte, size)
		_, err = io.ReadFull(lz4.NewReader(bytes.NewReader(raw)), content)
	}
	if err != nil {
		return nil, false, fmt.Errorf("decompress %d bytes: %w", len(raw), err)
	}
	if int64(len(content)) != size {
		return nil, false, fmt.Errorf("%d bytes after decompression, expected %d", len(content), size)
	}
	return content, true, nil
}

// zstdDecoder makes its decoder when it is first needed. It starts no goroutine, so that it needs no end.
type zstdDecoder struct{ decoder *zstd.Decoder }

func (z *zstdDecoder) decode(raw []byte, size int) ([]byte, error) {
	if z.decoder == nil {
		// With the limit to the capacity, a frame that holds more than it should is an error and no memory.
		decoder, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecodeAllCapLimit(true))
		if err != nil {
			return nil, err
		}
		z.decoder = decoder
	}
	return z.decoder.DecodeAll(raw, make([]byte, 0, size))
}
