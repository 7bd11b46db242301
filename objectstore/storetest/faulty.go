package storetest

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"sync"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/blob"
)

// Faults are the shares of calls, between 0 and 1, that go wrong in each way.
type Faults struct {
	// Unavailable calls fail with engine.KindUnavailable and do nothing; Full ones with engine.KindExhausted, puts alone.
	Unavailable, Full float64
	// LostReply calls fail with engine.KindUnavailable after the put was done.
	LostReply float64
	// DamagedPut stores a body with one bit turned, DamagedGet gives one back, CutGet ends early without an error.
	DamagedPut, DamagedGet, CutGet float64
}

// Bucket is a bucket whose calls go wrong at random. It is safe for concurrent use.
type Bucket struct {
	blob.Bucket

	mu     sync.Mutex
	random *rand.Rand
	faults Faults
	hold   chan struct{}
}

// NewBucket makes a bucket over another one; nothing goes wrong before SetFaults.
func NewBucket(bucket blob.Bucket, seed uint64) *Bucket {
	return &Bucket{Bucket: bucket, random: rand.New(rand.NewPCG(seed, 3))}
}

// SetFaults sets how often what goes wrong from now on.
func (b *Bucket) SetFaults(faults Faults) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.faults = faults
}

// Hold makes all puts wait until the returned function is called.
func (b *Bucket) Hold() (release func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	hold := make(chan struct{})
	b.hold = hold
	return sync.OnceFunc(func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		close(hold)
		if b.hold == hold {
			b.hold = nil
		}
	})
}

// happens throws the dice for one fault.
func (b *Bucket) happens(share func(Faults) float64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.random.Float64() < share(b.faults)
}

var errInjected = errors.New("injected fault")

func (b *Bucket) unavailable(op, key string) error {
	if b.happens(func(f Faults) float64 { return f.Unavailable }) {
		return &engine.Error{Kind: engine.KindUnavailable, Op: op, ID: key, Err: errInjected}
	}
	return nil
}

// Put implements blob.Bucket.
func (b *Bucket) Put(ctx context.Context, key string, body io.ReaderAt, sizeBytes int64, options blob.PutOptions) (blob.Info, error) {
	b.mu.Lock()
	hold := b.hold
	b.mu.Unlock()
	if hold != nil {
		select {
		case <-hold:
		case <-ctx.Done():
			return blob.Info{}, ctx.Err()
		}
	}
	if err := b.unavailable("put", key); err != nil {
		return blob.Info{}, err
	}
	if b.happens(func(f Faults) float64 { return f.Full }) {
		return blob.Info{}, &engine.Error{Kind: engine.KindExhausted, Op: "put", ID: key, Err: errInjected}
	}
	if b.happens(func(f Faults) float64 { return f.DamagedPut }) {
		body = damagedAt{body, sizeBytes / 2}
	}
	info, err := b.Bucket.Put(ctx, key, body, sizeBytes, options)
	if err == nil && b.happens(func(f Faults) float64 { return f.LostReply }) {
		err = &engine.Error{Kind: engine.KindUnavailable, Op: "put", ID: key, Err: errInjected}
	}
	return info, err
}

// Get implements blob.Bucket.
func (b *Bucket) Get(ctx context.Context, key string, offsetBytes, lengthBytes int64) (io.ReadCloser, blob.Info, error) {
	if err := b.unavailable("get", key); err != nil {
		return nil, blob.Info{}, err
	}
	r, info, err := b.Bucket.Get(ctx, key, offsetBytes, lengthBytes)
	if err != nil {
		return nil, info, err
	}
	if b.happens(func(f Faults) float64 { return f.DamagedGet }) {
		r = &damaged{ReadCloser: r}
	}
	if b.happens(func(f Faults) float64 { return f.CutGet }) {
		r = &damaged{ReadCloser: struct {
			io.Reader
			io.Closer
		}{io.LimitReader(r, info.SizeBytes/2), r}, done: true}
	}
	return r, info, nil
}

// Stat implements blob.Bucket.
func (b *Bucket) Stat(ctx context.Context, key string) (blob.Info, error) {
	if err := b.unavailable("stat", key); err != nil {
		return blob.Info{}, err
	}
	return b.Bucket.Stat(ctx, key)
}

// Close implements blob.Bucket; the bucket below stays open.
func (b *Bucket) Close() error { return nil }

// damagedAt turns one bit of a body.
type damagedAt struct {
	io.ReaderAt
	at int64
}

// ReadAt implements io.ReaderAt.
func (d damagedAt) ReadAt(p []byte, offset int64) (int, error) {
	n, err := d.ReaderAt.ReadAt(p, offset)
	if i := d.at - offset; i >= 0 && i < int64(n) {
		p[i] ^= 0x10
	}
	return n, err
}

// damaged turns one bit of what is read first.
type damaged struct {
	io.ReadCloser
	done bool
}

// Read implements io.Reader.
func (d *damaged) Read(p []byte) (int, error) {
	n, err := d.ReadCloser.Read(p)
	if n > 0 && !d.done {
		d.done = true
		p[n/2] ^= 0x10
	}
	return n, err
}
