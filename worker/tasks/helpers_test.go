package tasks_test

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/arrow/memory"
	"go.uber.org/goleak"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/blob"
	"github.com/f708428e/engine/blob/open"
	"github.com/f708428e/engine/objectstore"
	"github.com/f708428e/engine/objectstore/storetest"
	"github.com/f708428e/engine/objectstore/table"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
	"github.com/f708428e/engine/runtime/operator"
	"github.com/f708428e/engine/worker/tasks"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const node = "node-1"

// head plays the head to the tasks of a worker, over one stream at a time.
type head struct {
	t     testing.TB
	tasks *tasks.Tasks
	store *objectstore.Store
	wake  chan struct{}
	// sequence counts the reports of the stream, epoch the grants.
	sequence uint64
	epoch    uint64
	// outcomes are those that have come and were not taken.
	outcomes map[engine.TaskUID]*enginev1.TaskOutcome
	told     []engine.TaskUID
}

// start makes a worker's tasks with a store of their own; change may be nil.
func start(t testing.TB, operators map[string]operator.Func, change func(*tasks.Config)) *head {
	t.Helper()
	h := &head{t: t, store: storetest.Open(t, objectstore.Config{
		CapacityBytes: 256 << 20, Open: func(ctx context.Context, uri string) (blob.Bucket, error) {
			return open.Bucket(ctx, uri, open.Options{})
		},
	}), wake: make(chan struct{}, 1), outcomes: map[engine.TaskUID]*enginev1.TaskOutcome{}}
	config := tasks.Config{
		Node: node, Operators: map[string]operator.Func{operator.NameNoop: operator.NoopFunc, operator.NameEcho: operator.EchoFunc},
		Total: engine.Resources{CPU: 2}, Store: func(context.Context) (*objectstore.Store, error) { return h.store, nil },
		Wake: func() {
			select {
			case h.wake <- struct{}{}:
			default:
			}
		},
		Logger: slog.New(slog.DiscardHandler),
	}
	for name, f := range operators {
		config.Operators[name] = f
	}
	if change != nil {
		change(&config)
	}
	h.tasks = tasks.New(config)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
		defer cancel()
		if err := h.tasks.Stop(ctx); err != nil {
			t.Error(err)
		}
	})
	h.connect("cluster")
	return h
}

// connect begins a stream and returns its first report.
func (h *head) connect(cluster string) *enginev1.SyncRequest {
	h.sequence = 0
	first := h.report(false)
	h.tasks.Take(&enginev1.SyncResponse{Welcome: &enginev1.HeadWelcome{ClusterId: cluster}})
	return first
}

// report takes the next report.
func (h *head) report(due bool) *enginev1.SyncRequest {
	h.sequence++
	report := &enginev1.SyncRequest{Sequence: h.sequence}
	h.tasks.Report(report, due, time.Now())
	for _, outcome := range report.GetOutcomes() {
		id := engine.TaskUID(outcome.GetTaskId())
		h.outcomes[id] = outcome
		h.told = append(h.told, id)
	}
	return report
}

// template tells a template.
func (h *head) template(wire *enginev1.TaskTemplate) {
	h.tasks.Take(&enginev1.SyncResponse{Templates: []*enginev1.TaskTemplate{wire}})
}

// newGrant makes a grant of a new task.
func (h *head) newGrant(template uint32, arguments ...*enginev1.TaskArgument) *enginev1.TaskGrant {
	id := engine.NewTaskUID()
	h.epoch++
	return &enginev1.TaskGrant{
		Task: &enginev1.TaskSubmission{TaskId: id[:], Template: template, Arguments: arguments}, Epoch: h.epoch, Attempt: 1, SessionId: "session",
	}
}

// grant grants a new task.
func (h *head) grant(template uint32, arguments ...*enginev1.TaskArgument) engine.TaskUID {
	grant := h.newGrant(template, arguments...)
	h.tasks.Take(&enginev1.SyncResponse{TaskGrants: []*enginev1.TaskGrant{grant}})
	return engine.TaskUID(grant.GetTask().GetTaskId())
}

