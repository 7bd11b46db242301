package objectstore_test

import (
	"context"
	"encoding/binary"
	"testing"
	"time"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/blob/file"
	"github.com/f708428e/engine/objectstore"
	"github.com/f708428e/engine/objectstore/shm"
	"github.com/f708428e/engine/objectstore/storetest"
)

// BenchmarkPut100MB puts 100 MB in warm memory and compares each put with a plain copy into memory that is as warm; the result to
// look at is the ratio, copy's time by put's.
func BenchmarkPut100MB(b *testing.B) {
	const size = 100_000_000
	s := storetest.Open(b, objectstore.Config{CapacityBytes: 512 * mib, ArenaBytes: 256 * mib})
	source := storetest.Content(storetest.ID(0), size)
	control, err := shm.NewArena("control", size)
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = control.Close() }()
	if err := control.MakeReady(size); err != nil {
		b.Fatal(err)
	}
	put := func(i uint64) {
		p, err := s.Create(context.Background(), objectstore.Creation{ID: number(i), SizeBytes: size, Owner: storetest.Session})
		if err != nil {
			b.Fatal(err)
		}
		copy(p.Bytes(), source)
		if _, err := p.Seal(objectstore.Description{}); err != nil {
			b.Fatal(err)
		}
		s.Delete(number(i))
	}
	put(0)
	copy(control.Bytes(), source)
	var puts, copies time.Duration
	b.SetBytes(size)
	for i := uint64(1); b.Loop(); i++ {
		start := time.Now()
		put(i)
		between := time.Now()
		copy(control.Bytes(), source)
		puts += between.Sub(start)
		copies += time.Since(between)
	}
	b.ReportMetric(copies.Seconds()/puts.Seconds(), "memcpy/put")
	b.ReportMetric(float64(puts.Microseconds())/float64(b.N), "µs/put")
}

func number(i uint64) (id engine.ObjectID) {
	binary.LittleEndian.PutUint64(id[:], i+1)
	return id
}

func BenchmarkPutGetSmall(b *testing.B) {
	s := storetest.Open(b, objectstore.Config{})
	source := storetest.Content(storetest.ID(0), 1024)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			id := engine.NewObjectID()
			p, err := s.Create(context.Background(), objectstore.Creation{ID: id, SizeBytes: 1024, Owner: storetest.Session})
			if err != nil {
				b.Fatal(err)
			}
			copy(p.Bytes(), source)
			if _, err := p.Seal(objectstore.Description{}); err != nil {
				b.Fatal(err)
			}
			h, err := s.Get(context.Background(), id)
			if err != nil {
				b.Fatal(err)
			}
			h.Release()
			s.Delete(id)
		}
	})
}

// BenchmarkGet gets one of many objects, and so shows what does not depend on the size.
func BenchmarkGet(b *testing.B) {
	s := storetest.Open(b, objectstore.Config{CapacityBytes: 512 * mib})
	const n = 100_000
	for i := range uint64(n) {
		if err := storetest.TryPut(b.Context(), s, objectstore.Creation{ID: number(i), SizeBytes: 100, Owner: storetest.Session}); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportAllocs()
	for i := uint64(0); b.Loop(); i++ {
		h, err := s.Get(context.Background(), number(i*7919%n))
		if err != nil {
			b.Fatal(err)
		}
		h.Release()
	}
}

// BenchmarkSpillRestore reads data of twice the store's size round and round, so that every object is read back from a folder
// each time.
func BenchmarkSpillRestore(b *testing.B) {
	bucket, err := file.Open(b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	s := storetest.Open(b, objectstore.Config{CapacityBytes: 128 * mib, Spill: bucket})
	const n, size = 32, 8 * mib
	b.SetBytes(size)
	for i := range n {
		storetest.Put(b, s, i, size)
	}
	for i := 0; b.Loop(); i++ {
		h, err := s.Get(context.Background(), storetest.ID(i%n))
		if err != nil {
			b.Fatal(err)
		}
		h.Release()
	}
	b.ReportMetric(float64(s.Usage().Restores)/float64(b.N), "restores/get")
}
