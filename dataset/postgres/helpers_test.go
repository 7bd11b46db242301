package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/arrow/memory"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/dataset"
	"github.com/f708428e/engine/dataset/postgres"
	"github.com/f708428e/engine/internal/pgtest"
)

// TestMain ends the server that tests share.
func TestMain(m *testing.M) {
	code := m.Run()
	shared.end()
	os.Exit(code)
}

// shared is one server for all tests that do not kill it, since each takes a second to start.
var shared sharedServer

type sharedServer struct {
	mu      sync.Mutex
	server  *pgtest.Server
	cleanup []func()
}

// longLived is a test whose end is the process's.
type longLived struct {
	testing.TB
	owner *sharedServer
}

func (l longLived) Cleanup(f func())         { l.owner.cleanup = append(l.owner.cleanup, f) }
func (l longLived) Context() context.Context { return context.Background() }

func (s *sharedServer) start(t testing.TB) *pgtest.Server {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.server == nil {
		s.server = pgtest.Start(longLived{t, s})
	}
	return s.server
}

func (s *sharedServer) end() {
	for i := len(s.cleanup) - 1; i >= 0; i-- {
		s.cleanup[i]()
	}
}

// database makes a database on the shared server.
func database(t testing.TB) (server *pgtest.Server, name string, db postgres.Database) {
	t.Helper()
	server = shared.start(t)
	name = server.Database(t, true)
	return server, name, open(t, server.URL(name))
}

func open(t testing.TB, url string) postgres.Database {
	t.Helper()
	db, err := postgres.ParseURL(url, 0)
	if err != nil {
		t.Fatal(err)
	}
	return db
}

func table(t testing.TB, text string) *postgres.TableName {
	t.Helper()
	name, err := postgres.ParseTable(text)
	if err != nil {
		t.Fatal(err)
	}
	return &name
}

func newSource(t testing.TB, options postgres.SourceOptions) *postgres.Source {
	t.Helper()
	source, err := postgres.NewSource(options)
	if err != nil {
		t.Fatal(err)
	}
	return source
}

// plan plans a source.
func plan(t testing.TB, source *postgres.Source) *dataset.Layout {
	t.Helper()
	layout, err := source.Plan(t.Context(), []dataset.File{source.File()}, dataset.PlanOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return layout
}

// readSplit returns the rows of a split as texts, and the sizes of its record batches.
func readSplit(t testing.TB, source *postgres.Source, layout *dataset.Layout, split dataset.Split, options dataset.ReadOptions) (rows []string, batches []int64, err error) {
	t.Helper()
	allocator := memory.NewCheckedAllocator(memory.NewGoAllocator())
	defer allocator.AssertSize(t, 0)
	options.Schema, options.Allocator = layout.Schema, allocator
	if options.BatchRows == 0 {
		options.BatchRows, options.BatchBytes = 1000, 1<<20
	}
	reader, err := source.Open(t.Context(), split, options)
	if err != nil {
		return nil, nil, err
	}
	defer func() { err = errors.Join(err, reader.Close()) }()
	for {
		record, err := reader.Read(t.Context())
		if errors.Is(err, io.EOF) {
			return rows, batches, nil
		}
		if err != nil {
			return rows, batches, err
		}
		if n := dataset.BatchSizeBytes(record); n > options.BatchBytes && record.NumRows() > 1 {
			t.Errorf("a record batch of %d rows has %d bytes, at most %d were asked for", record.NumRows(), n, options.BatchBytes)
		}
		batches = append(batches, record.NumRows())
		rows = append(rows, texts(record)...)
		record.Release()
	}
}

// readAll returns the rows of all splits.
func readAll(t testing.TB, source *postgres.Source) []string {
	t.Helper()
	layout := plan(t, source)
	var all []string
	for _, split := range layout.Splits {
		rows, _, err := readSplit(t, source, layout, split, dataset.ReadOptions{})
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, rows...)
	}
	return all
}

// texts are the rows of a record batch, values with bars between them.
func texts(record arrow.Record) []string {
	rows := make([]string, record.NumRows())
	for i := range rows {
		values := make([]string, record.NumCols())
		for j, c := range record.Columns() {
			switch {
			case c.IsNull(i):
				values[j] = "null"
			case c.DataType().ID() == arrow.BINARY:
				values[j] = fmt.Sprintf("%x", c.(*array.Binary).Value(i))
			default:
				values[j] = c.ValueStr(i)
			}
		}
		rows[i] = strings.Join(values, "|")
	}
	return rows
}

// wantError checks an error's kind and words.
func wantError(t testing.TB, err error, kind engine.Kind, words ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want %s with %q", kind, words)
	}
	if engine.KindOf(err) != kind {
		t.Errorf("kind %s, want %s: %v", engine.KindOf(err), kind, err)
	}
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("%q is not in: %v", word, err)
		}
	}
}
