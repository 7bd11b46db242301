package postgres

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/apache/arrow/go/v15/arrow"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/internal/failpoint"
)

const opWrite = "write postgres"

// Mode says what happens if a table has rows.
type Mode string

// The modes.
const (
	// ModeError refuses a table that has rows, unless they are the job's own.
	ModeError Mode = "error"
	// ModeOverwrite replaces the table as a whole when the job succeeds, and leaves it as it was otherwise.
	ModeOverwrite Mode = "overwrite"
	// ModeAppend adds rows.
	ModeAppend Mode = "append"
)

// CommitsTable is the name of the table in which the engine keeps what it has committed, in the schema of the table that is written. A row
// with unit -1 is the job as a whole; its state "succeeded" says that all its rows are there.
const CommitsTable = "engine_commits"

// States of a job's row in engine_commits.
const (
	stateWriting   = "writing"
	stateAbandoned = "abandoned"
	stateSucceeded = "succeeded"
	// stateCommitted is that of a unit.
	stateCommitted = "committed"
)

// headUnit stands for a unit in the names of sessions that see to the whole job.
const headUnit = "head"

// Target is a table as the output of one job. Its methods may be called from any process that reaches the server, in the order Check,
// Prepare, Begin for every unit, Complete, and each again after a crash. It has no state and is safe for concurrent use.
type Target struct {
	database Database
	table    TableName
	mode     Mode
	create   bool
	job      engine.JobID
}

// NewTarget returns the table as the output of a job. create says that a table that is not there is made.
func NewTarget(database Database, table TableName, mode Mode, create bool, job engine.JobID) (*Target, error) {
	if table.Table == CommitsTable {
		return nil, engine.Errorf(engine.KindInvalidArgument, "", "table", "%s is where the engine keeps its own records", table)
	}
	return &Target{database: database, table: table, mode: mode, create: create, job: job}, nil
}

// String names the table with its database: what no two jobs may write at a time.
func (t *Target) String() string { return t.database.String() + " " + t.table.String() }

// WriteMode is what happens if the table has rows.
func (t *Target) WriteMode() Mode { return t.mode }

// work is the table that rows are copied into: a new one for ModeOverwrite.
func (t *Target) work() TableName {
	if t.mode != ModeOverwrite {
		return t.table
	}
	sum := sha256.Sum256([]byte(string(t.job) + "\x00" + t.table.sql()))
	return TableName{t.table.Schema, "_engine_" + hex.EncodeToString(sum[:12])}
}

// Work names the table that rows are in until Complete.
func (t *Target) Work() string { return t.database.String() + " " + t.work().String() }

func (t *Target) commits() string { return TableName{t.table.Schema, CommitsTable}.sql() }

// application is the name under which the sessions of the job's attempts are seen.
func (t *Target) application(unit string) string {
	return "engine " + string(t.job) + "/" + unit // Postgres cuts it off after 63 bytes, and it has fewer.
}

func (t *Target) connect(ctx context.Context, unit string) (*session, error) {
	return t.database.connect(ctx, opWrite, t.String(), t.application(unit))
}

// transact does something in a transaction of a session of its own.
func (t *Target) transact(ctx context.Context, do func(*session) error) error {
	s, err := t.connect(ctx, headUnit)
	if err != nil {
		return err
	}
	defer s.close()
	return t.within(ctx, s, do)
}

// again is transact for what may be done more than once, so that a server that is restarted meanwhile, or a reply that is lost, does not end
// a job whose rows are all there.
func (t *Target) again(ctx context.Context, do func(*session) error) error {
	began := time.Now()
	for n := 1; ; n++ {
		err := t.transact(ctx, do)
		if engine.KindOf(err) != engine.KindUnavailable || err == nil || n == tries || time.Since(began) > againWithin {
			return err
		}
		timer := time.NewTimer(firstPause << (n - 1))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return err
		}
	}
}

const (
	// tries is how often again tries, firstPause is after the first time, each further one is twice as long.
	tries      = 6
	firstPause = 200 * time.Millisecond
	// againWithin keeps again from waiting for a lock as often.
	againWithin = 30 * time.Second
)

// milliseconds is a setting of Postgres, which has 32 bits.
func milliseconds(d time.Duration) int64 { return min(max(d.Milliseconds(), 1), math.MaxInt32) }

// within does something in a transaction. After an error the session is of no more use.
func (t *Target) within(ctx context.Context, s *session, do func(*session) error) error {
	wait := max(t.database.timeout-time.Second, time.Second)
	if err := s.run(ctx, opWrite, "BEGIN", "SET LOCAL client_min_messages = error", fmt.Sprintf("SET LOCAL lock_timeout = %d", milliseconds(wait))); err != nil {
		return err
	}
	if err := do(s); err != nil {
		return err
	}
	return s.run(ctx, opWrite, "COMMIT")
}

