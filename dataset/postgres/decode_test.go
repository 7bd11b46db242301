package postgres

import (
	"encoding/binary"
	"testing"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/arrow/memory"

	"github.com/f708428e/engine"
)

var fuzzSchema = arrow.NewSchema([]arrow.Field{
	{Name: "b", Type: arrow.FixedWidthTypes.Boolean}, {Name: "i", Type: arrow.PrimitiveTypes.Int32}, {Name: "s", Type: arrow.BinaryTypes.String},
	{Name: "d", Type: arrow.FixedWidthTypes.Date32}, {Name: "t", Type: instant}, {Name: "y", Type: arrow.BinaryTypes.Binary},
	{Name: "l", Type: arrow.ListOf(arrow.PrimitiveTypes.Float64)}, {Name: "v", Type: arrow.FixedSizeListOfNonNullable(2, arrow.PrimitiveTypes.Float32)},
}, nil)

// decodeAll decodes pieces of a COPY and returns how many rows there were.
func decodeAll(t testing.TB, pieces [][]byte) (rows int, complete bool, err error) {
	allocator := memory.NewCheckedAllocator(memory.NewGoAllocator())
	defer allocator.AssertSize(t.(memory.TestingT), 0)
	builders := make([]array.Builder, fuzzSchema.NumFields())
	for i, f := range fuzzSchema.Fields() {
		builders[i] = array.NewBuilder(allocator, f.Type)
	}
	defer func() {
		for _, b := range builders {
			b.Release()
		}
	}()
	d, err := newDecoder(fuzzSchema, builders)
	if err != nil {
		t.Fatal(err)
	}
	for _, piece := range pieces {
		own := append([]byte(nil), piece...) // What is left of it must be copied.
		d.add(own)
		for {
			more, err := d.next()
			if err != nil {
				return rows, false, err
			}
			if !more {
				break
			}
			_ = d.bits()
			if err := d.append(); err != nil {
				return rows, false, err
			}
			rows++
		}
		d.keep()
		for i := range own {
			own[i] = 0xaa
		}
	}
	for _, b := range builders {
		if b.Len() != rows {
			t.Fatalf("a column has %d values of %d rows", b.Len(), rows)
		}
		b.NewArray().Release()
	}
	return rows, d.complete(), nil
}

// sampleCopy is a COPY of two rows, the second of nulls.
func sampleCopy() []byte {
	data := append(append([]byte(nil), copySignature...), 0, 0, 0, 0, 0, 0, 0, 0)
	value := func(v ...byte) {
		data = binary.BigEndian.AppendUint32(data, uint32(len(v))) //nolint:gosec // A few bytes.
		data = append(data, v...)
	}
	data = append(data, 0, 8)
	value(1)
	value(0, 0, 0, 7)
	value([]byte("text")...)
	value(0, 0, 1, 0)
	value(0, 0, 0, 0, 0, 0, 1, 0)
	value(0, 255)
	value(0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 2, 0xbd, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 8, 0x3f, 0xf0, 0, 0, 0, 0, 0, 0)
	value(0, 2, 0, 0, 0x3f, 0x80, 0, 0, 0, 0, 0, 0)
	data = append(data, 0, 8)
	for range 8 {
		data = append(data, 0xff, 0xff, 0xff, 0xff)
	}
	return append(data, 0xff, 0xff)
}

// A COPY is decoded the same, wherever it is cut.
func TestDecodePieces(t *testing.T) {
	whole := sampleCopy()
	for cut := range whole {
		rows, complete, err := decodeAll(t, [][]byte{whole[:cut], whole[cut:]})
		if rows != 2 || !complete || err != nil {
			t.Fatalf("cut at %d: %d rows, %v, %v", cut, rows, complete, err)
		}
		rows, complete, err = decodeAll(t, [][]byte{whole[:cut]})
		if rows > 2 || complete || err != nil {
			t.Fatalf("first %d bytes: %d rows, %v, %v", cut, rows, complete, err)
		}
	}
	var bytes [][]byte
	for i := range whole {
		bytes = append(bytes, whole[i:i+1])
	}
	if rows, complete, err := decodeAll(t, bytes); rows != 2 || !complete || err != nil {
		t.Fatalf("byte by byte: %d rows, %v, %v", rows, complete, err)
	}
	for _, broken := range [][]byte{append(whole[:len(whole):len(whole)], 0), append([]byte("x"), whole...), append(whole[:19:19], 0, 7)} {
		if _, _, err := decodeAll(t, [][]byte{broken}); engine.KindOf(err) != engine.KindCorrupt || err == nil {
			t.Errorf("%v", err)
		}
	}
}

// FuzzDecode decodes what no server would send: it is an error, and no panic.
func FuzzDecode(f *testing.F) {
	whole := sampleCopy()
	f.Add(whole, 19)
	f.Add(whole, len(whole)-1)
	for i := 19; i < len(whole); i += 3 {
		broken := append([]byte(nil), whole...)
		broken[i] ^= 0xff
		f.Add(broken, i)
	}
	f.Fuzz(func(t *testing.T, data []byte, cut int) {
		cut = min(max(cut, 0), len(data))
		rows, complete, err := decodeAll(t, [][]byte{data[:cut], data[cut:]})
		all, completeAll, errAll := decodeAll(t, [][]byte{data})
		if (err == nil) != (errAll == nil) || err == nil && (rows != all || complete != completeAll) {
			t.Fatalf("cut at %d: %d rows, %v, %v; whole: %d rows, %v, %v", cut, rows, complete, err, all, completeAll, errAll)
		}
	})
}
