// Package blobtest is the suite that every blob.Bucket passes.
package blobtest

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/blob"
)

// Run runs the suite. open returns an empty bucket; the suite closes it. largeBytes is the size of the largest objects, enough for a
// bucket to do what it does with large ones.
func Run(t *testing.T, largeBytes int, open func(t *testing.T) blob.Bucket) {
	t.Helper()
	for _, c := range []struct {
		name string
		run  func(t *testing.T, b blob.Bucket, largeBytes int)
	}{
		{"put and get", putAndGet},
		{"ranges", ranges},
		{"replace", replace},
		{"put if absent", putIfAbsent},
		{"one of many wins", oneOfManyWins},
		{"marks", marks},
		{"writer", writer},
		{"seals", seals},
		{"abort", abort},
		{"list", list},
		{"delete", deletes},
		{"missing", missing},
		{"keys", keys},
		{"bad bodies", badBodies},
		{"a reader sees one version", oneVersion},
		{"an ended context", endedContext},
		{"random operations", randomOperations},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := open(t)
			defer func() {
				if err := b.Close(); err != nil {
					t.Errorf("close: %v", err)
				}
			}()
			c.run(t, b, largeBytes)
		})
	}
}

// Bytes returns n bytes that depend on the seed.
func Bytes(seed uint64, n int) []byte {
	data := make([]byte, n)
	source := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), byte(seed >> 16)})
	_, _ = source.Read(data) // never fails
	return data
}

// Put stores data or fails the test.
func Put(t testing.TB, b blob.Bucket, key string, data []byte) blob.Info {
	t.Helper()
	info, err := b.Put(t.Context(), key, bytes.NewReader(data), int64(len(data)), blob.PutOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return info
}

// Want fails the test unless an object has these bytes.
func Want(t testing.TB, b blob.Bucket, key string, data []byte) {
	t.Helper()
	got, err := read(t.Context(), b, key, 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, data) {
		t.Fatalf("%s: got %d bytes that differ from the %d wanted", key, len(got), len(data))
	}
}

// WantKind fails the test unless the error has this kind and its text has all these words.
func WantKind(t testing.TB, err error, kind engine.Kind, words ...string) {
	t.Helper()
	if err == nil || engine.KindOf(err) != kind {
		t.Fatalf("got the error %v of kind %v, want one of kind %v", err, engine.KindOf(err), kind)
	}
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			t.Fatalf("the error %q does not say %q", err, word)
		}
	}
}

func read(ctx context.Context, b blob.Bucket, key string, offset, length int64) (data []byte, err error) {
	r, _, err := b.Get(ctx, key, offset, length)
	if err != nil {
		return nil, err
	}
	data, err = io.ReadAll(r)
	if closeErr := r.Close(); err == nil {
		err = closeErr
	}
	return data, err
}

func putAndGet(t *testing.T, b blob.Bucket, largeBytes int) {
	for i, size := range []int{0, 1, 100 << 10, largeBytes} {
		key := fmt.Sprintf("folder/%d.bin", size)
		data := Bytes(uint64(i), size)
		info := Put(t, b, key, data)
		if info.Key != key || info.SizeBytes != int64(size) || info.Modified.IsZero() {
			t.Fatalf("put gave %+v", info)
		}
		Want(t, b, key, data)
		stat, err := b.Stat(t.Context(), key)
		if err != nil || stat.Key != key || stat.SizeBytes != int64(size) || stat.ETag == "" || stat.Modified.IsZero() {
			t.Fatalf("stat gave %+v, %v", stat, err)
		}
		r, got, err := b.Get(t.Context(), key, 0, -1)
		if err != nil {
			t.Fatal(err)
		}
		_ = r.Close() // without reading
		if got != stat {
			t.Fatalf("get gave %+v, stat %+v", got, stat)
		}
	}
}

