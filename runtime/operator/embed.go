package operator

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"unsafe"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/arrow/bitutil"
	"github.com/apache/arrow/go/v15/arrow/memory"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/runtime"
	"github.com/f708428e/engine/runtime/embedding"
)

// EmbedParams is what NewEmbed needs.
type EmbedParams struct {
	// Schema is that of the records. Required.
	Schema *arrow.Schema
	// Text are the places of the columns of text that are embedded, joined by a space. At least one.
	Text []int
	// Column is the new column's name.
	Column string
	// Embedder makes the vectors. The operator uses it alone. Required.
	Embedder *embedding.Embedder
	// AllowNaN passes vectors with NaN on; otherwise they are an error.
	AllowNaN bool
	// Allocator provides the memory of the new column. Required.
	Allocator memory.Allocator
}

// EmbedSchema returns the schema with the column of vectors after the others: fixed_size_list<item: float32 not null>[dim], which can
// be null only where all columns of text can. Columns that are no text, and a column that exists already, are errors of kind
// engine.KindInvalidArgument.
func EmbedSchema(schema *arrow.Schema, text []int, column string, dim int) (*arrow.Schema, error) {
	const op = "bind model"
	if len(text) == 0 {
		return nil, engine.Errorf(engine.KindInvalidArgument, op, "", "no columns of text")
	}
	nullable := true
	for _, index := range text {
		if err := checkIndex(op, schema, index); err != nil {
			return nil, err
		}
		f := schema.Field(index)
		if f.Type.ID() != arrow.STRING && f.Type.ID() != arrow.LARGE_STRING {
			return nil, engine.Errorf(engine.KindInvalidArgument, op, "", "column %q is %s, which cannot be embedded", f.Name, typeName(f.Type))
		}
		nullable = nullable && f.Nullable
	}
	list := arrow.FixedSizeListOfNonNullable(int32(dim), arrow.PrimitiveTypes.Float32) //nolint:gosec // The embedder has checked it.
	return newSchema(op, schema, append(slices.Clone(schema.Fields()), arrow.Field{Name: column, Type: list, Nullable: nullable}))
}

// Embed is an Operator that adds a column with the vectors of texts. A row whose columns of text are all null has a null; a null
// beside texts counts as if its column was not there. An empty text is a text: its vector is what the model makes of it.
//
// Apply is Prepare and Run. A caller that calls them itself may prepare a record while another goroutine runs an earlier one; both
// are called by one goroutine at a time.
type Embed struct {
	in, out   *arrow.Schema
	text      []int
	dim       int
	embedder  *embedding.Embedder
	allowNaN  bool
	allocator memory.Allocator
	unused    chan *EmbedBatch
}

// NewEmbed returns an operator with the schema of EmbedSchema and its errors.
func NewEmbed(p EmbedParams) (*Embed, error) {
	out, err := EmbedSchema(p.Schema, p.Text, p.Column, p.Embedder.Dim())
	if err != nil {
		return nil, err
	}
	return &Embed{
		in: p.Schema, out: out, text: slices.Clone(p.Text), dim: p.Embedder.Dim(), embedder: p.Embedder,
		allowNaN: p.AllowNaN, allocator: p.Allocator, unused: make(chan *EmbedBatch, 2),
	}, nil
}

// EmbedBatch is a record whose texts have been tokenized.
type EmbedBatch struct {
	record arrow.Record
	texts  *embedding.Batch
	// vectors says for each row which vector it has, or -1 for null; rows which row has it first.
	vectors, rows []int32
	joined        []byte
}

// Texts is how many distinct texts the model is given.
func (b *EmbedBatch) Texts() int { return b.texts.Len() }

// Schema implements Operator.
func (o *Embed) Schema() *arrow.Schema { return o.out }

// Stats returns what the embedder counts. It may not be called while Run runs.
func (o *Embed) Stats() embedding.Stats { return o.embedder.Stats() }

// Apply implements Operator.
func (o *Embed) Apply(ctx context.Context, in arrow.Record) (arrow.Record, error) {
	b, err := o.Prepare(ctx, in)
	if err != nil {
		return nil, err
	}
	return o.Run(ctx, b)
}

// checkEvery is how many rows are tokenized before the context is looked at.
const checkEvery = 256

