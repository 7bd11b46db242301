// Package blob keeps objects by key. This package has the interface; the children are the places: file is a folder, memory is for
// tests, s3 speaks to S3 and what is compatible with it. Package open makes a bucket of a URI, and blobtest is the suite that all of
// them pass.
package blob

import (
	"context"
	"io"
	"iter"
	"time"
)

// Info describes a stored object.
type Info struct {
	// Key is its name in the bucket, with slashes.
	Key string
	// SizeBytes is its length.
	SizeBytes int64
	// ETag identifies its content where the store has such a thing.
	ETag string
	// Modified is when it was stored.
	Modified time.Time
	// Mark is the text that it was put with. List leaves it empty.
	Mark string
}

// Bucket keeps objects by key. It is safe for concurrent use. Errors are *engine.Error and name bucket and key: engine.KindNotFound
// for a key or bucket that does not exist, engine.KindPermission for one that is forbidden, engine.KindConflict for a key that
// exists and was to be absent, engine.KindExhausted for a full disk or quota, engine.KindUnavailable for what may work later.
type Bucket interface {
	// URI is the bucket's address, such as "s3://bucket/prefix" or "file:///folder", without a slash at its end.
	URI() string
	// Put stores sizeBytes bytes of body under key, whole or not at all, replacing what is there unless options say otherwise. It
	// returns when they are durable. body may be read several times and in parallel, and is not read any more once Put has
	// returned. A body that is shorter is an error of kind engine.KindInvalidArgument.
	Put(ctx context.Context, key string, body io.ReaderAt, sizeBytes int64, options PutOptions) (Info, error)
	// Create begins an object of unknown length. The caller ends it with Commit or Abort. ctx must live until then: what the
	// writer does in the background is done under it.
	Create(ctx context.Context, key string, options PutOptions) (Writer, error)
	// Get opens an object from offsetBytes on; lengthBytes of -1 is all that follows, and a range that goes beyond the end is cut
	// there. An offset behind the end is an error of kind engine.KindInvalidArgument; at the end there is nothing to read. The
	// reader gives the bytes of one version of the object, or an error, and lives no longer than ctx. The caller closes it.
	Get(ctx context.Context, key string, offsetBytes, lengthBytes int64) (io.ReadCloser, Info, error)
	// Stat describes an object.
	Stat(ctx context.Context, key string) (Info, error)
	// List goes through the objects whose keys begin with prefix, in order of their keys' bytes; a prefix need not end at a slash.
	// It stops after an error.
	List(ctx context.Context, prefix string) iter.Seq2[Info, error]
	// Delete removes an object. One that does not exist is no error.
	Delete(ctx context.Context, key string) error
	// Close frees what the bucket holds.
	Close() error
}

// PutOptions steers a Put or Create.
type PutOptions struct {
	// IfAbsent makes the store fail with engine.KindConflict if the key exists.
	IfAbsent bool
	// Mark is a text that the object carries and Stat and Get tell, such as who put it; see CheckMark. Empty means none.
	Mark string
}

// Writer takes the bytes of an object in order. It is not safe for concurrent use.
type Writer interface {
	io.Writer
	// Commit makes the object visible, whole and durable.
	Commit(ctx context.Context) (Info, error)
	// Abort leaves nothing behind. It does nothing after a Commit that succeeded; after one that failed it must still be called.
	Abort(ctx context.Context) error
}

// Sweeper is a Bucket in which puts that were cut off can leave something behind that nobody sees.
type Sweeper interface {
	// Sweep deletes what is left of puts of keys that begin with prefix and that ours says yes to. Those that are under way then fail.
	Sweep(ctx context.Context, prefix string, ours func(key string) bool) error
}

// Prober is a Bucket that another program keeps, which may not know all that this package asks of it.
type Prober interface {
	// ProbeIfAbsent makes sure that PutOptions.IfAbsent is heeded, by objects of the key, which is absent before and after. A store
	// that ignores it is an error of kind engine.KindInvalidArgument that names the store.
	ProbeIfAbsent(ctx context.Context, key string) error
}

// Sealer is a Bucket whose writers are SealingWriters.
type Sealer interface {
	// Reveal commits what a writer has sealed. It may be called by any process, more than once: an object that has been revealed stays.
	// One of somebody else in its place is an error of kind engine.KindConflict, if the writer was to make a new one; if neither the
	// object nor what was sealed is there any more, the kind is engine.KindNotFound.
	Reveal(ctx context.Context, sealed string) (Info, error)
	// Unseal deletes what a writer has sealed and nobody is to reveal. What is gone is no error.
	Unseal(ctx context.Context, sealed string) error
}

// SealingWriter is a Writer that can leave its Commit to another process.
type SealingWriter interface {
	Writer
	// Seal makes the bytes durable and unseen, and ends the writer. What it returns is for Sealer.Reveal, and is printable. Sealed bytes
	// go with Sweeper.Sweep.
	Seal(ctx context.Context) (sealed string, err error)
}
