package s3_test

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/f708428e/engine/blob"
	"github.com/f708428e/engine/blob/blobtest"
	"github.com/f708428e/engine/blob/s3"
	"github.com/f708428e/engine/internal/s3test"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func open(t *testing.T, uri string, options s3.Options) *s3.Bucket {
	t.Helper()
	b, err := s3.Open(t.Context(), uri, options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	return b
}

// large is enough for two parts.
const large = 6<<20 + 7

func TestConformance(t *testing.T) {
	server := s3test.Start(t)
	for _, c := range []struct{ name, query string }{
		{"checksums", "?checksums=always"},
		{"no checksums", "?checksums=when_required"},
	} {
		t.Run(c.name, func(t *testing.T) {
			blobtest.Run(t, large, func(t *testing.T) blob.Bucket {
				bucket := server.Bucket(t)
				blobtest.Put(t, open(t, "s3://"+bucket, server.Options()), "prefix.txt", []byte("beside"))
				return open(t, "s3://"+bucket+"/prefix/a b"+c.query, server.Options())
			})
		})
	}
}
