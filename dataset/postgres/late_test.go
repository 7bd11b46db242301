package postgres_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/arrow/memory"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/dataset"
	"github.com/f708428e/engine/dataset/postgres"
	"github.com/f708428e/engine/internal/pgtest"
)

// TestSlowSteps computes for longer than a server may give no sign of life: while it waits for rows, it need not say anything.
func TestSlowSteps(t *testing.T) {
	server, name, _ := database(t)
	const patience = time.Second
	db, err := postgres.ParseURL(server.URL(name), patience)
	if err != nil {
		t.Fatal(err)
	}
	to := target(t, db, "t", postgres.ModeAppend, "job")
	mustPrepare(t, to)
	u := mustBegin(t, to, abSchema)
	record := abRecord(0, 2000) // more than is gathered before it is sent
	defer record.Release()
	for range 2 {
		if err := u.Write(t.Context(), record); err != nil {
			t.Fatal(err)
		}
		<-time.After(patience + patience/2) // the passing of time is what is tested
	}
	_, _, err = u.Publish(t.Context(), json.RawMessage("{}"), always)
	if err != nil {
		t.Error(err)
	}
	if err := u.Close(); err != nil {
		t.Error(err)
	}
	wantTexts(t, server, name, "SELECT count(*) FROM t", "4000")
}

// TestLostReplies loses the answer to each step of the head, whose work is done all the same.
func TestLostReplies(t *testing.T) {
	server := shared.start(t)
	for _, mode := range []postgres.Mode{postgres.ModeError, postgres.ModeAppend, postgres.ModeOverwrite} {
		t.Run(string(mode), func(t *testing.T) {
			name := server.Database(t, false)
			proxy := pgtest.NewProxy(t, server.Address)
			if mode == postgres.ModeOverwrite {
				server.Exec(t, name, `CREATE TABLE t (a bigint, "B b" text); INSERT INTO t VALUES (-1, 'old')`)
			}
			to := target(t, open(t, pgtest.URL(proxy.Address, name)), "t", mode, "job")
			lose := func(word string, reply bool, do func() error) {
				t.Helper()
				lost := proxy.LoseRequest(word, 0)
				if reply {
					lost = proxy.LoseReply(word, 0)
				}
				if err := do(); err != nil {
					t.Errorf("%s, reply %v: %v", word, reply, err)
				}
				<-lost
			}
			for _, reply := range []bool{true, false} {
				lose("COMMIT", reply, func() error { return to.Prepare(t.Context()) })
			}
			lose("COMMIT", true, func() error { return to.Abandon(t.Context()) })
			lose("COMMIT", true, func() error { return to.Prepare(t.Context()) })
			mustWrite(t, to, 0, 0, 10)
			for _, reply := range []bool{false, true} {
				lose("COMMIT", reply, func() error { return to.Complete(t.Context(), postgres.Success{Units: 1, Rows: 10}) })
			}
			wantTexts(t, server, name, sums, "10|10|45")
			wantTexts(t, server, name, "SELECT unit, state FROM engine_commits ORDER BY unit", "-1|succeeded", "0|committed")
		})
	}
}

// TestTwoJobs lets two jobs begin before either has written a row.
func TestTwoJobs(t *testing.T) {
	server, name, db := database(t)
	first, second := target(t, db, "t", postgres.ModeError, "one"), target(t, db, "t", postgres.ModeError, "two")
	mustPrepare(t, first)
	wantError(t, second.Prepare(t.Context()), engine.KindConflict, "job one writes to it", "resume one")
	mustWrite(t, first, 0, 0, 10)
	wantError(t, target(t, db, "t", postgres.ModeAppend, "two").Prepare(t.Context()), engine.KindConflict, "job one writes to it")
	mustComplete(t, first, 1, 10)
	added := target(t, db, "t", postgres.ModeAppend, "two")
	mustPrepare(t, added)
	mustWrite(t, added, 0, 10, 10)
	// Of jobs that add rows there may be several.
	third := target(t, db, "t", postgres.ModeAppend, "three")
	mustPrepare(t, third)
	mustWrite(t, third, 0, 20, 10)
	mustComplete(t, added, 1, 10)
	mustComplete(t, third, 1, 10)
	wantTexts(t, server, name, sums, "30|30|435")
}

