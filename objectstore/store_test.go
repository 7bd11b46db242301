package objectstore_test

import (
	"bytes"
	"context"
	"io"
	"strings"
	"sync"
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

// TestFewArenas fills a store with the smallest objects that are not inline: each arena costs a descriptor here and in every reader.
func TestFewArenas(t *testing.T) {
	s := storetest.Open(t, objectstore.Config{CapacityBytes: 64 * mib})
	arenas := map[uint64]bool{}
	for {
		p, err := s.TryCreate(objectstore.Creation{ID: engine.NewObjectID(), SizeBytes: engine.MaxInlineObjectBytes + 1, Owner: storetest.Session})
		if err != nil {
			storetest.WantKind(t, err, engine.KindExhausted)
			break
		}
		place, _ := p.Place()
		arenas[place.Arena] = true
		if _, err := p.Seal(objectstore.Description{}); err != nil {
			t.Fatal(err)
		}
	}
	if u := s.Usage(); len(arenas) > 24 || u.ObjectBytes < 56*mib {
		t.Errorf("%d arenas for %d objects, %+v", len(arenas), u.Objects, u)
	}
}

// recorder notes the order of puts and deletes.
type recorder struct {
	*storetest.Bucket
	mu  sync.Mutex
	ops []string
}

func (r *recorder) note(op string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ops = append(r.ops, op)
}

// Put implements blob.Bucket.
func (r *recorder) Put(ctx context.Context, key string, body io.ReaderAt, sizeBytes int64, options blob.PutOptions) (blob.Info, error) {
	info, err := r.Bucket.Put(ctx, key, body, sizeBytes, options)
	r.note("put")
	return info, err
}

// Delete implements blob.Bucket.
func (r *recorder) Delete(ctx context.Context, key string) error {
	r.note("delete")
	return r.Bucket.Delete(ctx, key)
}

// TestDeletedSpillFilesDoNotWait deletes objects while there is much to spill.
func TestDeletedSpillFilesDoNotWait(t *testing.T) {
	const deleted, waiting = 10, 100
	bucket := &recorder{Bucket: storetest.NewBucket(memory.New("b"), 1)}
	s := storetest.Open(t, objectstore.Config{Spill: bucket})
	var old []engine.ObjectID
	for i := range deleted {
		old = append(old, storetest.Put(t, s, i, 1))
		if err := s.Spill(t.Context(), old[i]); err != nil {
			t.Fatal(err)
		}
	}
	release := bucket.Hold()
	var spills sync.WaitGroup
	for i := range waiting {
		id := storetest.Put(t, s, deleted+i, 1)
		asked, cancel := context.WithCancel(t.Context())
		cancel() // It is spilled all the same.
		spills.Go(func() { storetest.WantKind(t, s.Spill(asked, id), engine.KindCanceled) })
	}
	spills.Wait()
	s.Delete(old...)
	release()
	storetest.Eventually(t, "all is spilled and deleted", func() bool {
		bucket.mu.Lock()
		defer bucket.mu.Unlock()
		return len(bucket.ops) == 2*deleted+waiting
	})
	last := 0
	for i, op := range bucket.ops {
		if op == "delete" {
			last = i
		}
	}
	if last > deleted+2*deleted+10 {
		t.Errorf("the last spill file was deleted after %d of %d others were written", last-2*deleted, waiting)
	}
}

// late stores what is put when it is released, even if the caller has gone by then, as a server does that has the whole request.
type late struct {
	blob.Bucket
	asked, release, stored chan struct{}
}

// Put implements blob.Bucket, for one object.
func (l *late) Put(ctx context.Context, key string, body io.ReaderAt, sizeBytes int64, options blob.PutOptions) (blob.Info, error) {
	data := make([]byte, sizeBytes)
	if _, err := body.ReadAt(data, 0); err != nil {
		return blob.Info{}, err
	}
	go func() { // lifecycle: ends when stored is closed, for which the test waits.
		defer close(l.stored)
		<-l.release
		_, _ = l.Bucket.Put(context.WithoutCancel(ctx), key, bytes.NewReader(data), sizeBytes, options) // It never fails.
	}()
	close(l.asked)
	select {
	case <-l.stored:
		return blob.Info{}, nil
	case <-ctx.Done():
		return blob.Info{}, ctx.Err()
	}
}

// TestCloseWhileSpilling closes a store whose spill file is on its way.
func TestCloseWhileSpilling(t *testing.T) {
	bucket := &late{Bucket: memory.New("b"), asked: make(chan struct{}), release: make(chan struct{}), stored: make(chan struct{})}
	s := storetest.Open(t, objectstore.Config{Spill: bucket})
	id := storetest.Put(t, s, 0, 1)
	asked, cancel := context.WithCancel(t.Context())
	cancel() // It is spilled all the same.
	storetest.WantKind(t, s.Spill(asked, id), engine.KindCanceled)
	<-bucket.asked
	var closing sync.WaitGroup
	closing.Go(func() { storetest.Close(t, s) })
	storetest.Eventually(t, "the store is closing", func() bool {
		return engine.KindOf(storetest.TryPut(t.Context(), s, objectstore.Creation{ID: storetest.ID(1), SizeBytes: 1})) == engine.KindUnavailable
	})
	close(bucket.release)
	<-bucket.stored
	closing.Wait()
	for info, err := range bucket.List(t.Context(), "") {
		t.Errorf("the store left %s behind, %v", info.Key, err)
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
