package process_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/internal/cgroup"
	"github.com/f708428e/engine/runtime"
	"github.com/f708428e/engine/runtime/enginetest"
	"github.com/f708428e/engine/runtime/fake"
	"github.com/f708428e/engine/runtime/process"
)

// What the first element of an input does to the executor of these tests.
const (
	dies   = 1001 // a signal, as native code that crashes
	killed = 1002 // SIGKILL, as the kernel does
	hangs  = 1003 // for ever, whatever it is told
	flaky  = 1004 // dies if the file ENGINE_TEST_FLAKY can be made
	panics = 1005
	speaks = 1006 // prints why it ends, and much more
	eats   = 1007 // all memory that there is
	leaves = 1008 // tries to leave its cgroup
)

func TestMain(m *testing.M) {
	if process.IsExecutor() {
		if os.Getenv("ENGINE_TEST_DIE") != "" {
			fmt.Fprintln(os.Stderr, "terminate called after throwing an instance of 'std::bad_alloc'")
			os.Exit(134)
		}
		if err := process.Serve(brittleLoader{fake.New()}); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		_, _ = cgroup.Sweep() // Executors that were killed may have left some. Where that fails there are none.
		os.Exit(code)
	}))
}

type brittleLoader struct{ runtime.Loader }

var eaten [][]byte

func (l brittleLoader) Load(ctx context.Context, request runtime.LoadRequest) (runtime.Model, error) {
	if path := os.Getenv("ENGINE_TEST_LOAD_HANGS"); path != "" {
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			return nil, err
		}
		select {}
	}
	if path := os.Getenv("ENGINE_TEST_NEEDS"); path != "" {
		if _, err := os.ReadFile(path); err != nil {
			return nil, engine.Errorf(engine.KindUnavailable, "use CUDA", request.Device.String(), "%w", err)
		}
		request.Device = runtime.Device{}
	}
	if os.Getenv("ENGINE_TEST_LOAD_EATS") != "" {
		for {
			eaten = append(eaten, bytes.Repeat([]byte{1}, 1<<20))
		}
	}
	if path := os.Getenv("ENGINE_TEST_LOAD_DIES"); path != "" && os.Remove(path) == nil {
		signal, _ := strconv.Atoi(os.Getenv("ENGINE_TEST_SIGNAL"))
		_ = syscall.Kill(os.Getpid(), syscall.Signal(signal))
		select {}
	}
	m, err := l.Loader.Load(ctx, request)
	if err != nil {
		return nil, err
	}
	return brittle{m}, nil
}

type brittle struct{ runtime.Model }

func (m brittle) Run(ctx context.Context, inputs []runtime.Tensor, outputs []runtime.Output) error {
	if t := inputs[0]; t.Type == engine.Float32 && len(t.Data) > 0 {
		for _, v := range enginetest.Values(t) {
			switch v {
			case dies:
				_ = syscall.Kill(os.Getpid(), syscall.SIGSEGV)
				select {}
			case killed:
				_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
				select {}
			case hangs:
				select {}
			case panics:
				go panic("broken on purpose")
				select {}
			case speaks:
				fmt.Fprint(os.Stderr, "fatal error: broken on purpose\n"+strings.Repeat("a line of a stack\n", 10_000))
				os.Exit(2) //nolint:revive // This is main, in a way: the process of the executor.
			case eats:
				return eatAll()
			case leaves:
				return tryToLeave()
			case flaky:
				if f, err := os.OpenFile(os.Getenv("ENGINE_TEST_FLAKY"), os.O_CREATE|os.O_EXCL, 0o600); err == nil {
					_ = f.Close()
					_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
					select {}
				}
			}
		}
	}
	return m.Model.Run(ctx, inputs, outputs)
}

func newLoader(t *testing.T, environment ...string) runtime.Loader {
	t.Helper()
	return newLoaderOf(t, process.Config{Environment: append(environment, "GORACE=atexit_sleep_ms=0"), Write: []string{os.TempDir()}, Logger: slog.New(slog.DiscardHandler), StopTimeout: time.Second}) //nolint:usetesting // Tests hand over files in folders of their own.
}

