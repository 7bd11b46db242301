package testcluster_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/client"
	"github.com/f708428e/engine/dataset/folder"
	"github.com/f708428e/engine/internal/pgtest"
	"github.com/f708428e/engine/internal/testcluster"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
	"github.com/f708428e/engine/runtime"
	"github.com/f708428e/engine/runtime/operator"
)

// checkBeside wants every rejected row once in the files that a result lists, and _SUCCESS.
func checkBeside(t *testing.T, rejects string, result client.Result) {
	t.Helper()
	raws := map[string]bool{}
	found := rejectsIn(t, rejects)
	for _, r := range found {
		raws[*r.Raw] = true
	}
	if len(found) != int(result.RowsRejected) || len(raws) != len(found) {
		t.Errorf("%d rows are kept, %d different ones; %d were rejected", len(found), len(raws), result.RowsRejected)
	}
	success, err := folder.ReadSuccess(rejects)
	if err != nil || success.Rows != result.RowsRejected {
		t.Errorf("_SUCCESS: %+v, %v", success, err)
	}
	files := filesIn(t, rejects)
	for _, name := range files {
		if !slices.Contains(result.Outputs, filepath.Join(rejects, name)) {
			t.Errorf("%s is not listed", name)
		}
	}
	if len(files) != len(success.Parts) {
		t.Errorf("%d files, _SUCCESS has %d", len(files), len(success.Parts))
	}
}

// failOnce is SQL that has the first commit of rows fail in a way that is tried again.
const failOnce = `CREATE SEQUENCE tries;
CREATE FUNCTION fail_once() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
	IF nextval('tries') = 1 THEN RAISE EXCEPTION 'not this time' USING ERRCODE = '40001'; END IF;
	RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER fails AFTER INSERT ON %s DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION fail_once()`

