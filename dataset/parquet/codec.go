package parquet

import (
	"io"
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
	arrowCodecs[compress.Codecs.Snappy] = snappyCodec{arrowCodecs[compress.Codecs.Snappy]}
	arrowCodecs[lz4Raw] = lz4Codec{arrowCodecs[compress.Codecs.Uncompressed]}
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

// safeCodec turns the panics of a decoder into an empty result.
type safeCodec struct{ compress.Codec }

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

type snappyCodec struct{ compress.Codec }

func (snappyCodec) Encode(dst, src []byte) []byte             { return s2.EncodeSnappy(dst, src) }
func (snappyCodec) EncodeLevel(dst, src []byte, _ int) []byte { return s2.EncodeSnappy(dst, src) }
func (snappyCodec) CompressBound(n int64) int64               { return int64(s2.MaxEncodedLen(int(n))) }

func (snappyCodec) Decode(dst, src []byte) []byte {
	if n, err := s2.DecodedLen(src); err != nil || n != len(dst) {
		return nil
	}
	out, err := s2.Decode(dst, src)
	if err != nil {
		return nil
	}
	return out
}

type lz4Codec struct{ compress.Codec }

func (lz4Codec) Encode(dst, src []byte) []byte { return lz4Codec{}.EncodeLevel(dst, src, 0) }

func (lz4Codec) EncodeLevel(dst, src []byte, _ int) []byte {
	bound := lz4.CompressBlockBound(len(src))
	if cap(dst) < bound {
		dst = make([]byte, bound)
	}
	var compressor lz4.Compressor
	n, err := compressor.CompressBlock(src, dst[:bound])
	if err != nil {
		panic(err) // the buffer has the bound's size, so there is no way to fail
	}
	return dst[:n]
}

func (lz4Codec) CompressBound(n int64) int64 { return int64(lz4.CompressBlockBound(int(n))) }

func (lz4Codec) Decode(dst, src []byte) []byte {
	n, err := lz4.UncompressBlock(src, dst)
	if err != nil {
		return nil
	}
	return dst[:n]
}

// Arrow uses streams nowhere in Parquet.
func (lz4Codec) NewReader(r io.Reader) io.ReadCloser  { return io.NopCloser(lz4.NewReader(r)) }
func (lz4Codec) NewWriter(w io.Writer) io.WriteCloser { return lz4.NewWriter(w) }
func (lz4Codec) NewWriterLevel(w io.Writer, _ int) (io.WriteCloser, error) {
	return lz4.NewWriter(w), nil
}

type zstdCodec struct {
	compress.Codec
	encoder *zstd.Encoder
	decoder *zstd.Decoder
}

func newZstdCodec(fallback compress.Codec) (zstdCodec, error) {
	// Level 1 as in most writers of Parquet: level 3 halves the speed for one per cent.
	encoder, err := zstd.NewWriter(nil, zstd.WithZeroFrames(true), zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderCRC(false))
	if err != nil {
		return zstdCodec{}, err
	}
	decoder, err := zstd.NewReader(nil, zstd.WithDecodeAllCapLimit(true))
	if err != nil {
		return zstdCodec{}, err
	}
	return zstdCodec{Codec: fallback, encoder: encoder, decoder: decoder}, nil
}

func (c zstdCodec) Encode(dst, src []byte) []byte { return c.encoder.EncodeAll(src, dst[:0]) }
func (c zstdCodec) EncodeLevel(dst, src []byte, _ int) []byte {
	return c.encoder.EncodeAll(src, dst[:0])
}
func (c zstdCodec) CompressBound(n int64) int64 { return n + n>>8 + 64 }

func (c zstdCodec) Decode(dst, src []byte) []byte {
	out, err := c.decoder.DecodeAll(src, dst[:0:len(dst)])
	if err != nil {
		return nil
	}
	return out
}
