package postgres

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/internal/failpoint"
)

// Success is what a job that has succeeded says of its output.
type Success struct {
	// Units and Rows are how many there are in all.
	Units int
	Rows  int64
	// Details are kept with the job's row.
	Details any
}

// Complete makes the output final: for ModeOverwrite the new table takes the place of the old one, which is dropped, in the same transaction in
// which the job's row says that it has succeeded. All units must have been committed. Calling it again does no harm.
//
// The new table has the columns, defaults, constraints, indexes, owner, privileges, and comments of the old one. What else depends on the old
// one is refused, by Check and here.
func (t *Target) Complete(ctx context.Context, success Success) error {
	details, err := json.Marshal(success.Details)
	if err != nil {
		return engine.Errorf(engine.KindInternal, opWrite, t.String(), "%w", err)
	}
	err = t.again(ctx, func(s *session) error {
		// All units are there, so what still runs has lost. Its locks would be in the way.
		if err := t.endAttempts(ctx, s); err != nil {
			return err
		}
		state, err := t.state(ctx, s)
		if err != nil || state == stateSucceeded {
			return err
		}
		if state == "" {
			return engine.Errorf(engine.KindConflict, opWrite, t.String(), "%s does not know the job any more", CommitsTable)
		}
		var units int
		var rows int64
		if _, err := s.row(ctx, opWrite, "SELECT count(*), coalesce(sum(row_count), 0)::int8 FROM "+t.commits()+" WHERE job = $1 AND target = $2 AND unit >= 0",
			[]any{string(t.job), t.table.sql()}, &units, &rows); err != nil {
			return err
		}
		if units != success.Units || rows != success.Rows {
			return engine.Errorf(engine.KindCorrupt, opWrite, t.String(), "%s has %d units with %d rows, expected %d with %d", CommitsTable, units, rows, success.Units, success.Rows)
		}
		if t.mode == ModeOverwrite {
			failpoint.Hit(failpoint.TableReplacing)
			if err := t.replace(ctx, s); err != nil {
				return err
			}
			failpoint.Hit(failpoint.TableReplaced)
			if err := t.forgetAbandoned(ctx, s); err != nil {
				return err
			}
		}
		if _, err := s.exec(ctx, opWrite, "UPDATE "+t.commits()+" SET state = $3, row_count = $4, details = $5::jsonb, changed = now() WHERE job = $1 AND target = $2 AND unit = -1",
			string(t.job), t.table.sql(), stateSucceeded, rows, string(details)); err != nil {
			return err
		}
		// Of a job that has succeeded long ago, one row says enough.
		_, err = s.exec(ctx, opWrite, "DELETE FROM "+t.commits()+" u WHERE target = $2 AND job <> $1 AND unit >= 0 AND EXISTS (SELECT FROM "+t.commits()+
			" j WHERE j.job = u.job AND j.target = u.target AND j.unit = -1 AND j.state = $3)", string(t.job), t.table.sql(), stateSucceeded)
		return err
	})
	if err == nil {
		failpoint.Hit(failpoint.TableSucceeded)
	}
	return err
}

// endAttempts ends the sessions of the job's attempts, if it may.
func (t *Target) endAttempts(ctx context.Context, s *session) error {
	return t.endSessions(ctx, s, "starts_with(application_name, $1) AND application_name <> $2", t.application(""), t.application(headUnit))
}

// endSessions ends the sessions that the user has besides s, and of which a condition is true; args are its parameters. A user who may end none
// waits for their locks instead. It asks first: an error would end the transaction that s may be in.
func (t *Target) endSessions(ctx context.Context, s *session, condition string, args ...any) error {
	var may bool
	if _, err := s.row(ctx, opWrite, "SELECT coalesce(bool_and(has_function_privilege(oid, 'EXECUTE')), false) FROM pg_catalog.pg_proc "+
		"WHERE proname = 'pg_terminate_backend' AND pronamespace = 'pg_catalog'::regnamespace", nil, &may); err != nil || !may {
		return err
	}
	_, err := s.exec(ctx, opWrite, "SELECT pg_terminate_backend(pid) FROM pg_catalog.pg_stat_activity "+
		"WHERE datname = current_database() AND usename = current_user AND pid <> pg_backend_pid() AND "+condition, args...)
	return err
}

