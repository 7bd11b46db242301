package open

import (
	"context"
	"errors"
	"sync"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/blob"
)

// Pool opens each bucket once, for all who name it alike, so that they share its connections. It is safe for concurrent use.
type Pool struct {
	options Options

	mu      sync.Mutex
	buckets map[string]*pooled
	closed  bool
}

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
	for {
		p.mu.Lock()
		if p.closed {
			p.mu.Unlock()
			return nil, errClosed()
		}
		found, ok := p.buckets[uri]
		if !ok {
			found = &pooled{done: make(chan struct{})}
			p.buckets[uri] = found
		}
		p.mu.Unlock()
		if !ok {
			return p.open(ctx, uri, found)
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
func (p *Pool) open(ctx context.Context, uri string, into *pooled) (blob.Bucket, error) {
	into.bucket, into.err = Bucket(ctx, uri, p.options)
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case into.err != nil:
		delete(p.buckets, uri)
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
