package table_test

import (
	"bytes"
	"testing"
	"unsafe"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/arrow/ipc"

	"github.com/f708428e/engine/objectstore/table"
)

// aligned returns n bytes at an address that is a multiple of 64, as objects have it.
func aligned(n int64) []byte {
	whole := make([]byte, n+64)
	skip := -int(uintptr(unsafe.Pointer(&whole[0]))) & 63
	return whole[skip : skip+int(n) : skip+int(n)]
}

func address(b []byte) uintptr { return uintptr(unsafe.Pointer(unsafe.SliceData(b))) }

// encode writes records into aligned memory and releases nothing of the caller's.
func encode(t testing.TB, schema *arrow.Schema, records ...arrow.Record) []byte {
	t.Helper()
	encoding, err := table.Encode(schema, records...)
	if err != nil {
		t.Fatal(err)
	}
	defer encoding.Release()
	data := aligned(encoding.SizeBytes())
	for i := range data {
		data[i] = 0xAA // what is not written is noticed
	}
	encoding.CopyTo(data)
	var joined []byte
	for _, piece := range encoding.Pieces() {
		joined = append(joined, piece.Data...)
		if piece.Data == nil {
			joined = append(joined, make([]byte, piece.Zeros)...)
		}
	}
	if !bytes.Equal(data, joined) {
		t.Fatalf("the pieces have %d bytes and differ from the %d that CopyTo wrote", len(joined), len(data))
	}
	return data
}

// open opens data and fails the test unless the bytes are released once after everything else was.
func open(t testing.TB, data []byte, trusted bool) *table.Table {
	t.Helper()
	released := 0
	opened, err := table.Open(data, table.Options{Trusted: trusted, Release: func() { released++ }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if released != 0 {
			t.Errorf("the bytes were released %d times while the table was in use", released)
		}
		opened.Release()
		if released != 1 {
			t.Errorf("the bytes were released %d times, expected once", released)
		}
	})
	return opened
}

// within fails the test if a buffer of the data is not in the bytes, or not at a multiple of 64.
func within(t testing.TB, data []byte, a arrow.ArrayData) {
	t.Helper()
	start := uintptr(unsafe.Pointer(&data[0]))
	for i, buffer := range a.Buffers() {
		if buffer == nil || buffer.Len() == 0 {
			continue
		}
		at := uintptr(unsafe.Pointer(&buffer.Bytes()[0]))
		if at < start || at+uintptr(buffer.Len()) > start+uintptr(len(data)) {
			t.Errorf("buffer %d of %s was copied", i, a.DataType())
		}
		if (at-start)%64 != 0 {
			t.Errorf("buffer %d of %s is at byte %d, which is no multiple of 64", i, a.DataType(), at-start)
		}
	}
	for _, child := range a.Children() {
		within(t, data, child)
	}
	if dict, _ := a.Dictionary().(*array.Data); dict != nil {
		within(t, data, dict)
	}
}

func equalTables(t testing.TB, opened *table.Table, schema *arrow.Schema, records []arrow.Record) {
	t.Helper()
	if !opened.Schema().Equal(schema) || !opened.Schema().Metadata().Equal(schema.Metadata()) {
		t.Fatalf("the schema is\n%s\nexpected\n%s", opened.Schema(), schema)
	}
	if len(opened.Records()) != len(records) {
		t.Fatalf("%d records, expected %d", len(opened.Records()), len(records))
	}
	var rows int64
	for i, record := range records {
		rows += record.NumRows()
		found := opened.Records()[i]
		if found.NumRows() != record.NumRows() {
			t.Fatalf("record %d has %d rows, expected %d", i, found.NumRows(), record.NumRows())
		}
		for c, column := range record.Columns() {
			if !array.Equal(found.Column(c), column) {
				t.Errorf("record %d, column %q is\n%v\nexpected\n%v", i, schema.Field(c).Name, found.Column(c), column)
			}
			if found.Column(c).NullN() != column.NullN() {
				t.Errorf("record %d, column %q has %d nulls, expected %d", i, schema.Field(c).Name, found.Column(c).NullN(), column.NullN())
			}
		}
	}
	if opened.Rows() != rows {
		t.Errorf("%d rows, expected %d", opened.Rows(), rows)
	}
}