// lock lets preparations of one schema's tables come one after the other, since IF NOT EXISTS fails if another transaction creates the same.
func (t *Target) lock(ctx context.Context, s *session) error {
	_, err := s.exec(ctx, opWrite, "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", t.commits())
	return err
}

// Check refuses, without changing anything, what is known to be refused later: a server that cannot be reached, a table that is not there or
// may not be written, one that has rows of others, and for ModeOverwrite one that others depend on.
func (t *Target) Check(ctx context.Context) error {
	return t.transact(ctx, func(s *session) error {
		if err := t.findSchema(ctx, s); err != nil {
			return err
		}
		found, err := t.find(ctx, s, t.table)
		if err != nil {
			return err
		}
		return t.allow(ctx, s, found)
	})
}

// CheckColumns compares the columns of the output with those of the table, if it is there.
func (t *Target) CheckColumns(ctx context.Context, schema *arrow.Schema) error {
	if err := CheckSchema(schema); err != nil {
		return engine.WrapError("", t.String(), err)
	}
	return t.transact(ctx, func(s *session) error {
		found, err := t.find(ctx, s, t.table)
		if err != nil || !found {
			return err
		}
		_, err = t.assign(ctx, s, t.table, schema)
		return err
	})
}

func (t *Target) findSchema(ctx context.Context, s *session) error {
	ok, err := s.row(ctx, opWrite, "SELECT true FROM pg_catalog.pg_namespace WHERE nspname = $1", []any{t.table.Schema}, new(bool))
	if err == nil && !ok {
		err = engine.Errorf(engine.KindNotFound, opWrite, t.String(), "the database has no schema %q", t.table.Schema)
	}
	return err
}

// find reports whether a table is there, and refuses what is no table.
func (t *Target) find(ctx context.Context, s *session, table TableName) (bool, error) {
	var kind string
	found, err := s.row(ctx, opWrite, "SELECT relkind::text FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE nspname = $1 AND relname = $2",
		[]any{table.Schema, table.Table}, &kind)
	if err == nil && found && kind != "r" && kind != "p" {
		err = engine.Errorf(engine.KindConflict, opWrite, t.String(), "it is not a table")
	}
	if err == nil && kind == "p" && t.mode == ModeOverwrite {
		err = engine.Errorf(engine.KindConflict, opWrite, t.String(), "mode overwrite does not replace a table that has partitions").
			WithHint("delete its rows and use mode append")
	}
	return found, err
}

// allow refuses to write into a table that is as found says, if the job has not begun to.
func (t *Target) allow(ctx context.Context, s *session, found bool) error {
	if !found {
		if !t.create {
			return t.missing()
		}
		if err := t.mayCreate(ctx, s); err != nil {
			return err
		}
		return t.checkOthers(ctx, s)
	}
	if t.mode == ModeOverwrite {
		if err := t.mayCreate(ctx, s); err != nil {
			return err
		}
		if err := t.checkReplaceable(ctx, s); err != nil {
			return err
		}
		return t.checkOthers(ctx, s)
	}
	var may, has bool
	if _, err := s.row(ctx, opWrite, "SELECT has_table_privilege($1, 'INSERT')", []any{t.table.sql()}, &may); err != nil {
		return err
	}
	if !may {
		return engine.Errorf(engine.KindPermission, opWrite, t.String(), "the user may not insert into it")
	}
	if t.mode != ModeError {
		return t.checkOthers(ctx, s)
	}
	if _, err := s.row(ctx, opWrite, "SELECT EXISTS (SELECT FROM "+t.table.sql()+")", nil, &has); err != nil {
		return err
	}
	if !has {
		return t.checkOthers(ctx, s)
	}
	refusal := engine.Errorf(engine.KindConflict, opWrite, t.String(), "the table has rows").WithHint("set mode: append or overwrite, or name another table")
	var job, state string
	if exists, err := t.commitsExist(ctx, s); err != nil {
		return err
	} else if !exists {
		return refusal
	}
	known, err := s.row(ctx, opWrite, "SELECT job, state FROM "+t.commits()+" WHERE target = $1 AND unit = -1 ORDER BY changed DESC LIMIT 1",
		[]any{t.table.sql()}, &job, &state)
	switch {
	case err != nil:
		return err
	case known && state == stateSucceeded:
		refusal = engine.Errorf(engine.KindConflict, opWrite, t.String(), "the table has rows; job %s has filled it", job).
			WithHint("set mode: append or overwrite, or name another table")
	case known:
		refusal = engine.Errorf(engine.KindConflict, opWrite, t.String(), "the table has rows; job %s has begun to fill it", job).
			WithHint("`engine job resume %s` goes on with it; or set mode: append or overwrite", job)
	}
	return refusal
}

