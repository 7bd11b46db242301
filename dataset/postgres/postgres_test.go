package postgres_test

import (
	"bufio"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow/go/v15/arrow/memory"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/dataset"
	"github.com/f708428e/engine/dataset/postgres"
)

const secret = "hunter2-secret"

// TestFilesOfTheNode refuses jobs that choose files of whoever connects, which pgx reads and shows to the server.
func TestFilesOfTheNode(t *testing.T) {
	for _, option := range []string{"passfile=/etc/shadow", "servicefile=/tmp/s&service=x", "service=nightly", "sslcert=/a", "SSLKEY=/b"} {
		_, err := postgres.ParseURL("postgres://u@host/db?sslmode=require&"+option, 0)
		wantError(t, err, engine.KindInvalidArgument, "not a job's to choose")
	}
}

func TestParseURL(t *testing.T) {
	for text, want := range map[string]string{
		"postgres://u@Host:5432/db?sslmode=require": "postgres://host:5432/db",
		"postgresql://host/db":                      "postgres://host/db",
		"postgres:///db?host=/run/pg&port=5433":     "postgres:///run/pg:5433/db",
		"postgres://u@/db?host=/run/pg":             "postgres:///run/pg/db",
		"postgres://a:5432,b:5433/db":               "postgres://a:5432,b:5433/db",
		"postgres://u:@h/db":                        "postgres://h/db",
	} {
		if db, err := postgres.ParseURL(text, 0); err != nil || db.String() != want {
			t.Errorf("%s: %q, %v, want %q", text, db, err, want)
		}
	}
	for text, words := range map[string]string{
		"":                                         "required",
		"host=localhost password=" + secret:        "not a URL",
		"mysql://u@h/db":                           "not a URL",
		"postgres://u:" + secret + "@h/db":         "holds a password",
		"postgres://h/db?password=" + secret:       "holds a password",
		"postgres://h/db?sslPassword=" + secret:    "holds a password",
		"postgres://u:" + secret + "@h:port/db":    "not a URL",
		"postgres://u:%zz" + secret + "@h/db":      "not a URL",
		"postgres://h/db?a=%zz&password=" + secret: "option=value",
	} {
		_, err := postgres.ParseURL(text, 0)
		wantError(t, err, engine.KindInvalidArgument, "url", words)
		if strings.Contains(err.Error(), secret) {
			t.Errorf("the error repeats the secret: %v", err)
		}
	}
}

func TestParseTable(t *testing.T) {
	for text, want := range map[string]postgres.TableName{
		"Wine": {"public", "wine"}, "a.b": {"a", "b"}, `"A b"."c.""d"`: {"A b", `c."d`}, `A."B"`: {"a", "B"}, "größe.t$1": {"größe", "t$1"},
	} {
		got, err := postgres.ParseTable(text)
		if err != nil || got != want {
			t.Errorf("%s: %+v, %v", text, got, err)
		}
		if again, err := postgres.ParseTable(got.String()); err != nil || again != got {
			t.Errorf("%s as %s: %+v, %v", text, got, again, err)
		}
	}
	for _, text := range []string{"", ".", "a.", ".a", "a.b.c", "1a", "a b", `"a`, `""`, `"a"b`, "a;drop", strings.Repeat("x", 64), "a\x00", "\xff"} {
		if got, err := postgres.ParseTable(text); engine.KindOf(err) != engine.KindInvalidArgument || err == nil {
			t.Errorf("%q: %+v, %v", text, got, err)
		}
	}
}

func TestSourceOptions(t *testing.T) {
	db := open(t, "postgres://h/db")
	name := table(t, "t")
	for field, options := range map[string]postgres.SourceOptions{
		"query": {}, "splits": {Table: name, Splits: 2}, "lower": {Table: name, Lower: "1"}, "upper": {Table: name, Upper: "1"},
	} {
		options.Database = db
		_, err := postgres.NewSource(options)
		wantError(t, err, engine.KindInvalidArgument, field)
	}
	for _, options := range []postgres.SourceOptions{
		{Query: "SELECT 1", Table: name}, {Query: " ; "}, {Query: "SELECT '\x00'"}, {Table: name, PartitionColumn: "a"},
		{Table: name, PartitionColumn: "a", Splits: 10_001}, {Table: name, PartitionColumn: "a", Splits: -1},
	} {
		if _, err := postgres.NewSource(options); engine.KindOf(err) != engine.KindInvalidArgument || err == nil {
			t.Errorf("%+v: %v", options, err)
		}
	}
}

// No error holds a password, wherever it comes from.
func TestNoSecretInErrors(t *testing.T) {
	server, name, _ := database(t)
	t.Setenv("PGPASSWORD", secret)
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := closed.Close(); err != nil {
		t.Fatal(err)
	}
	for url, kind := range map[string]engine.Kind{
		"postgres://u@" + closed.Addr().String() + "/db":                        engine.KindUnavailable,
		"postgres://u@no-such-host.invalid/db":                                  engine.KindUnavailable,
		"postgres://nobody@" + server.Address + "/" + name + "?sslmode=disable": engine.KindUnauthenticated,
		"postgres://engine@" + server.Address + "/missing?sslmode=disable":      engine.KindNotFound,
		"postgres://engine@" + server.Address + "/" + name + "?sslmode=require": engine.KindUnavailable,
		"postgres://engine@" + server.Address + "/" + name + "?sslmode=odd":     engine.KindInvalidArgument,
	} {
		source := newSource(t, postgres.SourceOptions{Database: open(t, url), Query: "SELECT 1"})
		_, err := source.Plan(t.Context(), []dataset.File{source.File()}, dataset.PlanOptions{})
		wantError(t, err, kind, "read postgres", source.File().Path)
		if err != nil && strings.Contains(err.Error(), secret) {
			t.Errorf("%s: the error holds the password: %v", url, err)
		}
	}
}

// A server that takes a connection and then says nothing is given up after the timeout.
func TestSilentServer(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			_, _ = io.Copy(io.Discard, bufio.NewReader(conn)) // It ends with the client's patience.
			_ = conn.Close()
		}
	}()
	t.Cleanup(func() { <-done })
	t.Cleanup(func() { _ = listener.Close() })
	db, err := postgres.ParseURL("postgres://u@"+listener.Addr().String()+"/db?sslmode=disable", 50*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	source := newSource(t, postgres.SourceOptions{Database: db, Query: "SELECT 1"})
	_, err = source.Plan(t.Context(), []dataset.File{source.File()}, dataset.PlanOptions{})
	wantError(t, err, engine.KindDeadline, "no sign of life")

	// So is a query that takes too long, although its server is well.
	server, name, _ := database(t)
	if db, err = postgres.ParseURL(server.URL(name), 300*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	source = newSource(t, postgres.SourceOptions{Database: db, Query: "SELECT 1 AS n, pg_sleep(600)::text AS t"})
	layout := plan(t, source)
	reader, err := source.Open(t.Context(), layout.Splits[0], dataset.ReadOptions{Schema: layout.Schema, BatchRows: 1, BatchBytes: 1, Allocator: memory.NewGoAllocator()})
	if err != nil {
		t.Fatal(err)
	}
	_, err = reader.Read(t.Context())
	wantError(t, errors.Join(err, reader.Close()), engine.KindDeadline, "no sign of life")
}
