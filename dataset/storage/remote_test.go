package storage_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/blob"
	"github.com/f708428e/engine/blob/memory"
	"github.com/f708428e/engine/dataset"
	"github.com/f708428e/engine/dataset/storage"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// get is a call of Get.
type get struct{ key, bytes string }

// watched is a bucket that remembers what was asked of it, and holds answers back while told to.
type watched struct {
	*memory.Bucket
	mu   sync.Mutex
	gets []get
	// hold, if not nil, is what every Get waits for.
	hold  chan struct{}
	asked chan get
	// atEnd, if not nil, comes instead of the end of a whole object.
	atEnd error
}

// failing ends with an error.
type failing struct {
	io.ReadCloser
	err error
}

func (f failing) Read(p []byte) (int, error) {
	n, err := f.ReadCloser.Read(p)
	if errors.Is(err, io.EOF) {
		err = f.err
	}
	return n, err
}

func (w *watched) Get(ctx context.Context, key string, offset, length int64) (io.ReadCloser, blob.Info, error) {
	g := get{key, fmt.Sprintf("%d+%d", offset, length)}
	w.mu.Lock()
	w.gets = append(w.gets, g)
	hold := w.hold
	w.mu.Unlock()
	if w.asked != nil {
		w.asked <- g
	}
	if hold != nil {
		select {
		case <-hold:
		case <-ctx.Done():
			return nil, blob.Info{}, ctx.Err()
		}
	}
	body, info, err := w.Bucket.Get(ctx, key, offset, length)
	if err == nil && length < 0 && w.atEnd != nil {
		body = failing{body, w.atEnd}
	}
	return body, info, err
}

func (w *watched) count() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.gets)
}

// rig is a Storage over one bucket in memory.
type rig struct {
	t       *testing.T
	bucket  *watched
	storage *storage.Storage
}

func newRig(t *testing.T, options storage.Options) *rig {
	r := &rig{t: t, bucket: &watched{Bucket: memory.New("test")}}
	r.storage = storage.New(func(_ context.Context, uri string) (blob.Bucket, error) {
		if uri != "mem://bucket?region=here" {
			return nil, fmt.Errorf("unknown bucket %s", uri)
		}
		return r.bucket, nil
	}, options)
	t.Cleanup(func() {
		if n, open := r.storage.Held(), r.storage.OpenInputs(); n != 0 || open != 0 {
			t.Errorf("%d bytes are held for %d inputs after all was closed", n, open)
		}
	})
	return r
}

// put stores an object and returns it as it is listed.
func (r *rig) put(key string, data []byte) dataset.File {
	r.t.Helper()
	info, err := r.bucket.Put(r.t.Context(), key, bytes.NewReader(data), int64(len(data)), blob.PutOptions{})
	if err != nil {
		r.t.Fatal(err)
	}
	return dataset.File{
		Path: "mem://bucket/" + key, SizeBytes: info.SizeBytes, ETag: info.ETag, Settings: "region=here",
		ModifiedUnixNanos: info.Modified.Truncate(time.Second).UnixNano(),
	}
}

func (r *rig) open(ctx context.Context, file dataset.File) dataset.Input {
	r.t.Helper()
	in, err := storage.Open(ctx, r.storage, "read test", file)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() {
		if err := in.Close(); err != nil {
			r.t.Error(err)
		}
	})
	return in
}

func random(seed uint64, size int) []byte {
	rng := rand.New(rand.NewPCG(seed, 0))
	data := make([]byte, size)
	for i := 0; i < len(data); i += 8 {
		var b [8]byte
		binary.LittleEndian.PutUint64(b[:], rng.Uint64())
		copy(data[i:], b[:])
	}
	return data
}