// TestDeadLettersBesideTable writes rows into a table, and bad ones into a folder, also if a task is tried again that has published those.
func TestDeadLettersBesideTable(t *testing.T) {
	const rows = 3000
	server := pgtest.Start(t)
	database := server.Database(t, false)
	c := testcluster.Start(t, testcluster.Options{Workers: 2, TargetSplitBytes: 5000})
	dir, bad, spec := badJob(t, rows, &enginev1.BadRows{Action: "dead_letter"})
	spec.Sink = postgresSink(server.URL(database), "scored", "")
	for i, rejects := range []string{filepath.Join(dir, "first"), filepath.Join(dir, "second")} {
		spec.OnBadRow.Path = rejects
		job := submit(t, c, spec)
		result := wait(t, job, engine.JobSucceeded)
		checkRejected(t, result, rows, bad)
		checkBeside(t, rejects, result)
		want := fmt.Sprint((i + 1) * int(result.RowsWritten))
		if got := server.Texts(t, database, "SELECT count(*) FROM scored"); !slices.Equal(got, []string{want}) {
			t.Errorf("the table has %q rows, expected %s", got, want)
		}
		if i == 0 {
			server.Exec(t, database, fmt.Sprintf(failOnce, "scored"))
			spec.Sink.GetPostgres().Mode = "append"
			continue
		}
		if lines := logOf(t, job); !strings.Contains(lines, "not this time") {
			t.Errorf("no attempt failed: %s", lines)
		}
	}

	// What is there of a job that failed is deleted with it.
	spec.OnBadRow.Path, spec.OnBadRow.Limit = filepath.Join(dir, "third"), 1
	job := submit(t, c, spec)
	wait(t, job, engine.JobFailed)
	if _, err := job.Forget(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	if files := filesIn(t, spec.OnBadRow.Path); len(files) > 0 {
		t.Errorf("%v stay", files)
	}
}

// waitHere is SQL for a trigger that waits for whoever holds an advisory lock, waitBeforeSuccess has the end of a job do so, and
// waitBeforeCommit all its tasks but the first.
const waitHere = `CREATE FUNCTION wait_here() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
	PERFORM pg_advisory_xact_lock(7);
	RETURN NEW;
END $$`

const (
	waitBeforeSuccess = `CREATE TRIGGER waits BEFORE UPDATE ON engine_commits FOR EACH ROW WHEN (NEW.state = 'succeeded') EXECUTE FUNCTION wait_here()`
	waitBeforeCommit  = `CREATE TRIGGER waits BEFORE INSERT ON engine_commits FOR EACH ROW WHEN (NEW.unit > 0) EXECUTE FUNCTION wait_here()`
)

// TestRejectsAreCompletedLast looks for _SUCCESS of the bad rows while the table is about to be committed, and has the job fail between the
// two: it goes on from there.
func TestRejectsAreCompletedLast(t *testing.T) {
	const rows = 1000
	server := pgtest.Start(t)
	database := server.Database(t, false)
	c := testcluster.Start(t, testcluster.Options{Workers: 2, TargetSplitBytes: 5000})
	dir, bad, spec := badJob(t, rows, &enginev1.BadRows{Action: "dead_letter"})
	spec.Sink = postgresSink(server.URL(database), "scored", "overwrite")
	wait(t, submit(t, c, spec), engine.JobSucceeded)
	server.Exec(t, database, waitHere+"; "+waitBeforeSuccess)
	holder := server.Connect(t, database)
	if _, err := holder.Exec(t.Context(), "SELECT pg_advisory_lock(7)"); err != nil {
		t.Fatal(err)
	}
	spec.OnBadRow.Path = filepath.Join(dir, "second")
	job := submit(t, c, spec)
	until(t, func() bool {
		return server.Texts(t, database, "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")[0] != "0"
	})
	// What is no file cannot be replaced by one.
	obstacle := filepath.Join(spec.OnBadRow.Path, folder.SuccessName)
	if err := os.Mkdir(obstacle, 0o750); err != nil {
		t.Errorf("before the table is committed: %v", err)
	}
	if _, err := holder.Exec(t.Context(), "SELECT pg_advisory_unlock(7)"); err != nil {
		t.Fatal(err)
	}
	if result := wait(t, job, engine.JobFailed); !strings.Contains(fmt.Sprint(result.Err), obstacle) {
		t.Errorf("got %v", result.Err)
	}
	if err := os.Remove(obstacle); err != nil {
		t.Fatal(err)
	}
	if _, err := job.Resume(withTimeout(t)); err != nil {
		t.Fatal(err)
	}
	result := wait(t, job, engine.JobSucceeded)
	checkRejected(t, result, rows, bad)
	checkBeside(t, spec.OnBadRow.Path, result)
	if got := server.Texts(t, database, "SELECT count(*) FROM scored"); !slices.Equal(got, []string{fmt.Sprint(result.RowsWritten)}) {
		t.Errorf("the table has %q rows, expected %d", got, result.RowsWritten)
	}

	// Bad rows that are gone are missed before the table is touched.
	if _, err := holder.Exec(t.Context(), "SELECT pg_advisory_lock(7)"); err != nil {
		t.Fatal(err)
	}
	server.Exec(t, database, "DROP TRIGGER waits ON engine_commits; "+waitBeforeCommit)
	spec.OnBadRow.Path = filepath.Join(dir, "third")
	job = submit(t, c, spec)
	until(t, func() bool {
		status, err := job.Status(withTimeout(t))
		return err == nil && status.GetProgress().GetTasksDone() == 1 // The first one's.
	})
	if err := os.Remove(filepath.Join(spec.OnBadRow.Path, folder.PartName(job.ID(), 0, ".json"))); err != nil {
		t.Fatal(err)
	}
	before := server.Texts(t, database, "SELECT 'scored'::regclass::oid")
	if _, err := holder.Exec(t.Context(), "SELECT pg_advisory_unlock(7)"); err != nil {
		t.Fatal(err)
	}
	if result := wait(t, job, engine.JobFailed); engine.KindOf(result.Err) != engine.KindCorrupt || !strings.Contains(result.Err.Error(), "rejected rows were published there, and are gone") {
		t.Errorf("got %v", result.Err)
	}
	if got := server.Texts(t, database, "SELECT 'scored'::regclass::oid"); !slices.Equal(got, before) {
		t.Error("the table was replaced")
	}
}

// TestDeadLettersBesideObjects keeps rows as objects, and bad ones in a folder.
func TestDeadLettersBesideObjects(t *testing.T) {
	const rows = 3000
	c := testcluster.Start(t, testcluster.Options{Workers: 2, TargetSplitBytes: 5000})
	dir, bad, spec := badJob(t, rows, &enginev1.BadRows{Action: "dead_letter"})
	for _, sink := range []*enginev1.ObjectSink{{}, {Checkpoint: filepath.Join(dir, "kept")}} {
		spec.Sink = objectSink(sink)
		spec.OnBadRow.Path = filepath.Join(dir, "rejects"+filepath.Base(sink.GetCheckpoint()))
		result := wait(t, submit(t, c, spec), engine.JobSucceeded)
		checkRejected(t, result, rows, bad)
		checkBeside(t, spec.OnBadRow.Path, result)
		refs := slices.DeleteFunc(slices.Clone(result.Outputs), func(output string) bool { return strings.HasPrefix(output, dir) })
		copied := filepath.Join(t.TempDir(), "copy")
		back := wait(t, submit(t, c, convert(objectSource(refs...), parquetSink(copied))), engine.JobSucceeded)
		checkCounts(t, back, result.RowsWritten, result.RowsWritten)
	}
}

// fickle refuses one row, another one each time it is made.
type fickle struct {
	schema *arrow.Schema
	id     int64
}

func (f *fickle) Schema() *arrow.Schema { return f.schema }

func (f *fickle) Apply(_ context.Context, in arrow.Record) (arrow.Record, error) {
	for row, id := range in.Column(0).(*array.Int64).Int64Values() {
		if id == f.id {
			return nil, &runtime.RowError{Column: "id", Row: int64(row), Err: errors.New("not today")}
		}
	}
	in.Retain()
	return in, nil
}

// TestRejectsThatDiffer refuses to commit the rows of an attempt that has rejected others than the one before, whose bad rows are published.
func TestRejectsThatDiffer(t *testing.T) {
	server := pgtest.Start(t)
	database := server.Database(t, false)
	var made atomic.Int64
	registry := &operator.Registry{}
	registry.RegisterStep("test/fickle", operator.TypedStep(func(_ struct{}, in *arrow.Schema) (operator.Operator, error) {
		return &fickle{schema: in, id: made.Add(1)}, nil
	}))
	c := testcluster.Start(t, testcluster.Options{Workers: 1, Operators: registry})
	rejects := filepath.Join(t.TempDir(), "rejects")
	spec := convert(csvSource(numbers(t, 1000, 1)...), postgresSink(server.URL(database), "kept", "append"))
	spec.Steps = []*enginev1.Step{{Kind: &enginev1.Step_Map{Map: &enginev1.MapStep{Operator: "test/fickle"}}}}
	spec.OnBadRow = &enginev1.BadRows{Action: "dead_letter", Path: rejects}
	server.Exec(t, database, "CREATE TABLE kept (id bigint, name text)")
	server.Exec(t, database, fmt.Sprintf(failOnce, "kept"))
	result := wait(t, submit(t, c, spec), engine.JobFailed)
	if engine.KindOf(result.Err) != engine.KindConflict || !strings.Contains(result.Err.Error(), "a step does not do the same twice") {
		t.Errorf("got %v", result.Err)
	}
	if got := server.Texts(t, database, "SELECT count(*) FROM kept"); !slices.Equal(got, []string{"0"}) {
		t.Errorf("the table has %q rows", got)
	}
}
