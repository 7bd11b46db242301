package s3_test

import (
	"bytes"
	"io"
	"testing"
	"time"

	"github.com/f708428e/engine/blob"
	"github.com/f708428e/engine/blob/blobtest"
	"github.com/f708428e/engine/blob/file"
	"github.com/f708428e/engine/blob/s3"
	"github.com/f708428e/engine/internal/s3test"
)

// BenchmarkAgainstFile puts and gets an object of 64 MiB through a server on this machine, and as its control the same in a folder
// on the same disk, in turns. "ratio" is the file's time over that of S3.
func BenchmarkAgainstFile(b *testing.B) {
	const size = 64 << 20
	server := s3test.Start(b)
	options := server.Options()
	options.PartBytes = 0
	remote, err := s3.Open(b.Context(), "s3://"+server.Bucket(b), options)
	if err != nil {
		b.Fatal(err)
	}
	local, err := file.Open(b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _, _ = remote.Close(), local.Close() })
	data := blobtest.Bytes(1, size)
	ways := map[string]func(bucket blob.Bucket) error{
		"put": func(bucket blob.Bucket) error {
			_, err := bucket.Put(b.Context(), "a", bytes.NewReader(data), size, blob.PutOptions{})
			return err
		},
		"stream": func(bucket blob.Bucket) error { return stream(b.Context(), bucket, "a", data, blob.PutOptions{}) },
		"get": func(bucket blob.Bucket) error {
			r, _, err := bucket.Get(b.Context(), "a", 0, -1)
			if err != nil {
				return err
			}
			_, err = io.ReadFull(r, make([]byte, size))
			_ = r.Close()
			return err
		},
	}
	for _, name := range []string{"put", "stream", "get"} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(size)
			var times [2]time.Duration
			for b.Loop() {
				for i, bucket := range []blob.Bucket{local, remote} {
					start := time.Now()
					if err := ways[name](bucket); err != nil {
						b.Fatal(err)
					}
					times[i] += time.Since(start)
				}
			}
			b.ReportMetric(float64(times[1].Milliseconds())/float64(b.N), "s3-ms")
			b.ReportMetric(float64(times[0].Milliseconds())/float64(b.N), "file-ms")
			b.ReportMetric(float64(times[0])/float64(times[1]), "ratio")
		})
	}
}
