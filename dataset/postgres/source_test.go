package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/memory"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/dataset"
	"github.com/f708428e/engine/dataset/postgres"
	"github.com/f708428e/engine/internal/pgtest"
)

func TestTypes(t *testing.T) {
	server, name, db := database(t)
	server.Exec(t, name, `CREATE TYPE mood AS ENUM ('sad', 'happy'); CREATE TABLE "All Types" (
		b bool, i2 int2, i4 int4, i8 int8, f4 float4, f8 float8, t text, v varchar(5), c char(3), j json, jb jsonb, u uuid, e mood,
		d date, ts timestamp, tz timestamptz, by bytea, a4 float4[], a8 float8[], ai int4[], vec vector(3), "odd ""name" int);
		INSERT INTO "All Types" VALUES
		(true, -32768, -2147483648, -9223372036854775808, 1.5, 'NaN', 'ä''x', 'abc', 'ab', '{"a": 1}', '{"b":2}', 'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11', 'happy',
		 '1969-12-31', '2026-11-27 15:04:05.123456', '2026-11-27 15:04:05+02', '\x0001ff', '{1,NULL,3}', '{}', '{1,2}', '[1,2,3]', 7); INSERT INTO "All Types" DEFAULT VALUES`)
	source := newSource(t, postgres.SourceOptions{Database: db, Table: table(t, `"All Types"`)})
	layout := plan(t, source)
	want := []string{
		"b bool", "i2 int16", "i4 int32", "i8 int64", "f4 float32", "f8 float64", "t string", "v string", "c string", "j string", "jb string",
		"u string", "e string", "d date", "ts timestamp", "tz timestamp[us, tz=UTC]", "by binary", "a4 list<item: float32, nullable>",
		"a8 list<item: float64, nullable>", "ai list<item: int32, nullable>", "vec fixed_size_list<item: float32>[3]", `odd "name int32`,
	}
	for i, f := range layout.Schema.Fields() {
		if got := f.Name + " " + dataset.TypeName(f.Type); got != want[i] {
			t.Errorf("column %d: %s, want %s", i, got, want[i])
		}
	}
	rows := readAll(t, source)
	if want := []string{
		`true|-32768|-2147483648|-9223372036854775808|1.5|NaN|ä'x|abc|ab|{"a": 1}|{"b": 2}|a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11|happy|` +
			`1969-12-31|2026-11-27 15:04:05.123456Z|2026-11-27 13:04:05Z|0001ff|[1,null,3]|[]|[1,2]|[1,2,3]|7`,
		strings.TrimSuffix(strings.Repeat("null|", 22), "|"),
	}; !slices.Equal(rows, want) {
		t.Errorf("got  %q\nwant %q", rows, want)
	}
	pruned, _, err := readSplit(t, source, layout, layout.Splits[0], dataset.ReadOptions{Columns: []int{3, 20}, BatchRows: 10, BatchBytes: 1 << 20})
	if want := []string{"-9223372036854775808|[1,2,3]", "null|null"}; err != nil || !slices.Equal(pruned, want) {
		t.Errorf("got %q, %v, want %q", pruned, err, want)
	}
}

