package spill_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/blob"
	"github.com/f708428e/engine/blob/file"
	"github.com/f708428e/engine/blob/memory"
	"github.com/f708428e/engine/objectstore/spill"
	"github.com/f708428e/engine/objectstore/storetest"
)

func example(n int64) ([]byte, spill.Trailer) {
	data := storetest.Content(storetest.ID(1), n)
	return data, spill.Trailer{ID: storetest.ID(1), SizeBytes: n, Rows: 7, Batches: 2, CRC32C: spill.Checksum(data)}
}

func TestTrailer(t *testing.T) {
	_, want := example(100)
	encoded := want.Encode()
	if len(encoded) != spill.TrailerBytes {
		t.Fatalf("a trailer of %d bytes", len(encoded))
	}
	got, err := spill.ParseTrailer(encoded)
	if err != nil || got != want {
		t.Fatalf("got %+v, %v, want %+v", got, err, want)
	}
	for i := range encoded {
		for bit := range 8 {
			damaged := bytes.Clone(encoded)
			damaged[i] ^= 1 << bit
			if _, err := spill.ParseTrailer(damaged); engine.KindOf(err) != engine.KindCorrupt {
				t.Fatalf("bit %d of byte %d turned: %v", bit, i, err)
			}
		}
	}
	for n := range encoded {
		if _, err := spill.ParseTrailer(encoded[:n]); engine.KindOf(err) != engine.KindCorrupt {
			t.Fatalf("%d bytes: %v", n, err)
		}
	}
}

// TestTrailerBytes holds the format fast: files outlive the program that wrote them.
func TestTrailerBytes(t *testing.T) {
	trailer := spill.Trailer{ID: engine.ObjectID{0: 1, 15: 2}, SizeBytes: 3, Rows: 4, Batches: 5, CRC32C: 6}
	want := "ENGARROW\x01\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02" +
		"\x03\x00\x00\x00\x00\x00\x00\x00\x04\x00\x00\x00\x00\x00\x00\x00\x05\x00\x00\x00\x00\x00\x00\x00\x06\x00\x00\x00\xb2\xc8\xba\x61"
	if got := string(trailer.Encode()); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func FuzzParseTrailer(f *testing.F) {
	_, trailer := example(100)
	f.Add(trailer.Encode())
	f.Add([]byte("ENGARROW"))
	f.Fuzz(func(t *testing.T, data []byte) {
		trailer, err := spill.ParseTrailer(data)
		if err == nil && !bytes.Equal(trailer.Encode(), data) {
			t.Errorf("%x is read as %+v, which is %x", data, trailer, trailer.Encode())
		}
	})
}

func TestWriteRead(t *testing.T) {
	folder, err := file.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for name, bucket := range map[string]blob.Bucket{"file": folder, "memory": memory.New("b")} {
		for _, n := range []int64{1, 63, 64, 65, 1 << 20, 3<<20 + 1} {
			t.Run(name, func(t *testing.T) {
				data, trailer := example(n)
				if err := spill.Write(t.Context(), bucket, "a/b.arrows", data, trailer, false); err != nil {
					t.Fatal(err)
				}
				if err := spill.Write(t.Context(), bucket, "a/b.arrows", data, trailer, true); engine.KindOf(err) != engine.KindConflict {
					t.Errorf("wrote a file that was to be absent: %v", err)
				}
				dst := make([]byte, n)
				if err := spill.Read(t.Context(), bucket, "a/b.arrows", dst, trailer); err != nil || !bytes.Equal(dst, data) {
					t.Errorf("read back: %v", err)
				}
				if got, err := spill.ReadTrailer(t.Context(), bucket, "a/b.arrows"); err != nil || got != trailer {
					t.Errorf("got the trailer %+v, %v, want %+v", got, err, trailer)
				}
				// Any reader of streams sees the object first.
				r, _, err := bucket.Get(t.Context(), "a/b.arrows", 0, n)
				if err != nil {
					t.Fatal(err)
				}
				defer func() { _ = r.Close() }()
				if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, data) {
					t.Errorf("the file does not begin with the object: %v", err)
				}
			})
		}
	}
}

