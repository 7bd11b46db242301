package memory_test

import (
	"testing"

	"github.com/f708428e/engine/blob"
	"github.com/f708428e/engine/blob/blobtest"
	"github.com/f708428e/engine/blob/memory"
)

func TestConformance(t *testing.T) {
	blobtest.Run(t, 1<<20, func(*testing.T) blob.Bucket { return memory.New("test") })
}

func TestConformanceWithPrefix(t *testing.T) {
	blobtest.Run(t, 1<<20, func(t *testing.T) blob.Bucket {
		whole := memory.New("test")
		blobtest.Put(t, whole, "prefix.txt", []byte("beside"))
		b := whole.Prefixed("some/prefix")
		if b.URI() != "mem://test/some/prefix" {
			t.Fatal(b.URI())
		}
		return b
	})
}
