package postgres_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/arrow/decimal128"
	"github.com/apache/arrow/go/v15/arrow/memory"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/dataset/postgres"
	"github.com/f708428e/engine/internal/pgtest"
)

var abSchema = arrow.NewSchema([]arrow.Field{{Name: "a", Type: arrow.PrimitiveTypes.Int64, Nullable: true}, {Name: "B b", Type: arrow.BinaryTypes.String, Nullable: true}}, nil)

// abRecord has the rows from first on.
func abRecord(first, rows int) arrow.Record {
	b := array.NewRecordBuilder(memory.NewGoAllocator(), abSchema)
	defer b.Release()
	for i := first; i < first+rows; i++ {
		b.Field(0).(*array.Int64Builder).Append(int64(i))
		b.Field(1).(*array.StringBuilder).Append(fmt.Sprintf("text %d", i))
	}
	return b.NewRecord()
}

func target(t testing.TB, db postgres.Database, name string, mode postgres.Mode, job string) *postgres.Target {
	t.Helper()
	made, err := postgres.NewTarget(db, *table(t, name), mode, true, engine.JobID(job))
	if err != nil {
		t.Fatal(err)
	}
	return made
}

func always(context.Context) error { return nil }

// writeUnit writes rows as a unit.
func writeUnit(t testing.TB, to *postgres.Target, unit, first, rows int) (commit postgres.Commit, adopted bool, err error) {
	t.Helper()
	u, found, err := to.Begin(t.Context(), unit, uint64(unit)+7, abSchema)
	if err != nil {
		return postgres.Commit{}, false, err
	}
	if found != nil {
		return *found, true, nil
	}
	defer func() { err = errors.Join(err, u.Close()) }()
	for at := first; at < first+rows; at += 1000 {
		record := abRecord(at, min(1000, first+rows-at))
		err := u.Write(t.Context(), record)
		record.Release()
		if err != nil {
			return postgres.Commit{}, false, err
		}
	}
	return u.Publish(t.Context(), json.RawMessage(fmt.Sprintf(`{"first": %d}`, first)), always)
}

func mustWrite(t testing.TB, to *postgres.Target, unit, first, rows int) postgres.Commit {
	t.Helper()
	commit, _, err := writeUnit(t, to, unit, first, rows)
	if err != nil {
		t.Fatal(err)
	}
	return commit
}

