package testcluster_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/internal/pgtest"
	"github.com/f708428e/engine/internal/testcluster"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
	"github.com/f708428e/engine/runtime"
)

func postgresSource(source *enginev1.PostgresSource) *enginev1.Source {
	return &enginev1.Source{Kind: &enginev1.Source_Postgres{Postgres: source}}
}

func postgresSink(url, table, mode string) *enginev1.Sink {
	return &enginev1.Sink{Kind: &enginev1.Sink_Postgres{Postgres: &enginev1.PostgresSink{Url: url, Table: table, Mode: mode}}}
}

// checkTable wants every row of newTable once, with the right prediction.
func (tb table) checkTable(t *testing.T, server *pgtest.Server, database string) {
	t.Helper()
	const query = `SELECT count(*), count(DISTINCT a), min(a), max(a), count(*) FILTER (WHERE prediction = 2 * a + 3 * b + 1 AND note = 'row; ' || a) FROM scored`
	want := fmt.Sprintf("%d|%d|0|%d|%d", tb.rows, tb.rows, tb.rows-1, tb.rows)
	if got := server.Texts(t, database, query); !slices.Equal(got, []string{want}) {
		t.Errorf("the table has %q, want %q", got, want)
	}
}

// TestPostgresJobs scores a file into a table, in every mode, and reads the table back in splits.
func TestPostgresJobs(t *testing.T) {
	server := pgtest.Start(t)
	database := server.Database(t, false)
	url := server.URL(database)
	c := testcluster.Start(t, testcluster.Options{Workers: 2, TargetSplitBytes: 8_000})
	tb := newTable(t, 3_000, 3)
	parquet := tb.spec.GetSink()
	tb.spec.Sink = postgresSink(url, "scored", "")
	result := wait(t, submit(t, c, tb.spec), engine.JobSucceeded)
	checkCounts(t, result, 3_000, 3_000)
	tb.checkTable(t, server, database)
	if want := []string{"postgres://" + server.Address + "/" + database + " public.scored"}; !slices.Equal(result.Outputs, want) {
		t.Errorf("outputs %q, want %q", result.Outputs, want)
	}
	tasks := server.Texts(t, database, "SELECT count(*) > 3, sum(row_count) FROM engine_commits WHERE unit >= 0")
	if !slices.Equal(tasks, []string{"t|3000"}) {
		t.Errorf("engine_commits has %q", tasks)
	}
	if got := server.Texts(t, database, "SELECT state, row_count, details->'digests'->>'job' LIKE 'sha256:%' FROM engine_commits WHERE unit = -1"); !slices.Equal(got, []string{"succeeded|3000|t"}) {
		t.Errorf("engine_commits has %q", got)
	}

	if _, err := c.Client().Submit(t.Context(), tb.spec); err == nil || engine.KindOf(err) != engine.KindConflict || !strings.Contains(err.Error(), "has filled it") {
		t.Errorf("a second job with mode error: %v", err)
	}
	tb.spec.Sink = postgresSink(url, "scored", "overwrite")
	wait(t, submit(t, c, tb.spec), engine.JobSucceeded)
	tb.checkTable(t, server, database)

	server.Exec(t, database, "UPDATE scored SET b = NULL WHERE a = 7; ALTER TABLE scored ALTER a TYPE bigint")
	back := &enginev1.JobSpec{
		Source: postgresSource(&enginev1.PostgresSource{Url: url, Query: "SELECT a, b, note, prediction FROM scored", PartitionColumn: "a", Splits: 8}),
		Batch:  &enginev1.Batch{Rows: 100}, Sink: parquet,
	}
	read := wait(t, submit(t, c, back), engine.JobSucceeded)
	checkCounts(t, read, 3_000, 3_000)
	if len(read.Outputs) != 8 {
		t.Errorf("%d files of 8 splits", len(read.Outputs))
	}
	rows := rowsOf(t, readOutput(t, tb.out()))
	slices.Sort(rows)
	if len(slices.Compact(rows)) != 3_000 || !slices.Contains(rows, "a=7 b=(null) note=row; 7 prediction=20.25 ") {
		t.Errorf("%d rows", len(rows))
	}

	// Few files of many splits, and a schema that does not fit, named before a row is read.
	parquet.GetParquet().Path, parquet.GetParquet().Files = t.TempDir()+"/two", 2
	if read := wait(t, submit(t, c, back), engine.JobSucceeded); len(read.Outputs) != 2 {
		t.Errorf("%d files, want 2", len(read.Outputs))
	}
	tb.spec.Sink = postgresSink(url, "scored", "append")
	tb.spec.Steps = append(tb.spec.Steps, withStep(map[string]string{"a": "'text'"}))
	failed := wait(t, submit(t, c, tb.spec), engine.JobFailed)
	if engine.KindOf(failed.Err) != engine.KindData || !strings.Contains(failed.Err.Error(), `column "a" is bigint in the table`) || failed.RowsRead != 0 {
		t.Errorf("after %d rows: %v", failed.RowsRead, failed.Err)
	}
}

