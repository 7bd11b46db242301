package s3

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/blob"
)

// growEvery is the number of parts after which a Writer's parts become twice as large, so that an object of any length that S3 takes
// fits into its 10,000 parts.
const growEvery = 1000

// writer gathers parts and uploads them in the background. An object that fits into one part is stored with one request.
type writer struct {
	bucket  *Bucket
	key     string
	options blob.PutOptions
	// sending is what requests are made under; stop ends it. background ends with it, and with the first failure, after which no
	// part is begun any more.
	sending    context.Context //nolint:containedctx // Create's, which the writer lives under: io.Writer has none.
	stop       context.CancelCauseFunc
	background context.Context //nolint:containedctx // As sending.
	cancel     context.CancelCauseFunc

	upload *upload // nil until the first part is full
	next   *gathered
	// slots holds a token for each part under way.
	slots chan struct{}
	parts sync.WaitGroup
	ended bool

	mu   sync.Mutex
	done []part // index is number - 1
}

// Create implements blob.Bucket.
func (b *Bucket) Create(ctx context.Context, key string, options blob.PutOptions) (blob.Writer, error) {
	if err := blob.CheckKey(key); err != nil {
		return nil, err
	}
	if err := blob.CheckMark(key, options.Mark); err != nil {
		return nil, err
	}
	if ctx.Err() != nil {
		return nil, b.ended(ctx, "put", key)
	}
	w := &writer{
		bucket: b, key: key, options: options, next: &gathered{buffers: b.options.Buffers, underWay: new(atomic.Int64)}, slots: make(chan struct{}, b.options.Concurrency),
	}
	w.sending, w.stop = context.WithCancelCause(ctx)
	w.background, w.cancel = context.WithCancelCause(w.sending)
	return w, nil
}

// partBytes is the size of the part that is being gathered.
func (w *writer) partBytes() int64 {
	return w.bucket.options.PartBytes << (len(w.done) / growEvery)
}

// failure is why nothing more can be written, or nil.
func (w *writer) failure() error {
	if w.ended {
		return engine.Errorf(engine.KindInternal, "put", w.bucket.id(w.key), "this writer has ended")
	}
	if w.background.Err() == nil {
		return nil
	}
	return w.bucket.ended(w.background, "put", w.key)
}

// Write implements io.Writer. It blocks while as many parts as may be are under way, and while others hold all memory.
func (w *writer) Write(p []byte) (written int, err error) {
	for len(p) > 0 {
		if err := w.failure(); err != nil {
			return written, err
		}
		// Full only when there is more: the last part must not be empty, and a whole object of one part needs no upload.
		if w.next.size == w.partBytes() {
			if err := w.flush(); err != nil {
				return written, err
			}
		}
		n, err := w.next.add(p[:min(int64(len(p)), w.partBytes()-w.next.size)], w.background.Done())
		p, written = p[n:], written+n
		if err != nil {
			err = engine.WrapError("put", w.bucket.id(w.key), err)
			w.cancel(err)
			return written, err
		}
	}
	return written, nil
}

// flush sends what was gathered on its way.
func (w *writer) flush() (err error) {
	if w.upload == nil {
		if w.upload, err = w.bucket.begin(w.sending, w.key, w.options); err != nil {
			w.upload = nil
			w.cancel(err)
			return err
		}
	}
	select {
	case w.slots <- struct{}{}:
	case <-w.background.Done():
		return w.failure()
	}
	select {
	case w.next.buffers.sends <- struct{}{}:
	case <-w.background.Done():
		<-w.slots
		return w.failure()
	}
	data := w.next
	data.send()
	w.next = &gathered{buffers: data.buffers, underWay: data.underWay}
	w.mu.Lock()
	w.done = append(w.done, part{})
	number := int32(len(w.done))
	w.mu.Unlock()
	w.parts.Go(func() {
		p, err := w.upload.send(w.sending, number, data, 0, data.size, data.crc)
		if err != nil {
			w.cancel(err)
		}
		w.mu.Lock()
		w.done[number-1] = p
		w.mu.Unlock()
		data.end()
		<-data.buffers.sends
		<-w.slots
	})
	return nil
}

// Commit implements blob.Writer.
func (w *writer) Commit(ctx context.Context) (blob.Info, error) {
	if err := w.failure(); err != nil {
		return blob.Info{}, err
	}
	// From here on the caller's context counts as well.
	detach := context.AfterFunc(ctx, func() { w.stop(context.Cause(ctx)) })
	defer detach()
	if w.upload == nil {
		w.next.send()
		info, err := w.bucket.putWhole(w.sending, w.key, w.next, w.next.size, w.next.crc, w.options)
		w.end(err)
		return info, err
	}
	if err := w.finish(); err != nil {
		return blob.Info{}, err
	}
	info, err := w.upload.complete(w.sending, w.done, true)
	if err != nil {
		w.cancel(err)
		return blob.Info{}, err
	}
	w.upload = nil
	w.end(nil)
	return info, nil
}

// finish sends what is left, and returns when all parts are there.
func (w *writer) finish() error {
	if err := w.flush(); err != nil {
		return err
	}
	w.parts.Wait()
	return w.failure()
}

// end forgets what is not needed any more.
func (w *writer) end(err error) {
	w.cancel(err)
	w.ended = err == nil
	w.next.end()
	if w.ended {
		w.stop(nil)
	}
}

// Abort implements blob.Writer.
func (w *writer) Abort(ctx context.Context) error {
	if w.ended {
		return nil
	}
	w.ended = true
	w.stop(nil)
	w.parts.Wait()
	w.next.end()
	if w.upload == nil {
		return nil
	}
	return w.upload.abort(ctx, nil)
}