// outcome waits for a task's outcome.
func (h *head) outcome(id engine.TaskUID) *enginev1.TaskOutcome {
	h.t.Helper()
	timeout := time.After(2 * time.Minute)
	for h.outcomes[id] == nil {
		select {
		case <-h.wake:
			h.report(false)
		case <-timeout:
			h.t.Fatalf("task %s does not end", id)
		}
	}
	outcome := h.outcomes[id]
	delete(h.outcomes, id)
	return outcome
}

func (h *head) release(ids ...engine.TaskUID) {
	var released []byte
	for _, id := range ids {
		released = append(released, id[:]...)
	}
	h.tasks.Take(&enginev1.SyncResponse{AcknowledgedSequence: h.sequence, ReleasedTasks: released})
}

func (h *head) revoke(id engine.TaskUID, forget bool) {
	h.tasks.Take(&enginev1.SyncResponse{TaskRevocations: []*enginev1.TaskRevocation{{TaskId: id[:], Forget: forget}}})
}

// gate is an operator that waits until it is let through, or until its context ends, whose cause it then returns.
type gate struct {
	mu      sync.Mutex
	started []engine.TaskUID
	entered chan engine.TaskUID
	through chan struct{}
}

func newGate() *gate {
	return &gate{entered: make(chan engine.TaskUID, 1000), through: make(chan struct{})}
}

func (g *gate) run(ctx context.Context, _ []byte, _ []*operator.Table) ([]operator.Output, error) {
	g.mu.Lock()
	g.started = append(g.started, operator.TaskID(ctx))
	g.mu.Unlock()
	g.entered <- operator.TaskID(ctx)
	select {
	case <-g.through:
		return nil, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// wait returns the next task that has entered.
func (g *gate) wait(t testing.TB) engine.TaskUID {
	t.Helper()
	select {
	case id := <-g.entered:
		return id
	case <-time.After(2 * time.Minute):
		t.Fatal("no task enters")
		return engine.TaskUID{}
	}
}

// has reports which tasks have started.
func (g *gate) has() []engine.TaskUID {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.started)
}

// numbers makes a record of n numbers from first.
func numbers(first, n int) arrow.Record {
	b := array.NewRecordBuilder(memory.DefaultAllocator, arrow.NewSchema([]arrow.Field{{Name: "n", Type: arrow.PrimitiveTypes.Int64}}, nil))
	defer b.Release()
	for i := range n {
		b.Field(0).(*array.Int64Builder).Append(int64(first + i))
	}
	return b.NewRecord()
}

// encode writes a record as an argument's value.
func encode(t testing.TB, record arrow.Record) []byte {
	t.Helper()
	defer record.Release()
	encoding, err := table.Encode(record.Schema(), record)
	if err != nil {
		t.Fatal(err)
	}
	defer encoding.Release()
	data := make([]byte, encoding.SizeBytes())
	encoding.CopyTo(data)
	return data
}

// put makes an object of numbers.
func put(t testing.TB, store *objectstore.Store, id engine.ObjectID, data []byte) {
	t.Helper()
	pending, err := store.Create(t.Context(), objectstore.Creation{ID: id, SizeBytes: int64(len(data)), Owner: engine.ObjectOwner{Kind: engine.OwnerPin, ID: "p"}})
	if err != nil {
		t.Fatal(err)
	}
	copy(pending.Bytes(), data)
	rows, batches, err := table.Check(data, table.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := pending.Seal(objectstore.Description{Rows: rows, Batches: batches}); err != nil {
		t.Fatal(err)
	}
}

func value(data []byte) *enginev1.TaskArgument { return &enginev1.TaskArgument{Value: data} }

func reference(id engine.ObjectID) *enginev1.TaskArgument {
	return &enginev1.TaskArgument{ObjectId: id[:]}
}

// total adds the numbers of tables up.
func total(args []*operator.Table) (sum int64) {
	for _, arg := range args {
		for _, record := range arg.Records() {
			for _, n := range record.Column(0).(*array.Int64).Int64Values() {
				sum += n
			}
		}
	}
	return sum
}

// sum is an operator that returns the sum of all numbers of its arguments.
func sum(_ context.Context, _ []byte, args []*operator.Table) ([]operator.Output, error) {
	return []operator.Output{operator.Record(numbers(int(total(args)), 1))}, nil
}