func ranges(t *testing.T, b blob.Bucket, _ int) {
	data := Bytes(1, 1000)
	Put(t, b, "a", data)
	for _, c := range []struct{ offset, length, from, to int64 }{
		{0, -1, 0, 1000}, {0, 1000, 0, 1000}, {0, 1, 0, 1}, {999, 1, 999, 1000}, {10, -1, 10, 1000}, {10, 20, 10, 30},
		{990, 100, 990, 1000}, {0, 5000, 0, 1000}, {1000, -1, 1000, 1000}, {1000, 1, 1000, 1000}, {0, 0, 0, 0}, {5, 0, 5, 5}, {1000, 0, 1000, 1000},
	} {
		r, info, err := b.Get(t.Context(), "a", c.offset, c.length)
		if err != nil {
			t.Fatalf("%+v: %v", c, err)
		}
		got, err := io.ReadAll(r)
		_ = r.Close()
		if err != nil || !bytes.Equal(got, data[c.from:c.to]) {
			t.Fatalf("%+v: got %d bytes, %v", c, len(got), err)
		}
		if info.SizeBytes != 1000 || info.Key != "a" || info.ETag == "" {
			t.Fatalf("%+v: got %+v", c, info)
		}
	}
	for _, c := range []struct{ offset, length int64 }{{1001, -1}, {1001, 0}, {1001, 1}, {-1, 5}, {0, -2}} {
		_, _, err := b.Get(t.Context(), "a", c.offset, c.length)
		WantKind(t, err, engine.KindInvalidArgument)
	}
	Put(t, b, "empty", nil)
	for _, length := range []int64{-1, 0, 7} {
		if got, err := read(t.Context(), b, "empty", 0, length); err != nil || len(got) != 0 {
			t.Fatalf("got %q, %v", got, err)
		}
	}
}

func replace(t *testing.T, b blob.Bucket, largeBytes int) {
	before := Put(t, b, "a", Bytes(1, 100))
	for i, size := range []int{50, largeBytes, 0, 100} {
		data := Bytes(uint64(i)+2, size)
		Put(t, b, "a", data)
		Want(t, b, "a", data)
	}
	after, err := b.Stat(t.Context(), "a")
	if err != nil || after.ETag == before.ETag {
		t.Fatalf("got %+v, %v, and had %+v before", after, err, before)
	}
}

func putIfAbsent(t *testing.T, b blob.Bucket, largeBytes int) {
	for _, size := range []int{10, largeBytes} {
		key := fmt.Sprintf("folder/%d", size)
		data := Bytes(1, size)
		options := blob.PutOptions{IfAbsent: true}
		if _, err := b.Put(t.Context(), key, bytes.NewReader(data), int64(size), options); err != nil {
			t.Fatal(err)
		}
		_, err := b.Put(t.Context(), key, bytes.NewReader(Bytes(2, size)), int64(size), options)
		WantKind(t, err, engine.KindConflict, key)
		// The same bytes are no excuse.
		_, err = b.Put(t.Context(), key, bytes.NewReader(data), int64(size), options)
		WantKind(t, err, engine.KindConflict, key)
		w := create(t, b, key, options)
		write(t, w, Bytes(3, size))
		_, err = w.Commit(t.Context())
		WantKind(t, err, engine.KindConflict, key)
		if err := w.Abort(t.Context()); err != nil {
			t.Fatal(err)
		}
		Want(t, b, key, data)
		if err := b.Delete(t.Context(), key); err != nil {
			t.Fatal(err)
		}
		if _, err := b.Put(t.Context(), key, bytes.NewReader(data), int64(size), options); err != nil {
			t.Fatal(err)
		}
	}
}

