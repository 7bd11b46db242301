package objectstore_test

import (
	"strings"
	"syscall"
	"testing"

	"go.uber.org/goleak"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/blob"
	"github.com/f708428e/engine/blob/file"
	"github.com/f708428e/engine/blob/memory"
	"github.com/f708428e/engine/blob/s3"
	"github.com/f708428e/engine/internal/s3test"
	"github.com/f708428e/engine/internal/testenv"
	"github.com/f708428e/engine/objectstore"
	"github.com/f708428e/engine/objectstore/storetest"
)

const mib = 1 << 20

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestStore(t *testing.T) {
	t.Run("memory", storetest.Suite{Bucket: func(testing.TB) blob.Bucket { return memory.New("b") }}.Run)
	t.Run("file", storetest.Suite{Bucket: func(t testing.TB) blob.Bucket {
		b, err := file.Open(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		return b
	}}.Run)
	t.Run("s3", func(t *testing.T) {
		testenv.Full(t)
		server := s3test.Start(t)
		storetest.Suite{Bucket: func(t testing.TB) blob.Bucket {
			b, err := s3.Open(t.Context(), "s3://"+server.Bucket(t)+"/prefix", server.Options())
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = b.Close() })
			return b
		}}.Run(t)
	})
}

// TestForgottenTombstones follows the changes with a cursor that is too old.
func TestForgottenTombstones(t *testing.T) {
	s := storetest.Open(t, objectstore.Config{})
	_, _, _, old, _ := s.Changes(0)
	churn := func(n int) {
		for i := range n {
			id := storetest.Put(t, s, 0, 1+int64(i%10))
			s.Delete(id)
			other := engine.NewObjectID()
			if err := storetest.TryPut(t.Context(), s, objectstore.Creation{ID: other, SizeBytes: 1, Owner: storetest.Session}); err != nil {
				t.Fatal(err)
			}
			s.Delete(other)
		}
	}
	churn(10_000)
	_, gone, full, _, _ := s.Changes(old)
	if full || len(gone) != 10_001 {
		t.Errorf("full is %v and gone are %d objects, want 10,001", full, len(gone))
	}
	churn(25_000)
	kept := storetest.Put(t, s, 1, 1)
	changed, gone, full, next, _ := s.Changes(old)
	if !full || len(gone) != 0 || len(changed) != 1 || changed[0].ID != kept {
		t.Errorf("full is %v, gone are %d, changed %v", full, len(gone), changed)
	}
	s.Delete(kept)
	if _, gone, full, _, _ := s.Changes(next); full || len(gone) != 1 || gone[0] != kept {
		t.Errorf("full is %v, gone are %v", full, gone)
	}
}

func TestOpenRefuses(t *testing.T) {
	for name, config := range map[string]objectstore.Config{
		"no capacity":                 {},
		"less than a page":            {CapacityBytes: 100},
		"negative arenas":             {CapacityBytes: 1 << 20, ArenaBytes: -1},
		"low water above high water":  {CapacityBytes: 1 << 20, LowWater: 0.9},
		"high water above all":        {CapacityBytes: 1 << 20, HighWater: 1.1},
		"spill files without a mark":  {CapacityBytes: 1 << 20, Spill: memory.New("b")},
		"spill files without a birth": {CapacityBytes: 1 << 20, Spill: memory.New("b"), Node: "n"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := objectstore.Open(t.Context(), config)
			storetest.WantKind(t, err, engine.KindInvalidArgument)
		})
	}
}

func TestCheckLimits(t *testing.T) {
	if err := objectstore.CheckLimits(); err != nil {
		t.Skipf("this process has the limit that is to be tested: %v", err)
	}
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	low := limit
	low.Cur = 100
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &low); err != nil {
		t.Fatal(err)
	}
	err := objectstore.CheckLimits()
	if restoreErr := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); restoreErr != nil {
		t.Fatal(restoreErr)
	}
	storetest.WantKind(t, err, engine.KindExhausted)
	if !strings.Contains(err.Error(), "100") || !strings.Contains(err.Error(), "ulimit -n") {
		t.Errorf("the error says neither the limit nor what to do: %v", err)
	}
}