func TestDeclaredColumns(t *testing.T) {
	_, _, db := database(t)
	source := newSource(t, postgres.SourceOptions{
		Database: db, Query: "SELECT 12345678901234567890.123::numeric AS exact, 1.25::numeric AS rounded, '10.0.0.1'::inet AS address -- the end",
		Columns: map[string]arrow.DataType{"exact": arrow.BinaryTypes.String, "rounded": arrow.PrimitiveTypes.Float64, "address": arrow.BinaryTypes.String},
	})
	if got, want := readAll(t, source), []string{"12345678901234567890.123|1.25|10.0.0.1/32"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestUnreadable(t *testing.T) {
	server, name, db := database(t)
	server.Exec(t, name, "CREATE TABLE t (id int, x text); INSERT INTO t VALUES (1, 'x')")
	for _, c := range []struct {
		options postgres.SourceOptions
		kind    engine.Kind
		words   []string
	}{
		{postgres.SourceOptions{Query: "SELECT 1.5::numeric AS price"}, engine.KindData, []string{`column "price" is of type numeric`, "columns"}},
		{postgres.SourceOptions{Query: "SELECT '1 day'::interval AS age"}, engine.KindData, []string{`"age" is of type interval`}},
		{postgres.SourceOptions{Query: "SELECT '{a}'::text[] AS tags"}, engine.KindData, []string{`"tags" is of type text[]`}},
		{postgres.SourceOptions{Query: "SELECT 1 AS a, 2 AS a"}, engine.KindData, []string{`two columns are named "a"`}},
		{postgres.SourceOptions{Query: "SELEC 1"}, engine.KindInvalidArgument, []string{"syntax error"}},
		{postgres.SourceOptions{Query: "SELECT 1; SELECT 2"}, engine.KindInvalidArgument, []string{"syntax error"}},
		{postgres.SourceOptions{Query: "DELETE FROM t RETURNING id"}, engine.KindInvalidArgument, nil},
		{postgres.SourceOptions{Query: "SELECT missing FROM t"}, engine.KindData, []string{`"missing" does not exist`}},
		{postgres.SourceOptions{Table: table(t, "nowhere")}, engine.KindNotFound, []string{`"public.nowhere" does not exist`}},
		{postgres.SourceOptions{Table: table(t, "t"), PartitionColumn: "y", Splits: 2}, engine.KindData, []string{`"y"`}},
		{postgres.SourceOptions{Table: table(t, "t"), PartitionColumn: "x", Splits: 2}, engine.KindData, []string{`"x"`, "neither an integer"}},
		{postgres.SourceOptions{Table: table(t, "t"), PartitionColumn: "id", Splits: 2, Lower: "x"}, engine.KindInvalidArgument, []string{"lower", "whole number"}},
		{postgres.SourceOptions{Table: table(t, "t"), PartitionColumn: "id", Splits: 2, Lower: "3000000000"}, engine.KindInvalidArgument, []string{"lower", "beyond"}},
		{postgres.SourceOptions{Table: table(t, "t"), PartitionColumn: "id", Splits: 2, Lower: "5", Upper: "4"}, engine.KindInvalidArgument, []string{"above upper"}},
		{postgres.SourceOptions{Table: table(t, "t"), Columns: map[string]arrow.DataType{"z": arrow.BinaryTypes.String}}, engine.KindData, []string{`"z"`}},
	} {
		c.options.Database = db
		source := newSource(t, c.options)
		_, err := source.Plan(t.Context(), []dataset.File{source.File()}, dataset.PlanOptions{})
		wantError(t, err, c.kind, c.words...)
	}
	// Errors of single rows are found when they are read.
	for query, word := range map[string]string{
		"SELECT 'infinity'::date AS d":                            "infinite",
		"SELECT '{{1,2},{3,4}}'::int[] AS grid":                   "2 dimensions",
		"SELECT 1 / (x - 3) AS y FROM generate_series(1, 5) AS x": "division by zero",
	} {
		source := newSource(t, postgres.SourceOptions{Database: db, Query: query})
		layout := plan(t, source)
		_, _, err := readSplit(t, source, layout, layout.Splits[0], dataset.ReadOptions{})
		wantError(t, err, engine.KindData, word)
	}
	// A function that writes is refused by the server.
	server.Exec(t, name, "CREATE FUNCTION grow() RETURNS int LANGUAGE sql AS 'INSERT INTO t VALUES (2) RETURNING id'")
	source := newSource(t, postgres.SourceOptions{Database: db, Query: "SELECT grow() AS id"})
	layout := plan(t, source)
	_, _, err := readSplit(t, source, layout, layout.Splits[0], dataset.ReadOptions{})
	wantError(t, err, engine.KindInvalidArgument, "read-only")
}

// Every row is in exactly one split, whatever the column's type, its nulls and outliers, the bounds, and the number of splits.
func TestSplitsLoseNothing(t *testing.T) {
	server, name, db := database(t)
	const seed = 7
	random := rand.New(rand.NewPCG(seed, seed))
	server.Exec(t, name, `CREATE TABLE t AS SELECT row_number() OVER () AS id,
		CASE WHEN n % 7 = 0 THEN NULL ELSE (random() * 1000 - 500)::int2 END AS i2, CASE WHEN n % 5 = 0 THEN NULL ELSE (n * n % 977)::int4 END AS i4,
		CASE WHEN n = 1 THEN -9223372036854775808 WHEN n = 2 THEN 9223372036854775807 ELSE n END AS i8,
		CASE WHEN n % 6 = 0 THEN NULL WHEN n = 5 THEN 'infinity' WHEN n = 7 THEN '0044-03-15 BC' ELSE date '2026-01-01' + n END AS d,
		CASE WHEN n % 6 = 0 THEN NULL WHEN n = 5 THEN '-infinity' ELSE timestamp '2026-01-01' + n * interval '1.000001 s' END AS ts,
		CASE WHEN n % 6 = 0 THEN NULL ELSE timestamptz '2026-01-01 00:00:00+05' + n * interval '1.000001 s' END AS tz
		FROM generate_series(1, 300) AS n`)
	want := make([]string, 300)
	for i := range want {
		want[i] = fmt.Sprint(i + 1)
	}
	slices.Sort(want)
	bounds := map[string][2]string{
		"i2": {"-100", "100"}, "i4": {"0", "5000"}, "i8": {"-5", "200"}, "d": {"2026-02-01", "2026-03-01"}, "ts": {"2026-01-01T00:01:00", ""},
		"tz": {"2025-12-31T19:00:30Z", "2025-12-31 19:01:00"},
	}
	for column, b := range bounds {
		for range 3 {
			splits := 1 + random.IntN(12)
			for _, bound := range [][2]string{{}, b} {
				options := postgres.SourceOptions{
					Database: db, Query: "SELECT id::text AS id, " + column + " FROM t WHERE " + column + " IS DISTINCT FROM NULL OR true", PartitionColumn: column,
					Splits: splits, Lower: bound[0], Upper: bound[1],
				}
				source := newSource(t, options)
				layout := plan(t, source)
				if len(layout.Splits) > splits {
					t.Errorf("%s: %d splits, at most %d were asked for", column, len(layout.Splits), splits)
				}
				var got []string
				for _, split := range layout.Splits {
					rows, _, err := readSplit(t, source, layout, split, dataset.ReadOptions{Columns: []int{0}, BatchRows: 50, BatchBytes: 1 << 20})
					if err != nil {
						t.Fatal(err)
					}
					got = append(got, rows...)
				}
				slices.Sort(got)
				if !slices.Equal(got, want) {
					t.Errorf("seed %d, %s, %d splits, bounds %q: %d rows, some lost or doubled", seed, column, splits, bound, len(got))
				}
			}
		}
	}
	// Of equal rows nothing is to be cut, and of none neither.
	for query, want := range map[string]int{"SELECT 5 AS n": 1, "SELECT NULL::int AS n": 1, "SELECT 1 AS n WHERE false": 1, "SELECT generate_series(1, 3) AS n": 3} {
		if layout := plan(t, newSource(t, postgres.SourceOptions{Database: db, Query: query, PartitionColumn: "n", Splits: 9})); len(layout.Splits) != want {
			t.Errorf("%s: %d splits, want %d", query, len(layout.Splits), want)
		}
	}
}

func TestBatches(t *testing.T) {
	_, _, db := database(t)
	source := newSource(t, postgres.SourceOptions{Database: db, Query: "SELECT n, repeat('x', 100) AS t FROM generate_series(1, 1000) AS n"})
	layout := plan(t, source)
	for _, c := range []struct{ rows, bytes, first int64 }{{300, 1 << 20, 300}, {1000, 1080, 10}, {1000, 1, 1}} {
		rows, batches, err := readSplit(t, source, layout, layout.Splits[0], dataset.ReadOptions{BatchRows: c.rows, BatchBytes: c.bytes})
		if err != nil || len(rows) != 1000 || batches[0] != c.first {
			t.Errorf("%+v: %d rows, batches %v…, %v", c, len(rows), batches[:1], err)
		}
	}
}

// A server that goes away while rows are read is an error that says so, and may be tried again.
func TestServerGoesAwayWhileReading(t *testing.T) {
	server := pgtest.Start(t)
	name := server.Database(t, false)
	source := newSource(t, postgres.SourceOptions{Database: open(t, server.URL(name)), Query: "SELECT n, repeat('x', 1000) AS t FROM generate_series(1, 1000000) AS n"})
	layout := plan(t, source)
	reader, err := source.Open(t.Context(), layout.Splits[0], dataset.ReadOptions{
		Schema: layout.Schema, BatchRows: 100, BatchBytes: 1 << 20, Allocator: memory.NewGoAllocator(),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = reader.Close() }()
	for read := 0; ; read++ {
		record, err := reader.Read(t.Context())
		if err != nil {
			wantError(t, err, engine.KindUnavailable, server.Address)
			if read < 3 || !engine.KindOf(err).Retryable() {
				t.Errorf("after %d record batches: %v", read, err)
			}
			break
		}
		record.Release()
		if read == 3 {
			server.Kill()
		}
	}
	_, err = source.Open(t.Context(), layout.Splits[0], dataset.ReadOptions{Schema: layout.Schema, Allocator: memory.NewGoAllocator()})
	wantError(t, err, engine.KindUnavailable, server.Address)
}

func TestCanceledRead(t *testing.T) {
	_, _, db := database(t)
	source := newSource(t, postgres.SourceOptions{Database: db, Query: "SELECT pg_sleep(600)::text AS t"})
	layout := plan(t, source)
	ctx, cancel := context.WithCancelCause(t.Context())
	reader, err := source.Open(ctx, layout.Splits[0], dataset.ReadOptions{
		Schema: layout.Schema, BatchRows: 100, BatchBytes: 1 << 20, Allocator: memory.NewGoAllocator(),
	})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		_, err := reader.Read(ctx)
		done <- err
	}()
	cause := engine.Errorf(engine.KindStopped, "", "", "enough")
	cancel(cause)
	if err := <-done; !errors.Is(err, cause) {
		t.Errorf("got %v", err)
	}
	if err := reader.Close(); err != nil {
		t.Error(err)
	}
	if _, err := reader.Read(t.Context()); err == nil || errors.Is(err, io.EOF) {
		t.Errorf("read after close: %v", err)
	}
}
