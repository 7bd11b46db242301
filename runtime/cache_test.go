package runtime_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/runtime"
	"github.com/f708428e/engine/runtime/enginetest"
	"github.com/f708428e/engine/runtime/fake"
)

func newCache(t *testing.T, loader runtime.Loader, config runtime.CacheConfig) *runtime.Cache {
	t.Helper()
	cache, err := runtime.NewCache(loader, config)
	if err != nil {
		t.Fatal(err)
	}
	return cache
}

func request(t *testing.T, digest string) runtime.LoadRequest {
	return runtime.LoadRequest{Path: enginetest.WriteModel(t, enginetest.SeveralModel(engine.Float64)), Digest: digest}
}

func load(t *testing.T, cache *runtime.Cache, r runtime.LoadRequest) runtime.Model {
	t.Helper()
	m, err := cache.Load(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func closeAll(t *testing.T, closers ...interface{ Close() error }) {
	t.Helper()
	for _, c := range closers {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestCachePassesTheSuite(t *testing.T) {
	loader := fake.New()
	cache := newCache(t, loader, runtime.CacheConfig{MaxModels: 2})
	enginetest.TestLoader(t, pathDigests{cache})
	closeAll(t, cache, cache)
	if open := loader.Stats().Open; open != 0 {
		t.Errorf("%d models are open", open)
	}
}

// pathDigests uses the path as digest where the suite gives none.
type pathDigests struct{ runtime.Loader }

func (l pathDigests) Load(ctx context.Context, r runtime.LoadRequest) (runtime.Model, error) {
	r.Digest = r.Path
	return l.Loader.Load(ctx, r)
}

func TestCacheShares(t *testing.T) {
	loader := fake.New()
	cache := newCache(t, loader, runtime.CacheConfig{})
	r := request(t, "one")
	var group sync.WaitGroup
	for range 16 {
		group.Go(func() {
			for range 10 {
				closeAll(t, load(t, cache, r))
			}
		})
	}
	group.Wait()
	if got := loader.Stats(); got.Loads != 1 || got.Open != 1 {
		t.Errorf("%+v", got)
	}
	threads := r
	threads.Threads = 2
	one := r
	one.Threads = 1
	some := r
	some.Outputs = []string{"sum", "flat"}
	same := r
	same.Outputs = []string{"flat", "sum"}
	closeAll(t, load(t, cache, threads), load(t, cache, one), load(t, cache, some), load(t, cache, same))
	if got := loader.Stats(); got.Loads != 3 {
		t.Errorf("%+v", got)
	}
	if got := cache.Stats(); got.Models != 3 || got.InUse != 0 || got.Loads != 3 || got.Hits != 161 || got.Bytes == 0 {
		t.Errorf("%+v", got)
	}
	closeAll(t, cache)
	if _, err := cache.Load(t.Context(), r); engine.KindOf(err) != engine.KindUnavailable {
		t.Errorf("load after close: %v", err)
	}
}

func TestCacheEvicts(t *testing.T) {
	loader := fake.New()
	cache := newCache(t, loader, runtime.CacheConfig{MaxModels: 2})
	a, b, c := request(t, "a"), request(t, "b"), request(t, "c")
	inUse := []interface{ Close() error }{load(t, cache, a), load(t, cache, b), load(t, cache, c)}
	if got := cache.Stats(); got.Models != 3 || got.Evictions != 0 || got.InUse != 3 {
		t.Errorf("models in use were evicted: %+v", got)
	}
	closeAll(t, inUse...) // a goes, since there are too many
	if got := cache.Stats(); got.Models != 2 || got.Evictions != 1 {
		t.Errorf("%+v", got)
	}
	closeAll(t, load(t, cache, b)) // now c is the older one
	closeAll(t, load(t, cache, a))
	before := loader.Stats().Loads
	closeAll(t, load(t, cache, b))
	if got := loader.Stats(); got.Loads != before || got.Open != 2 {
		t.Errorf("the more recently used model was evicted: %+v", got)
	}
	closeAll(t, cache)

	info, err := os.Stat(a.Path)
	if err != nil {
		t.Fatal(err)
	}
	cache = newCache(t, loader, runtime.CacheConfig{MaxBytes: 2*info.Size() + 1})
	closeAll(t, load(t, cache, a), load(t, cache, b), load(t, cache, c))
	if got := cache.Stats(); got.Models != 2 || got.Bytes != 2*info.Size() {
		t.Errorf("%+v", got)
	}
	closeAll(t, cache)
	if got := loader.Stats().Open; got != 0 {
		t.Errorf("%d models are open", got)
	}
	if _, err := runtime.NewCache(loader, runtime.CacheConfig{MaxModels: -1}); engine.KindOf(err) != engine.KindInvalidArgument {
		t.Errorf("negative bound: %v", err)
	}
}

func TestCacheFailures(t *testing.T) {
	loader := fake.New()
	cache := newCache(t, loader, runtime.CacheConfig{})
	r := request(t, "x")
	lost := errors.New("disk gone")
	loader.SetFaults(fake.Faults{Load: lost})
	if _, err := cache.Load(t.Context(), r); !errors.Is(err, lost) {
		t.Errorf("got %v", err)
	}
	loader.SetFaults(fake.Faults{})
	m := load(t, cache, r) // the failure is not remembered
	if _, err := cache.Load(t.Context(), runtime.LoadRequest{Path: r.Path}); engine.KindOf(err) != engine.KindInvalidArgument {
		t.Errorf("no digest: %v", err)
	}
	if _, err := cache.Load(t.Context(), runtime.LoadRequest{Path: filepath.Join(t.TempDir(), "none"), Digest: "y"}); engine.KindOf(err) != engine.KindNotFound {
		t.Errorf("no file: %v", err)
	}
	closeAll(t, m, m) // the second has no effect
	if got := cache.Stats(); got.Models != 1 || got.InUse != 0 {
		t.Errorf("%+v", got)
	}
	closeAll(t, cache)
}

func TestCacheKeepsDevicesApart(t *testing.T) {
	loader := fake.New()
	loader.SetGPUs(2)
	cache := newCache(t, loader, runtime.CacheConfig{})
	cpu := request(t, "one")
	bounded := cpu
	bounded.GPUMemoryBytes = 1 << 30 // The CPU has no such bound.
	first, second, smaller := cpu, cpu, cpu
	first.Device, second.Device = runtime.GPU(0), runtime.GPU(1)
	smaller.Device, smaller.GPUMemoryBytes = runtime.GPU(1), 1<<30
	var models []interface{ Close() error }
	for range 2 {
		for _, r := range []runtime.LoadRequest{cpu, bounded, first, second, smaller} {
			models = append(models, load(t, cache, r))
		}
	}
	if zero, one, two := loader.Loads(runtime.Device{}), loader.Loads(runtime.GPU(0)), loader.Loads(runtime.GPU(1)); zero != 1 || one != 1 || two != 2 {
		t.Errorf("%d loads on the CPU, %d and %d on GPUs", zero, one, two)
	}
	missing := cpu
	missing.Device = runtime.GPU(2)
	if m, err := cache.Load(t.Context(), missing); m != nil || engine.KindOf(err) != engine.KindUnavailable {
		t.Errorf("got %v, %v", m, err)
	}
	closeAll(t, models...)
	closeAll(t, cache)
}

// smallGPU has memory for a number of models on each GPU.
type smallGPU struct {
	*fake.Loader
	mu     sync.Mutex
	room   int
	loaded map[runtime.Device]int // guarded by mu
}

func (l *smallGPU) Load(ctx context.Context, r runtime.LoadRequest) (runtime.Model, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, gpu := r.Device.GPU(); gpu && l.loaded[r.Device] == l.room {
		return nil, engine.Errorf(engine.KindExhausted, "load model", r.Path, "out of memory")
	}
	m, err := l.Loader.Load(ctx, r)
	if err != nil {
		return nil, err
	}
	l.loaded[r.Device]++
	return &smallModel{m, l, r.Device}, nil
}

type smallModel struct {
	runtime.Model
	loader *smallGPU
	device runtime.Device
}

func (m *smallModel) Close() error {
	m.loader.mu.Lock()
	defer m.loader.mu.Unlock()
	m.loader.loaded[m.device]--
	return m.Model.Close()
}

// TestCacheFreesADevice loads a model where others that nobody uses any more hold the memory.
func TestCacheFreesADevice(t *testing.T) {
	loader := &smallGPU{Loader: fake.New(), room: 2, loaded: map[runtime.Device]int{}}
	loader.SetGPUs(2)
	cache := newCache(t, loader, runtime.CacheConfig{})
	on := func(digest string, gpu int) runtime.LoadRequest {
		r := request(t, digest)
		r.Device = runtime.GPU(gpu)
		return r
	}
	cpu := request(t, "a")
	closeAll(t, load(t, cache, cpu), load(t, cache, on("a", 0)), load(t, cache, on("b", 0)), load(t, cache, on("a", 1)))
	inUse := load(t, cache, on("c", 0))
	if got := cache.Stats(); got.Evictions != 2 || got.Models != 3 || got.InUse != 1 {
		t.Errorf("%+v", got)
	}
	also := load(t, cache, on("d", 0))
	if _, err := cache.Load(t.Context(), on("e", 0)); engine.KindOf(err) != engine.KindExhausted {
		t.Errorf("a device full of models in use: %v", err)
	}
	closeAll(t, inUse, also, cache)
	if open := loader.Stats().Open; open != 0 {
		t.Errorf("%d models are open", open)
	}
}

// slowLoader holds loads until told.
type slowLoader struct {
	runtime.Loader
	gate chan struct{}
}

func (l slowLoader) Load(ctx context.Context, r runtime.LoadRequest) (runtime.Model, error) {
	<-l.gate
	return l.Loader.Load(ctx, r)
}

func TestCacheWaits(t *testing.T) {
	r := request(t, "x")
	synctest.Test(t, func(t *testing.T) {
		loader := slowLoader{fake.New(), make(chan struct{})}
		cache := newCache(t, loader, runtime.CacheConfig{})
		first, cancelFirst := context.WithCancel(t.Context())
		var model runtime.Model
		go func() {
			var err error
			if model, err = cache.Load(first, r); err != nil {
				t.Error(err)
			}
		}()
		synctest.Wait()
		second, cancelSecond := context.WithCancel(t.Context())
		waited := make(chan error, 1)
		go func() {
			_, err := cache.Load(second, r)
			waited <- err
		}()
		synctest.Wait()
		cancelSecond()
		if err := <-waited; engine.KindOf(err) != engine.KindCanceled {
			t.Errorf("a canceled waiter got %v", err)
		}
		cancelFirst() // others may want what it began, so it goes on
		close(loader.gate)
		synctest.Wait()

		expired, cancel := context.WithCancel(t.Context())
		cancel()
		if err := cache.Shutdown(expired); engine.KindOf(err) != engine.KindCanceled {
			t.Errorf("shutdown with a model in use: %v", err)
		}
		closed := make(chan error, 1)
		go func() { closed <- cache.Close() }()
		synctest.Wait()
		select {
		case err := <-closed:
			t.Errorf("close did not wait for the user of a model: %v", err)
		default:
		}
		closeAll(t, model)
		if err := <-closed; err != nil {
			t.Error(err)
		}
	})
}

// What nobody uses is closed, however late it is.
func TestCacheShutdownTooLate(t *testing.T) {
	expired, cancel := context.WithCancel(t.Context())
	cancel()
	for range 50 {
		loader := fake.New()
		cache := newCache(t, loader, runtime.CacheConfig{})
		closeAll(t, load(t, cache, request(t, "a")))
		if err := cache.Shutdown(expired); err != nil || loader.Stats().Open != 0 {
			t.Fatalf("%v, %d models are open", err, loader.Stats().Open)
		}
	}
}
