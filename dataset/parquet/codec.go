package parquet

import (
	"strings"
	_ "unsafe" // for go:linkname

	"github.com/apache/arrow/go/v15/parquet/compress"
	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"

	"github.com/f708428e/engine"
)

// arrowCodecs is arrow's table of codecs. Arrow v15 has no function that adds to it, and we need to: its snappy allocates and
// clears a buffer for every page and has half the speed of s2's, which writes the same format; its zstd makes a new encoder
// for every page; LZ4_RAW is missing; and all its decoders panic on damaged pages, partly in goroutines where nobody can
// recover. Our codecs return nothing then, which arrow reports as a page of the wrong length.
//
//go:linkname arrowCodecs github.com/apache/arrow/go/v15/parquet/compress.codecs
var arrowCodecs map[compress.Compression]compress.Codec

// lz4Raw is the codec LZ4_RAW of the Parquet format: LZ4 blocks without a frame.
const lz4Raw compress.Compression = 7

func init() {
	for name, codec := range arrowCodecs {
		arrowCodecs[name] = safeCodec{codec}
	}
	arrowCodecs[compress.Codecs.Snappy] = newSnappyCodec(arrowCodecs[compress.Codecs.Snappy])
	arrowCodecs[lz4Raw] = newLZ4Codec(arrowCodecs[compress.Codecs.Uncompressed])
	if codec, err := newZstdCodec(arrowCodecs[compress.Codecs.Zstd]); err == nil {
		arrowCodecs[compress.Codecs.Zstd] = codec
	}
}

// compressions holds the names that the job file knows.
var compressions = map[string]compress.Compression{
	"":       compress.Codecs.Snappy,
	"snappy": compress.Codecs.Snappy,
	"zstd":   compress.Codecs.Zstd,
	"gzip":   compress.Codecs.Gzip,
	"lz4":    lz4Raw,
	"brotli": compress.Codecs.Brotli,
	"none":   compress.Codecs.Uncompressed,
}

func parseCompression(name string) (compress.Compression, error) {
	if codec, ok := compressions[strings.ToLower(name)]; ok {
		return codec, nil
	}
	return 0, engine.Errorf(engine.KindInvalidArgument, "parquet sink", "compression",
		"%q is not a compression: use snappy, zstd, gzip, lz4, brotli, or none", name)
}

// safeCodec makes arrow's codec do without panics and needless allocations.
type safeCodec struct{ compress.Codec }

// Decode returns nothing instead of panicking.
func (c safeCodec) Decode(dst, src []byte) (out []byte) {
	defer func() {
		if recover() != nil {
			out = nil
		}
	}()
	return c.Codec.Decode(dst, src)
}

// EncodeLevel is given an empty slice by arrow, whose capacity is what CompressBound asked for.
func (c safeCodec) EncodeLevel(dst, src []byte, level int) []byte {
	return c.Codec.EncodeLevel(dst[:cap(dst)], src, level)
}

// blockCodec is a codec of ours. The embedded one is there for streams, which arrow uses nowhere in Parquet.
type blockCodec struct {
	compress.Codec
	// bound is the largest size of so many bytes when compressed.
	bound func(size int) int
	// encode compresses into dst, which has the capacity that bound asks for.
	encode func(dst, src []byte) []byte
	// decode decompresses into dst, which has the length that the result must have.
	decode func(dst, src []byte) ([]byte, error)
}

// CompressBound returns the largest size of so many bytes when compressed.
func (c blockCodec) CompressBound(size int64) int64 { return int64(c.bound(int(size))) }

// Encode compresses a block.
func (c blockCodec) Encode(dst, src []byte) []byte {
	if bound := c.bound(len(src)); cap(dst) < bound {
		dst = make([]byte, bound)
	}
	return c.encode(dst[:0], src)
}

// EncodeLevel ignores the level.
func (c blockCodec) EncodeLevel(dst, src []byte, _ int) []byte { return c.Encode(dst, src) }

// Decode returns nothing for a damaged block.
func (c blockCodec) Decode(dst, src []byte) []byte {
	out, err := c.decode(dst, src)
	if err != nil {
		return nil
	}
	return out
}

func newSnappyCodec(streams compress.Codec) blockCodec {
	return blockCodec{
		Codec:  streams,
		bound:  s2.MaxEncodedLen,
		encode: s2.EncodeSnappy,
		decode: func(dst, src []byte) ([]byte, error) {
			if n, err := s2.DecodedLen(src); err != nil || n != len(dst) {
				return nil, s2.ErrCorrupt // do not allocate by its word
			}
			return s2.Decode(dst, src)
		},
	}
}

func newLZ4Codec(streams compress.Codec) blockCodec {
	return blockCodec{
		Codec: streams,
		bound: lz4.CompressBlockBound,
		encode: func(dst, src []byte) []byte {
			var compressor lz4.Compressor
			n, err := compressor.CompressBlock(src, dst[:lz4.CompressBlockBound(len(src))])
			if err != nil {
				panic(err) // the buffer is as large as it has to be, so there is no way to fail
			}
			return dst[:n]
		},
		decode: func(dst, src []byte) ([]byte, error) {
			n, err := lz4.UncompressBlock(src, dst)
			return dst[:max(n, 0)], err
		},
	}
}

func newZstdCodec(streams compress.Codec) (blockCodec, error) {
	// Level 1, as in most writers of Parquet.
	encoder, err := zstd.NewWriter(nil, zstd.WithZeroFrames(true), zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderCRC(false))
	if err != nil {
		return blockCodec{}, err
	}
	decoder, err := zstd.NewReader(nil, zstd.WithDecodeAllCapLimit(true))
	if err != nil {
		return blockCodec{}, err
	}
	return blockCodec{
		Codec:  streams,
		bound:  func(size int) int { return size + size>>8 + 64 },
		encode: func(dst, src []byte) []byte { return encoder.EncodeAll(src, dst) },
		decode: func(dst, src []byte) ([]byte, error) { return decoder.DecodeAll(src, dst[:0:len(dst)]) },
	}, nil
}
