package open_test

import (
	"context"
	"errors"
	"sync"
	"testing"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/blob"
	"github.com/f708428e/engine/blob/open"
)

// TestPool opens a bucket once, however many ask for it at a time.
func TestPool(t *testing.T) {
	folder := t.TempDir()
	pool := open.NewPool(open.Options{})
	var group sync.WaitGroup
	found := make([]blob.Bucket, 20)
	for i := range found {
		group.Go(func() {
			var err error
			if found[i], err = pool.Bucket(t.Context(), folder); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	for _, b := range found {
		if b != found[0] {
			t.Error("a bucket was opened twice")
		}
	}
	for range 2 { // A failure is not kept.
		if _, err := pool.Bucket(t.Context(), "ftp://x"); engine.KindOf(err) != engine.KindInvalidArgument {
			t.Errorf("%v", err)
		}
	}
	if err := errors.Join(pool.Close(), pool.Close()); err != nil {
		t.Error(err)
	}
	if _, err := pool.Bucket(context.Background(), folder); err == nil {
		t.Error("a bucket was opened after Close")
	}
}
