package testcluster_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/arrow/memory"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/client"
	"github.com/f708428e/engine/internal/testcluster"
	"github.com/f708428e/engine/runtime/operator"
)

// stage is where operators of the tests meet the test.
type stage struct {
	mu sync.Mutex
	// runs counts by task, order has the names that operators were given, in the order in which they began.
	runs  map[engine.TaskUID]int
	order []int
	// running is how many are on the stage now, most how many there were at most, ended how many have left by the end of their context.
	running, most, ended int
	changed              chan struct{}
	// gate lets those go who wait.
	gate chan struct{}
	// client is what operators submit tasks with.
	client *client.Client
}

func newStage() *stage {
	return &stage{runs: map[engine.TaskUID]int{}, changed: make(chan struct{}), gate: make(chan struct{})}
}

func (s *stage) change(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
	close(s.changed)
	s.changed = make(chan struct{})
}

// await waits until something holds, asked under the lock.
func (s *stage) await(t *testing.T, what string, holds func() bool) {
	t.Helper()
	deadline := time.After(3 * time.Minute)
	for {
		s.mu.Lock()
		ok, changed := holds(), s.changed
		s.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-changed:
		case <-deadline:
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

func (s *stage) awaitRunning(t *testing.T, n int) {
	t.Helper()
	s.await(t, "running tasks", func() bool { return s.running >= n })
}

// wait is an operator that waits at the gate. Its parameter is a number for the order.
func (s *stage) wait(ctx context.Context, number int, _ []*operator.Table) ([]operator.Output, error) {
	var gate chan struct{}
	s.change(func() {
		gate = s.gate
		s.runs[operator.TaskID(ctx)]++
		s.order = append(s.order, number)
		s.running++
		s.most = max(s.most, s.running)
	})
	defer s.change(func() { s.running-- })
	select {
	case <-gate:
		return []operator.Output{number64(int64(number))}, nil
	case <-ctx.Done():
		s.change(func() { s.ended++ })
		return nil, context.Cause(ctx)
	}
}

// spawn is an operator that submits tasks which wait, and waits for them.
func (s *stage) spawn(ctx context.Context, children int, _ []*operator.Table) ([]operator.Output, error) {
	var handles []*client.TaskHandle
	for i := range children {
		handles = append(handles, s.client.Run(ctx, engine.Task{Operator: "wait", Params: i, NoResources: true}))
	}
	_, _, err := s.client.WaitTasks(ctx, handles, 0)
	return nil, err
}

// number64 is an output of one number.
func number64(n int64) operator.Output { return operator.Record(numbersFrom(n, 1)) }

// numbersFrom is a record of one column of count numbers from first on.
func numbersFrom(first int64, count int) arrow.Record {
	builder := array.NewRecordBuilder(memory.DefaultAllocator, arrow.NewSchema([]arrow.Field{{Name: "n", Type: arrow.PrimitiveTypes.Int64}}, nil))
	defer builder.Release()
	column := builder.Field(0).(*array.Int64Builder)
	column.Reserve(count)
	for i := range count {
		column.UnsafeAppend(first + int64(i))
	}
	return builder.NewRecord()
}

// sumOf adds up the numbers of tables.
func sumOf(tables ...*operator.Table) (sum int64) {
	for _, t := range tables {
		for _, record := range t.Records() {
			for _, n := range record.Column(0).(*array.Int64).Int64Values() {
				sum += n
			}
		}
	}
	return sum
}

func (s *stage) registry() *operator.Registry {
	r := &operator.Registry{}
	r.Register("wait", operator.Typed(s.wait))
	r.Register("spawn", operator.Typed(s.spawn))
	r.Register("add", operator.Typed(func(ctx context.Context, n int64, args []*operator.Table) ([]operator.Output, error) {
		s.change(func() { s.runs[operator.TaskID(ctx)]++ })
		return []operator.Output{number64(n + sumOf(args...))}, nil
	}))
	r.Register("range", operator.Typed(func(ctx context.Context, n int, _ []*operator.Table) ([]operator.Output, error) {
		s.change(func() { s.runs[operator.TaskID(ctx)]++ })
		return []operator.Output{operator.Record(numbersFrom(0, n))}, nil
	}))
	r.Register("fail", operator.Typed(func(ctx context.Context, kind string, _ []*operator.Table) ([]operator.Output, error) {
		s.change(func() { s.runs[operator.TaskID(ctx)]++ })
		switch {
		case kind == "":
			return nil, errors.New("the user's own reason")
		case kind == "once" && operator.Attempt(ctx) > 1:
			return []operator.Output{number64(int64(operator.Attempt(ctx)))}, nil
		case kind == "once":
			kind = engine.KindUnavailable.String()
		}
		return nil, engine.Errorf(engine.ParseKind(kind), "use device", "gpu0", "it went away")
	}))
	return r
}

// startTasks starts a cluster with the operators of a stage.
func startTasks(t *testing.T, options testcluster.Options) (*testcluster.Cluster, *stage) {
	t.Helper()
	s := newStage()
	options.Operators = s.registry()
	if options.LeaseTime == 0 {
		// A machine that does much else at the time must not end sessions.
		options.LeaseTime = 3 * time.Second
	}
	cluster := testcluster.Start(t, options)
	s.client = cluster.Client()
	return cluster, s
}

// within is a context for one test.
func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// wantSum waits for a task and compares the sum of its output's numbers.
func wantSum(ctx context.Context, t *testing.T, c *client.Client, ref engine.ObjectRef, want int64) {
	t.Helper()
	table, err := c.Get(ctx, ref)
	if err != nil {
		t.Fatal(err)
	}
	defer table.Release()
	if got := sumOf(table); got != want {
		t.Errorf("the numbers of %s add up to %d, want %d", ref, got, want)
	}
}

// wantError waits for a task that fails, and returns what it says.
func wantError(ctx context.Context, t *testing.T, h *client.TaskHandle, kind engine.Kind, attempts int) string {
	t.Helper()
	result, err := h.Wait(ctx)
	switch {
	case result == nil:
		t.Fatalf("waiting: %v", err)
	case err == nil:
		t.Fatalf("task %s ended well, want an error of kind %s", h.ID(), kind)
	case engine.KindOf(err) != kind:
		t.Errorf("kind %s, want %s: %v", engine.KindOf(err), kind, err)
	case attempts >= 0 && result.Attempts != attempts: // Less than 0: any number.
		t.Errorf("%d attempts, want %d: %v", result.Attempts, attempts, err)
	}
	return err.Error()
}

// refs are the outputs of tasks as arguments.
func refs(handles ...*client.TaskHandle) []engine.Arg {
	args := make([]engine.Arg, len(handles))
	for i, h := range handles {
		args[i] = engine.Ref(h.Ref())
	}
	return args
}
