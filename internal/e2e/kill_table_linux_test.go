package e2e_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/f708428e/engine/internal/pgtest"
)

// tables are those of Postgres that killed jobs write.
type tables struct {
	server   *pgtest.Server
	database string
	// address is where the processes of a cluster reach it.
	address string
	// sum is what a table of all new rows comes to, oldTable has those of the job before.
	sum string
}

// oldTable is the table of the job before.
const oldTable = "old"

// tableSum is what the rows of a table come to that are the job's: it differs if one is lost, doubled, or another.
const tableSum = `SELECT count(*), md5(string_agg(r::text, ' ' ORDER BY id)) FROM %s AS r WHERE id < %d`

func (p *tables) place(table string) string {
	return fmt.Sprintf("url: %q, table: %s", pgtest.URL(p.address, p.database), table)
}

// name is the table of a run.
func (p *tables) name(id string) string { return strings.ReplaceAll(id, "-", "_") }

// startTables starts the server, and has undisturbed jobs fill tables.
func (k *killer) startTables(v *victims) {
	k.t.Helper()
	k.tables.server = pgtest.Start(k.t)
	k.tables.address = k.where.reach(k.t, k.tables.server.Address)
	k.tables.database = k.tables.server.Database(k.t, false)
	for table, inputs := range map[string]string{"undisturbed": "new/*.csv", oldTable: "old/*.csv"} {
		s := killScenario{mode: "error", format: "postgres", table: true}
		if result := k.await(v, k.submit(v, k.spec(s, table, inputs), "")); result.Err != nil {
			k.t.Fatalf("the undisturbed job failed: %v", result.Err)
		}
	}
	k.tables.sum = k.tables.total(k.t, "undisturbed")
	if !strings.HasPrefix(k.tables.sum, fmt.Sprint(killRows, "|")) {
		k.t.Fatalf("the undisturbed job has written %s", k.tables.sum)
	}
}

func (p *tables) total(t *testing.T, table string) string {
	t.Helper()
	return p.server.Texts(t, p.database, fmt.Sprintf(tableSum, table, killOldBase))[0]
}

// copyOld makes a table with the rows of the job before.
func (p *tables) copyOld(t *testing.T, table string) {
	t.Helper()
	p.server.Exec(t, p.database, fmt.Sprintf("CREATE TABLE %s AS SELECT * FROM %s", table, oldTable))
}

// tableWatcher is a reader that looks at a table all the time.
type tableWatcher struct {
	end, ended chan struct{}
	saw        seen
}

// watchTable has a reader look whether it sees whole, committed rows, each once. The reader's own errors are the server's.
func (k *killer) watchTable(s killScenario, table string) *tableWatcher {
	k.t.Helper()
	w := &tableWatcher{end: make(chan struct{}), ended: make(chan struct{})}
	conn := k.tables.server.Connect(k.t, k.tables.database)
	t := k.t
	go func() { // lifecycle: stop waits for it.
		defer close(w.ended)
		defer func() { _ = conn.Close(t.Context()) }()
		query := "SELECT id, id < 1000000 FROM " + table + " ORDER BY id"
		var last []int64
		for ending := false; ; {
			rows, err := conn.Query(t.Context(), query, pgx.QueryExecModeSimpleProtocol)
			var ids []int64
			fresh := 0
			for err == nil && rows.Next() {
				var id int64
				var isNew bool
				err = rows.Scan(&id, &isNew)
				ids = append(ids, id)
				if isNew {
					fresh++
				}
			}
			if err == nil {
				err = rows.Err()
			}
			var said *pgconn.PgError
			switch {
			case errors.As(err, &said) && said.Code == "42P01" && len(last) == 0:
				err = nil // The table is not there yet.
			case err != nil:
			case len(slices.Compact(slices.Clone(ids))) != len(ids):
				err = fmt.Errorf("rows twice among %d", len(ids))
			case s.mode == "overwrite" && fresh != 0 && (fresh != killRows || len(ids) != killRows):
				err = fmt.Errorf("%d new rows among %d: neither the old table nor the new one", fresh, len(ids))
			case s.mode != "overwrite" && slices.ContainsFunc(last, func(id int64) bool { _, there := slices.BinarySearch(ids, id); return !there }):
				err = errors.New("rows that were there are gone")
			}
			if err != nil {
				text := fmt.Sprintf("after %d reads: %v", w.saw.Reads, err)
				w.saw.Error = &text
				return
			}
			last = ids
			w.saw.Reads, w.saw.Seen = w.saw.Reads+1, len(ids)
			if ending {
				return
			}
			select {
			case <-w.end:
				ending = true
			case <-time.After(5 * time.Millisecond):
			}
		}
	}()
	return w
}

func (w *tableWatcher) stop() seen {
	close(w.end)
	<-w.ended
	return w.saw
}

// tableLeftovers compares the rows, and looks for what crashes have left behind.
func (k *killer) tableLeftovers(s killScenario, table string) {
	k.t.Helper()
	if got := k.tables.total(k.t, table); got != k.tables.sum {
		k.t.Errorf("the job's rows come to %s, want %s", got, k.tables.sum)
	}
	if left := k.tables.server.Texts(k.t, k.tables.database, `SELECT relname FROM pg_class WHERE relkind = 'r' AND relname LIKE '\_engine\_%'`); len(left) > 0 {
		k.t.Errorf("%s: tables stay behind: %q", s.name, left)
	}
	states := k.tables.server.Texts(k.t, k.tables.database, "SELECT DISTINCT state FROM engine_commits WHERE unit = -1 AND target LIKE '%\""+table+"\"'")
	if !slices.Equal(states, []string{"succeeded"}) {
		k.t.Errorf("%s: engine_commits says %q", s.name, states)
	}
}
