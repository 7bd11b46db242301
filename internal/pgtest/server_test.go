package pgtest_test

import (
	"slices"
	"testing"

	"github.com/f708428e/engine/internal/pgtest"
)

func TestServer(t *testing.T) {
	s := pgtest.Start(t)
	name := s.Database(t, true)
	s.Exec(t, name, "CREATE TABLE t (v vector(3), n int); INSERT INTO t VALUES ('[1,2,3]', NULL)")
	if got := s.Texts(t, name, "SELECT * FROM t"); !slices.Equal(got, []string{"[1,2,3]|null"}) {
		t.Fatalf("got %q", got)
	}
	s.Kill()
	s.Restart(t)
	if got := s.Texts(t, name, "SELECT count(*) FROM t"); !slices.Equal(got, []string{"1"}) {
		t.Fatalf("after a crash: got %q", got)
	}
}
