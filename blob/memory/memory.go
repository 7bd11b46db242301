// Package memory is a bucket in the memory of this process, for tests.
package memory

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"iter"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/blob"
)

// Bucket is a blob.Bucket in memory. It is safe for concurrent use and never blocks.
type Bucket struct {
	uri     string
	prefix  string
	objects *objects
}

var _ blob.Bucket = (*Bucket)(nil)

type objects struct {
	mu      sync.Mutex
	byKey   map[string]object
	version int64
	// sealed has the writers that were sealed and not revealed; revealed tells what object a seal became.
	sealed   map[string]*writer
	revealed map[string]blob.Info
}

// object is immutable: what is replaced stays whole for its readers.
type object struct {
	data []byte
	info blob.Info
}

// New makes an empty bucket that nobody else sees. The name is part of its URI.
func New(name string) *Bucket {
	return &Bucket{uri: "mem://" + name, objects: &objects{byKey: map[string]object{}, sealed: map[string]*writer{}, revealed: map[string]blob.Info{}}}
}

// shared holds the buckets of Shared, by name. They live as long as the process.
var shared sync.Map

// Shared returns the one bucket of this process that has this name.
func Shared(name string) *Bucket {
	b, _ := shared.LoadOrStore(name, New(name))
	return b.(*Bucket)
}

// Prefixed returns the part of the bucket whose keys begin with prefix and a slash. Both see each other's objects.
func (b *Bucket) Prefixed(prefix string) *Bucket {
	return &Bucket{uri: b.uri + "/" + prefix, prefix: b.prefix + prefix + "/", objects: b.objects}
}

// URI implements blob.Bucket: "mem://name/prefix".
func (b *Bucket) URI() string { return b.uri }

func (b *Bucket) fail(kind engine.Kind, op, key, format string, args ...any) *engine.Error {
	return engine.Errorf(kind, op, b.uri+"/"+key, format, args...)
}

// Put implements blob.Bucket.
func (b *Bucket) Put(ctx context.Context, key string, body io.ReaderAt, sizeBytes int64, options blob.PutOptions) (blob.Info, error) {
	if err := blob.CheckKey(key); err != nil {
		return blob.Info{}, err
	}
	if err := blob.CheckMark(key, options.Mark); err != nil {
		return blob.Info{}, err
	}
	if sizeBytes < 0 {
		return blob.Info{}, b.fail(engine.KindInvalidArgument, "put", key, "a size of %d bytes", sizeBytes)
	}
	data, err := io.ReadAll(io.NewSectionReader(body, 0, sizeBytes))
	if err != nil {
		return blob.Info{}, engine.WrapError("put", b.uri+"/"+key, err)
	}
	if int64(len(data)) != sizeBytes {
		return blob.Info{}, b.fail(engine.KindInvalidArgument, "put", key, "the body ends at byte %d of %d", len(data), sizeBytes)
	}
	return b.store(ctx, key, data, options)
}

// store takes data over.
func (b *Bucket) store(ctx context.Context, key string, data []byte, options blob.PutOptions) (blob.Info, error) {
	if err := ctx.Err(); err != nil {
		return blob.Info{}, engine.WrapError("put", b.uri+"/"+key, err)
	}
	now := time.Now()
	b.objects.mu.Lock()
	defer b.objects.mu.Unlock()
	if _, ok := b.objects.byKey[b.prefix+key]; ok && options.IfAbsent {
		return blob.Info{}, b.fail(engine.KindConflict, "put", key, "exists already")
	}
	b.objects.version++
	info := blob.Info{Key: key, SizeBytes: int64(len(data)), ETag: fmt.Sprintf("%x", b.objects.version), Modified: now, Mark: options.Mark}
	b.objects.byKey[b.prefix+key] = object{data: data, info: info}
	return info, nil
}

// Create implements blob.Bucket.
func (b *Bucket) Create(_ context.Context, key string, options blob.PutOptions) (blob.Writer, error) {
	if err := blob.CheckKey(key); err != nil {
		return nil, err
	}
	if err := blob.CheckMark(key, options.Mark); err != nil {
		return nil, err
	}
	return &writer{bucket: b, key: key, options: options}, nil
}

