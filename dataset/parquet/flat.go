package parquet

import (
	"encoding/binary"
	"io"

	"github.com/apache/arrow/go/v15/arrow"
	pq "github.com/apache/arrow/go/v15/parquet"
	"github.com/apache/arrow/go/v15/parquet/file"
	"github.com/apache/arrow/go/v15/parquet/metadata"
	pqschema "github.com/apache/arrow/go/v15/parquet/schema"
)

// flatGroups writes columns without nesting and lists of values without. It encodes numbers itself, see fixedChunk. For other types it
// computes levels itself, and gives arrow values without gaps: pqarrow's way of writing columns that may have nulls takes half the
// time again.
type flatGroups struct {
	out        *tellWriter
	properties *pq.WriterProperties
	metadata   *metadata.FileMetaDataBuilder
	columns    []columnPlan
	pool       *pool
	// group is that of the open row group, nil if there is none, and chunks are its columns. fixed holds those of chunks that are
	// encoded here, for the next row group.
	group  *metadata.RowGroupMetaDataBuilder
	chunks []chunkWriter
	fixed  []fixedColumn
	pager  file.PageWriter
	groups int16
	rows   int
	// scratch is for the chunks that arrow encodes.
	scratch scratch
}

// fixedColumn is a fixedChunk of either width.
type fixedColumn interface {
	chunkWriter
	begin(*metadata.ColumnChunkMetaDataBuilder)
}

// tellWriter counts what is written, as arrow wants to know it.
type tellWriter struct {
	to io.Writer
	at int64
}

func (w *tellWriter) Write(p []byte) (int, error) {
	n, err := w.to.Write(p)
	w.at += int64(n)
	return n, err
}

// Tell returns how many bytes have been written.
func (w *tellWriter) Tell() int64 { return w.at }

const magic = "PAR1"

// newFlatGroups begins a file.
func newFlatGroups(out io.Writer, root *pqschema.GroupNode, columns []columnPlan, properties *pq.WriterProperties, notes metadata.KeyValueMetadata, pool *pool) (*flatGroups, error) {
	g := &flatGroups{
		out: &tellWriter{to: out}, properties: properties, columns: columns, pool: pool,
		metadata: metadata.NewFileMetadataBuilder(pqschema.NewSchema(root), properties, notes),
		chunks:   make([]chunkWriter, len(columns)), fixed: make([]fixedColumn, len(columns)),
	}
	_, err := g.out.Write([]byte(magic))
	return g, err
}

func (g *flatGroups) next() error {
	if err := g.closeGroup(); err != nil {
		return err
	}
	g.group = g.metadata.AppendRowGroup()
	for i := range g.columns {
		meta := g.group.NextColumnChunk()
		if g.fixed[i] == nil {
			fixed, err := g.newFixed(i, meta)
			if err != nil {
				return err
			}
			g.fixed[i] = fixed
		}
		if g.fixed[i] != nil {
			g.fixed[i].begin(meta)
			g.chunks[i] = g.fixed[i]
			continue
		}
		pager, err := g.newPager(meta, true)
		if err != nil {
			return err
		}
		g.chunks[i] = &arrowChunk{groups: g, column: file.NewColumnChunkWriter(meta, pager, g.properties), plan: g.columns[i]}
	}
	g.groups++
	g.rows = 0
	return nil
}

// newFixed returns nil if the column is not one of numbers as they lie in Arrow.
func (g *flatGroups) newFixed(i int, meta *metadata.ColumnChunkMetaDataBuilder) (fixedColumn, error) {
	plan, kind := g.columns[i], meta.Descr().PhysicalType()
	if !plan.fixed {
		return nil, nil
	}
	switch kind {
	case pq.Types.Double, pq.Types.Int64:
		return newFixedChunk[uint64](g, meta, plan, kind)
	case pq.Types.Float, pq.Types.Int32:
		return newFixedChunk[uint32](g, meta, plan, kind)
	default:
		return nil, nil
	}
}

// newPager makes arrow's writer of pages. A buffered one keeps them until it is closed.
func (g *flatGroups) newPager(meta *metadata.ColumnChunkMetaDataBuilder, buffered bool) (file.PageWriter, error) {
	path := meta.Descr().Path()
	return file.NewPageWriter(g.out, g.properties.CompressionFor(path), g.properties.CompressionLevelFor(path), meta, g.groups, 0,
		g.properties.Allocator(), buffered, nil, nil)
}

// directPager returns a writer of pages into the file, the same one each time.
func (g *flatGroups) directPager(meta *metadata.ColumnChunkMetaDataBuilder) (file.PageWriter, error) {
	if g.pager == nil {
		pager, err := g.newPager(meta, false)
		g.pager = pager
		return pager, err
	}
	path := meta.Descr().Path()
	return g.pager, g.pager.Reset(g.out, g.properties.CompressionFor(path), g.properties.CompressionLevelFor(path), meta, g.groups, 0, nil, nil)
}

func (g *flatGroups) closeGroup() error {
	if g.group == nil {
		return nil
	}
	group, start := g.group, g.out.at
	g.group = nil
	for i, chunk := range g.chunks {
		g.chunks[i] = nil
		if err := chunk.close(); err != nil {
			return err
		}
	}
	group.SetNumRows(g.rows)
	return group.Finish(g.out.at-start, g.groups-1)
}

func (g *flatGroups) bytes() int64 {
	var total int64
	for _, chunk := range g.chunks {
		total += chunk.bytes()
	}
	return total
}

func (g *flatGroups) unpaged() int64 {
	var total int64
	for _, chunk := range g.chunks {
		total += chunk.unpaged()
	}
	return total
}

func (g *flatGroups) addNote(key, value string) error {
	return g.metadata.AppendKeyValueMetadata(key, value)
}

func (g *flatGroups) finish() error {
	if err := g.closeGroup(); err != nil {
		return err
	}
	footer, err := g.metadata.Finish()
	if err != nil {
		return err
	}
	size, err := footer.WriteTo(g.out, nil)
	if err != nil {
		return err
	}
	if err := binary.Write(g.out, binary.LittleEndian, uint32(size)); err != nil {
		return err
	}
	_, err = g.out.Write([]byte(magic))
	return err
}

func (g *flatGroups) write(record arrow.Record) error {
	if record.NumRows() == 0 {
		return nil
	}
	for i, chunk := range g.chunks {
		if err := chunk.write(record.Column(i)); err != nil {
			return columnError(record.ColumnName(i), err)
		}
	}
	g.rows += int(record.NumRows())
	return nil
}