func TestReadRefuses(t *testing.T) {
	data, trailer := example(1000)
	whole := append(bytes.Clone(data), trailer.Encode()...)
	turned := bytes.Clone(whole)
	turned[500] ^= 1
	other := trailer
	other.Rows++
	for name, tt := range map[string]struct {
		content []byte
		kind    engine.Kind
		// trailerOnly errors are found by ReadTrailer too.
		trailer bool
	}{
		"nothing there":      {nil, engine.KindNotFound, true},
		"empty":              {[]byte{}, engine.KindCorrupt, true},
		"shorter than ours":  {whole[:40], engine.KindCorrupt, true},
		"cut":                {whole[:1000], engine.KindCorrupt, true},
		"cut by a byte":      {whole[:1063], engine.KindCorrupt, true},
		"longer":             {append(bytes.Clone(whole), 0), engine.KindCorrupt, true},
		"begins later":       {whole[1:], engine.KindCorrupt, true},
		"a bit turned":       {turned, engine.KindCorrupt, false},
		"of another trailer": {append(bytes.Clone(data), other.Encode()...), engine.KindCorrupt, false},
	} {
		t.Run(name, func(t *testing.T) {
			bucket := memory.New("b")
			if tt.content != nil {
				if _, err := bucket.Put(t.Context(), "k", bytes.NewReader(tt.content), int64(len(tt.content)), blob.PutOptions{}); err != nil {
					t.Fatal(err)
				}
			}
			storetest.WantKind(t, spill.Read(t.Context(), bucket, "k", make([]byte, 1000), trailer), tt.kind)
			storetest.WantKind(t, spill.Verify(t.Context(), bucket, "k", trailer), tt.kind)
			_, err := spill.ReadTrailer(t.Context(), bucket, "k")
			if tt.trailer {
				storetest.WantKind(t, err, tt.kind)
			} else if err != nil {
				t.Error(err)
			}
		})
	}
}

// TestWriteFindsDamage has a bucket that acknowledges what it did not keep.
func TestWriteFindsDamage(t *testing.T) {
	below := memory.New("b")
	bucket := storetest.NewBucket(below, 1)
	data, trailer := example(1000)
	bucket.SetFaults(storetest.Faults{DamagedPut: 1})
	storetest.WantKind(t, spill.Write(t.Context(), bucket, "k", data, trailer, false), engine.KindCorrupt)
	if _, err := below.Stat(t.Context(), "k"); engine.KindOf(err) != engine.KindNotFound {
		t.Errorf("the damaged file is still there: %v", err)
	}
	bucket.SetFaults(storetest.Faults{Full: 1})
	storetest.WantKind(t, spill.Write(t.Context(), bucket, "k", data, trailer, false), engine.KindExhausted)
}

// opener opens buckets by URI and counts them.
type opener struct {
	buckets map[string]blob.Bucket
	opened  []string
}

func (o *opener) open(_ context.Context, uri string) (blob.Bucket, error) {
	o.opened = append(o.opened, uri)
	if b, ok := o.buckets[uri]; ok {
		return b, nil
	}
	return nil, errors.New("no such bucket")
}

func keys(t *testing.T, bucket blob.Bucket) (all []string) {
	t.Helper()
	for info, err := range bucket.List(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, info.Key)
	}
	return all
}

func write(t *testing.T, bucket blob.Bucket, key string) {
	t.Helper()
	if _, err := bucket.Put(t.Context(), key, bytes.NewReader([]byte("x")), 1, blob.PutOptions{}); err != nil {
		t.Fatal(err)
	}
}

