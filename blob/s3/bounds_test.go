package s3_test

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/f708428e/engine/blob"
	"github.com/f708428e/engine/blob/blobtest"
	"github.com/f708428e/engine/blob/s3"
	"github.com/f708428e/engine/internal/s3test"
)

// TestWriterHoldsFewParts: while no part gets through, a Writer takes as many as may be under way and one more.
func TestWriterHoldsFewParts(t *testing.T) {
	const concurrency, partBytes, parts = 2, 5 << 20, 6
	w := newWorld(t, func(o *s3.Options) { o.Concurrency, o.PartBytes = concurrency, partBytes })
	held, release := make(chan struct{}, parts), make(chan struct{})
	var released atomic.Bool
	w.proxy.Fail(s3test.Fault{Match: s3test.Method(http.MethodPut, "partNumber="), Times: parts, Before: func() {
		held <- struct{}{}
		<-release
	}})
	out, err := w.b.Create(t.Context(), "a", blob.PutOptions{})
	if err != nil {
		t.Fatal(err)
	}
	data := blobtest.Bytes(1, parts*partBytes)
	written := make(chan error, 1)
	go func() {
		const piece = 1 << 20
		for at := 0; at < len(data); at += piece {
			if _, err := out.Write(data[at : at+piece]); err != nil {
				written <- err
				return
			}
			if !released.Load() && at+piece > (concurrency+1)*partBytes {
				written <- fmt.Errorf("%d bytes are taken and none gone", at+piece)
				return
			}
		}
		written <- nil
	}()
	for range concurrency {
		<-held
	}
	released.Store(true)
	close(release)
	if err := <-written; err != nil {
		t.Fatal(err)
	}
	if _, err := out.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	blobtest.Want(t, w.direct, "a", data)
	w.clean(t)
}

// TestListManyPages lists more objects than fit into one answer.
func TestListManyPages(t *testing.T) {
	const objects = 2500
	w := newWorld(t, nil)
	folder := w.server.Path(w.bucket, "many")
	if err := os.MkdirAll(folder, 0o777); err != nil {
		t.Fatal(err)
	}
	for i := range objects {
		if err := os.WriteFile(filepath.Join(folder, fmt.Sprintf("%06d", i)), []byte("x"), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	n := 0
	for info, err := range w.b.List(t.Context(), "many/") {
		if err != nil {
			t.Fatal(err)
		}
		if want := fmt.Sprintf("many/%06d", n); info.Key != want {
			t.Fatalf("got %s, want %s", info.Key, want)
		}
		n++
	}
	if pages := w.count(http.MethodGet, "list-type=2"); n != objects || pages != 3 {
		t.Errorf("got %d objects in %d pages", n, pages)
	}
}
