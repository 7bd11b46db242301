package objectstore_test

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/f708428e/engine/blob"
	"github.com/f708428e/engine/blob/file"
	"github.com/f708428e/engine/blob/memory"
	"github.com/f708428e/engine/objectstore/storetest"
)

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
}