// TestReadAnyhow reads and announces ranges at random, from several goroutines, and gets what is there within bounded memory.
func TestReadAnyhow(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := newRig(t, storage.Options{BufferBytes: 24 << 20, InputBytes: 8 << 20})
	data := random(seed, 30<<20)
	in := r.open(t.Context(), r.put("a", data))
	var group sync.WaitGroup
	for worker := range uint64(4) {
		group.Go(func() {
			rng := rand.New(rand.NewPCG(seed, worker))
			for range 40 {
				from := rng.Int64N(int64(len(data)))
				part := dataset.Range{Start: from, End: from + rng.Int64N(9<<20)}
				switch rng.IntN(5) {
				case 0:
					in.Expect(part)
				case 1:
					in.Expect(part, dataset.Range{Start: part.End + rng.Int64N(100<<10), End: part.End + 5<<20})
				case 2:
					in.Forget(part)
				default:
					b := make([]byte, min(part.End-part.Start, 1<<20)+1)
					n, err := in.ReadAt(b, from)
					if want := data[from:min(int64(len(data)), from+int64(len(b)))]; !bytes.Equal(b[:n], want) {
						t.Errorf("bytes from %d on are not those that are there", from)
					}
					if n < len(b) && !errors.Is(err, io.EOF) || n == len(b) && err != nil {
						t.Errorf("%d of %d bytes from %d: %v", n, len(b), from, err)
					}
				}
			}
		})
	}
	group.Wait()
	if n, err := in.ReadAt(make([]byte, 1), int64(len(data))); n != 0 || !errors.Is(err, io.EOF) {
		t.Errorf("at the end: %d bytes, %v", n, err)
	}
}

// TestSequential reads an object from its beginning to its end: each byte is asked for once, in order, and never more is held than
// allowed.
func TestSequential(t *testing.T) {
	const limit = 12 << 20
	r := newRig(t, storage.Options{BufferBytes: 64 << 20, InputBytes: limit})
	data := random(1, 30<<20)
	in := r.open(t.Context(), r.put("a", data))
	in.Expect(dataset.Range{End: int64(len(data))})
	var most int64
	b := make([]byte, 300<<10)
	for at := 0; at < len(data); {
		n, err := in.ReadAt(b[:min(len(b), len(data)-at)], int64(at))
		if err != nil || !bytes.Equal(b[:n], data[at:at+n]) {
			t.Fatalf("at %d: %d bytes, %v", at, n, err)
		}
		at += n
		most = max(most, r.storage.Held())
	}
	if most > limit || most < limit/2 {
		t.Errorf("at most %d bytes were held, allowed are %d", most, limit)
	}
	var asked int64
	for _, g := range r.bucket.gets {
		var offset, length int64
		if _, err := fmt.Sscanf(g.bytes, "%d+%d", &offset, &length); err != nil {
			t.Fatal(err)
		}
		asked += length
	}
	if asked != int64(len(data)) {
		t.Errorf("%d bytes were asked for, the object has %d", asked, len(data))
	}
	if n := r.bucket.count(); n > len(data)/(4<<20)+2 {
		t.Errorf("%d requests: %v", n, r.bucket.gets)
	}
}

// TestReadAhead asks for what is announced before anybody reads, in parallel and in order, up to the limit; what is read makes room.
func TestReadAhead(t *testing.T) {
	r := newRig(t, storage.Options{InputBytes: 9 << 20})
	r.bucket.hold, r.bucket.asked = make(chan struct{}), make(chan get, 100)
	in := r.open(t.Context(), r.put("a", random(1, 20<<20)))
	in.Expect(dataset.Range{End: 10 << 20}, dataset.Range{Start: 15 << 20, End: 16 << 20})
	want := map[get]bool{{"a", "0+4718592"}: true, {"a", "4718592+4194304"}: true}
	for range len(want) {
		if g := <-r.bucket.asked; !want[g] {
			t.Errorf("unexpected: %v", g)
		}
	}
	close(r.bucket.hold)
	if _, err := in.ReadAt(make([]byte, 5<<20), 0); err != nil {
		t.Fatal(err)
	}
	want = map[get]bool{{"a", "8912896+1572864"}: true, {"a", "15728640+1048576"}: true}
	for range len(want) {
		if g := <-r.bucket.asked; !want[g] {
			t.Errorf("after reading, %v was asked for", g)
		}
	}
	// What comes later, and was not to be next, does not wait for the rest to be read.
	if _, err := in.ReadAt(make([]byte, 10), 18<<20); err != nil {
		t.Fatal(err)
	}
}

