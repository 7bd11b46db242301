package bucket_test

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/f708428e/engine/dataset/folder"
	"github.com/f708428e/engine/internal/s3test"
)

// BenchmarkPublish has two workers publish parts in a folder, and in a bucket of a server on this machine.
func BenchmarkPublish(b *testing.B) {
	const workers = 2
	server := s3test.Start(b)
	options := server.Options()
	options.PartBytes = 8 << 20
	store := openS3(b, "s3://"+server.Bucket(b)+"/out", options)
	local, err := folder.New(b.TempDir(), folder.ModeAppend, job)
	must(b, err)
	for _, place := range []struct {
		name string
		folder.Place
	}{{"folder", local}, {"s3", newOutput(b, store, folder.ModeAppend, job)}} {
		must(b, place.Prepare(b.Context()))
		for _, size := range []int{100 << 10, 4 << 20, 64 << 20} {
			data := make([]byte, size)
			_, _ = rand.NewChaCha8([32]byte{}).Read(data)
			sequence := size // Names must be new.
			b.Run(fmt.Sprintf("%s/%dKiB", place.name, size>>10), func(b *testing.B) {
				b.SetBytes(int64(size))
				next := make(chan int)
				var group sync.WaitGroup
				for range workers {
					group.Go(func() {
						for i := range next {
							d, err := place.Begin(b.Context(), folder.PartName(job, i, ".parquet"), "1")
							if err != nil {
								b.Error(err)
								continue
							}
							for rest := data; len(rest) > 0; {
								n := min(len(rest), 1<<20)
								_, _ = d.Write(rest[:n]) // Publish tells
								rest = rest[n:]
							}
							if won, err := d.Publish(b.Context()); !won || err != nil {
								b.Error(won, err)
							}
						}
					})
				}
				for b.Loop() {
					sequence++
					next <- sequence
				}
				close(next)
				group.Wait()
			})
		}
	}
}
