package table_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/arrow/ipc"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/internal/testenv"
	"github.com/f708428e/engine/objectstore/table"
)

// exercise opens bytes of any kind and uses all that it finds in them as a reader would.
func exercise(t testing.TB, input []byte) {
	t.Helper()
	// An end that is no more than that: a read past the bytes fails here, if not by its own bounds then under the race detector.
	data := aligned(int64(len(input)))
	copy(data, input)
	// A header alone is refused or not; it must not do harm.
	_, _ = table.Join([]table.Message{{Header: data}})
	// Structure and bounds are checked of trusted bytes too, so that this must not panic; its values may.
	if opened, err := table.Open(data, table.Options{Trusted: true, MaxCopyBytes: 1 << 20}); err == nil {
		opened.Release()
	}
	released := 0
	opened, err := table.Open(data, table.Options{MaxCopyBytes: 1 << 20, Release: func() { released++ }})
	rows, batches, checkErr := table.Check(data, table.Options{MaxCopyBytes: 1 << 20})
	if (err == nil) != (checkErr == nil) && !(checkErr == nil && strings.Contains(err.Error(), "extension type")) {
		t.Fatalf("to open it: %v; to check it: %v", err, checkErr)
	}
	if err == nil && (rows != opened.Rows() || int(batches) != len(opened.Records())) {
		t.Fatalf("checked %d rows in %d batches, opened %d in %d", rows, batches, opened.Rows(), len(opened.Records()))
	}
	if err != nil {
		var e *engine.Error
		if !errors.As(err, &e) || e.Kind != engine.KindCorrupt || len(err.Error()) > 4000 {
			t.Fatalf("error %v, expected a short one of kind corrupt", err)
		}
		if released != 0 {
			t.Fatal("released after an error")
		}
		return
	}
	for _, record := range opened.Records() {
		for _, column := range record.Columns() {
			read(column, 0)
		}
	}
	encoding, err := table.Encode(opened.Schema(), opened.Records()...)
	if err != nil {
		t.Fatalf("what was read cannot be written: %v", err)
	}
	if encoding.SizeBytes() > 1<<26 {
		t.Fatalf("%d bytes became %d", len(input), encoding.SizeBytes())
	}
	again := aligned(encoding.SizeBytes())
	encoding.CopyTo(again)
	encoding.Release()
	second, err := table.Open(again, table.Options{MaxCopyBytes: -1})
	if err != nil {
		t.Fatalf("what was written cannot be read: %v", err)
	}
	if second.Rows() != opened.Rows() {
		t.Fatalf("%d rows became %d", opened.Rows(), second.Rows())
	}
	second.Release()
	opened.Release()
	if released != 1 {
		t.Fatalf("released %d times", released)
	}
}

// read looks at the values of an array and of those below it; of long ones, at the first and last.
func read(a arrow.Array, depth int) {
	if extension, ok := a.(array.ExtensionArray); ok {
		read(extension.Storage(), depth)
		return
	}
	n := a.Len()
	for i := 0; i < n; i++ {
		if i == 100 && n > 200 {
			i = n - 100
		}
		_ = a.IsNull(i)
		switch v := a.(type) {
		case *array.String:
			_ = []rune(v.Value(i))
		case *array.LargeString:
			_ = []rune(v.Value(i))
		case *array.Binary:
			_ = bytes.Clone(v.Value(i))
		case *array.LargeBinary:
			_ = bytes.Clone(v.Value(i))
		case *array.StringView:
			if v.IsValid(i) {
				_ = []rune(v.Value(i))
			}
		case *array.BinaryView:
			if v.IsValid(i) {
				_ = bytes.Clone(v.Value(i))
			}
		case *array.Dictionary:
			if v.IsValid(i) {
				_ = v.Dictionary().IsNull(v.GetValueIndex(i))
			}
		case array.ListLike:
			start, end := v.ValueOffsets(i)
			array.NewSlice(v.ListValues(), start, end).Release()
		case *array.DenseUnion:
			_ = v.Field(v.ChildID(i)).IsNull(int(v.ValueOffset(i)))
		case *array.SparseUnion:
			_ = v.Field(v.ChildID(i)).IsNull(i)
		case *array.RunEndEncoded:
			_ = v.Values().IsNull(v.GetPhysicalIndex(i))
		case *array.Null:
		case *array.Struct:
		default:
			_ = a.GetOneForMarshal(i)
		}
	}
	switch v := a.(type) {
	case *array.Dictionary:
		read(v.Dictionary(), depth+1)
	case *array.Map:
		read(v.Keys(), depth+1)
		read(v.Items(), depth+1)
	case array.ListLike:
		read(v.ListValues(), depth+1)
	case *array.Struct:
		for i := range v.NumField() {
			read(v.Field(i), depth+1)
		}
	case array.Union:
		for i := range v.NumFields() {
			read(v.Field(i), depth+1)
		}
	case *array.RunEndEncoded:
		read(v.RunEndsArr(), depth+1)
		read(v.Values(), depth+1)
	}
}

