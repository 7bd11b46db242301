package postgres_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/arrow/memory"

	"github.com/f708428e/engine/dataset"
	"github.com/f708428e/engine/dataset/postgres"
)

const (
	benchRows    = 200_000
	benchColumns = 11
)

// wide makes a table of eleven columns of float64.
func wide(b *testing.B) (name string, db postgres.Database, discard func(copying string)) {
	b.Helper()
	server, name, db := database(b)
	columns := make([]string, benchColumns)
	for i := range columns {
		columns[i] = fmt.Sprintf("random() * 100 AS c%d", i)
	}
	server.Exec(b, name, fmt.Sprintf("CREATE TABLE wide AS SELECT %s FROM generate_series(1, %d); CREATE TABLE target (LIKE wide)", strings.Join(columns, ", "), benchRows))
	return name, db, func(copying string) {
		conn := server.Connect(b, name)
		defer func() { _ = conn.Close(b.Context()) }()
		if _, err := conn.PgConn().CopyTo(b.Context(), io.Discard, copying); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkRead reads a table into record batches; the control takes the same bytes and throws them away.
func BenchmarkRead(b *testing.B) {
	_, db, discard := wide(b)
	source := newSource(b, postgres.SourceOptions{Database: db, Table: table(b, "wide")})
	layout := plan(b, source)
	perRow := func(b *testing.B) { b.ReportMetric(float64(b.N)*benchRows/b.Elapsed().Seconds(), "rows/s") }
	b.Run("batches", func(b *testing.B) {
		for b.Loop() {
			reader, err := source.Open(b.Context(), layout.Splits[0], dataset.ReadOptions{
				Schema: layout.Schema, BatchRows: 10_000, BatchBytes: 64 << 20, Allocator: memory.NewGoAllocator(),
			})
			if err != nil {
				b.Fatal(err)
			}
			rows := int64(0)
			for {
				record, err := reader.Read(b.Context())
				if errors.Is(err, io.EOF) {
					break
				}
				if err != nil {
					b.Fatal(err)
				}
				rows += record.NumRows()
				record.Release()
			}
			if err := reader.Close(); err != nil || rows != benchRows {
				b.Fatal(rows, err)
			}
		}
		perRow(b)
	})
	b.Run("control", func(b *testing.B) {
		for b.Loop() {
			discard("COPY wide TO STDOUT (FORMAT binary)")
		}
		perRow(b)
	})
}

// BenchmarkWrite writes units; the control copies bytes that are made already.
func BenchmarkWrite(b *testing.B) {
	name, db, _ := wide(b)
	server := shared.start(b)
	fields := make([]arrow.Field, benchColumns)
	for i := range fields {
		fields[i] = arrow.Field{Name: fmt.Sprintf("c%d", i), Type: arrow.PrimitiveTypes.Float64}
	}
	schema := arrow.NewSchema(fields, nil)
	builder := array.NewRecordBuilder(memory.NewGoAllocator(), schema)
	defer builder.Release()
	const batch = 10_000
	for i := range fields {
		for row := range batch {
			builder.Field(i).(*array.Float64Builder).Append(float64(row) / 7)
		}
	}
	record := builder.NewRecord()
	defer record.Release()
	to := target(b, db, "target", postgres.ModeAppend, "job")
	if err := to.Prepare(b.Context()); err != nil {
		b.Fatal(err)
	}
	perRow := func(b *testing.B) { b.ReportMetric(float64(b.N)*benchRows/b.Elapsed().Seconds(), "rows/s") }
	unit := 0
	b.Run("units", func(b *testing.B) {
		for b.Loop() {
			unit++
			u, _, err := to.Begin(b.Context(), unit, 1, schema)
			if err != nil {
				b.Fatal(err)
			}
			for range benchRows / batch {
				if err := u.Write(b.Context(), record); err != nil {
					b.Fatal(err)
				}
			}
			if _, _, err := u.Publish(b.Context(), []byte("{}"), always); err != nil {
				b.Fatal(err)
			}
			if err := u.Close(); err != nil {
				b.Fatal(err)
			}
		}
		perRow(b)
	})
	var made bytes.Buffer
	conn := server.Connect(b, name)
	defer func() { _ = conn.Close(b.Context()) }()
	if _, err := conn.PgConn().CopyTo(b.Context(), &made, "COPY wide TO STDOUT (FORMAT binary)"); err != nil {
		b.Fatal(err)
	}
	b.Run("control", func(b *testing.B) {
		for b.Loop() {
			if _, err := conn.PgConn().CopyFrom(b.Context(), bytes.NewReader(made.Bytes()), "COPY target FROM STDIN (FORMAT binary)"); err != nil {
				b.Fatal(err)
			}
		}
		perRow(b)
	})
}