func (t *Target) mayCreate(ctx context.Context, s *session) error {
	var may bool
	_, err := s.row(ctx, opWrite, "SELECT has_schema_privilege($1, 'CREATE')", []any{t.table.Schema}, &may)
	if err == nil && !may {
		err = engine.Errorf(engine.KindPermission, opWrite, t.String(), "the user may not create tables in the schema %q", t.table.Schema)
	}
	return err
}

func (t *Target) commitsExist(ctx context.Context, s *session) (exists bool, err error) {
	_, err = s.row(ctx, opWrite, "SELECT to_regclass($1) IS NOT NULL", []any{t.commits()}, &exists)
	return exists, err
}

// Prepare makes the table ready: it creates engine_commits if that is not there, notes that the job has begun, and for ModeOverwrite, if there is
// a table to replace, creates one like it. A table that is not there is created by Begin, which knows its columns. Whatever Check refuses it
// refuses too. Calling it again does no harm, also after Complete.
func (t *Target) Prepare(ctx context.Context) error {
	return t.again(ctx, func(s *session) error {
		if err := t.findSchema(ctx, s); err != nil {
			return err
		}
		if err := t.lock(ctx, s); err != nil {
			return err
		}
		if err := t.createCommits(ctx, s); err != nil {
			return err
		}
		state, err := t.state(ctx, s)
		switch {
		case err != nil:
			return err
		case state == "":
			return t.begin(ctx, s)
		case state == stateSucceeded:
			return nil
		case state == stateAbandoned:
			if err := t.checkOthers(ctx, s); err != nil {
				return err // Others may have begun since it was given up.
			}
		}
		_, err = s.exec(ctx, opWrite, "UPDATE "+t.commits()+" SET state = $3 WHERE job = $1 AND target = $2 AND unit = -1", string(t.job), t.table.sql(), stateWriting)
		return err
	})
}

func (t *Target) createCommits(ctx context.Context, s *session) error {
	exists, err := t.commitsExist(ctx, s)
	if err != nil || exists {
		return err
	}
	return s.run(ctx, opWrite, "CREATE TABLE "+t.commits()+` (
	job text NOT NULL,
	target text NOT NULL,
	unit integer NOT NULL,
	state text NOT NULL,
	epoch bigint NOT NULL,
	row_count bigint NOT NULL,
	byte_count bigint NOT NULL,
	details jsonb NOT NULL,
	changed timestamptz NOT NULL,
	PRIMARY KEY (job, target, unit))`,
		"COMMENT ON TABLE "+t.commits()+" IS 'What the engine has committed: by job and table, a row for each task, and one with unit -1 for the job'")
}

// state returns that of the job's row, which stays locked, or an empty text.
func (t *Target) state(ctx context.Context, s *session) (state string, err error) {
	_, err = s.row(ctx, opWrite, "SELECT state FROM "+t.commits()+" WHERE job = $1 AND target = $2 AND unit = -1 FOR UPDATE",
		[]any{string(t.job), t.table.sql()}, &state)
	return state, err
}

// begin makes the row of a job that has not begun, and what it fills if that is to be like a table that is there.
func (t *Target) begin(ctx context.Context, s *session) error {
	found, err := t.find(ctx, s, t.table)
	if err != nil {
		return err
	}
	if err := t.allow(ctx, s, found); err != nil {
		return err
	}
	if found && t.mode == ModeOverwrite {
		if err := s.run(ctx, opWrite, "CREATE TABLE "+t.work().sql()+" (LIKE "+t.table.sql()+" INCLUDING ALL)"); err != nil {
			return err
		}
		if err := t.revokeDefaults(ctx, s); err != nil {
			return err
		}
	}
	_, err = s.exec(ctx, opWrite, "INSERT INTO "+t.commits()+" VALUES ($1, $2, -1, $3, 0, 0, 0, jsonb_build_object('mode', $4::text), now())",
		string(t.job), t.table.sql(), stateWriting, string(t.mode))
	return err
}

// revokeDefaults takes the privileges from the new table that the schema gives to all new tables: who may read the old one, replace says.
func (t *Target) revokeDefaults(ctx context.Context, s *session) error {
	statements, err := s.texts(ctx, opWrite, `SELECT DISTINCT format('REVOKE ALL ON TABLE %s FROM %s', $1::text, CASE WHEN grantee = 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(grantee)) END)
		FROM pg_catalog.pg_class, aclexplode(relacl) WHERE pg_class.oid = $1::regclass AND grantee <> relowner`, t.work().sql())
	if err != nil || len(statements) == 0 {
		return err
	}
	return s.run(ctx, opWrite, statements...)
}