func oneOfManyWins(t *testing.T, b blob.Bucket, largeBytes int) {
	for _, size := range []int{100, largeBytes} {
		key := fmt.Sprintf("a/b/%d", size)
		const writers = 6
		var won atomic.Int64
		var winner atomic.Uint64
		var all sync.WaitGroup
		for i := range uint64(writers) {
			all.Go(func() {
				_, err := b.Put(t.Context(), key, bytes.NewReader(Bytes(i, size)), int64(size), blob.PutOptions{IfAbsent: true})
				switch {
				case err == nil:
					won.Add(1)
					winner.Store(i)
				case engine.KindOf(err) != engine.KindConflict:
					t.Errorf("writer %d: %v", i, err)
				}
			})
		}
		all.Wait()
		if won.Load() != 1 {
			t.Fatalf("%d of %d writers of %d bytes won", won.Load(), writers, size)
		}
		Want(t, b, key, Bytes(winner.Load(), size))
	}
}

func marks(t *testing.T, b blob.Bucket, largeBytes int) {
	for _, size := range []int{0, 10, largeBytes} {
		data := Bytes(1, size)
		for _, mark := range []string{"a job's 7th part", "", "another"} {
			key, written := fmt.Sprintf("put/%d", size), fmt.Sprintf("written/%d", size)
			info, err := b.Put(t.Context(), key, bytes.NewReader(data), int64(size), blob.PutOptions{Mark: mark})
			if err != nil || info.Mark != mark {
				t.Fatalf("put gave %+v, %v", info, err)
			}
			w := create(t, b, written, blob.PutOptions{Mark: mark})
			write(t, w, data)
			if info, err := w.Commit(t.Context()); err != nil || info.Mark != mark {
				t.Fatalf("commit gave %+v, %v", info, err)
			}
			for _, key := range []string{key, written} {
				// It belongs to the object that is there, not to who was refused.
				_, err := b.Put(t.Context(), key, bytes.NewReader(nil), 0, blob.PutOptions{Mark: "a loser", IfAbsent: true})
				WantKind(t, err, engine.KindConflict)
				stat, err := b.Stat(t.Context(), key)
				if err != nil || stat.Mark != mark {
					t.Fatalf("stat of %s gave %+v, %v; want the mark %q", key, stat, err, mark)
				}
				r, info, err := b.Get(t.Context(), key, 0, -1)
				if err != nil || info.Mark != mark {
					t.Fatalf("get gave %+v, %v", info, err)
				}
				_ = r.Close()
				for info, err := range b.List(t.Context(), key) {
					if err != nil || info.Mark != "" {
						t.Fatalf("list gave %+v, %v", info, err)
					}
				}
			}
		}
	}
	for _, bad := range []string{" a", "a ", "ä", "a\nb", strings.Repeat("x", blob.MaxMarkBytes+1)} {
		_, err := b.Put(t.Context(), "bad", bytes.NewReader(nil), 0, blob.PutOptions{Mark: bad})
		WantKind(t, err, engine.KindInvalidArgument, "mark")
		_, err = b.Create(t.Context(), "bad", blob.PutOptions{Mark: bad})
		WantKind(t, err, engine.KindInvalidArgument, "mark")
	}
}