func (b *Bucket) find(op, key string) (object, error) {
	if err := blob.CheckKey(key); err != nil {
		return object{}, err
	}
	b.objects.mu.Lock()
	defer b.objects.mu.Unlock()
	found, ok := b.objects.byKey[b.prefix+key]
	if !ok {
		return object{}, b.fail(engine.KindNotFound, op, key, "does not exist")
	}
	found.info.Key = key
	return found, nil
}

// Get implements blob.Bucket.
func (b *Bucket) Get(ctx context.Context, key string, offsetBytes, lengthBytes int64) (io.ReadCloser, blob.Info, error) {
	if err := blob.CheckRange(key, offsetBytes, lengthBytes); err != nil {
		return nil, blob.Info{}, err
	}
	if err := ctx.Err(); err != nil {
		return nil, blob.Info{}, engine.WrapError("get", b.uri+"/"+key, err)
	}
	found, err := b.find("get", key)
	if err != nil {
		return nil, blob.Info{}, err
	}
	size := found.info.SizeBytes
	if offsetBytes > size {
		return nil, blob.Info{}, b.fail(engine.KindInvalidArgument, "get", key, "offset %d is behind its end, it has %d bytes", offsetBytes, size)
	}
	data := found.data[offsetBytes:]
	if lengthBytes >= 0 && lengthBytes < int64(len(data)) {
		data = data[:lengthBytes]
	}
	return io.NopCloser(bytes.NewReader(data)), found.info, nil
}

// Stat implements blob.Bucket.
func (b *Bucket) Stat(ctx context.Context, key string) (blob.Info, error) {
	if err := ctx.Err(); err != nil {
		return blob.Info{}, engine.WrapError("stat", b.uri+"/"+key, err)
	}
	found, err := b.find("stat", key)
	return found.info, err
}

// List implements blob.Bucket. It shows the objects of the moment when it begins.
func (b *Bucket) List(ctx context.Context, prefix string) iter.Seq2[blob.Info, error] {
	return func(yield func(blob.Info, error) bool) {
		b.objects.mu.Lock()
		all := maps.Clone(b.objects.byKey)
		b.objects.mu.Unlock()
		for _, key := range slices.Sorted(maps.Keys(all)) {
			if !strings.HasPrefix(key, b.prefix+prefix) {
				continue
			}
			if err := ctx.Err(); err != nil {
				yield(blob.Info{}, engine.WrapError("list", b.uri, err))
				return
			}
			info := all[key].info
			info.Key, info.Mark = strings.TrimPrefix(key, b.prefix), ""
			if !yield(info, nil) {
				return
			}
		}
	}
}

// Delete implements blob.Bucket.
func (b *Bucket) Delete(ctx context.Context, key string) error {
	if err := blob.CheckKey(key); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return engine.WrapError("delete", b.uri+"/"+key, err)
	}
	b.objects.mu.Lock()
	defer b.objects.mu.Unlock()
	delete(b.objects.byKey, b.prefix+key)
	return nil
}

// Close implements blob.Bucket. The objects stay, for those who share them.
func (b *Bucket) Close() error { return nil }

type writer struct {
	bucket  *Bucket
	key     string
	options blob.PutOptions
	data    []byte
	ended   bool
}

func (w *writer) Write(p []byte) (int, error) {
	if w.ended {
		return 0, w.bucket.fail(engine.KindInternal, "put", w.key, "this writer has ended")
	}
	w.data = append(w.data, p...)
	return len(p), nil
}

// Commit implements blob.Writer. The bytes become the object's without a copy.
func (w *writer) Commit(ctx context.Context) (blob.Info, error) {
	if w.ended {
		return blob.Info{}, w.bucket.fail(engine.KindInternal, "put", w.key, "this writer has ended")
	}
	w.ended = true
	return w.bucket.store(ctx, w.key, w.data, w.options)
}

// Abort implements blob.Writer. It drops the bytes.
func (w *writer) Abort(context.Context) error {
	w.ended, w.data = true, nil
	return nil
}
