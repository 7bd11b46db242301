package parquet

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/apache/arrow/go/v15/parquet/compress"
	"github.com/apache/arrow/go/v15/parquet/metadata"

	"github.com/f708428e/engine/dataset"
)

// pageGuard passes a file on to arrow, which takes memory by the word of every page's header before it reads the page. The guard reads
// each header first, and refuses sizes that the file cannot hold. It is not safe for concurrent use.
type pageGuard struct {
	from *countingReader
	// chunks are the columns of all row groups in the order of their places; none before the footer was read.
	chunks []guardedChunk
}

// guardedChunk is a column chunk of which the headers before next have been looked at.
type guardedChunk struct {
	dataset.Range
	compression compress.Compression
	next        int64
}

// watch begins to look at the pages of a file whose footer has been verified.
func (g *pageGuard) watch(md *metadata.FileMetaData) error {
	for _, group := range md.RowGroups {
		for _, c := range group.Columns {
			m := c.MetaData
			r := chunkRange(m.DataPageOffset, m.DictionaryPageOffset, m.TotalCompressedSize)
			g.chunks = append(g.chunks, guardedChunk{Range: r, compression: compress.Compression(m.Codec), next: r.Start})
		}
	}
	slices.SortFunc(g.chunks, func(a, b guardedChunk) int { return cmp.Or(cmp.Compare(a.Start, b.Start), cmp.Compare(a.End, b.End)) })
	for i := 1; i < len(g.chunks); i++ {
		if before := g.chunks[i-1]; before.End > g.chunks[i].Start && before.Start < before.End && g.chunks[i].Start < g.chunks[i].End {
			return fmt.Errorf("two columns overlap at byte %d", g.chunks[i].Start)
		}
	}
	return nil
}

// ReadAt implements io.ReaderAt.
func (g *pageGuard) ReadAt(p []byte, offset int64) (int, error) {
	n, err := g.from.ReadAt(p, offset)
	i, _ := slices.BinarySearchFunc(g.chunks, offset, func(c guardedChunk, offset int64) int {
		if c.End <= offset {
			return -1
		}
		return 1
	})
	for ; i < len(g.chunks) && g.chunks[i].Start < offset+int64(n); i++ {
		for c := &g.chunks[i]; c.next < min(c.End, offset+int64(n)); {
			if err := g.look(c); err != nil {
				return 0, err
			}
		}
	}
	return n, err
}

// look reads the next header of a chunk.
func (g *pageGuard) look(c *guardedChunk) error {
	for want := int64(leastHeaderBytes); ; want *= 4 {
		have := min(want, c.End-c.next)
		b := make([]byte, have)
		if n, err := g.from.from.ReadAt(b, c.next); n < len(b) {
			if err == nil || errors.Is(err, io.EOF) {
				return io.ErrUnexpectedEOF
			}
			g.from.failed = err // It is not the file's fault.
			return err
		}
		h, size, ok := parsePageHeader(b)
		if !ok && have == want && want <= mostHeaderBytes {
			continue
		}
		if !ok {
			return errors.New("the header of a page is damaged")
		}
		if int64(h.compressed) > c.End-c.next-int64(size) {
			return errShortChunk
		}
		if err := h.checkSizes(c.compression); err != nil {
			return err
		}
		c.next += int64(size) + int64(h.compressed)
		return nil
	}
}

// checkSizes refuses a page that claims to be larger than what is stored can be, or than any page that is read.
func (h pageHeader) checkSizes(compression compress.Compression) error {
	ratio := 0
	switch {
	case compression == compress.Codecs.Uncompressed, h.kind == dataPageV2 && h.plain:
		ratio = 1
	case compression == compress.Codecs.Snappy:
		ratio = snappyRatio
	}
	switch {
	case ratio > 0 && h.uncompressed/ratio > h.compressed, h.uncompressed > ratioFreeBytes && h.uncompressed/maxPageRatio > h.compressed:
		return fmt.Errorf("a page of %d bytes cannot have %d when decompressed", h.compressed, h.uncompressed)
	case h.uncompressed > maxPageBytes:
		return fmt.Errorf("a page of %d bytes when decompressed, at most %d can be read", h.uncompressed, maxPageBytes)
	case h.kind == dictionaryPage && h.values > h.uncompressed:
		return fmt.Errorf("a dictionary of %d values in %d bytes", h.values, h.uncompressed)
	}
	return nil
}
