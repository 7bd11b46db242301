package runtime

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/f708428e/engine"
)

// The defaults of CacheConfig.
const (
	DefaultMaxModels = 16
	DefaultMaxBytes  = 4 << 30
)

// CacheConfig bounds a Cache. Models in use always stay; the bounds decide how many idle ones stay beside them.
type CacheConfig struct {
	// MaxModels is how many models are kept. Zero means DefaultMaxModels.
	MaxModels int
	// MaxBytes is how many bytes the kept models may have in all: what a Resident says, else the size of the file. Zero means
	// DefaultMaxBytes.
	MaxBytes int64
}

// Validate refuses negative bounds.
func (c CacheConfig) Validate() error {
	if c.MaxModels < 0 || c.MaxBytes < 0 {
		return engine.Errorf(engine.KindInvalidArgument, "configure model cache", "", "bounds must not be negative: %d models, %d bytes", c.MaxModels, c.MaxBytes)
	}
	return nil
}

// CacheStats is what a Cache holds and did.
type CacheStats struct {
	// Models and Bytes count what is loaded; InUse counts the models of it that somebody uses.
	Models, InUse int
	// Bytes is what the loaded models have; see CacheConfig.MaxBytes.
	Bytes int64
	// Loads, Hits and Evictions count events since the beginning. A Hit is a Load that found the model loaded or being loaded.
	Loads, Hits, Evictions int64
}

// Cache is a Loader that loads each model once and keeps it while it is used, and afterwards as long as the bounds allow; the
// least recently used goes first. Requests with the same digest, threads, outputs, device and bound of its memory share a model, and
// that bound. A device whose memory does not suffice for a model is freed of those that nobody uses. It is safe for concurrent use.
type Cache struct {
	loader Loader
	config CacheConfig

	mu      sync.Mutex
	entries map[cacheKey]*cacheEntry
	idle    *list.List // of *cacheEntry, most recently used first
	stats   CacheStats
	closed  bool
	settled chan struct{} // closed when the cache is closed and nothing is used or being loaded
	closing sync.Once
	err     error // of closing, set before done
	done    chan struct{}
}

type cacheKey struct {
	digest  string
	threads int
	outputs string
	device  Device
	// gpuMemory is zero on the CPU.
	gpuMemory int64
}

type cacheEntry struct {
	key   cacheKey
	ready chan struct{} // closed when model or err is set
	model Model         // constant after ready
	err   error         // constant after ready
	bytes int64         // constant after ready
	meter *Meter        // constant after ready; nil if the model's memory is not known
	users int           // guarded by Cache.mu
	idle  *list.Element // guarded by Cache.mu; nil while in use
}

// NewCache returns a cache in front of loader, which it closes at the end.
func NewCache(loader Loader, config CacheConfig) (*Cache, error) {
	if err := config.Validate(); err != nil {
		return nil, err
	}
	if config.MaxModels == 0 {
		config.MaxModels = DefaultMaxModels
	}
	if config.MaxBytes == 0 {
		config.MaxBytes = DefaultMaxBytes
	}
	return &Cache{
		loader: loader, config: config, entries: map[cacheKey]*cacheEntry{}, idle: list.New(),
		settled: make(chan struct{}), done: make(chan struct{}),
	}, nil
}

// Load returns the model, loaded now or before. Concurrent requests for one model load it once; the end of ctx stops a request
// that waits for another's load, never a load itself. A failed load is not remembered. The caller closes the model, which
// gives it back to the cache. Errors are those of the loader, or of kind engine.KindUnavailable after Close.
func (c *Cache) Load(ctx context.Context, request LoadRequest) (Model, error) {
	if request.Digest == "" {
		return nil, engine.Errorf(engine.KindInvalidArgument, "load model", request.Path, "the model has no digest")
	}
	if err := ctx.Err(); err != nil {
		return nil, engine.WrapError("load model", request.Path, err)
	}
	key := cacheKey{digest: request.Digest, threads: max(request.Threads, 1), device: request.Device}
	if _, ok := request.Device.GPU(); ok {
		key.gpuMemory = request.GPUMemoryBytes
	}
	if request.Outputs != nil {
		names := slices.Clone(request.Outputs)
		slices.Sort(names)
		key.outputs = fmt.Sprintf("%q", names)
	}

	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return nil, engine.Errorf(engine.KindUnavailable, "load model", request.Path, "the model cache is closed")
	}
	entry, ok := c.entries[key]
	if ok {
		c.stats.Hits++
	} else {
		c.stats.Loads++
		entry = &cacheEntry{key: key, ready: make(chan struct{})}
		c.entries[key] = entry
	}
	entry.users++
	if entry.idle != nil {
		c.idle.Remove(entry.idle)
		entry.idle = nil
	}
	c.mu.Unlock()

	if ok {
		select {
		case <-entry.ready:
		case <-ctx.Done():
			return nil, errors.Join(engine.WrapError("load model", request.Path, ctx.Err()), c.release(entry))
		}
	} else {
		c.load(context.WithoutCancel(ctx), entry, request) // others may wait for it
	}
	if entry.err != nil {
		return nil, errors.Join(entry.err, c.release(entry))
	}
	if entry.meter != nil {
		entry.meter.Join(request.MemoryBytes)
	}
	return &cachedModel{Model: entry.model, cache: c, entry: entry, granted: request.MemoryBytes}, nil
}