// TestForgottenJob lets others write after a job that could not say that it has ended.
func TestForgottenJob(t *testing.T) {
	server, name, db := database(t)
	server.Exec(t, name, `CREATE TABLE t (a bigint, "B b" text)`)
	killed := target(t, db, "t", postgres.ModeError, "killed")
	mustPrepare(t, killed)
	next := target(t, db, "t", postgres.ModeError, "next")
	wantError(t, next.Check(t.Context()), engine.KindConflict, "job killed writes to it", "engine_commits")
	if err := killed.Discard(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	mustPrepare(t, next)
}

// TestDefaultPrivileges replaces a table that fewer may read than new ones.
func TestDefaultPrivileges(t *testing.T) {
	server, name, db := database(t)
	server.Exec(t, name, `ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO PUBLIC; CREATE TABLE t (a bigint, "B b" text); REVOKE ALL ON t FROM PUBLIC`)
	const query = `SELECT relname, EXISTS (SELECT FROM aclexplode(relacl) WHERE grantee = 0) FROM pg_class WHERE relkind = 'r' AND (relname = 't' OR relname LIKE '\_engine\_%') AND relname <> 'engine_commits' ORDER BY relname <> 't'`
	to := target(t, db, "t", postgres.ModeOverwrite, "job")
	mustPrepare(t, to)
	for _, row := range server.Texts(t, name, query) {
		if row[len(row)-1] != 'f' {
			t.Errorf("everybody may read %s", row)
		}
	}
	mustWrite(t, to, 0, 0, 10)
	mustComplete(t, to, 1, 10)
	wantTexts(t, server, name, query, "t|f")
}

// TestOneBound gives one bound of the partition column and leaves the other to the rows, all of which lie beyond it.
func TestOneBound(t *testing.T) {
	server, name, db := database(t)
	server.Exec(t, name, "CREATE TABLE t AS SELECT n::int4 AS n FROM generate_series(100, 199) n")
	for _, c := range []struct{ lower, upper string }{{"1000", ""}, {"", "10"}, {"-5", ""}, {"", "150"}, {"", ""}} {
		source := newSource(t, postgres.SourceOptions{Database: db, Table: table(t, "t"), PartitionColumn: "n", Splits: 4, Lower: c.lower, Upper: c.upper})
		layout := plan(t, source)
		total := 0
		for _, split := range layout.Splits {
			rows, _, err := readSplit(t, source, layout, split, dataset.ReadOptions{})
			if err != nil {
				t.Fatal(err)
			}
			total += len(rows)
		}
		if total != 100 {
			t.Errorf("%+v: %d rows in %d splits", c, total, len(layout.Splits))
		}
	}
}

// TestRefusedByTrigger is told from a fault of the server, which is tried again.
func TestRefusedByTrigger(t *testing.T) {
	server, name, db := database(t)
	server.Exec(t, name, `CREATE TABLE t (a bigint, "B b" text);
		CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'not this row'; END $$;
		CREATE TRIGGER refuse BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION refuse()`)
	to := target(t, db, "t", postgres.ModeAppend, "job")
	mustPrepare(t, to)
	_, _, err := writeUnit(t, to, 0, 0, 10)
	wantError(t, err, engine.KindData, "not this row", "P0001")
}

// TestOverwriteBesideAppend has another cluster's job add rows to a table that is to be replaced: whoever comes second is refused, also when it
// comes back.
func TestOverwriteBesideAppend(t *testing.T) {
	server, name, db := database(t)
	server.Exec(t, name, `CREATE TABLE t (a bigint, "B b" text); INSERT INTO t VALUES (-1, 'old')`)
	adding, replacing := target(t, db, "t", postgres.ModeAppend, "adding"), target(t, db, "t", postgres.ModeOverwrite, "replacing")
	mustPrepare(t, adding)
	mustWrite(t, adding, 0, 0, 10)
	wantError(t, replacing.Check(t.Context()), engine.KindConflict, "job adding adds rows to it", "resume adding")
	wantError(t, replacing.Prepare(t.Context()), engine.KindConflict, "job adding adds rows to it")

	// It fails, and another takes the table before it is resumed.
	if err := adding.Abandon(t.Context()); err != nil {
		t.Fatal(err)
	}
	mustPrepare(t, replacing)
	wantError(t, adding.Prepare(t.Context()), engine.KindConflict, "job replacing is going to replace it", "resume replacing")
	wantError(t, target(t, db, "t", postgres.ModeAppend, "late").Check(t.Context()), engine.KindConflict, "job replacing is going to replace it")
	second := target(t, db, "t", postgres.ModeOverwrite, "second") // Of two that replace it, one stays whole.
	mustPrepare(t, second)
	if err := second.Abandon(t.Context()); err != nil {
		t.Fatal(err)
	}
	mustWrite(t, replacing, 0, 20, 5)

	// An engine that did not look lets one add rows all the same.
	server.Exec(t, name, `UPDATE engine_commits SET state = 'writing' WHERE job = 'adding' AND unit = -1`)
	wantError(t, replacing.Complete(t.Context(), postgres.Success{Units: 1, Rows: 5}), engine.KindConflict, "job adding adds rows to it")
	wantTexts(t, server, name, sums, "11|11|44")
	mustComplete(t, adding, 1, 10)
	mustComplete(t, replacing, 1, 5)
	wantTexts(t, server, name, sums, "5|5|110")
}

// TestMayEndNoSession runs jobs of a user from whom the right to end sessions was taken.
func TestMayEndNoSession(t *testing.T) {
	server, name, _ := database(t)
	server.Exec(t, name, `CREATE ROLE plain LOGIN; GRANT CREATE ON SCHEMA public TO plain; REVOKE EXECUTE ON FUNCTION pg_terminate_backend FROM PUBLIC`)
	db := open(t, strings.Replace(server.URL(name), "engine@", "plain@", 1))
	for _, mode := range []postgres.Mode{postgres.ModeError, postgres.ModeOverwrite} {
		to := target(t, db, "t", mode, "job-"+string(mode))
		mustPrepare(t, to)
		mustWrite(t, to, 0, 0, 10)
		if err := to.Abandon(t.Context()); err != nil {
			t.Error(err)
		}
		mustPrepare2(t, to)
		mustComplete(t, to, 1, 10)
		wantTexts(t, server, name, sums, "10|10|45")
	}
	lost := target(t, db, "t", postgres.ModeOverwrite, "lost")
	mustPrepare(t, lost)
	if err := lost.Discard(t.Context(), false); err != nil {
		t.Error(err)
	}
	wantTexts(t, server, name, "SELECT job FROM engine_commits WHERE unit = -1 ORDER BY job", "job-error", "job-overwrite")
}

// TestResumeAfterSuccess goes on with a job whose table is done, and whose units somebody has tidied away.
func TestResumeAfterSuccess(t *testing.T) {
	_, _, db := database(t)
	first, second := target(t, db, "t", postgres.ModeAppend, "one"), target(t, db, "t", postgres.ModeAppend, "two")
	for i, to := range []*postgres.Target{first, second} {
		mustPrepare(t, to)
		mustWrite(t, to, 0, 10*i, 10)
		mustComplete(t, to, 1, 10)
	}
	if err := first.CheckResume(t.Context(), 1); err != nil {
		t.Error(err)
	}
}

// TestRefusedEscapes has JSON texts that jsonb does not store among those that it does.
func TestRefusedEscapes(t *testing.T) {
	server, name, db := database(t)
	server.Exec(t, name, `CREATE TABLE t (a bigint, "B b" jsonb)`)
	to := target(t, db, "t", postgres.ModeAppend, "job")
	mustPrepare(t, to)
	u := mustBegin(t, to, abSchema)
	b := array.NewRecordBuilder(memory.NewGoAllocator(), abSchema)
	defer b.Release()
	texts := []string{
		`"\u0000"`, `{"\ud83d": 1}`, `"\ude00\ud83d"`, `"\ud83dx\ude00"`, `["\n\ud83d\u0041"]`, // none of these
		`"\ud83d\ude00"`, `"\\u0000"`, `{"\"\u00e4\\": "\/"}`, `"plain"`,
	}
	for i, text := range texts {
		b.Field(0).(*array.Int64Builder).Append(int64(i))
		b.Field(1).(*array.StringBuilder).Append(text)
	}
	record := b.NewRecord()
	defer record.Release()
	var refused dataset.RefusedRows
	if err := u.Write(t.Context(), record); !errors.As(err, &refused) || len(refused) != 5 || refused[4].Row != 4 {
		t.Fatalf("%v: %v", err, refused)
	}
	if _, _, err := u.Publish(t.Context(), json.RawMessage("{}"), always); err != nil {
		t.Error(err)
	}
	if err := u.Close(); err != nil {
		t.Error(err)
	}
	wantTexts(t, server, name, "SELECT a FROM t ORDER BY a", "5", "6", "7", "8")
}

// TestRefusedRows leaves out rows with values that the table cannot have, and commits the others.
func TestRefusedRows(t *testing.T) {
	server, name, db := database(t)
	server.Exec(t, name, `CREATE TABLE t (a bigint NOT NULL, "B b" varchar(4))`)
	to := target(t, db, "t", postgres.ModeAppend, "job")
	mustPrepare(t, to)
	u := mustBegin(t, to, abSchema)
	b := array.NewRecordBuilder(memory.NewGoAllocator(), abSchema)
	defer b.Release()
	for i, text := range []string{"fits", "too long", "wörd", "no", "a\x00b", "yes  "} {
		if i == 3 {
			b.Field(0).AppendNull()
		} else {
			b.Field(0).(*array.Int64Builder).Append(int64(i))
		}
		b.Field(1).(*array.StringBuilder).Append(text)
	}
	record := b.NewRecord()
	defer record.Release()
	for range 2 {
		var refused dataset.RefusedRows
		if err := u.Write(t.Context(), record); !errors.As(err, &refused) || engine.KindOf(err) != engine.KindData {
			t.Fatal(err)
		}
		var said strings.Builder
		for _, r := range refused {
			fmt.Fprintf(&said, "%d %s: %v\n", r.Row, r.Column, r.Err)
		}
		at := "write postgres: " + to.String() + ": "
		want := "1 B b: " + at + "a text of 8 characters, which is too long for character varying(4)\n" +
			"3 a: " + at + "a null, which the column does not allow\n" +
			"4 B b: " + at + "the text holds a NUL character, which Postgres does not store\n"
		if said.String() != want {
			t.Errorf("got %s\nwant %s", said.String(), want)
		}
	}
	commit, _, err := u.Publish(t.Context(), json.RawMessage("{}"), always)
	if err != nil || commit.Rows != 6 {
		t.Errorf("%+v, %v", commit, err)
	}
	if err := u.Close(); err != nil {
		t.Error(err)
	}
	mustComplete(t, to, 1, 6)
	wantTexts(t, server, name, `SELECT a, count(*), min("B b") FROM t GROUP BY a ORDER BY a`, "0|2|fits", "2|2|wörd", "5|2|yes ")

	// A trigger may fill in what is null.
	server.Exec(t, name, `CREATE FUNCTION fill() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.a = coalesce(NEW.a, 99); RETURN NEW; END $$;
		CREATE TRIGGER fill BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION fill()`)
	next := target(t, db, "t", postgres.ModeAppend, "next")
	mustPrepare(t, next)
	u = mustBegin(t, next, abSchema)
	var refused dataset.RefusedRows
	if err := u.Write(t.Context(), record); !errors.As(err, &refused) || len(refused) != 2 {
		t.Errorf("got %v", err)
	}
	if _, _, err := u.Publish(t.Context(), json.RawMessage("{}"), always); err != nil {
		t.Error(err)
	}
	if err := u.Close(); err != nil {
		t.Error(err)
	}
	wantTexts(t, server, name, "SELECT count(*) FROM t WHERE a = 99", "1")
}