func newLoaderOf(t *testing.T, config process.Config) runtime.Loader {
	t.Helper()
	loader, err := process.New(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := loader.Close(); err != nil {
			t.Error(err)
		}
	})
	return loader
}

func load(t *testing.T, loader runtime.Loader) runtime.Model {
	t.Helper()
	m, err := loader.Load(t.Context(), runtime.LoadRequest{Path: enginetest.WriteModel(t, enginetest.LinearModel(engine.Float32, 0.5, 2)), Digest: "test"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
	return m
}

// run returns what the model makes of values: twice each, and a half.
func run(ctx context.Context, m runtime.Model, values ...float64) ([]float64, error) {
	outputs := make([]runtime.Output, 1)
	err := m.Run(ctx, []runtime.Tensor{enginetest.Floats(engine.Float32, []int64{int64(len(values)), 1}, values...)}, outputs)
	return enginetest.Values(outputs[0].Tensor), err
}

func wantResult(t *testing.T, m runtime.Model) {
	t.Helper()
	got, err := run(t.Context(), m, 1, 2)
	if err != nil || !slices.Equal(got, []float64{2.5, 4.5}) {
		t.Errorf("got %v, %v", got, err)
	}
}

// children are the processes that this one has started and that live.
func children(t *testing.T) (pids []int) {
	t.Helper()
	entries, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range entries {
		text, err := os.ReadFile(path)
		if err != nil {
			continue // It has ended.
		}
		_, rest, _ := strings.Cut(string(text), ") ")
		if fields := strings.Fields(rest); fields[0] != "Z" && fields[1] == strconv.Itoa(os.Getpid()) {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
			pids = append(pids, pid)
		}
	}
	return pids
}

func TestLoader(t *testing.T) { enginetest.TestLoader(t, newLoader(t)) }

func TestExecutorIsAProcess(t *testing.T) {
	m := load(t, newLoader(t))
	pids := children(t)
	if len(pids) != 1 {
		t.Fatalf("processes %v, expected one", pids)
	}
	adj, err := os.ReadFile(fmt.Sprintf("/proc/%d/oom_score_adj", pids[0]))
	if err != nil || strings.TrimSpace(string(adj)) != "500" {
		t.Errorf("the kernel would not take it first: %q, %v", adj, err)
	}
	if n := m.(runtime.Resident).ResidentBytes(); n < 1<<20 {
		t.Errorf("it has %d bytes", n)
	}
	wantResult(t, m)
	if n := m.(runtime.Sized).MemoryBytes(); n < 1<<20 {
		t.Errorf("it has %d bytes after a call", n)
	}
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	if n := m.(runtime.Sized).MemoryBytes(); n != 0 {
		t.Errorf("it has %d bytes at the end", n)
	}
	if pids := children(t); len(pids) != 0 {
		t.Errorf("left are %v", pids)
	}
	if _, err := run(t.Context(), m, 1); err == nil {
		t.Error("a closed model runs")
	}
}

// A cache measures the calls of executors, for all users of a model together.
func TestMeterOfExecutor(t *testing.T) {
	cache, err := runtime.NewCache(newLoader(t), runtime.CacheConfig{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cache.Close() })
	request := runtime.LoadRequest{Path: enginetest.WriteModel(t, enginetest.LinearModel(engine.Float32, 0.5, 2)), Digest: "test", MemoryBytes: 1 << 40}
	meters := map[*runtime.Meter]bool{}
	for range 2 {
		m, err := cache.Load(t.Context(), request)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = m.Close() })
		meters[m.(runtime.Metered).Meter()] = true
	}
	if len(meters) != 1 || meters[nil] {
		t.Fatalf("got %v", meters)
	}
	for meter := range meters {
		if got := meter.Capacity(); got != 0 {
			t.Errorf("capacity %d before the first call", got)
		}
		if err := meter.Begin(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
		meter.End(1)
		if got := meter.Capacity(); got < 1<<16 {
			t.Errorf("capacity %d of two TiB", got)
		}
	}
}

// A killed executor costs a retry that nobody sees.
func TestKilledFromOutside(t *testing.T) {
	m := load(t, newLoader(t))
	for range 3 {
		for _, pid := range children(t) {
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
		}
		wantResult(t, m)
	}
}

func TestCrash(t *testing.T) {
	for name, test := range map[string]struct {
		value  float64
		kind   engine.Kind
		killed bool
		cause  string
	}{
		"signal": {dies, engine.KindModel, false, "SIGSEGV"},
		"killed": {killed, engine.KindExhausted, true, "signal: killed"},
		"panic":  {panics, engine.KindModel, false, "panic: broken on purpose"},
		"speaks": {speaks, engine.KindModel, false, "fatal error: broken on purpose"},
	} {
		t.Run(name, func(t *testing.T) {
			m := load(t, newLoader(t))
			_, err := run(t.Context(), m, 1, test.value)
			var crash *runtime.CrashError
			if !errors.As(err, &crash) || crash.Times != 3 || crash.Killed != test.killed || !strings.Contains(crash.Cause, test.cause) {
				t.Errorf("%#v", err)
			}
			if engine.KindOf(err) != test.kind {
				t.Errorf("kind %s of %v", engine.KindOf(err), err)
			}
			wantResult(t, m)
		})
	}
}

// A call that is known to be part of one that died needs to die once, alone.
func TestCrashOfSuspect(t *testing.T) {
	m := load(t, newLoader(t))
	_, err := run(runtime.Suspect(t.Context()), m, 1, dies)
	var crash *runtime.CrashError
	if !errors.As(err, &crash) || crash.Times != 1 {
		t.Errorf("%#v", err)
	}
	if got, err := run(runtime.Suspect(t.Context()), m, 1); err != nil || got[0] != 2.5 {
		t.Errorf("got %v, %v", got, err)
	}
}

// A call that dies once succeeds, as do those that ran beside it.
func TestCrashOnce(t *testing.T) {
	m := load(t, newLoader(t, "ENGINE_TEST_FLAKY="+filepath.Join(t.TempDir(), "died")))
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			value := float64(i)
			if i == 7 {
				value = flaky
			}
			if got, err := run(t.Context(), m, value); err != nil || got[0] != 2*value+0.5 {
				t.Errorf("call %d: %v, %v", i, got, err)
			}
		})
	}
	wg.Wait()
}