func (c *Cache) load(ctx context.Context, entry *cacheEntry, request LoadRequest) {
	entry.err = engine.Errorf(engine.KindInternal, "load model", request.Path, "the loader panicked") // stays only if it does
	defer func() {
		c.mu.Lock()
		if entry.err != nil {
			delete(c.entries, entry.key)
		} else {
			c.stats.Bytes += entry.bytes
		}
		c.mu.Unlock()
		close(entry.ready)
	}()
	model, err := c.loader.Load(ctx, request)
	if _, gpu := request.Device.GPU(); gpu && err != nil && engine.KindOf(err) == engine.KindExhausted {
		// Models that wait for their next use hold memory that the scheduler counts as free.
		if idle := c.evictFrom(request.Device); len(idle) > 0 {
			if errClose := closeEntries(idle); errClose != nil {
				err = errors.Join(err, errClose)
			} else {
				model, err = c.loader.Load(ctx, request)
			}
		}
	}
	if err == nil {
		entry.bytes = bytesOf(model, request.Path)
		if sized, ok := model.(Sized); ok && sized.ResidentBytes() > 0 {
			entry.meter = NewMeter(sized)
		}
	}
	entry.model, entry.err = model, err
}

func bytesOf(model Model, path string) int64 {
	if resident, ok := model.(Resident); ok && resident.ResidentBytes() > 0 {
		return resident.ResidentBytes()
	}
	info, err := os.Stat(path)
	if err != nil {
		return 0
	}
	return info.Size()
}

// release ends one use of the entry and closes what is then over the bounds.
func (c *Cache) release(entry *cacheEntry) error {
	c.mu.Lock()
	entry.users--
	if entry.users == 0 && c.entries[entry.key] == entry {
		entry.idle = c.idle.PushFront(entry)
	}
	var evicted []*cacheEntry
	for !c.closed && c.idle.Len() > 0 && (len(c.entries) > c.config.MaxModels || c.stats.Bytes > c.config.MaxBytes) {
		evicted = append(evicted, c.evict(c.idle.Back()))
	}
	c.settle()
	c.mu.Unlock()
	return closeEntries(evicted)
}

// evict forgets an idle entry, which the caller closes without holding mu.
func (c *Cache) evict(element *list.Element) *cacheEntry {
	entry := c.idle.Remove(element).(*cacheEntry)
	entry.idle = nil
	delete(c.entries, entry.key)
	c.stats.Bytes -= entry.bytes
	c.stats.Evictions++
	return entry
}

// evictFrom forgets all idle entries of a device.
func (c *Cache) evictFrom(device Device) (evicted []*cacheEntry) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil // Close closes them.
	}
	for element := c.idle.Front(); element != nil; {
		next := element.Next()
		if element.Value.(*cacheEntry).key.device == device {
			evicted = append(evicted, c.evict(element))
		}
		element = next
	}
	return evicted
}

// settle wakes Close when only idle models are left.
func (c *Cache) settle() {
	if c.closed && len(c.entries) == c.idle.Len() {
		select {
		case <-c.settled:
		default:
			close(c.settled)
		}
	}
}

func closeEntries(entries []*cacheEntry) error {
	var errs []error
	for _, entry := range entries {
		errs = append(errs, entry.model.Close())
	}
	return errors.Join(errs...)
}

// Stats returns what the cache holds and did.
func (c *Cache) Stats() CacheStats {
	c.mu.Lock()
	defer c.mu.Unlock()
	stats := c.stats
	stats.Models = len(c.entries)
	stats.InUse = len(c.entries) - c.idle.Len()
	return stats
}

// Close refuses further loads, waits until all models have been given back, closes them and the loader. It may be called more
// than once.
func (c *Cache) Close() error { return c.Shutdown(context.Background()) }

// Shutdown is Close with a deadline: when ctx ends before all models have been given back, it returns an error that says how
// many there are, and may be called again.
func (c *Cache) Shutdown(ctx context.Context) error {
	c.mu.Lock()
	c.closed = true
	c.settle()
	c.mu.Unlock()
	select {
	case <-c.settled:
	case <-ctx.Done():
		select {
		case <-c.settled: // Closing does not wait then, whatever time is left.
		default:
			return engine.Errorf(engine.KindOf(ctx.Err()), "close model cache", "", "%d models are in use: %w", c.Stats().InUse, ctx.Err())
		}
	}
	c.closing.Do(func() {
		defer close(c.done)
		c.mu.Lock()
		var all []*cacheEntry
		for c.idle.Len() > 0 {
			all = append(all, c.evict(c.idle.Back()))
		}
		c.mu.Unlock()
		c.err = errors.Join(closeEntries(all), c.loader.Close())
	})
	<-c.done
	return c.err
}

// cachedModel is one use of a cached model.
type cachedModel struct {
	Model
	cache   *Cache
	entry   *cacheEntry
	granted int64
	closed  atomic.Bool
}

// Meter implements Metered.
func (m *cachedModel) Meter() *Meter { return m.entry.meter }

// Run implements Model.
func (m *cachedModel) Run(ctx context.Context, inputs []Tensor, outputs []Output) error {
	if m.closed.Load() {
		return engine.Errorf(engine.KindInternal, "run model", m.entry.key.digest, "the model is closed")
	}
	return m.Model.Run(ctx, inputs, outputs)
}

// Close gives the model back. It does not wait for calls of Run; the cache does before it frees the model.
func (m *cachedModel) Close() error {
	if m.closed.Swap(true) {
		return nil
	}
	if m.entry.meter != nil {
		m.entry.meter.Leave(m.granted)
	}
	return m.cache.release(m.entry)
}
