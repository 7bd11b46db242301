package s3_test

import (
	"hash/crc32"
	"math/rand/v2"
	"testing"

	"github.com/f708428e/engine/blob/blobtest"
	"github.com/f708428e/engine/blob/s3"
)

func TestCombine(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	table := crc32.MakeTable(crc32.Castagnoli)
	data := blobtest.Bytes(seed, 10_000)
	for range 1000 {
		n := random.IntN(len(data) + 1)
		m := random.IntN(n + 1)
		first, second := crc32.Checksum(data[:m], table), crc32.Checksum(data[m:n], table)
		if got, want := s3.Combine(first, second, int64(n-m)), crc32.Checksum(data[:n], table); got != want {
			t.Fatalf("%d and %d bytes: got %08x, want %08x", m, n-m, got, want)
		}
	}
	if got := s3.Combine(0, 5, 1<<40); got != 5 {
		t.Fatalf("nothing before: got %08x", got)
	}
}