// seeds are short streams of every type, ours and arrow/go's, plain and compressed.
func seeds(t testing.TB) [][]byte {
	var all [][]byte
	for i, named := range types() {
		g := newGenerator(t, uint64(i))
		g.plain = true
		schema := arrow.NewSchema([]arrow.Field{{Name: "x", Type: named.typ, Nullable: true}}, nil)
		whole := g.array(named.typ, 9, true)
		record := array.NewRecord(schema, []arrow.Array{whole}, 9)
		whole.Release()
		all = append(all, encode(t, schema, record, record))
		if named.name == "extension of dictionary" {
			record.Release()
			continue // arrow/go's writer panics
		}
		for _, options := range [][]ipc.Option{nil, {ipc.WithLZ4()}, {ipc.WithZstd()}} {
			var b bytes.Buffer
			writer := ipc.NewWriter(&b, append(options, ipc.WithSchema(schema))...)
			if err := errors.Join(writer.Write(record), writer.Close()); err != nil {
				t.Fatal(err)
			}
			all = append(all, b.Bytes())
		}
		record.Release()
	}
	return all
}

func FuzzOpen(f *testing.F) {
	for _, seed := range seeds(f) {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, input []byte) { exercise(t, input) })
}

// mutate changes bytes in one of the ways in which they go wrong, or are made to.
func mutate(r *rand.Rand, data []byte) []byte {
	data = bytes.Clone(data)
	for range 1 + r.IntN(3) {
		at := r.IntN(len(data))
		word := at &^ 3
		switch r.IntN(6) {
		case 0:
			data[at] ^= 1 << r.IntN(8)
		case 1:
			data[at] = byte(r.Uint32())
		case 2:
			if word+4 <= len(data) {
				values := []uint32{0, 1, 0x7fffffff, 0x80000000, 0xffffffff, uint32(len(data)), r.Uint32N(256)}
				binary.LittleEndian.PutUint32(data[word:], values[r.IntN(len(values))])
			}
		case 3:
			if word+8 <= len(data) {
				values := []uint64{0, 1, 1<<63 - 1, 1 << 63, 1<<64 - 1, 1 << 55, uint64(len(data)), r.Uint64N(256)}
				binary.LittleEndian.PutUint64(data[word:], values[r.IntN(len(values))])
			}
		case 4:
			if word+4 <= len(data) {
				changed := binary.LittleEndian.Uint32(data[word:]) + r.Uint32N(9) - 4
				binary.LittleEndian.PutUint32(data[word:], changed)
			}
		default:
			from := r.IntN(len(data))
			copy(data[at:], data[from:min(len(data), from+r.IntN(64))])
		}
	}
	if r.IntN(20) == 0 {
		data = data[:r.IntN(len(data))]
	}
	if len(data) == 0 {
		data = []byte{0}
	}
	return data
}

// TestMutations is a short search of what FuzzOpen searches for longer, by changes that are more often to the point.
func TestMutations(t *testing.T) { mutations(t, 20) }

func TestManyMutations(t *testing.T) {
	testenv.Full(t)
	mutations(t, 1000)
}

func mutations(t *testing.T, each int) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	for i, stream := range seeds(t) {
		for range each {
			input := mutate(r, stream)
			func() {
				defer func() {
					if cause := recover(); cause != nil {
						t.Fatalf("seed %d, stream %d: panic: %v\ninput %x", seed, i, cause, input)
					}
				}()
				exercise(t, input)
			}()
		}
	}
}
