package node

import (
	"context"
	"errors"
	"net/url"
	"path/filepath"
	"strings"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/blob"
	"github.com/f708428e/engine/blob/open"
	"github.com/f708428e/engine/blob/s3"
	"github.com/f708428e/engine/dataset"
	"github.com/f708428e/engine/dataset/storage"
	"github.com/f708428e/engine/internal/jobplan"
	"github.com/f708428e/engine/internal/security/places"
)

// A file that a task writes to a bucket holds up to writesAtOnce pieces and one more, and there are as many tasks as CPUs. All files together have
// writeBytes of memory, and beyond it a temporary file in the data folder.
const (
	pieceBytes   = 8 << 20
	writesAtOnce = 3
	writeBytes   = 96 << 20
)

// buckets are the buckets that this process reads inputs from and writes outputs to, each opened once. They are reached as AWS's environment and configuration
// files say, and as the settings in a path do.
type buckets struct {
	*storage.Storage
	pool   *open.Pool
	writes *s3.Buffers
}

// newBuckets returns the buckets and files that a policy allows; nil allows all. dataDir may be empty.
func newBuckets(allowed *places.Policy, dataDir string) *buckets {
	writes := s3.NewBuffers(writeBytes, dataDir)
	pool := open.NewPool(open.Options{S3: s3.Options{PartBytes: pieceBytes, Concurrency: writesAtOnce, Buffers: writes, Allow: allowed.Bucket}})
	return &buckets{Storage: storage.New(pool.Bucket, storage.Options{Allow: allowed.Opened}), pool: pool, writes: writes}
}

// openAllowed opens a place of objects that jobs choose: a folder, or a part of a bucket.
func openAllowed(ctx context.Context, uri string, allowed *places.Policy) (blob.Bucket, error) {
	folder := uri
	if strings.HasPrefix(uri, "file:") {
		u, err := url.Parse(uri)
		if err != nil || u.Host != "" && u.Host != "localhost" {
			return nil, engine.Errorf(engine.KindInvalidArgument, "open", uri, "not the URL of a folder on this machine: write file:///folder")
		}
		folder = u.Path
	}
	if filepath.IsAbs(folder) {
		// What is opened is what was judged, whatever the URL said in other ways.
		uri = filepath.Clean(folder)
		if err := allowed.Write(uri); err != nil {
			return nil, err
		}
	}
	return open.Bucket(ctx, uri, open.Options{S3: s3.Options{Allow: allowed.Bucket}})
}

func (b *buckets) close() error { return errors.Join(b.pool.Close(), b.writes.Close()) }

var _ jobplan.Keyed = (*buckets)(nil)

// WithKeys implements jobplan.Keyed.
func (b *buckets) WithKeys(keys func() (s3.Credentials, error)) jobplan.Storage {
	return keyedBuckets{b, keys}
}

// keyedBuckets are buckets that are reached with the keys of a job.
type keyedBuckets struct {
	from *buckets
	keys func() (s3.Credentials, error)
}

// Bucket implements jobplan.Storage.
func (k keyedBuckets) Bucket(ctx context.Context, uri string) (blob.Bucket, error) {
	keys, err := k.keys()
	if err != nil {
		return nil, err
	}
	return k.from.pool.BucketWith(ctx, uri, keys)
}

// Open implements dataset.Storage.
func (k keyedBuckets) Open(ctx context.Context, op string, file dataset.File) (dataset.Input, error) {
	return k.from.OpenFrom(ctx, op, file, k.Bucket)
}