// ensure creates the table that the job fills, unless it is there.
func (t *Target) ensure(ctx context.Context, s *session, schema *arrow.Schema) error {
	found, err := t.find(ctx, s, t.work())
	if err != nil || found {
		return err
	}
	err = t.within(ctx, s, func(s *session) error {
		if err := t.lock(ctx, s); err != nil {
			return err
		}
		if found, err := t.find(ctx, s, t.work()); err != nil || found {
			return err
		}
		state, err := t.state(ctx, s)
		if err != nil {
			return err
		}
		if state != stateWriting {
			return t.fenced(state)
		}
		switch units, err := t.countUnits(ctx, s); {
		case err != nil:
			return err
		case units > 0:
			return engine.Errorf(engine.KindConflict, opWrite, t.String(), "the table %s, into which the job has committed rows, is gone", t.work())
		case !t.create:
			return t.missing()
		}
		return t.createTable(ctx, s, schema)
	})
	if err == nil {
		failpoint.Hit(failpoint.TableCreated)
	}
	return err
}

// checkOthers refuses a table that another job is filling, if both cannot have what they promise: mode error that the table had no rows, of which
// two that look at the same time both find none, and mode append that its rows stay, which mode overwrite would drop with the old table. Of two
// that overwrite, the last one's rows stay. Who begins looks here under lock, so that one of two sees the other.
func (t *Target) checkOthers(ctx context.Context, s *session) error {
	exists, err := t.commitsExist(ctx, s)
	if err != nil || !exists {
		return err
	}
	var job, mode string
	found, err := s.row(ctx, opWrite, "SELECT job, mode FROM (SELECT job, coalesce(details->>'mode', '') AS mode FROM "+t.commits()+
		" WHERE target = $1 AND unit = -1 AND state = $2 AND job <> $3) AS others WHERE $4 = 'error' OR mode = 'error' OR $4 <> mode AND 'overwrite' IN ($4, mode) ORDER BY job LIMIT 1",
		[]any{t.table.sql(), stateWriting, string(t.job), string(t.mode)}, &job, &mode)
	if err != nil || !found {
		return err
	}
	doing := "writes to it"
	switch {
	case t.mode == ModeOverwrite:
		doing = "adds rows to it, which mode overwrite would drop"
	case mode == string(ModeOverwrite):
		doing = "is going to replace it, with all rows that others add"
	}
	return engine.Errorf(engine.KindConflict, opWrite, t.String(), "job %s %s, or was cut off", job, doing).
		WithHint("wait for that job, or continue it with engine job resume %s; if it is gone for good, delete its rows from %s", job, TableName{t.table.Schema, CommitsTable})
}

func (t *Target) missing() error {
	return engine.Errorf(engine.KindNotFound, opWrite, t.String(), "there is no such table, and create is false")
}

// fenced is the error of an attempt at a job that has ended.
func (t *Target) fenced(state string) error {
	return engine.Errorf(engine.KindFenced, opWrite, t.String(), "the job does not write any more: its state in %s is %q", CommitsTable, state)
}

// countUnits counts what the job has committed.
func (t *Target) countUnits(ctx context.Context, s *session) (units int, err error) {
	_, err = s.row(ctx, opWrite, "SELECT count(*) FROM "+t.commits()+" WHERE job = $1 AND target = $2 AND unit >= 0", []any{string(t.job), t.table.sql()}, &units)
	return units, err
}

func (t *Target) createTable(ctx context.Context, s *session, schema *arrow.Schema) error {
	var vector string
	if _, err := s.row(ctx, opWrite, "SELECT quote_ident(nspname) FROM pg_catalog.pg_extension e JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace WHERE extname = 'vector'",
		nil, &vector); err != nil {
		return err
	}
	columns := make([]string, schema.NumFields())
	for i, f := range schema.Fields() {
		name, _ := sqlType(f.Type, vector) // CheckSchema has looked at it.
		columns[i] = quote(f.Name) + " " + name
	}
	return s.run(ctx, opWrite, "CREATE TABLE "+t.work().sql()+" ("+strings.Join(columns, ", ")+")")
}

// CheckResume refuses to go on with a job of whose units some are gone.
func (t *Target) CheckResume(ctx context.Context, committed int) error {
	return t.transact(ctx, func(s *session) error {
		var units int
		exists, err := t.commitsExist(ctx, s)
		if err == nil && exists {
			var state string
			if state, err = t.state(ctx, s); err == nil && state == stateSucceeded {
				return nil // What became of its rows since is not its own affair.
			}
		}
		if err == nil && exists {
			units, err = t.countUnits(ctx, s)
		}
		if err == nil && units < committed {
			err = engine.Errorf(engine.KindConflict, opWrite, t.String(), "the job has committed %d tasks, of which %s knows %d", committed, CommitsTable, units)
		}
		return err
	})
}