// mustBegin begins the first unit of a target that is prepared.
func mustBegin(t testing.TB, to *postgres.Target, schema *arrow.Schema) *postgres.Unit {
	t.Helper()
	u, _, err := to.Begin(t.Context(), 0, 1, schema)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func mustPrepare(t testing.TB, to *postgres.Target) {
	t.Helper()
	if err := to.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := to.CheckColumns(t.Context(), abSchema); err != nil {
		t.Fatal(err)
	}
	for range 2 { // Again does no harm.
		if err := to.Prepare(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

func mustComplete(t testing.TB, to *postgres.Target, units int, rows int64) {
	t.Helper()
	for range 2 {
		if err := to.Complete(t.Context(), postgres.Success{Units: units, Rows: rows, Details: map[string]string{"k": "v"}}); err != nil {
			t.Fatal(err)
		}
	}
}

func wantTexts(t testing.TB, server *pgtest.Server, name, query string, want ...string) {
	t.Helper()
	if got := server.Texts(t, name, query); !slices.Equal(got, want) {
		t.Errorf("%s: got %q, want %q", query, got, want)
	}
}

const sums = `SELECT count(*), count(DISTINCT a), coalesce(sum(a), 0) FROM t`

func TestJob(t *testing.T) {
	server, name, db := database(t)
	for _, mode := range []postgres.Mode{postgres.ModeError, postgres.ModeAppend, postgres.ModeOverwrite} {
		server.Exec(t, name, "DROP TABLE IF EXISTS t")
		job := "job-" + string(mode)
		to := target(t, db, "t", mode, job)
		mustPrepare(t, to)
		first := mustWrite(t, to, 0, 0, 5000)
		if first.Rows != 5000 || first.SizeBytes < 5000*20 || first.Epoch != 7 || string(first.Details) != `{"first": 0}` {
			t.Errorf("%+v", first)
		}
		mustPrepare2(t, to) // A head that comes back.
		mustWrite(t, to, 1, 5000, 2)
		mustWrite(t, to, 2, 0, 0)
		again, adopted, err := writeUnit(t, to, 0, 0, 5000)
		if err != nil || !adopted || again.Rows != 5000 || again.Epoch != 7 || again.SizeBytes != first.SizeBytes || string(again.Details) != `{"first": 0}` {
			t.Errorf("%+v, %v, %v", again, adopted, err)
		}
		if err := to.Complete(t.Context(), postgres.Success{Units: 4, Rows: 5002}); engine.KindOf(err) != engine.KindCorrupt {
			t.Errorf("completion with a unit missing: %v", err)
		}
		if mode == postgres.ModeOverwrite {
			if got := server.Texts(t, name, "SELECT to_regclass('t') IS NULL"); got[0] != "t" {
				t.Error("the table is there before the job has succeeded")
			}
		}
		if err := to.CheckResume(t.Context(), 3); err != nil {
			t.Error(err)
		}
		wantError(t, to.CheckResume(t.Context(), 4), engine.KindConflict, "committed 4", "knows 3")
		mustComplete(t, to, 3, 5002)
		wantTexts(t, server, name, sums, "5002|5002|12507501")
		wantTexts(t, server, name, `SELECT "B b" FROM t WHERE a = 77`, "text 77")
		wantTexts(t, server, name, "SELECT unit, state, row_count FROM engine_commits WHERE job = '"+job+"' ORDER BY unit",
			"-1|succeeded|5002", "0|committed|5000", "1|committed|2", "2|committed|0")
		wantTexts(t, server, name, "SELECT count(*) FROM pg_class WHERE relname LIKE '\\_engine\\_%'", "0")
		// An attempt that comes late finds what was done, and one that nobody knows of is refused.
		if _, adopted, err := writeUnit(t, to, 1, 5000, 2); err != nil || !adopted {
			t.Errorf("late attempt: %v, %v", adopted, err)
		}
		_, _, err = writeUnit(t, to, 9, 0, 10)
		wantError(t, err, engine.KindFenced, "succeeded")
		wantTexts(t, server, name, sums, "5002|5002|12507501")
		if err := to.Prepare(t.Context()); err != nil {
			t.Errorf("preparing what has succeeded: %v", err)
		}
		if err := to.Abandon(t.Context()); err != nil {
			t.Errorf("abandoning what has succeeded: %v", err)
		}
	}
}

// mustPrepare2 prepares without the checks of a new job.
func mustPrepare2(t testing.TB, to *postgres.Target) {
	t.Helper()
	if err := to.Prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestModes(t *testing.T) {
	server, name, db := database(t)
	first := target(t, db, "t", postgres.ModeError, "first")
	mustPrepare(t, first)
	mustWrite(t, first, 0, 0, 10)
	second := target(t, db, "t", postgres.ModeError, "second")
	wantError(t, second.Check(t.Context()), engine.KindConflict, "the table has rows", "engine job resume first")
	wantError(t, second.Prepare(t.Context()), engine.KindConflict, "the table has rows")
	mustComplete(t, first, 1, 10)
	wantError(t, second.Check(t.Context()), engine.KindConflict, "job first has filled it")

	appended := target(t, db, "t", postgres.ModeAppend, "appended")
	mustPrepare(t, appended)
	mustWrite(t, appended, 0, 100, 5)
	mustComplete(t, appended, 1, 5)
	wantTexts(t, server, name, sums, "15|15|555")
	wantTexts(t, server, name, "SELECT count(*) FROM engine_commits WHERE job = 'first'", "1")

	missing, err := postgres.NewTarget(db, *table(t, "missing"), postgres.ModeError, false, "m")
	if err != nil {
		t.Fatal(err)
	}
	wantError(t, missing.Check(t.Context()), engine.KindNotFound, "public.missing", "create is false")
	wantError(t, target(t, db, "nowhere.t", postgres.ModeError, "n").Check(t.Context()), engine.KindNotFound, `no schema "nowhere"`)
	server.Exec(t, name, "CREATE VIEW v AS SELECT 1 AS a")
	wantError(t, target(t, db, "v", postgres.ModeAppend, "n").Check(t.Context()), engine.KindConflict, "not a table")
	if _, err := postgres.NewTarget(db, *table(t, "public.engine_commits"), postgres.ModeAppend, true, "n"); engine.KindOf(err) != engine.KindInvalidArgument {
		t.Errorf("its own table: %v", err)
	}
}

// Overwrite replaces the table in one moment, and keeps what belongs to it.
func TestOverwrite(t *testing.T) {
	server, name, db := database(t)
	server.Exec(t, name, `CREATE ROLE reader_`+name+`; CREATE TABLE t (id bigserial PRIMARY KEY, a bigint UNIQUE CHECK (a >= 0), "B b" varchar(20) DEFAULT 'x') WITH (fillfactor = 70);
		CREATE INDEX by_b ON t ("B b") WHERE a > 5; COMMENT ON TABLE t IS 'it''s mine'; GRANT SELECT ON t TO reader_`+name+`, PUBLIC; INSERT INTO t (a) VALUES (1), (2)`)
	about := []string{
		"SELECT indexdef FROM pg_indexes WHERE tablename = 't' ORDER BY 1", "SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = 't'::regclass ORDER BY 1",
		"SELECT reloptions, obj_description(oid, 'pg_class'), (SELECT string_agg(x::text, ',' ORDER BY x::text) FROM unnest(relacl) AS x) FROM pg_class WHERE oid = 't'::regclass",
		"SELECT pg_get_serial_sequence('t', 'id')",
	}
	var before [][]string
	for _, query := range about {
		before = append(before, server.Texts(t, name, query))
	}
	failed := target(t, db, "t", postgres.ModeOverwrite, "failed")
	mustPrepare(t, failed)
	mustWrite(t, failed, 0, 0, 3)
	if err := failed.Abandon(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantTexts(t, server, name, "SELECT a FROM t ORDER BY a", "1", "2")
	wantTexts(t, server, name, "SELECT unit, state FROM engine_commits ORDER BY unit", "-1|abandoned", "0|committed")
	empty := target(t, db, "t", postgres.ModeOverwrite, "empty")
	mustPrepare(t, empty)
	if err := empty.Abandon(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantTexts(t, server, name, "SELECT count(*) FROM pg_class WHERE relname LIKE '\\_engine\\_%' AND relkind = 'r'", "1")

	for round := range 2 {
		to := target(t, db, "t", postgres.ModeOverwrite, fmt.Sprint("job", round))
		mustPrepare(t, to)
		mustWrite(t, to, 0, 0, 10)
		mustComplete(t, to, 1, 10)
		wantTexts(t, server, name, sums, "10|10|45")
		for i, query := range about {
			wantTexts(t, server, name, query, before[i]...)
		}
	}
	wantTexts(t, server, name, "SELECT min(id), max(id) FROM t", "16|25") // after 2, and 3 and 10 of earlier jobs
	wantTexts(t, server, name, "SELECT count(*) FROM pg_class WHERE relname LIKE '\\_engine\\_%'", "0")
	wantError(t, failed.CheckResume(t.Context(), 1), engine.KindConflict, "knows 0")

	// A constraint is an error of the data.
	to := target(t, db, "t", postgres.ModeOverwrite, "twice")
	mustPrepare(t, to)
	mustWrite(t, to, 0, 0, 2)
	_, _, err := writeUnit(t, to, 1, 1, 2)
	wantError(t, err, engine.KindData, "duplicate key", "(a)=(1)")
	if err := to.Abandon(t.Context()); err != nil {
		t.Fatal(err)
	}

	server.Exec(t, name, "CREATE VIEW shown AS SELECT a FROM t; CREATE TABLE other (a bigint REFERENCES t (a))")
	wantError(t, target(t, db, "t", postgres.ModeOverwrite, "x").Check(t.Context()), engine.KindConflict, "view shown", "foreign key other_a_fkey")
	// So it is if that comes later.
	server.Exec(t, name, "DROP VIEW shown; DROP TABLE other")
	late := target(t, db, "t", postgres.ModeOverwrite, "late")
	mustPrepare(t, late)
	mustWrite(t, late, 0, 0, 1)
	server.Exec(t, name, "CREATE VIEW shown AS SELECT a FROM t")
	wantError(t, late.Complete(t.Context(), postgres.Success{Units: 1, Rows: 1}), engine.KindConflict, "view shown")
	wantTexts(t, server, name, sums, "10|10|45")
	server.Exec(t, name, "DROP VIEW shown")
	mustComplete(t, late, 1, 1)
	wantTexts(t, server, name, sums, "1|1|0")
}

// What a job has left that nobody resumes goes, if it can be told from what others have.
func TestDiscard(t *testing.T) {
	server, name, db := database(t)
	for _, mode := range []postgres.Mode{postgres.ModeOverwrite, postgres.ModeAppend} {
		to := target(t, db, "t", mode, "job-"+string(mode))
		if err := to.Discard(t.Context(), true); err != nil {
			t.Fatal(err)
		}
		mustPrepare(t, to)
		if err := to.Discard(t.Context(), mode == postgres.ModeAppend); err != nil {
			t.Fatal(err)
		}
		mustPrepare(t, to)
		mustWrite(t, to, 0, 0, 3)
		if mode == postgres.ModeAppend {
			wantError(t, to.Discard(t.Context(), true), engine.KindConflict, "3 rows of the job")
		}
		if err := to.Discard(t.Context(), false); err != nil {
			t.Fatal(err)
		}
	}
	wantTexts(t, server, name, sums, "3|3|3")
	wantTexts(t, server, name, "SELECT count(*) FROM pg_class WHERE relname LIKE '\\_engine\\_%'", "0")
	wantTexts(t, server, name, "SELECT job, unit FROM engine_commits ORDER BY unit", "job-append|-1", "job-append|0")
}

// A column that does not fit is named before a row is copied.
func TestColumns(t *testing.T) {
	server, name, db := database(t)
	for ddl, words := range map[string][]string{
		"a bigint":                             {`no column "B b"`, "the table has a"},
		`a integer, "B b" text`:                {`column "a" is integer in the table, and int64`},
		`a bigint, "B b" bytea`:                {`column "B b" is bytea`},
		`a bigint, "B b" text, c int NOT NULL`: {`column "c" must have a value`},
		`"B b" text, a bigint GENERATED ALWAYS AS (1) STORED`: {`calculates its column "a"`},
	} {
		server.Exec(t, name, "DROP TABLE IF EXISTS t; CREATE TABLE t ("+ddl+")")
		to := target(t, db, "t", postgres.ModeAppend, "job")
		wantError(t, to.CheckColumns(t.Context(), abSchema), engine.KindData, words...)
		if err := to.Prepare(t.Context()); err != nil {
			t.Fatal(err)
		}
		_, _, err := writeUnit(t, to, 0, 0, 1)
		wantError(t, err, engine.KindData, words...)
	}
	for _, t2 := range []arrow.DataType{arrow.StructOf(arrow.Field{Name: "x", Type: arrow.PrimitiveTypes.Int8}), arrow.ListOf(arrow.ListOf(arrow.PrimitiveTypes.Int8))} {
		wantError(t, postgres.CheckSchema(arrow.NewSchema([]arrow.Field{{Name: "s", Type: t2}}, nil)), engine.KindData, `column "s"`)
	}
	long := arrow.NewSchema([]arrow.Field{{Name: strings.Repeat("ä", 32), Type: arrow.PrimitiveTypes.Int8}}, nil)
	wantError(t, postgres.CheckSchema(long), engine.KindData, "name of a column")
}

// What is written is read back the same, into tables that are made and into others.
func TestWrittenTypes(t *testing.T) {
	server, name, db := database(t)
	vector := arrow.FixedSizeListOfNonNullable(2, arrow.PrimitiveTypes.Float32)
	fields := []arrow.Field{
		{Name: "b", Type: arrow.FixedWidthTypes.Boolean}, {Name: "i8", Type: arrow.PrimitiveTypes.Int8}, {Name: "i16", Type: arrow.PrimitiveTypes.Int16},
		{Name: "i32", Type: arrow.PrimitiveTypes.Int32}, {Name: "i64", Type: arrow.PrimitiveTypes.Int64}, {Name: "u8", Type: arrow.PrimitiveTypes.Uint8},
		{Name: "u16", Type: arrow.PrimitiveTypes.Uint16}, {Name: "u32", Type: arrow.PrimitiveTypes.Uint32}, {Name: "u64", Type: arrow.PrimitiveTypes.Uint64},
		{Name: "f32", Type: arrow.PrimitiveTypes.Float32}, {Name: "f64", Type: arrow.PrimitiveTypes.Float64}, {Name: "s", Type: arrow.BinaryTypes.String},
		{Name: "by", Type: arrow.BinaryTypes.Binary}, {Name: "d", Type: arrow.FixedWidthTypes.Date32}, {Name: "ts", Type: &arrow.TimestampType{Unit: arrow.Nanosecond}},
		{Name: "tz", Type: &arrow.TimestampType{Unit: arrow.Millisecond, TimeZone: "Europe/Berlin"}}, {Name: "dec", Type: &arrow.Decimal128Type{Precision: 20, Scale: 3}},
		{Name: "v", Type: vector}, {Name: "l", Type: arrow.ListOf(arrow.PrimitiveTypes.Float64)}, {Name: "ls", Type: arrow.ListOf(arrow.BinaryTypes.String)},
	}
	for i := range fields {
		fields[i].Nullable = true
	}
	schema := arrow.NewSchema(fields, nil)
	allocator := memory.NewGoAllocator()
	b := array.NewRecordBuilder(allocator, schema)
	defer b.Release()
	at := func(i int) array.Builder { return b.Field(i) }
	at(0).(*array.BooleanBuilder).Append(true)
	at(1).(*array.Int8Builder).Append(math.MinInt8)
	at(2).(*array.Int16Builder).Append(math.MinInt16)
	at(3).(*array.Int32Builder).Append(math.MinInt32)
	at(4).(*array.Int64Builder).Append(math.MinInt64)
	at(5).(*array.Uint8Builder).Append(math.MaxUint8)
	at(6).(*array.Uint16Builder).Append(math.MaxUint16)
	at(7).(*array.Uint32Builder).Append(math.MaxUint32)
	at(8).(*array.Uint64Builder).Append(math.MaxUint64)
	at(9).(*array.Float32Builder).Append(1.5)
	at(10).(*array.Float64Builder).Append(math.Inf(-1))
	at(11).(*array.StringBuilder).Append("tab\t\\N ä")
	at(12).(*array.BinaryBuilder).Append([]byte{0, 255})
	at(13).(*array.Date32Builder).Append(arrow.Date32FromTime(time.Date(1815, 12, 10, 0, 0, 0, 0, time.UTC)))
	at(14).(*array.TimestampBuilder).Append(arrow.Timestamp(time.Date(2026, 11, 27, 1, 2, 3, 4000, time.UTC).UnixNano()))
	at(15).(*array.TimestampBuilder).Append(arrow.Timestamp(time.Date(1969, 7, 20, 20, 17, 40, 0, time.UTC).UnixMilli()))
	at(16).(*array.Decimal128Builder).Append(decimal128.FromI64(-1234567))
	at(17).(*array.FixedSizeListBuilder).Append(true)
	at(17).(*array.FixedSizeListBuilder).ValueBuilder().(*array.Float32Builder).AppendValues([]float32{0.5, -1}, nil)
	at(18).(*array.ListBuilder).Append(true)
	at(18).(*array.ListBuilder).ValueBuilder().(*array.Float64Builder).AppendValues([]float64{1, 0}, []bool{true, false})
	at(19).(*array.ListBuilder).Append(true)
	at(19).(*array.ListBuilder).ValueBuilder().(*array.StringBuilder).AppendValues([]string{"x", ""}, nil)
	for i := range fields {
		at(i).AppendNull()
	}
	columns := make([]arrow.Array, len(fields))
	for i := range fields {
		columns[i] = at(i).NewArray()
	}
	built := columns[17].Data() // Its builder makes a nullable list.
	columns[17] = array.MakeFromData(array.NewData(vector, built.Len(), built.Buffers(), built.Children(), built.NullN(), built.Offset()))
	record := array.NewRecord(schema, columns, 2)
	defer record.Release()

	const want = `t|-128|-32768|-2147483648|-9223372036854775808|255|65535|4294967295|18446744073709551615|1.5|-Infinity|tab	\N ä|\x00ff|1815-12-10|` +
		`2026-11-27 01:02:03.000004|1969-07-20 20:17:40+00|-1234.567|[0.5,-1]|{1,NULL}|{x,""}`
	nulls := strings.TrimSuffix(strings.Repeat("null|", len(fields)), "|")
	write := func(tableName string) {
		t.Helper()
		to := target(t, db, tableName, postgres.ModeError, "job")
		if err := to.Prepare(t.Context()); err != nil {
			t.Fatal(err)
		}
		u := mustBegin(t, to, schema)
		defer func() { _ = u.Close() }()
		if err := u.Write(t.Context(), record); err != nil {
			t.Fatal(err)
		}
		if _, _, err := u.Publish(t.Context(), json.RawMessage("{}"), always); err != nil {
			t.Fatal(err)
		}
	}
	write("made")
	wantTexts(t, server, name, "SELECT * FROM made ORDER BY b", want, nulls)
	wantTexts(t, server, name, "SELECT format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = 'made'::regclass AND attname = 'v'", "vector(2)")
	server.Exec(t, name, `CREATE DOMAIN short AS varchar(30); CREATE TABLE wider (b bool, i8 int2, i16 int4, i32 int8, i64 numeric, u8 int8, u16 float8, u32 float8, u64 numeric, f32 float8,
		f64 numeric, s short, by bytea, d date, ts timestamp, tz timestamptz, dec numeric, v real[], l float8[], ls varchar(5)[])`)
	write("wider")
	wantTexts(t, server, name, "SELECT * FROM wider ORDER BY b", strings.Replace(want, "[0.5,-1]", "{0.5,-1}", 1), nulls)

	// Without pgvector, a vector is an array.
	plainServer, plainName := server, server.Database(t, false)
	to := target(t, open(t, server.URL(plainName)), "t", postgres.ModeError, "job")
	if err := to.Prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	u := mustBegin(t, to, schema)
	if err := u.Close(); err != nil {
		t.Fatal(err)
	}
	wantTexts(t, plainServer, plainName, "SELECT format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = 't'::regclass AND attname = 'v'", "real[]")
}

// Texts go into columns of other types that have texts.
func TestTextColumns(t *testing.T) {
	server, name, db := database(t)
	server.Exec(t, name, "CREATE TYPE mood AS ENUM ('sad', 'happy')")
	for i, c := range []struct{ sql, text, want string }{
		{"json", `{"a": 1}`, `{"a": 1}`}, {"jsonb", `{"a":1}`, `{"a": 1}`}, {"uuid", "A0EEBC999C0B4EF8BB6D6BB9BD380A11", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"},
		{"mood", "happy", "happy"}, {"varchar(5)", "short", "short"}, {"char(3)", "ab", "ab "},
		{"json", `{`, ""}, {"jsonb", `{`, ""}, {"uuid", "no", ""}, {"mood", "odd", ""}, {"varchar(3)", "long", ""}, {"text", "a\x00b", ""},
	} {
		server.Exec(t, name, "DROP TABLE IF EXISTS t; CREATE TABLE t (x "+c.sql+")")
		schema := arrow.NewSchema([]arrow.Field{{Name: "x", Type: arrow.BinaryTypes.String}}, nil)
		b := array.NewRecordBuilder(memory.NewGoAllocator(), schema)
		b.Field(0).(*array.StringBuilder).Append(c.text)
		record := b.NewRecord()
		to := target(t, db, "t", postgres.ModeAppend, fmt.Sprint("job-", i))
		if err := to.Prepare(t.Context()); err != nil {
			t.Fatal(err)
		}
		u := mustBegin(t, to, schema)
		err := u.Write(t.Context(), record)
		if err == nil {
			_, _, err = u.Publish(t.Context(), json.RawMessage("{}"), always)
		}
		switch {
		case c.want == "":
			wantError(t, err, engine.KindData, "x")
		case err != nil:
			t.Errorf("%s: %v", c.sql, err)
		default:
			wantTexts(t, server, name, "SELECT x FROM t", c.want)
		}
		if err := u.Close(); err != nil {
			t.Error(err)
		}
	}
}

// Two attempts at one unit commit it once, whichever ends first, also if the first stands still before its COMMIT.
func TestConcurrentAttempts(t *testing.T) {
	server, name, db := database(t)
	to := target(t, db, "t", postgres.ModeAppend, "job")
	mustPrepare(t, to)
	slow := mustBegin(t, to, abSchema)
	record := abRecord(0, 10)
	if err := slow.Write(t.Context(), record); err != nil {
		t.Fatal(err)
	}
	commit := mustWrite(t, to, 0, 0, 10) // which ends the session of the slow one
	_, _, err := slow.Publish(t.Context(), json.RawMessage("{}"), always)
	wantError(t, err, engine.KindUnavailable, "administrator")
	if err := slow.Close(); err != nil {
		t.Error(err)
	}
	wantTexts(t, server, name, sums, "10|10|45")

	refusal := engine.Errorf(engine.KindFenced, "", "", "no right")
	u, _, err := to.Begin(t.Context(), 1, 1, abSchema)
	if err != nil {
		t.Fatal(err)
	}
	if err := u.Write(t.Context(), record); err != nil {
		t.Fatal(err)
	}
	if _, _, err := u.Publish(t.Context(), json.RawMessage("{}"), func(context.Context) error { return refusal }); !errors.Is(err, refusal) {
		t.Errorf("got %v", err)
	}
	if err := u.Close(); err != nil {
		t.Error(err)
	}
	wantTexts(t, server, name, sums, "10|10|45")
	if commit.Rows != 10 {
		t.Errorf("%+v", commit)
	}
}

// A reply that is lost doubles nothing; a server that goes away in mid-COPY is an error that may be tried again.
func TestLosses(t *testing.T) {
	server := pgtest.Start(t)
	name := server.Database(t, false)
	proxy := pgtest.NewProxy(t, server.Address)
	to := target(t, open(t, pgtest.URL(proxy.Address, name)), "t", postgres.ModeAppend, "job")
	mustPrepare(t, to)

	lost := proxy.LoseReply("COMMIT", 0) // that of the table's creation
	_, _, err := writeUnit(t, to, 0, 0, 2000)
	wantError(t, err, engine.KindUnavailable, proxy.Address)
	<-lost
	lost = proxy.LoseReply("COMMIT", 0)
	_, _, err = writeUnit(t, to, 0, 0, 2000)
	wantError(t, err, engine.KindUnavailable, proxy.Address, "public.t")
	<-lost
	if commit, adopted, err := writeUnit(t, to, 0, 0, 2000); err != nil || !adopted || commit.Rows != 2000 {
		t.Errorf("%+v, %v, %v", commit, adopted, err)
	}
	lost = proxy.LoseRequest("COMMIT", 0)
	_, _, err = writeUnit(t, to, 1, 2000, 2000)
	wantError(t, err, engine.KindUnavailable, proxy.Address)
	<-lost
	if _, adopted, err := writeUnit(t, to, 1, 2000, 2000); err != nil || adopted {
		t.Errorf("%v, %v", adopted, err)
	}
	wantTexts(t, server, name, sums, "4000|4000|7998000")

	u, _, err := to.Begin(t.Context(), 2, 1, abSchema)
	if err != nil {
		t.Fatal(err)
	}
	record := abRecord(4000, 1000)
	for i := 0; ; i++ {
		if err = u.Write(t.Context(), record); err != nil {
			break
		}
		if i == 10 {
			server.Kill()
		}
	}
	wantError(t, err, engine.KindUnavailable, proxy.Address, "public.t")
	if err := u.Close(); err != nil {
		t.Error(err)
	}
	_, _, err = to.Begin(t.Context(), 2, 2, abSchema)
	wantError(t, err, engine.KindUnavailable, proxy.Address)
	server.Restart(t)
	mustWrite(t, to, 2, 4000, 1000)
	wantTexts(t, server, name, sums, "5000|5000|12497500")

	mustComplete(t, to, 3, 5000)
}