func TestSweep(t *testing.T) {
	folder, bucket := t.TempDir(), memory.New("b")
	o := &opener{buckets: map[string]blob.Bucket{bucket.URI(): bucket}}
	dead, err := spill.NewClaim(folder, "dead", bucket.URI())
	if err != nil {
		t.Fatal(err)
	}
	write(t, bucket, spill.Key("dead", dead.Generation(), storetest.ID(1), 1))
	write(t, bucket, spill.Key("dead", dead.Generation(), storetest.ID(2), 12))
	alive, err := spill.NewClaim(folder, "alive", bucket.URI())
	if err != nil {
		t.Fatal(err)
	}
	kept := []string{
		spill.Key("alive", alive.Generation(), storetest.ID(1), 1),
		spill.Key("elsewhere", "0011223344556677", storetest.ID(1), 1), // Of another data folder.
		"dead/" + dead.Generation() + "/notes.txt",                     // None of ours.
		"dead/" + dead.Generation() + "0/x.arrows",
	}
	for _, key := range kept {
		write(t, bucket, key)
	}

	// While the process lives, nothing of it is swept.
	if swept, err := spill.Sweep(t.Context(), folder, o.open); err != nil || swept != (spill.Swept{}) {
		t.Fatalf("swept %+v of living processes, %v", swept, err)
	}
	if err := dead.Close(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	swept, err := spill.Sweep(t.Context(), folder, o.open)
	if want := (spill.Swept{Generations: 1, Files: 2, Bytes: 2}); err != nil || swept != want {
		t.Errorf("swept %+v, %v, want %+v", swept, err, want)
	}
	left := map[string]bool{}
	for _, key := range keys(t, bucket) {
		left[key] = true
	}
	for _, key := range kept {
		if !left[key] {
			t.Errorf("%s was swept, which was not ours to delete", key)
		}
	}
	if len(left) != len(kept) {
		t.Errorf("left are %v, want %v", left, kept)
	}
	if swept, err := spill.Sweep(t.Context(), folder, o.open); err != nil || swept != (spill.Swept{}) {
		t.Errorf("swept %+v again, %v", swept, err)
	}
	if err := alive.Close(t.Context(), bucket); err != nil {
		t.Fatal(err)
	}
}

func TestSweepKeepsWhatItCannotSweep(t *testing.T) {
	folder := t.TempDir()
	o := &opener{buckets: map[string]blob.Bucket{}}
	for _, uri := range []string{"mem://gone", "mem://here"} {
		c, err := spill.NewClaim(folder, "dead", uri)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Close(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		if uri == "mem://here" {
			o.buckets[uri] = memory.New("here")
		}
	}
	swept, err := spill.Sweep(t.Context(), folder, o.open)
	if err == nil || swept.Generations != 1 || len(o.opened) != 2 {
		t.Errorf("swept %+v, opened %v, %v", swept, o.opened, err)
	}
	o.buckets["mem://gone"] = memory.New("gone")
	if swept, err := spill.Sweep(t.Context(), folder, o.open); err != nil || swept.Generations != 1 {
		t.Errorf("swept %+v, %v, once the bucket is back", swept, err)
	}
	if swept, err := spill.Sweep(t.Context(), folder+"/none", o.open); err != nil || swept.Generations != 0 {
		t.Errorf("swept %+v, %v, in a folder that does not exist", swept, err)
	}
}

func TestClaimLeavesNothing(t *testing.T) {
	folder := t.TempDir()
	bucket, err := file.Open(t.TempDir() + "/none yet")
	if err != nil {
		t.Fatal(err)
	}
	c, err := spill.NewClaim(folder, "node", bucket.URI())
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Close(t.Context(), bucket); err != nil {
		t.Fatal(err)
	}
	o := &opener{}
	if _, err := spill.Sweep(t.Context(), folder, o.open); err != nil || len(o.opened) != 0 {
		t.Errorf("a claim without files was left: %v, %v", o.opened, err)
	}
	for _, node := range []engine.NodeID{"", "a/b", "../x"} {
		if _, err := spill.NewClaim(folder, node, "mem://b"); engine.KindOf(err) != engine.KindInvalidArgument {
			t.Errorf("claimed for the node %q: %v", node, err)
		}
	}
}