func create(t *testing.T, b blob.Bucket, key string, options blob.PutOptions) blob.Writer {
	t.Helper()
	w, err := b.Create(t.Context(), key, options)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func write(t *testing.T, w io.Writer, data []byte) {
	t.Helper()
	if n, err := w.Write(data); n != len(data) || err != nil {
		t.Fatalf("wrote %d of %d: %v", n, len(data), err)
	}
}

func writer(t *testing.T, b blob.Bucket, largeBytes int) {
	for _, size := range []int{0, 1, 100_000, largeBytes} {
		key := fmt.Sprintf("folder/%d", size)
		data := Bytes(7, size)
		w := create(t, b, key, blob.PutOptions{})
		for piece := range slices.Chunk(data, max(1, size/7)) {
			own := bytes.Clone(piece)
			write(t, w, own)
			clear(own) // a writer keeps nothing of what it was given
		}
		if _, err := b.Stat(t.Context(), key); engine.KindOf(err) != engine.KindNotFound {
			t.Fatalf("visible before Commit: %v", err)
		}
		info, err := w.Commit(t.Context())
		if err != nil || info.Key != key || info.SizeBytes != int64(size) {
			t.Fatalf("commit gave %+v, %v", info, err)
		}
		Want(t, b, key, data)
		if err := w.Abort(t.Context()); err != nil {
			t.Fatal(err)
		}
		Want(t, b, key, data)
		if _, err := w.Write([]byte("x")); err == nil {
			t.Fatal("a writer can write after Commit")
		}
		if _, err := w.Commit(t.Context()); err == nil {
			t.Fatal("a writer can commit twice")
		}
	}
}

func abort(t *testing.T, b blob.Bucket, largeBytes int) {
	for _, size := range []int{0, 10, largeBytes} {
		w := create(t, b, "a", blob.PutOptions{})
		write(t, w, Bytes(1, size))
		for range 2 {
			if err := w.Abort(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := w.Commit(t.Context()); err == nil {
			t.Fatal("a writer can commit after Abort")
		}
		wantKeys(t, b, "")
	}
}

func collect(ctx context.Context, b blob.Bucket, prefix string) (infos []blob.Info, err error) {
	for info, err := range b.List(ctx, prefix) {
		if err != nil {
			return infos, err
		}
		infos = append(infos, info)
	}
	return infos, nil
}

func wantKeys(t *testing.T, b blob.Bucket, prefix string, want ...string) {
	t.Helper()
	infos, err := collect(t.Context(), b, prefix)
	if err != nil && engine.KindOf(err) != engine.KindNotFound { // a folder that nothing was put into yet
		t.Fatal(err)
	}
	var got []string
	for _, info := range infos {
		got = append(got, info.Key)
	}
	if !slices.Equal(got, want) {
		t.Fatalf("list %q gave %q, want %q", prefix, got, want)
	}
}

func list(t *testing.T, b blob.Bucket, _ int) {
	// In order of bytes: '-' and '.' come before '/', '0' after.
	all := []string{".hidden", "_SUCCESS", "a-b", "a.b", "a/b", "a/c/d", "a/c.d", "a0", "b/year=2026/part 1%.txt", "ü/ß", "日本"}
	for i, key := range all {
		Put(t, b, key, Bytes(uint64(i), i))
	}
	slices.Sort(all)
	wantKeys(t, b, "", all...)
	for _, prefix := range []string{"a", "a/", "a/c", "a/c/", "a/c/d", "a/c/d/", "b/year", "ü", "x", "_", "."} {
		var want []string
		for _, key := range all {
			if strings.HasPrefix(key, prefix) {
				want = append(want, key)
			}
		}
		wantKeys(t, b, prefix, want...)
	}
	infos, err := collect(t.Context(), b, "a/c/d")
	if err != nil || len(infos) != 1 {
		t.Fatal(infos, err)
	}
	if stat, err := b.Stat(t.Context(), "a/c/d"); err != nil || infos[0].ETag != stat.ETag || infos[0].SizeBytes != stat.SizeBytes || infos[0].Modified.IsZero() {
		t.Fatalf("list gave %+v, stat %+v, %v", infos[0], stat, err)
	}
	for _, err := range b.List(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		break // a caller may stop
	}
}

func deletes(t *testing.T, b blob.Bucket, _ int) {
	if err := b.Delete(t.Context(), "never/was"); err != nil {
		t.Fatal(err)
	}
	Put(t, b, "a/b/c", []byte("c"))
	Put(t, b, "a/d", []byte("d"))
	for range 2 {
		if err := b.Delete(t.Context(), "a/b/c"); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.Delete(t.Context(), "a/d/e"); err != nil {
		t.Fatal(err)
	}
	if err := b.Delete(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	wantKeys(t, b, "", "a/d")
	// What was a folder can be an object once it is empty.
	Put(t, b, "a/b", []byte("b"))
	Want(t, b, "a/b", []byte("b"))
}

func missing(t *testing.T, b blob.Bucket, _ int) {
	check := func(key string) {
		t.Helper()
		_, err := b.Stat(t.Context(), key)
		WantKind(t, err, engine.KindNotFound, key)
		for _, length := range []int64{-1, 0, 5} {
			_, _, err = b.Get(t.Context(), key, 0, length)
			WantKind(t, err, engine.KindNotFound, key)
		}
	}
	check("a/b") // in a bucket that is empty
	Put(t, b, "a/b", []byte("b"))
	check("a")
	check("a/c")
	check("a/b/c")
}

func keys(t *testing.T, b blob.Bucket, _ int) {
	for _, key := range []string{
		"", "/", "/a", "a/", "a//b", ".", "..", "../a", "a/../b", "a/..", "./a", "a/./b", "a\x00b", "a\nb", "a\xffb",
		blob.TemporaryFolder + "/a", strings.Repeat("a/", 500) + "a",
	} {
		_, err := b.Put(t.Context(), key, strings.NewReader("x"), 1, blob.PutOptions{})
		WantKind(t, err, engine.KindInvalidArgument)
		_, err = b.Create(t.Context(), key, blob.PutOptions{})
		WantKind(t, err, engine.KindInvalidArgument)
		_, err = b.Stat(t.Context(), key)
		WantKind(t, err, engine.KindInvalidArgument)
		_, _, err = b.Get(t.Context(), key, 0, -1)
		WantKind(t, err, engine.KindInvalidArgument)
		WantKind(t, b.Delete(t.Context(), key), engine.KindInvalidArgument)
	}
	wantKeys(t, b, "")
	good := []string{"a b", "a+b", "a%2Fb", "a?b=c&d", "a#b", "...", "..a", "a..", "~", "a:b", "a*b", "'\"<>|", strings.Repeat("x", 200), "a\\b"}
	for _, key := range good {
		Put(t, b, key, []byte(key))
		Want(t, b, key, []byte(key))
	}
	slices.Sort(good)
	wantKeys(t, b, "", good...)
	for _, key := range good {
		if err := b.Delete(t.Context(), key); err != nil {
			t.Fatal(err)
		}
	}
	wantKeys(t, b, "")
}

// failingBody is a body of zeros that breaks after some bytes.
type failingBody struct{ after int64 }

var errBody = engine.Errorf(engine.KindData, "", "", "the body is broken")

// ReadAt implements io.ReaderAt. It fails as a whole when the bytes would reach behind the break.
func (f failingBody) ReadAt(p []byte, off int64) (int, error) {
	if off+int64(len(p)) > f.after {
		return 0, errBody
	}
	return len(p), nil
}

func badBodies(t *testing.T, b blob.Bucket, largeBytes int) {
	for _, size := range []int{10, largeBytes} {
		_, err := b.Put(t.Context(), "a", bytes.NewReader(Bytes(1, size-1)), int64(size), blob.PutOptions{})
		WantKind(t, err, engine.KindInvalidArgument, fmt.Sprint(size-1), fmt.Sprint(size))
		_, err = b.Put(t.Context(), "a", failingBody{after: int64(size / 2)}, int64(size), blob.PutOptions{})
		WantKind(t, err, engine.KindData, "the body is broken")
	}
	_, err := b.Put(t.Context(), "a", strings.NewReader("x"), -1, blob.PutOptions{})
	WantKind(t, err, engine.KindInvalidArgument)
	wantKeys(t, b, "")
	// A body that is longer is cut.
	if _, err := b.Put(t.Context(), "a", strings.NewReader("abc"), 2, blob.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	Want(t, b, "a", []byte("ab"))
}

// oneVersion replaces an object while it is read: the reader gets the old one, or an error.
func oneVersion(t *testing.T, b blob.Bucket, largeBytes int) {
	data := Bytes(1, largeBytes)
	Put(t, b, "a", data)
	r, _, err := b.Get(t.Context(), "a", 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	head := make([]byte, 1000)
	if _, err := io.ReadFull(r, head); err != nil {
		t.Fatal(err)
	}
	Put(t, b, "a", Bytes(2, largeBytes))
	rest, err := io.ReadAll(r)
	if err != nil {
		WantKind(t, err, engine.KindConflict)
	}
	if got := slices.Concat(head, rest); !bytes.Equal(got, data[:len(got)]) || err == nil && len(got) != len(data) {
		t.Fatalf("read %d bytes that are not those of the first version, %v", len(got), err)
	}
}

func endedContext(t *testing.T, b blob.Bucket, largeBytes int) {
	Put(t, b, "a", []byte("a"))
	ctx, cancel := context.WithCancel(t.Context())
	w, err := b.Create(ctx, "w", blob.PutOptions{})
	if err != nil {
		t.Fatal(err)
	}
	write(t, w, []byte("x"))
	cancel()
	_, err = b.Put(ctx, "b", bytes.NewReader(Bytes(1, largeBytes)), int64(largeBytes), blob.PutOptions{})
	WantKind(t, err, engine.KindCanceled)
	_, err = b.Stat(ctx, "a")
	WantKind(t, err, engine.KindCanceled)
	_, _, err = b.Get(ctx, "a", 0, -1)
	WantKind(t, err, engine.KindCanceled)
	_, err = collect(ctx, b, "")
	WantKind(t, err, engine.KindCanceled)
	WantKind(t, b.Delete(ctx, "a"), engine.KindCanceled)
	_, err = w.Commit(ctx)
	WantKind(t, err, engine.KindCanceled)
	if err := w.Abort(ctx); err != nil {
		t.Fatal(err)
	}
	wantKeys(t, b, "", "a")
}

// randomOperations compares with a map.
func randomOperations(t *testing.T, b blob.Bucket, _ int) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	model := map[string][]byte{}
	names := []string{"a/x", "a/y", "a/z/x", "b", "c/d/e/f", "c/g"}
	for step := range 200 {
		key := names[random.IntN(len(names))]
		data := Bytes(random.Uint64(), random.IntN(300))
		options := blob.PutOptions{IfAbsent: random.IntN(2) == 0}
		stored := func(err error) {
			t.Helper()
			if options.IfAbsent && model[key] != nil {
				WantKind(t, err, engine.KindConflict)
				return
			}
			if err != nil {
				t.Fatalf("step %d: %v", step, err)
			}
			model[key] = data
		}
		switch random.IntN(6) {
		case 0:
			_, err := b.Put(t.Context(), key, bytes.NewReader(data), int64(len(data)), options)
			stored(err)
		case 1:
			w := create(t, b, key, options)
			write(t, w, data)
			_, err := w.Commit(t.Context())
			stored(err)
			if err := w.Abort(t.Context()); err != nil {
				t.Fatal(err)
			}
		case 2:
			if err := b.Delete(t.Context(), key); err != nil {
				t.Fatalf("step %d: %v", step, err)
			}
			delete(model, key)
		case 3:
			offset := random.Int64N(310)
			got, err := read(t.Context(), b, key, offset, -1)
			switch want, ok := model[key]; {
			case !ok:
				WantKind(t, err, engine.KindNotFound)
			case offset > int64(len(want)):
				WantKind(t, err, engine.KindInvalidArgument)
			case err != nil || !bytes.Equal(got, want[offset:]):
				t.Fatalf("step %d: %s at %d: got %d bytes, %v, want %d", step, key, offset, len(got), err, len(want)-int(offset))
			}
		case 4:
			info, err := b.Stat(t.Context(), key)
			if want, ok := model[key]; !ok {
				WantKind(t, err, engine.KindNotFound)
			} else if err != nil || info.SizeBytes != int64(len(want)) {
				t.Fatalf("step %d: %s: got %+v, %v", step, key, info, err)
			}
		case 5:
			prefix := []string{"", "a", "a/", "c/d", "b"}[random.IntN(5)]
			var want []string
			for key := range model {
				if strings.HasPrefix(key, prefix) {
					want = append(want, key)
				}
			}
			slices.Sort(want)
			wantKeys(t, b, prefix, want...)
		}
	}
}
