package text

import (
	"io"
	"slices"
	"strings"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/f708428e/engine"
)

// Compression says how a text that is written is compressed. The zero value means not at all.
type Compression string

// The compressions.
const (
	Plain Compression = ""
	Gzip  Compression = "gzip"
	Zstd  Compression = "zstd"
)

// Compressions are the names that ParseCompression understands.
var Compressions = []string{"none", string(Gzip), string(Zstd)}

// ParseCompression returns the compression of a name; the empty name is Plain, as "none" is.
func ParseCompression(name string) (Compression, error) {
	switch {
	case name == "" || name == "none":
		return Plain, nil
	case slices.Contains(Compressions, name):
		return Compression(name), nil
	}
	return Plain, engine.Errorf(engine.KindInvalidArgument, "", "compression", "%q is not a compression: use %s", name, strings.Join(Compressions, ", "))
}

// Extension is what the names of such files end in: "", ".gz", or ".zst".
func (c Compression) Extension() string {
	switch c {
	case Gzip:
		return ".gz"
	case Zstd:
		return ".zst"
	default:
		return ""
	}
}

// zstdWindowBytes keeps small what an encoder holds, since a task may write many files at a time.
const zstdWindowBytes = 512 << 10

// packer returns what compresses into out; nil for Plain. It runs nothing by itself, and Close ends the file, not out.
func (c Compression) packer(out io.Writer) (io.WriteCloser, error) {
	switch c {
	case Gzip:
		return gzip.NewWriter(out), nil
	case Zstd:
		return zstd.NewWriter(out, zstd.WithEncoderConcurrency(1), zstd.WithLowerEncoderMem(true), zstd.WithWindowSize(zstdWindowBytes))
	default:
		return nil, nil //nolint:nilnil // There is none, which is no error.
	}
}