// TestNear asks a server that has answered at once for more at a time, and for all of an object that is wanted but for its ends.
func TestNear(t *testing.T) {
	r := newRig(t, storage.Options{})
	data := random(1, 13<<20)
	in := r.open(t.Context(), r.put("a", data))
	r.storage.Near("mem://bucket?region=here")
	in.Expect(dataset.Range{Start: 4, End: int64(len(data)) - 60<<10})
	b := make([]byte, len(data))
	if _, err := in.ReadAt(b[4:], 4); err != nil || !bytes.Equal(b[4:], data[4:]) {
		t.Fatal(err)
	}
	if len(r.bucket.gets) != 2 || r.bucket.gets[0] != (get{"a", "0+-1"}) { // The second is of what was not announced.
		t.Errorf("%v", r.bucket.gets)
	}
	long := append(slices.Clone(data), data...)
	in = r.open(t.Context(), r.put("b", long))
	r.bucket.gets = nil
	in.Expect(dataset.Range{End: int64(len(long))})
	b = make([]byte, len(long))
	if _, err := in.ReadAt(b, 0); err != nil || !bytes.Equal(b, long) {
		t.Fatal(err)
	}
	if n := len(r.bucket.gets); n > 3 {
		t.Errorf("%d requests: %v", n, r.bucket.gets)
	}
}

// TestDamagedWhole: the checksum of an object that is read as a whole counts for its last piece.
func TestDamagedWhole(t *testing.T) {
	r := newRig(t, storage.Options{})
	in := r.open(t.Context(), r.put("a", random(1, 1<<20)))
	r.bucket.atEnd = engine.Errorf(engine.KindCorrupt, "get", "a", "damaged")
	in.Expect(dataset.Range{Start: 4, End: 1<<20 - 4})
	if _, err := in.ReadAt(make([]byte, 1<<20-8), 4); engine.KindOf(err) != engine.KindCorrupt {
		t.Errorf("%v", err)
	}
}

// TestKnown: the footer that was read to plan a job is not asked for again, unless the object is another.
func TestKnown(t *testing.T) {
	r := newRig(t, storage.Options{})
	const size = 1 << 20
	footer := []dataset.Range{{End: 4}, {Start: size - 64<<10, End: size}}
	for version, requests := range []int{2, 2} {
		data := random(uint64(version), size)
		file := r.put("a", data)
		r.bucket.gets = nil
		for range 3 {
			in := r.open(t.Context(), file)
			in.Expect(footer...)
			for _, g := range footer {
				b := make([]byte, g.End-g.Start)
				if _, err := in.ReadAt(b, g.Start); err != nil || !bytes.Equal(b, data[g.Start:g.End]) {
					t.Fatal(err)
				}
			}
			if err := in.Close(); err != nil {
				t.Fatal(err)
			}
		}
		if len(r.bucket.gets) != requests {
			t.Errorf("%v", r.bucket.gets)
		}
	}
	if held := r.storage.Held(); held != 0 {
		t.Errorf("%d bytes are held", held)
	}
}

// TestKnownIsBounded: of many objects the last ones are known.
func TestKnownIsBounded(t *testing.T) {
	r := newRig(t, storage.Options{})
	data := random(1, 64<<10)
	for i := range 400 {
		in := r.open(t.Context(), r.put(fmt.Sprint(i), data))
		if _, err := in.ReadAt(make([]byte, 64<<10), 0); err != nil {
			t.Fatal(err)
		}
	}
	if known := r.storage.Known(); known > 16<<20 || known < 15<<20 {
		t.Errorf("%d bytes are known", known)
	}
}

// TestKnownAreBeginningsAndEnds: what lies within an object is not kept, nor buckets that are many.
func TestKnownAreBeginningsAndEnds(t *testing.T) {
	r := newRig(t, storage.Options{})
	const piece = 1 << 10
	data := random(1, 8<<20)
	in := r.open(t.Context(), r.put("a", data))
	end := int64(len(data))
	for _, start := range []int64{0, 4 << 20, end - piece} {
		in.Expect(dataset.Range{Start: start, End: start + piece})
		if _, err := in.ReadAt(make([]byte, piece), start); err != nil {
			t.Fatal(err)
		}
	}
	if err := in.Close(); err != nil {
		t.Fatal(err)
	}
	if known := r.storage.Known(); known < 2*piece || known >= 3*piece {
		t.Errorf("%d bytes are known", known)
	}
	for range 100 {
		r.storage.Keep(memory.New("b"), "a", "1", make([]byte, piece))
	}
	if known := r.storage.Known(); known < 64*piece || known >= 65*piece+64*256 {
		t.Errorf("%d bytes are known of 64 buckets", known)
	}
}

