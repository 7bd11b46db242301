package objectstore_test

import (
	"bytes"
	"context"
	"math/rand/v2"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/objectstore"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// session is the owner of most objects of the tests.
var session = engine.ObjectOwner{Kind: engine.OwnerSession, ID: "s1"}

// open opens a store that is closed with the test, and looks for leaks.
func open(t testing.TB, config objectstore.Config) *objectstore.Store {
	t.Helper()
	if config.CapacityBytes == 0 {
		config.CapacityBytes = 64 << 20
	}
	if config.ArenaBytes == 0 {
		config.ArenaBytes = 8 << 20
	}
	if config.PrefaultBytes == 0 {
		config.PrefaultBytes = -1
	}
	s, err := objectstore.Open(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, leak := range s.Leaks() {
			t.Error(leak)
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := s.Close(ctx); err != nil {
			t.Error(err)
		}
		if u := s.Usage(); u.ArenaBytes != 0 || u.ObjectBytes != 0 || u.PinnedBytes != 0 || u.Objects != 0 || u.SpilledBytes != 0 {
			t.Errorf("the closed store holds %+v", u)
		}
	})
	return s
}

// content returns bytes that depend on the id.
func content(id engine.ObjectID, n int) []byte {
	data := make([]byte, n)
	rng := rand.NewChaCha8([32]byte(append(id[:], id[:]...)))
	_, _ = rng.Read(data)
	return data
}

// put makes an object of n bytes.
func put(t testing.TB, s *objectstore.Store, id engine.ObjectID, n int, owner engine.ObjectOwner) {
	t.Helper()
	if err := tryPut(t.Context(), s, id, n, owner); err != nil {
		t.Fatal(err)
	}
}

func tryPut(ctx context.Context, s *objectstore.Store, id engine.ObjectID, n int, owner engine.ObjectOwner) error {
	p, err := s.Create(ctx, objectstore.Creation{ID: id, SizeBytes: int64(n), Owner: owner})
	if err != nil {
		return err
	}
	copy(p.Bytes(), content(id, n))
	_, err = p.Seal(objectstore.Description{Rows: int64(n), Batches: 1})
	return err
}

// check gets an object and compares its bytes.
func check(t testing.TB, s *objectstore.Store, id engine.ObjectID, n int) {
	t.Helper()
	h, err := s.Get(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	defer h.Release()
	if !bytes.Equal(h.Bytes(), content(id, n)) {
		t.Fatalf("object %s has other bytes than were put", id)
	}
}

func wantKind(t testing.TB, err error, kind engine.Kind) {
	t.Helper()
	if err == nil || engine.KindOf(err) != kind {
		t.Fatalf("got error %v, want one of kind %s", err, kind)
	}
}

// ids returns n ids that are the same in every run.
func ids(n int) []engine.ObjectID {
	all := make([]engine.ObjectID, n)
	for i := range all {
		all[i] = engine.OutputObjectID(engine.TaskID{Job: "test", Index: i}, 0)
	}
	return all
}

func TestPutGet(t *testing.T) {
	for name, n := range map[string]int{"inline": 1000, "largest inline": engine.MaxInlineObjectBytes, "smallest in an arena": engine.MaxInlineObjectBytes + 1, "of more than an arena": 20 << 20} {
		t.Run(name, func(t *testing.T) {
			s := open(t, objectstore.Config{})
			id := ids(1)[0]
			put(t, s, id, n, session)
			check(t, s, id, n)
			info, ok := s.Info(id)
			if !ok || info.SizeBytes != int64(n) || info.State != engine.ObjectInMemory || !info.Primary || info.Rows != int64(n) || info.Batches != 1 {
				t.Errorf("info is %+v", info)
			}
			wantKind(t, tryPut(t.Context(), s, id, n, session), engine.KindConflict)
			h, err := s.Get(t.Context(), id)
			if err != nil {
				t.Fatal(err)
			}
			s.Delete(id)
			_, err = s.Get(t.Context(), id)
			wantKind(t, err, engine.KindNotFound)
			if !bytes.Equal(h.Bytes(), content(id, n)) {
				t.Error("a deleted object changed under its reader")
			}
			if used := s.Usage().ObjectBytes; used != int64(n) {
				t.Errorf("%d bytes are in memory while a handle is open, want %d", used, n)
			}
			h.Release()
			h.Release()
			if used := s.Usage().ObjectBytes; used != 0 {
				t.Errorf("%d bytes are in memory after the last release", used)
			}
		})
	}
}