// dependents names what a table would lose if another took its place. $1 is the table.
const dependents = `WITH t AS (SELECT $1::regclass::oid AS oid)
SELECT what FROM (
	SELECT DISTINCT 'view ' || r.ev_class::regclass::text AS what FROM t JOIN pg_catalog.pg_depend d ON d.refobjid = t.oid AND d.refclassid = 'pg_class'::regclass
		AND d.classid = 'pg_rewrite'::regclass JOIN pg_catalog.pg_rewrite r ON r.oid = d.objid AND r.ev_class <> t.oid
	UNION ALL SELECT 'rule ' || rulename FROM t JOIN pg_catalog.pg_rewrite ON ev_class = t.oid
	UNION ALL SELECT 'foreign key ' || conname FROM t JOIN pg_catalog.pg_constraint ON contype = 'f' AND (conrelid = t.oid OR confrelid = t.oid)
	UNION ALL SELECT 'trigger ' || tgname FROM t JOIN pg_catalog.pg_trigger ON tgrelid = t.oid AND NOT tgisinternal
	UNION ALL SELECT 'policy ' || polname FROM t JOIN pg_catalog.pg_policy ON polrelid = t.oid
	UNION ALL SELECT 'row level security' FROM t JOIN pg_catalog.pg_class c ON c.oid = t.oid AND c.relrowsecurity
	UNION ALL SELECT 'publication ' || pubname FROM t JOIN pg_catalog.pg_publication_rel ON prrelid = t.oid JOIN pg_catalog.pg_publication p ON p.oid = prpubid
	UNION ALL SELECT 'inheritance' FROM t WHERE EXISTS (SELECT FROM pg_catalog.pg_inherits WHERE inhrelid = t.oid OR inhparent = t.oid)
	UNION ALL SELECT 'privileges on column ' || attname FROM t JOIN pg_catalog.pg_attribute ON attrelid = t.oid AND attacl IS NOT NULL
) AS found ORDER BY what LIMIT 10`

// checkReplaceable refuses to replace a table that others depend on, or that is not the user's.
func (t *Target) checkReplaceable(ctx context.Context, s *session) error {
	var owns bool
	if _, err := s.row(ctx, opWrite, "SELECT pg_has_role(relowner, 'USAGE') FROM pg_catalog.pg_class WHERE oid = $1::regclass", []any{t.table.sql()}, &owns); err != nil {
		return err
	}
	if !owns {
		return engine.Errorf(engine.KindPermission, opWrite, t.String(), "mode overwrite replaces the table, and the user does not own it").
			WithHint("delete its rows and use mode append")
	}
	found, err := s.texts(ctx, opWrite, dependents, t.table.sql())
	if err != nil || len(found) == 0 {
		return err
	}
	return engine.Errorf(engine.KindConflict, opWrite, t.String(), "mode overwrite replaces the table, and would lose what belongs to it: %s", strings.Join(found, ", ")).
		WithHint("drop that, or delete the rows and use mode append")
}

// replace puts the work table in the place of the target.
func (t *Target) replace(ctx context.Context, s *session) error {
	found, err := t.find(ctx, s, t.table)
	if err != nil {
		return err
	}
	work := t.work().sql()
	if !found {
		return s.run(ctx, opWrite, "ALTER TABLE "+work+" RENAME TO "+quote(t.table.Table))
	}
	old := t.table.sql()
	if err := s.run(ctx, opWrite, "LOCK TABLE "+old+" IN ACCESS EXCLUSIVE MODE"); err != nil {
		return err
	}
	if err := t.checkReplaceable(ctx, s); err != nil {
		return err
	}
	if err := t.checkOthers(ctx, s); err != nil {
		return err
	}
	// Each query makes the statements that carry something over.
	var statements []string
	for _, query := range []string{
		`SELECT format('ALTER TABLE %s OWNER TO %I', $2::text, pg_get_userbyid(relowner)) FROM pg_catalog.pg_class WHERE oid = $1::regclass AND relowner <> (SELECT relowner FROM pg_catalog.pg_class WHERE oid = $2::regclass)`,
		`SELECT format('GRANT %s ON TABLE %s TO %s%s', privilege_type, $2::text, CASE WHEN grantee = 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(grantee)) END,
			CASE WHEN is_grantable THEN ' WITH GRANT OPTION' ELSE '' END) FROM pg_catalog.pg_class, aclexplode(relacl) WHERE pg_class.oid = $1::regclass AND grantee <> relowner`,
		`SELECT format('ALTER TABLE %s SET (%s)', $2::text, array_to_string(reloptions, ', ')) FROM pg_catalog.pg_class WHERE oid = $1::regclass AND reloptions IS NOT NULL AND $2 <> ''`,
		`SELECT format('COMMENT ON TABLE %s IS %L', $2::text, obj_description($1::regclass, 'pg_class')) WHERE obj_description($1::regclass, 'pg_class') IS NOT NULL`,
		`SELECT format('ALTER SEQUENCE %s OWNED BY %s.%I', d.objid::regclass, $2::text, attname) FROM pg_catalog.pg_depend d
			JOIN pg_catalog.pg_class c ON c.oid = d.objid AND c.relkind = 'S' JOIN pg_catalog.pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
			WHERE d.classid = 'pg_class'::regclass AND d.refobjid = $1::regclass AND d.deptype = 'a'`,
	} {
		made, err := s.texts(ctx, opWrite, query, old, work)
		if err != nil {
			return err
		}
		statements = append(statements, made...)
	}
	names, err := t.indexNames(ctx, s)
	if err != nil {
		return err
	}
	statements = append(statements, "DROP TABLE "+old, "ALTER TABLE "+work+" RENAME TO "+quote(t.table.Table))
	statements = append(statements, names...)
	return s.run(ctx, opWrite, statements...)
}