// Prepare tokenizes the texts of a record, which it retains. The caller gives the batch to Run or to Discard.
func (o *Embed) Prepare(ctx context.Context, in arrow.Record) (*EmbedBatch, error) {
	if err := checkInput("embed", o.in, in); err != nil {
		return nil, err
	}
	var b *EmbedBatch
	select {
	case b = <-o.unused:
	default:
		b = &EmbedBatch{texts: o.embedder.NewBatch()}
	}
	in.Retain()
	b.record = in
	columns := make([]textColumn, len(o.text))
	for i, index := range o.text {
		columns[i] = in.Column(index).(textColumn)
	}
	for row := range int(in.NumRows()) {
		if row%checkEvery == 0 && ctx.Err() != nil {
			o.Discard(b)
			return nil, engine.WrapError("embed", "", ctx.Err())
		}
		text, ok := b.join(columns, row)
		if !ok {
			b.vectors = append(b.vectors, -1)
			continue
		}
		vector := b.texts.Add(text)
		if vector == len(b.rows) {
			b.rows = append(b.rows, int32(row)) //nolint:gosec // A record batch has fewer rows.
		}
		b.vectors = append(b.vectors, int32(vector)) //nolint:gosec // See above.
	}
	return b, nil
}

// textColumn is what columns of text have in common.
type textColumn interface {
	IsNull(row int) bool
	Value(row int) string
}

// join returns the text of a row; false if it is null.
func (b *EmbedBatch) join(columns []textColumn, row int) (text string, ok bool) {
	parts := 0
	for _, c := range columns {
		if c.IsNull(row) {
			continue
		}
		switch part := c.Value(row); parts {
		case 0:
			text = part
		case 1:
			b.joined = append(append(append(b.joined[:0], text...), ' '), part...)
		default:
			b.joined = append(append(b.joined, ' '), part...)
		}
		parts++
	}
	if parts > 1 {
		text = unsafe.String(unsafe.SliceData(b.joined), len(b.joined)) // valid until the next row
	}
	return text, parts > 0
}

// Discard gives up a batch.
func (o *Embed) Discard(b *EmbedBatch) {
	b.record.Release()
	b.record = nil
	b.texts.Reset()
	b.vectors, b.rows = b.vectors[:0], b.rows[:0]
	if cap(b.joined) > 1<<20 {
		b.joined = nil
	}
	select {
	case o.unused <- b:
	default:
	}
}

// Run embeds a batch, which it discards, and returns its record with the new column. The caller releases it. Vectors with NaN are a
// *runtime.RowError that names the first row with one and says how many there are, unless they are allowed.
func (o *Embed) Run(ctx context.Context, b *EmbedBatch) (arrow.Record, error) {
	defer o.Discard(b)
	rows := len(b.vectors)
	values := newBuffer(o.allocator, rows*o.dim*4)
	defer values.Release()
	all := arrow.Float32Traits.CastFromBytes(values.Bytes())
	at := func(row int) []float32 { return all[row*o.dim : (row+1)*o.dim] }
	nan, err := o.embedder.Run(ctx, b.texts, func(i int) []float32 { return at(int(b.rows[i])) })
	var text *embedding.TextError
	if errors.As(err, &text) {
		return nil, &runtime.RowError{Column: o.in.Field(o.text[0]).Name, Row: int64(b.rows[text.Text]), Err: text.Err}
	}
	if err != nil {
		return nil, err
	}
	if len(nan) > 0 && !o.allowNaN {
		return nil, o.nanError(b, nan)
	}
	nulls := 0
	for row, vector := range b.vectors {
		switch {
		case vector < 0:
			clear(at(row))
			nulls++
		case int(b.rows[vector]) != row:
			copy(at(row), at(int(b.rows[vector])))
		}
	}
	var valid *memory.Buffer
	if nulls > 0 {
		valid = newBuffer(o.allocator, int(bitutil.BytesForBits(int64(rows))))
		defer valid.Release()
		clear(valid.Bytes())
		for row, vector := range b.vectors {
			bitutil.SetBitTo(valid.Bytes(), row, vector >= 0)
		}
	}
	elements := array.NewData(arrow.PrimitiveTypes.Float32, rows*o.dim, []*memory.Buffer{nil, values}, nil, 0, 0)
	defer elements.Release()
	data := array.NewData(o.out.Field(o.in.NumFields()).Type, rows, []*memory.Buffer{valid}, []arrow.ArrayData{elements}, nulls, 0)
	defer data.Release()
	column := array.MakeFromData(data)
	defer column.Release()
	return array.NewRecord(o.out, append(slices.Clone(b.record.Columns()), column), int64(rows)), nil
}

func (o *Embed) nanError(b *EmbedBatch, nan []int) error {
	bad := make(map[int]bool, len(nan))
	for _, vector := range nan {
		bad[vector] = true
	}
	var rows []int64
	for row, vector := range b.vectors {
		if bad[int(vector)] {
			rows = append(rows, int64(row))
		}
	}
	err := errors.New("the model's vector holds NaN")
	if n := len(rows); n > 1 {
		err = fmt.Errorf("the model's vector holds NaN, as do those of %d more rows of this record batch", n-1)
	}
	return &runtime.RowError{Column: o.in.Field(o.text[0]).Name, Row: rows[0], Others: rows[1:], Err: err}
}