// Only the call at fault fails; those beside it are made again.
func TestCrashBesideOthers(t *testing.T) {
	m := load(t, newLoader(t))
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			for range 20 {
				if i == 3 {
					var crash *runtime.CrashError
					if _, err := run(t.Context(), m, dies); !errors.As(err, &crash) {
						t.Errorf("call %d: %v", i, err)
					}
					return
				}
				if got, err := run(t.Context(), m, float64(i)); err != nil || got[0] != 2*float64(i)+0.5 {
					t.Errorf("call %d: %v, %v", i, got, err)
				}
			}
		})
	}
	wg.Wait()
}

// A call that does not end when it is told to costs its executor, and nobody else.
func TestHang(t *testing.T) {
	m := load(t, newLoader(t))
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, err := run(ctx, m, hangs); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	})
	wg.Go(func() {
		wantResult(t, m)
		cancel()
	})
	wg.Wait()
	wantResult(t, m)
}

func TestDiesWhileLoading(t *testing.T) {
	_, err := newLoader(t, "ENGINE_TEST_DIE=1").Load(t.Context(), runtime.LoadRequest{Path: enginetest.WriteModel(t, enginetest.LinearModel(engine.Float32, 0, 1)), Digest: "test"})
	if engine.KindOf(err) != engine.KindModel || !strings.Contains(fmt.Sprint(err), "terminate called after throwing an instance of 'std::bad_alloc'") {
		t.Errorf("got %v", err)
	}
}