// TestPostgresServerKilled kills the server while tasks copy; the attempts fail, and others follow.
func TestPostgresServerKilled(t *testing.T) {
	server := pgtest.Start(t)
	database := server.Database(t, false)
	gate := make(chan struct{})
	c := testcluster.Start(t, testcluster.Options{Workers: 2, TargetSplitBytes: 8_000, Models: func() runtime.Loader { return newHeld(gate) }})
	tb := newTable(t, 3_000, 3)
	tb.spec.Sink = postgresSink(server.URL(database), "scored", "")
	tb.spec.Retry = &enginev1.Retry{MaxAttempts: 1000}
	job := submit(t, c, tb.spec)
	until(t, func() bool {
		return server.Texts(t, database, "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'COPY%' AND state = 'active'")[0] != "0"
	})
	server.Kill()
	close(gate)
	server.Restart(t)
	result := wait(t, job, engine.JobSucceeded)
	checkCounts(t, result, 3_000, 3_000)
	tb.checkTable(t, server, database)
	if log := logOf(t, job); !strings.Contains(log, "attempt failed") || !strings.Contains(log, server.Address) {
		t.Errorf("no attempt failed that names the server:\n%s", log)
	}
}

// TestPostgresLosesReplies breaks connections before and after COMMITs, of tasks and of the head: nothing is lost or doubled.
func TestPostgresLosesReplies(t *testing.T) {
	server := pgtest.Start(t)
	for _, mode := range []string{"append", "overwrite"} {
		t.Run(mode, func(t *testing.T) {
			database := server.Database(t, false)
			proxy := pgtest.NewProxy(t, server.Address)
			c := testcluster.Start(t, testcluster.Options{Workers: 2, TargetSplitBytes: 8_000})
			tb := newTable(t, 3_000, 3)
			// Check has one COMMIT, so has the comparison of columns, and Prepare, and the table's creation.
			var lost []<-chan struct{}
			for _, skip := range []int{4, 6, 8} {
				lost = append(lost, proxy.LoseReply("COMMIT", skip), proxy.LoseRequest("COMMIT", skip))
			}
			tb.spec.Sink = postgresSink(pgtest.URL(proxy.Address, database), "scored", mode)
			tb.spec.Retry = &enginev1.Retry{MaxAttempts: 100}
			job := submit(t, c, tb.spec)
			result := wait(t, job, engine.JobSucceeded)
			checkCounts(t, result, 3_000, 3_000)
			tb.checkTable(t, server, database)
			for i, happened := range lost {
				select {
				case <-happened:
				default:
					t.Errorf("loss %d did not happen", i)
				}
			}
			if log := logOf(t, job); !strings.Contains(log, "adopted") {
				t.Errorf("nothing was adopted:\n%s", log)
			}
		})
	}
}

// TestPostgresCompletionRepeated loses the reply to the COMMIT that completes a job: doing it again finds it done.
func TestPostgresCompletionRepeated(t *testing.T) {
	server := pgtest.Start(t)
	database := server.Database(t, false)
	proxy := pgtest.NewProxy(t, server.Address)
	c := testcluster.Start(t, testcluster.Options{Workers: 1})
	tb := newTable(t, 1_000, 1)
	tb.spec.Sink = postgresSink(pgtest.URL(proxy.Address, database), "scored", "overwrite")
	lost := proxy.LoseReply("state = $3, row_count", 0)
	job := submit(t, c, tb.spec)
	wait(t, job, engine.JobSucceeded)
	select {
	case <-lost:
	default:
		t.Error("no reply was lost")
	}
	tb.checkTable(t, server, database)
}

// until waits for what only asking can tell.
func until(t *testing.T, holds func() bool) {
	t.Helper()
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	deadline := time.NewTimer(2 * time.Minute)
	defer deadline.Stop()
	for !holds() {
		select {
		case <-again.C:
		case <-deadline.C:
			t.Fatal("it does not become so")
		}
	}
}

// TestRowsThatATableCannotHave follows on_bad_row with them.
func TestRowsThatATableCannotHave(t *testing.T) {
	server := pgtest.Start(t)
	database := server.Database(t, false)
	c := testcluster.Start(t, testcluster.Options{Workers: 2, TargetSplitBytes: 2000})
	server.Exec(t, database, "CREATE TABLE kept (id bigint, name varchar(5))")
	out, spec := filterJob(t, 1000, filterStep("id % 2 = 0"), withStep(map[string]string{"name": "case when id % 200 = 22 then 'too long' else name end"}))
	spec.Sink = postgresSink(server.URL(database), "kept", "overwrite")
	failed := wait(t, submit(t, c, spec), engine.JobFailed)
	for _, want := range []string{"in.csv:", `column "name"`, "a text of 8 characters", "public.kept"} {
		if !strings.Contains(fmt.Sprint(failed.Err), want) {
			t.Errorf("%q is not in: %v", want, failed.Err)
		}
	}
	spec.OnBadRow = &enginev1.BadRows{Action: "dead_letter", Path: out}
	result := wait(t, submit(t, c, spec), engine.JobSucceeded)
	if result.RowsRead != 1000 || result.RowsFiltered != 500 || result.RowsRejected != 5 || result.RowsWritten != 495 {
		t.Errorf("%+v", result)
	}
	checkBeside(t, out, result)
	for _, r := range rejectsIn(t, out) {
		if id, _, _ := strings.Cut(*r.Raw, ","); *r.Column != "name" || !strings.HasSuffix(id, "22") || fmt.Sprint(*r.Line-2) != id {
			t.Errorf("%s, line %d, %s: %s", *r.Raw, *r.Line, *r.Column, r.Reason)
		}
	}
	if got := server.Texts(t, database, "SELECT count(*), max(length(name)) FROM kept"); !slices.Equal(got, []string{"495|2"}) {
		t.Errorf("the table has %q", got)
	}
}
