package s3_test

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/blob"
	"github.com/f708428e/engine/blob/blobtest"
	"github.com/f708428e/engine/blob/s3"
	"github.com/f708428e/engine/internal/s3test"
	"github.com/f708428e/engine/internal/testenv"
)

// TestManyWritersBoundedMemory writes many objects in turn, as one task of many partitions does, with memory for few of them: it must neither
// lock up nor take more, and every object must be right.
func TestManyWritersBoundedMemory(t *testing.T) {
	for _, c := range []struct {
		name                  string
		writers, bytes, limit int
		full                  bool
	}{
		{name: "some large ones", writers: 4, bytes: 11 << 20, limit: 1 << 20},
		{name: "120 of 200 KiB", writers: 120, bytes: 200 << 10, limit: 1 << 20},
		{name: "1,000 of 200 KiB", writers: 1000, bytes: 200 << 10, limit: 8 << 20, full: true},
		{name: "no memory at all", writers: 3, bytes: 6 << 20, limit: 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.full {
				testenv.Full(t)
			}
			folder := filepath.Join(t.TempDir(), "parts")
			buffers := s3.NewBuffers(int64(c.limit), folder)
			t.Cleanup(func() {
				if err := buffers.Close(); err != nil {
					t.Error(err)
				}
			})
			server := s3test.Start(t)
			options := server.Options()
			options.Buffers = buffers
			b := open(t, "s3://"+server.Bucket(t), options)
			seed := rand.Uint64()
			t.Logf("seed %d", seed)
			random := rand.New(rand.NewPCG(seed, 1))
			writers, content := make([]blob.Writer, c.writers), make([][]byte, c.writers)
			for i := range writers {
				var err error
				if writers[i], err = b.Create(t.Context(), fmt.Sprint(i), blob.PutOptions{IfAbsent: true}); err != nil {
					t.Fatal(err)
				}
				content[i] = blobtest.Bytes(uint64(i), c.bytes+random.IntN(1000))
			}
			most, spilled := 0, false
			for written, left := make([]int, c.writers), c.writers; left > 0; {
				for i, w := range writers {
					if written[i] == len(content[i]) {
						continue
					}
					n := min(len(content[i])-written[i], 1+random.IntN(c.bytes/3))
					if _, err := w.Write(content[i][written[i] : written[i]+n]); err != nil {
						t.Fatal(err)
					}
					if written[i] += n; written[i] == len(content[i]) {
						left--
					}
					chunks, places := buffers.Held()
					most, spilled = max(most, chunks), spilled || places > 0
				}
			}
			if bound := c.limit/s3.ChunkBytes + c.writers + c.writers*options.Concurrency; most > bound {
				t.Errorf("%d chunks were held, %d may be", most, bound)
			}
			if !spilled {
				t.Error("nothing went to the file: the test tests nothing")
			}
			if names, err := os.ReadDir(folder); err != nil || len(names) > 0 {
				t.Errorf("%v, %v are left in the folder", err, names)
			}
			next := make(chan int)
			var ends sync.WaitGroup
			for range 8 {
				ends.Go(func() {
					for i := range next {
						if i%7 == 3 {
							if err := writers[i].Abort(t.Context()); err != nil {
								t.Error(err)
							}
							continue
						}
						if _, err := writers[i].Commit(t.Context()); err != nil {
							t.Error(err)
							continue
						}
						blobtest.Want(t, b, fmt.Sprint(i), content[i])
					}
				})
			}
			for i := range writers {
				next <- i
			}
			close(next)
			ends.Wait()
			if chunks, places := buffers.Held(); chunks != 0 || places != 0 {
				t.Errorf("%d chunks and %d places are held after the end", chunks, places)
			}
		})
	}
}

// TestWriterWaitsForMemory: while parts are under way, who needs memory waits for theirs and takes no disk; a failure ends the wait.
func TestWriterWaitsForMemory(t *testing.T) {
	const partBytes = 5 << 20
	buffers := s3.NewBuffers(partBytes, t.TempDir())
	t.Cleanup(func() { _ = buffers.Close() })
	w := newWorld(t, func(o *s3.Options) { o.PartBytes, o.Concurrency, o.Buffers = partBytes, 2, buffers })
	held, release := make(chan struct{}), make(chan struct{})
	w.proxy.Fail(s3test.Fault{Match: s3test.Method(http.MethodPut, "partNumber=1"), Before: func() {
		close(held)
		<-release
	}})
	out, err := w.b.Create(t.Context(), "a", blob.PutOptions{})
	if err != nil {
		t.Fatal(err)
	}
	data := blobtest.Bytes(1, 3*partBytes)
	written := make(chan error, 1)
	go func() {
		_, err := out.Write(data)
		written <- err
	}()
	<-held
	if _, places := buffers.Held(); places != 0 {
		t.Errorf("%d places of the file are used", places)
	}
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

// TestWriterWithoutDisk: parts that nowhere fit are an error that says so.
func TestWriterWithoutDisk(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	server := s3test.Start(t)
	options := server.Options()
	options.Buffers = s3.NewBuffers(1, filepath.Join(file, "folder"))
	b := open(t, "s3://"+server.Bucket(t), options)
	w, err := b.Create(t.Context(), "a", blob.PutOptions{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = w.Write(make([]byte, 1<<20))
	blobtest.WantKind(t, err, engine.KindUnavailable)
	if err := w.Abort(t.Context()); err != nil {
		t.Error(err)
	}
	if chunks, places := options.Buffers.Held(); chunks != 0 || places != 0 {
		t.Errorf("%d chunks and %d places are held after the end", chunks, places)
	}
}