// A model that was changed is not loaded again under the digest of the old one.
func TestChangedModel(t *testing.T) {
	path := enginetest.WriteModel(t, enginetest.LinearModel(engine.Float32, 0.5, 2))
	m, err := newLoader(t).Load(t.Context(), runtime.LoadRequest{Path: path, Digest: "test"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = m.Close() }()
	if err := os.WriteFile(path, enginetest.LinearModel(engine.Float32, 7, 2, 3), 0o600); err != nil {
		t.Fatal(err)
	}
	wantResult(t, m)
	for _, pid := range children(t) {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := run(t.Context(), m, 1); engine.KindOf(err) != engine.KindConflict {
		t.Errorf("got %v", err)
	}
}

// An executor that dies while it is started again is started once more, unless memory is short: then fewer rows are of no use.
func TestDiesWhileStartedAgain(t *testing.T) {
	for name, test := range map[string]struct {
		signal syscall.Signal
		kind   engine.Kind
	}{
		"signal": {signal: syscall.SIGSEGV},
		"killed": {syscall.SIGKILL, engine.KindUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "die")
			m := load(t, newLoader(t, "ENGINE_TEST_LOAD_DIES="+path, fmt.Sprintf("ENGINE_TEST_SIGNAL=%d", test.signal)))
			if err := os.WriteFile(path, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			for _, pid := range children(t) {
				if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
					t.Fatal(err)
				}
			}
			if test.kind != 0 {
				if _, err := run(t.Context(), m, 1); engine.KindOf(err) != test.kind || !strings.Contains(err.Error(), "signal: killed") {
					t.Errorf("got %v", err)
				}
			}
			wantResult(t, m)
			if _, err := os.Stat(path); err == nil {
				t.Error("none died")
			}
		})
	}
}

// Who asks all processes of a service to end means the worker.
func TestAskedToEnd(t *testing.T) {
	m := load(t, newLoader(t))
	before := children(t)
	for _, signal := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP} {
		for _, pid := range before {
			if err := syscall.Kill(pid, signal); err != nil {
				t.Fatal(err)
			}
		}
		wantResult(t, m)
	}
	if after := children(t); !slices.Equal(before, after) {
		t.Errorf("executors %v, before %v", after, before)
	}
}

// A program that cannot be started any more is not a lack of memory.
func TestCannotBeStarted(t *testing.T) {
	if os.Getenv("ENGINE_TEST_GONE") != "" {
		m := load(t, newLoader(t))
		for _, pid := range children(t) {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		if err := os.Chmod(os.Args[0], 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := run(t.Context(), m, 1); engine.KindOf(err) != engine.KindUnavailable || !errors.Is(err, syscall.EACCES) {
			t.Errorf("got %v, of kind %s", err, engine.KindOf(err))
		}
		return
	}
	program, err := os.ReadFile(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	command := testCommand(t, "^TestCannotBeStarted$", "ENGINE_TEST_GONE=1")
	command.Path = filepath.Join(t.TempDir(), "program")
	command.Args[0] = command.Path
	if err := os.WriteFile(command.Path, program, 0o700); err != nil { //nolint:gosec // A program.
		t.Fatal(err)
	}
	if output, err := command.CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, output)
	}
}

// An executor ends with the process that started it, whatever it is doing.
func TestOrphan(t *testing.T) {
	switch path := os.Getenv("ENGINE_TEST_ORPHAN"); path {
	case "":
	case "idle":
		load(t, newLoader(t))
		fmt.Println("executor", children(t)[0])
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	default:
		loader, request := newLoader(t, "ENGINE_TEST_LOAD_HANGS="+path), runtime.LoadRequest{Path: enginetest.WriteModel(t, enginetest.LinearModel(engine.Float32, 0, 1)), Digest: "test"}
		go func() { _, _ = loader.Load(context.Background(), request) }() // lifecycle: ends with the process.
		for _, err := os.Stat(path); err != nil; _, err = os.Stat(path) {
			time.Sleep(time.Millisecond) // sleep: the file comes from another process
		}
		fmt.Println("executor", children(t)[0])
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	}
	folder := t.TempDir() // What a process leaves that is killed goes with this one.
	for name, mode := range map[string]string{"idle": "idle", "loading": filepath.Join(folder, "loads")} {
		t.Run(name, func(t *testing.T) {
			output, _ := testCommand(t, "^TestOrphan$", "ENGINE_TEST_ORPHAN="+mode, "TMPDIR="+folder).CombinedOutput()
			_, rest, found := strings.Cut(string(output), "executor ")
			if !found {
				t.Fatalf("printed %q", output)
			}
			pid, err := strconv.Atoi(strings.Fields(rest)[0])
			if err != nil {
				t.Fatal(err)
			}
			for deadline := time.Now().Add(20 * time.Second); syscall.Kill(pid, 0) == nil; {
				if text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid)); err == nil && strings.Contains(string(text), ") Z ") {
					break // Nobody waits for it here.
				}
				if time.Now().After(deadline) {
					_ = syscall.Kill(pid, syscall.SIGKILL)
					t.Fatal("the executor lives")
				}
				time.Sleep(time.Millisecond) // sleep: nothing tells of the end of a process that is not ours
			}
		})
	}
}

