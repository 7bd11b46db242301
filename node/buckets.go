package node

import (
	"github.com/f708428e/engine/blob/open"
	"github.com/f708428e/engine/dataset/storage"
)

// buckets are the buckets that this process reads inputs from, each opened once. They are reached as AWS's environment and configuration
// files say, and as the settings in a path do.
type buckets struct {
	*storage.Storage
	pool *open.Pool
}

func newBuckets() *buckets {
	pool := open.NewPool(open.Options{})
	return &buckets{Storage: storage.New(pool.Bucket, storage.Options{}), pool: pool}
}

func (b *buckets) close() error { return b.pool.Close() }