func TestRoundTripOfEveryType(t *testing.T) {
	for _, named := range types() {
		t.Run(named.name, func(t *testing.T) {
			for seed := range uint64(8) {
				g := newGenerator(t, seed)
				metadata := arrow.NewMetadata([]string{"m", "empty"}, []string{"n", ""})
				schema := arrow.NewSchema([]arrow.Field{
					{Name: "x", Type: named.typ, Nullable: true, Metadata: metadata},
					{Name: "y", Type: named.typ, Nullable: true},
				}, &metadata)
				var records []arrow.Record
				for range g.IntN(4) {
					records = append(records, g.record(schema, []int{0, 1, 8, 13, 100}[g.IntN(5)]))
				}
				data := encode(t, schema, records...)
				for _, trusted := range []bool{false, true} {
					opened := open(t, data, trusted)
					equalTables(t, opened, schema, records)
					for _, record := range opened.Records() {
						for _, column := range record.Columns() {
							within(t, data, column.Data())
						}
					}
				}
				for _, record := range records {
					record.Release()
				}
				if t.Failed() {
					t.Fatalf("seed %d", seed)
				}
			}
		})
	}
}

// TestArrowReads compares with the reader of arrow/go, for what that can read.
func TestArrowReads(t *testing.T) {
	for _, named := range types() {
		switch named.name {
		case "fixed_size_binary[0]", "extension of dictionary", "dictionary of lists of dictionary":
			continue // arrow/go's reader fails on its own writer's bytes
		}
		t.Run(named.name, func(t *testing.T) {
			g := newGenerator(t, 3)
			schema := arrow.NewSchema([]arrow.Field{{Name: "x", Type: named.typ, Nullable: true}}, nil)
			record := g.record(schema, 50)
			defer record.Release()
			reader, err := ipc.NewReader(bytes.NewReader(encode(t, schema, record)))
			if err != nil {
				t.Fatal(err)
			}
			defer reader.Release()
			found, err := reader.Read()
			if err != nil {
				t.Fatal(err)
			}
			if !array.RecordEqual(found, record) {
				t.Errorf("arrow/go reads\n%v\nexpected\n%v", found, record)
			}
		})
	}
}

// TestArrowWrites reads what arrow/go writes, with buffers aligned at 8 bytes, and compressed.
func TestArrowWrites(t *testing.T) {
	for _, named := range types() {
		if named.name == "extension of dictionary" {
			continue // arrow/go's writer panics
		}
		for option, options := range map[string][]ipc.Option{"plain": nil, "lz4": {ipc.WithLZ4()}, "zstd": {ipc.WithZstd()}} {
			t.Run(named.name+"/"+option, func(t *testing.T) {
				g := newGenerator(t, 4)
				g.plain = true
				schema := arrow.NewSchema([]arrow.Field{{Name: "x", Type: named.typ, Nullable: true}}, nil)
				// Not a slice: arrow/go's writer has errors with those.
				columns := []arrow.Array{g.array(named.typ, 50, true)}
				record := array.NewRecord(schema, columns, 50)
				columns[0].Release()
				defer record.Release()
				var b bytes.Buffer
				writer := ipc.NewWriter(&b, append(options, ipc.WithSchema(schema))...)
				if err := writer.Write(record); err != nil {
					t.Fatal(err)
				}
				if err := writer.Close(); err != nil {
					t.Fatal(err)
				}
				data := aligned(int64(b.Len()))
				copy(data, b.Bytes())
				equalTables(t, open(t, data, false), schema, []arrow.Record{record})
				// Bytes at an odd address are copied, but read all the same.
				odd := aligned(int64(b.Len()) + 1)[1:]
				copy(odd, b.Bytes())
				equalTables(t, open(t, odd, false), schema, []arrow.Record{record})
			})
		}
	}
}
