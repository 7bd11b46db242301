package open

import (
	"context"
	"crypto/sha256"
	"errors"
	"slices"
	"sync"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/blob"
	"github.com/f708428e/engine/blob/s3"
)

// Pool opens each bucket once, for all who name it alike, so that they share its connections. It is safe for concurrent use.
type Pool struct {
	options Options

	mu      sync.Mutex
	buckets map[string]*pooled
	closed  bool
	// keyed are the names among buckets of those that somebody reaches with keys of its own, the last one used last.
	keyed []string
}

// maxKeyed bounds the buckets that are reached with somebody's own keys: each user has others, and temporary ones change all the time.
const maxKeyed = 64

// pooled is a bucket that is open, or being opened until done is closed.
type pooled struct {
	done   chan struct{}
	bucket blob.Bucket
	err    error
}

func errClosed() error {
	return engine.Errorf(engine.KindInternal, "open bucket", "", "the buckets are closed")
}

// NewPool returns a Pool without buckets. Close must be called.
func NewPool(options Options) *Pool {
	return &Pool{options: options, buckets: map[string]*pooled{}}
}

// Bucket returns the bucket of an address, see the function Bucket. It lives until Close; the caller must not close it. A failure is not
// kept.
func (p *Pool) Bucket(ctx context.Context, uri string) (blob.Bucket, error) {
	return p.named(ctx, uri, uri, p.options)
}

// BucketWith is Bucket for one that is reached with these keys, and that nobody gets who has others. The keys are held in memory as long as the
// bucket is among the last 64 of its kind.
func (p *Pool) BucketWith(ctx context.Context, uri string, keys s3.Credentials) (blob.Bucket, error) {
	hash := sha256.New()
	for _, part := range []string{keys.AccessKeyID, keys.SecretAccessKey, keys.SessionToken} {
		sum := sha256.Sum256([]byte(part))
		hash.Write(sum[:])
	}
	name := string(hash.Sum(nil)) + uri // No address begins so.
	options := p.options
	options.S3.Credentials = &keys
	p.touch(name)
	return p.named(ctx, name, uri, options)
}

// touch notes the use of a bucket that is reached with keys, and lets go of the one that was used least recently if there are too many. Who uses
// that one goes on doing so: closing it ends idle connections alone.
func (p *Pool) touch(name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if at := slices.Index(p.keyed, name); at >= 0 {
		p.keyed = slices.Delete(p.keyed, at, at+1)
	}
	p.keyed = append(p.keyed, name)
	if len(p.keyed) <= maxKeyed {
		return
	}
	oldest := p.keyed[0]
	p.keyed = slices.Delete(p.keyed, 0, 1)
	if found := p.buckets[oldest]; found != nil {
		delete(p.buckets, oldest)
		select {
		case <-found.done:
			if found.err == nil {
				_ = found.bucket.Close()
			}
		default: // Who opens it has it for itself.
		}
	}
}

// named returns the bucket that the pool has under a name, and opens it first if it has not.
func (p *Pool) named(ctx context.Context, name, uri string, options Options) (blob.Bucket, error) {
	for {
		p.mu.Lock()
		if p.closed {
			p.mu.Unlock()
			return nil, errClosed()
		}
		found, ok := p.buckets[name]
		if !ok {
			found = &pooled{done: make(chan struct{})}
			p.buckets[name] = found
		}
		p.mu.Unlock()
		if !ok {
			return p.open(ctx, name, uri, options, found)
		}
		select {
		case <-found.done:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
		if found.err == nil {
			return found.bucket, nil
		}
		// Perhaps only because the other's context ended.
	}
}

// open opens a bucket that others wait for.
func (p *Pool) open(ctx context.Context, name, uri string, options Options, into *pooled) (blob.Bucket, error) {
	into.bucket, into.err = Bucket(ctx, uri, options)
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case into.err != nil:
		if p.buckets[name] == into {
			delete(p.buckets, name)
		}
	case p.closed:
		_ = into.bucket.Close()
		into.bucket, into.err = nil, errClosed()
	}
	close(into.done)
	return into.bucket, into.err
}

// Close closes the buckets, which nobody may use any more.
func (p *Pool) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	var errs []error
	for _, b := range p.buckets {
		select {
		case <-b.done:
			errs = append(errs, b.bucket.Close())
		default: // Who opens it closes it.
		}
	}
	clear(p.buckets)
	return errors.Join(errs...)
}
