// Package storage opens the inputs of sources: files of this machine, and objects in buckets, which it reads ahead in parallel ranges
// with bounded memory.
package storage

import (
	"context"
	"os"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/blob"
	"github.com/f708428e/engine/dataset"
)

// Defaults of Options.
const (
	defaultBufferBytes = 128 << 20
	defaultInputBytes  = 32 << 20
)

const (
	// pieceBytes is how much one request asks for at most. A server answers one request with some 50 to 100 MB/s, so that a piece takes
	// about as long as two or three round trips; the first piece of a range is smaller, so that its reader can begin, and comes with the
	// next. A server that is near is asked for more at a time, as requests are most of its work.
	pieceBytes, firstPieceBytes = 4 << 20, 512 << 10
	nearRunBytes                = 16 << 20
	// gapBytes is how much is read for nothing rather than with a request of its own.
	gapBytes = 64 << 10
	// unannouncedBytes is how much is read at least where nothing was announced: whoever reads a header reads what follows it.
	unannouncedBytes = 64 << 10
)

// Options bound the memory that is read ahead.
type Options struct {
	// BufferBytes is for all inputs together. What a reader waits for is read in any case, a few MiB for each input. Zero means 128 MiB.
	BufferBytes int64
	// InputBytes is for one input; less if many are open. Zero means 32 MiB.
	InputBytes int64
	// Allow is asked about each file of this machine that has been opened; its error refuses it. Nil allows all.
	Allow func(*os.File) error
}

// Storage opens files of this machine and objects in buckets. It implements dataset.Storage and is safe for concurrent use.
type Storage struct {
	options Options
	bucket  func(ctx context.Context, uri string) (blob.Bucket, error)
	open    atomic.Int64 // inputs in buckets
	held    atomic.Int64 // their bytes
	spare   sync.Pool    // of *[]byte, pieceBytes long
	known   known
	paces   paces
}

var _ dataset.Storage = (*Storage)(nil)

// New returns a Storage. bucket returns the bucket of a URI without a prefix, such as "s3://bucket?region=eu-central-1"; it is not closed
// here, so several calls may return the same. See open.Pool.
func New(bucket func(ctx context.Context, uri string) (blob.Bucket, error), options Options) *Storage {
	if options.BufferBytes <= 0 {
		options.BufferBytes = defaultBufferBytes
	}
	if options.InputBytes <= 0 {
		options.InputBytes = defaultInputBytes
	}
	s := &Storage{options: options, bucket: bucket}
	s.spare.New = func() any { b := make([]byte, pieceBytes); return &b }
	return s
}

// Bucket returns the bucket named by a URI without a prefix. Its owner closes it, the caller must not.
func (s *Storage) Bucket(ctx context.Context, uri string) (blob.Bucket, error) {
	return s.bucket(ctx, uri)
}

// Open implements dataset.Storage. It sends no request for what is in a bucket.
func (s *Storage) Open(ctx context.Context, op string, file dataset.File) (dataset.Input, error) {
	return s.OpenFrom(ctx, op, file, s.bucket)
}

// OpenFrom is Open for somebody who has buckets of its own. What is read ahead counts with all else.
func (s *Storage) OpenFrom(
	ctx context.Context, op string, file dataset.File, open func(ctx context.Context, uri string) (blob.Bucket, error),
) (dataset.Input, error) {
	if !Remote(file) {
		return openLocal(op, file, s.options.Allow)
	}
	scheme, rest, _ := strings.Cut(file.Path, "://")
	name, key, _ := strings.Cut(rest, "/")
	uri := BucketURI(scheme, name, file.Settings)
	bucket, err := open(ctx, uri)
	if err != nil {
		return nil, err
	}
	return newRemote(ctx, s, bucket, op, key, file, s.paces.of(uri)), nil
}

// BucketURI is the URI of a whole bucket, for Storage.Bucket.
func BucketURI(scheme, name, settings string) string {
	uri := scheme + "://" + name
	if settings != "" {
		uri += "?" + settings
	}
	return uri
}

// Remote tells whether a file is in a bucket.
func Remote(file dataset.File) bool { return strings.Contains(file.Path, "://") && file.Path[0] != '/' }

// Open opens a file with s, or without if s is nil: then it must be one of this machine.
func Open(ctx context.Context, s dataset.Storage, op string, file dataset.File) (dataset.Input, error) {
	switch {
	case s == nil && !Remote(file):
		return openLocal(op, file, nil)
	case s == nil:
		return nil, engine.Errorf(engine.KindInternal, op, file.Path, "there is nothing here that reads from buckets")
	}
	return s.Open(ctx, op, file)
}