// forgetAbandoned removes what other jobs have left that have failed: what they wrote into the old table is gone with it, and the tables that
// were to replace it are of no use any more.
func (t *Target) forgetAbandoned(ctx context.Context, s *session) error {
	jobs, err := s.texts(ctx, opWrite, "SELECT job FROM "+t.commits()+" WHERE target = $1 AND unit = -1 AND state = $2 AND job <> $3",
		t.table.sql(), stateAbandoned, string(t.job))
	if err != nil {
		return err
	}
	for _, job := range jobs {
		other := Target{table: t.table, mode: ModeOverwrite, job: engine.JobID(job)}
		if err := s.run(ctx, opWrite, "DROP TABLE IF EXISTS "+other.work().sql()); err != nil {
			return err
		}
		if _, err := s.exec(ctx, opWrite, "DELETE FROM "+t.commits()+" WHERE job = $1 AND target = $2", job, t.table.sql()); err != nil {
			return err
		}
	}
	return nil
}

// indexNames makes the statements that give the new indexes the names of the old ones, of which they are copies.
func (t *Target) indexNames(ctx context.Context, s *session) ([]string, error) {
	const query = `SELECT c.relname::text FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid WHERE i.indrelid = $1::regclass
		ORDER BY indisprimary, indisunique, substring(pg_get_indexdef(i.indexrelid) from ' USING .*$'), c.relname`
	before, err := s.texts(ctx, opWrite, query, t.table.sql())
	if err != nil {
		return nil, err
	}
	after, err := s.texts(ctx, opWrite, query, t.work().sql())
	if err != nil {
		return nil, err
	}
	if len(before) != len(after) {
		return nil, engine.Errorf(engine.KindConflict, opWrite, t.String(), "its indexes were changed while the job ran")
	}
	statements := make([]string, len(before))
	for i := range before {
		statements[i] = fmt.Sprintf("ALTER INDEX %s RENAME TO %s", TableName{t.table.Schema, after[i]}.sql(), quote(before[i]))
	}
	return statements, nil
}

// Discard deletes what a job has left that did not succeed and will not be resumed: for ModeOverwrite the table that was to take the place. In
// the other modes its rows stand among others, so if rows is set and there are some, the error is of kind engine.KindConflict.
func (t *Target) Discard(ctx context.Context, rows bool) error {
	return t.again(ctx, func(s *session) error {
		if exists, err := t.commitsExist(ctx, s); err != nil || !exists {
			return err
		}
		state, err := t.state(ctx, s)
		if err != nil || state == "" || state == stateSucceeded {
			return err
		}
		if t.mode != ModeOverwrite {
			var units, copied int64
			_, err := s.row(ctx, opWrite, "SELECT count(*), coalesce(sum(row_count), 0)::int8 FROM "+t.commits()+" WHERE job = $1 AND target = $2 AND unit >= 0",
				[]any{string(t.job), t.table.sql()}, &units, &copied)
			if err == nil && copied > 0 && rows {
				err = engine.Errorf(engine.KindConflict, opWrite, t.String(), "the table has %d rows of the job, which cannot be told from others", copied).
					WithHint("delete them yourself, and forget the job without --discard")
			}
			if err != nil {
				return err
			}
			// Its end may not have been able to say so, and then others would wait for it.
			_, err = s.exec(ctx, opWrite, "UPDATE "+t.commits()+" SET state = $3, changed = now() WHERE job = $1 AND target = $2 AND unit = -1",
				string(t.job), t.table.sql(), stateAbandoned)
			return err
		}
		if err := t.endAttempts(ctx, s); err != nil {
			return err
		}
		if err := s.run(ctx, opWrite, "DROP TABLE IF EXISTS "+t.work().sql()); err != nil {
			return err
		}
		_, err = s.exec(ctx, opWrite, "DELETE FROM "+t.commits()+" WHERE job = $1 AND target = $2", string(t.job), t.table.sql())
		return err
	})
}

// Abandon tidies up after a job that did not succeed. What it has committed stays, for a resumption; if that is nothing, no trace of the job
// stays but a table that it has created.
func (t *Target) Abandon(ctx context.Context) error {
	return t.again(ctx, func(s *session) error {
		if exists, err := t.commitsExist(ctx, s); err != nil || !exists {
			return err
		}
		if err := t.endAttempts(ctx, s); err != nil {
			return err
		}
		state, err := t.state(ctx, s)
		if err != nil || state == "" || state == stateSucceeded {
			return err
		}
		units, err := t.countUnits(ctx, s)
		if err != nil {
			return err
		}
		failpoint.Hit(failpoint.TableAbandoned)
		if units > 0 {
			_, err := s.exec(ctx, opWrite, "UPDATE "+t.commits()+" SET state = $3, changed = now() WHERE job = $1 AND target = $2 AND unit = -1",
				string(t.job), t.table.sql(), stateAbandoned)
			return err
		}
		if t.mode == ModeOverwrite {
			if err := s.run(ctx, opWrite, "DROP TABLE IF EXISTS "+t.work().sql()); err != nil {
				return err
			}
		}
		_, err = s.exec(ctx, opWrite, "DELETE FROM "+t.commits()+" WHERE job = $1 AND target = $2 AND unit = -1", string(t.job), t.table.sql())
		return err
	})
}