// TestSmallObject is asked for once, although it is read twice.
func TestSmallObject(t *testing.T) {
	r := newRig(t, storage.Options{})
	data := random(1, 100<<10)
	in := r.open(t.Context(), r.put("a", data))
	in.Expect(dataset.Range{End: 64 << 10}, dataset.Range{End: int64(len(data))})
	for range 2 {
		b := make([]byte, len(data)/2)
		for at := 0; at < len(data); at += len(b) {
			if _, err := in.ReadAt(b, int64(at)); err != nil || !bytes.Equal(b, data[at:at+len(b)]) {
				t.Fatal(err)
			}
		}
	}
	if n := r.bucket.count(); n != 1 {
		t.Errorf("%d requests: %v", n, r.bucket.gets)
	}
}

// TestChanged names what happens to an object after it was listed.
func TestChanged(t *testing.T) {
	for name, test := range map[string]struct {
		change func(r *rig)
		says   string
	}{
		"replaced": {func(r *rig) { r.put("a", random(2, 1<<20)) }, "changed since the job was planned: its ETag was"},
		"shorter":  {func(r *rig) { r.put("a", random(2, 100)) }, "changed since the job was planned: it had 1048576 bytes and has 100"},
		"deleted": {func(r *rig) {
			if err := r.bucket.Delete(r.t.Context(), "a"); err != nil {
				r.t.Fatal(err)
			}
		}, "vanished since the job was planned: does not exist"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, storage.Options{})
			in := r.open(t.Context(), r.put("a", random(1, 1<<20)))
			if _, err := in.ReadAt(make([]byte, 10), 0); err != nil {
				t.Fatal(err)
			}
			test.change(r)
			for range 2 {
				_, err := in.ReadAt(make([]byte, 10), 500<<10)
				var e *engine.Error
				if !errors.As(err, &e) || e.Kind != engine.KindData || !strings.Contains(err.Error(), test.says) || e.ID != "mem://bucket/a" || e.Op != "read test" {
					t.Errorf("%v: %v", engine.KindOf(err), err)
				}
			}
		})
	}
}

// TestCancel ends a read that waits, and what was asked for with it.
func TestCancel(t *testing.T) {
	r := newRig(t, storage.Options{})
	r.bucket.hold, r.bucket.asked = make(chan struct{}), make(chan get, 100)
	ctx, cancel := context.WithCancel(t.Context())
	in := r.open(ctx, r.put("a", random(1, 9<<20)))
	in.Expect(dataset.Range{End: 9 << 20})
	<-r.bucket.asked
	cancel()
	if _, err := in.ReadAt(make([]byte, 10), 0); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	if err := in.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := in.ReadAt(make([]byte, 10), 0); engine.KindOf(err) != engine.KindInternal {
		t.Errorf("after Close: %v", err)
	}
}

// TestManyInputs get a share of the memory each.
func TestManyInputs(t *testing.T) {
	const inputs, limit = 8, 40 << 20
	r := newRig(t, storage.Options{BufferBytes: limit})
	data := random(1, 12<<20)
	file := r.put("a", data)
	var group sync.WaitGroup
	for range inputs {
		in := r.open(t.Context(), file)
		group.Go(func() {
			in.Expect(dataset.Range{End: file.SizeBytes})
			b := make([]byte, 1<<20)
			for at := int64(0); at < file.SizeBytes; at += int64(len(b)) {
				if _, err := in.ReadAt(b, at); err != nil || !bytes.Equal(b, data[at:at+int64(len(b))]) {
					t.Errorf("at %d: %v", at, err)
					return
				}
				// A piece that is waited for is read in any case.
				if n := r.storage.Held(); n > limit+inputs*5<<20 {
					t.Errorf("%d bytes are held", n)
				}
			}
		})
	}
	group.Wait()
}