// Tensors of all sizes come back as they went, while calls share slots.
func TestSizes(t *testing.T) {
	m := load(t, newLoader(t))
	seed := rand.Uint64()
	t.Log("seed", seed)
	var wg sync.WaitGroup
	for worker := range 4 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(seed, uint64(worker)))
			for range 50 {
				values := make([]float64, 1+r.IntN(1<<r.IntN(16)))
				for i := range values {
					values[i] = float64(r.IntN(1000))
				}
				into := make([]byte, 4*len(values))
				outputs := []runtime.Output{{Tensor: runtime.Tensor{Type: engine.Float32, Shape: []int64{int64(len(values)), 1}, Data: into}}}
				if r.IntN(2) == 0 {
					outputs[0].Tensor = runtime.Tensor{}
				}
				if err := m.Run(t.Context(), []runtime.Tensor{enginetest.Floats(engine.Float32, []int64{int64(len(values)), 1}, values...)}, outputs); err != nil {
					t.Error(err)
					return
				}
				for i, got := range enginetest.Values(outputs[0].Tensor) {
					if got != 2*values[i]+0.5 {
						t.Errorf("element %d of %d: %v of %v", i, len(values), got, values[i])
						return
					}
				}
			}
		})
	}
	wg.Wait()
}

// sharedBytes is what a process has of memory that it shares.
func sharedBytes(t *testing.T, pid int) int64 {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "RssShmem:")
	n, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n << 10
}

// A large call does not cost its memory for ever, and the slots that have memory are those that are used.
func TestMemoryIsGivenBack(t *testing.T) {
	loader := newLoader(t)
	const keep = 512 << 10
	loader.(*process.Loader).SetKeepBytes(keep)
	m := load(t, loader)
	for _, large := range []int{1 << 17, 1 << 15, 1 << 17} { // times 8 bytes
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() {
				if got, err := run(t.Context(), m, make([]float64, large)...); err != nil || len(got) != large || slices.ContainsFunc(got, func(v float64) bool { return v != 0.5 }) {
					t.Errorf("%d results, %v", len(got), err)
				}
			})
		}
		wg.Wait()
		for range 3 {
			wantResult(t, m)
		}
		if n := sharedBytes(t, children(t)[0]); n > keep+keep/2 {
			t.Errorf("%d bytes are shared with the executor after calls of %d", n, 8*large)
		}
	}
}

func BenchmarkRun(b *testing.B) {
	loader, err := process.New(process.Config{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.Fatal(err)
	}
	request := runtime.LoadRequest{Path: enginetest.WriteModel(b, enginetest.LinearModel(engine.Float32, 0.5, 2)), Digest: "test"}
	for name, l := range map[string]runtime.Loader{"process": loader, "here": fake.New()} {
		b.Run(name, func(b *testing.B) {
			m, err := l.Load(b.Context(), request)
			if err != nil {
				b.Fatal(err)
			}
			defer func() { _ = m.Close() }()
			for b.Loop() {
				if _, err := run(b.Context(), m, 1); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
