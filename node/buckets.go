package node

import (
	"github.com/f708428e/engine/blob/open"
	"github.com/f708428e/engine/blob/s3"
	"github.com/f708428e/engine/dataset/storage"
)

// A file that a task writes to a bucket holds up to writesAtOnce pieces and one more in memory, and there are as many tasks as CPUs.
const (
	pieceBytes   = 8 << 20
	writesAtOnce = 3
)

// buckets are the buckets that this process reads inputs from and writes outputs to, each opened once. They are reached as AWS's environment and configuration
// files say, and as the settings in a path do.
type buckets struct {
	*storage.Storage
	pool *open.Pool
}

func newBuckets() *buckets {
	pool := open.NewPool(open.Options{S3: s3.Options{PartBytes: pieceBytes, Concurrency: writesAtOnce}})
	return &buckets{Storage: storage.New(pool.Bucket, storage.Options{}), pool: pool}
}

func (b *buckets) close() error { return b.pool.Close() }
