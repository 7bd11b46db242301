package worker_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/arrow/memory"
	"google.golang.org/grpc"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/internal/rpc"
	"github.com/f708428e/engine/objectstore"
	"github.com/f708428e/engine/objectstore/storetest"
	"github.com/f708428e/engine/objectstore/table"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
	"github.com/f708428e/engine/runtime"
	"github.com/f708428e/engine/runtime/enginetest"
	"github.com/f708428e/engine/runtime/fake"
	"github.com/f708428e/engine/runtime/operator"
	"github.com/f708428e/engine/worker"
)

// switchboard is a head whose streams the test speaks over itself.
type switchboard struct {
	enginev1.UnimplementedWorkerServiceServer
	streams chan *line
}

// line is one stream of a worker. hangUp ends it.
type line struct {
	t       testing.TB
	reports chan *enginev1.SyncRequest
	stream  grpc.BidiStreamingServer[enginev1.SyncRequest, enginev1.SyncResponse]
	hangUp  chan struct{}
	last    uint64
	// outcomes are those that have come and were not taken.
	outcomes map[engine.TaskUID]*enginev1.TaskOutcome
}

func (s *switchboard) Sync(stream grpc.BidiStreamingServer[enginev1.SyncRequest, enginev1.SyncResponse]) error {
	l := &line{reports: make(chan *enginev1.SyncRequest), stream: stream, hangUp: make(chan struct{}), outcomes: map[engine.TaskUID]*enginev1.TaskOutcome{}}
	select {
	case s.streams <- l:
	case <-stream.Context().Done():
		return nil
	}
	go func() {
		for {
			report, err := stream.Recv()
			if err != nil {
				return
			}
			select {
			case l.reports <- report:
			case <-stream.Context().Done():
				return
			}
		}
	}()
	select {
	case <-l.hangUp:
		return engine.Errorf(engine.KindUnavailable, "sync", "", "hung up")
	case <-stream.Context().Done():
		return nil
	}
}

// next waits for the next stream and welcomes the worker.
func (s *switchboard) next(t testing.TB) (*line, *enginev1.SyncRequest) {
	t.Helper()
	select {
	case l := <-s.streams:
		l.t = t
		first := l.report()
		l.send(&enginev1.SyncResponse{AcknowledgedSequence: 1, Welcome: &enginev1.HeadWelcome{
			ClusterId: "test", LeaseTime: durationpb.New(lifetime), ReportInterval: durationpb.New(20 * time.Millisecond),
		}})
		return l, first
	case <-time.After(2 * time.Minute):
		t.Fatal("the worker does not connect")
		return nil, nil
	}
}

func (l *line) send(answer *enginev1.SyncResponse) {
	l.t.Helper()
	if err := l.stream.Send(answer); err != nil {
		l.t.Fatal(err)
	}
}

// report takes the next report.
func (l *line) report() *enginev1.SyncRequest {
	l.t.Helper()
	select {
	case report := <-l.reports:
		l.last = report.GetSequence()
		for _, outcome := range report.GetOutcomes() {
			l.outcomes[engine.TaskUID(outcome.GetTaskId())] = outcome
		}
		return report
	case <-time.After(2 * time.Minute):
		l.t.Fatal("the worker does not report")
		return nil
	}
}

// until takes reports until one is as it should be.
func (l *line) until(wanted func(*enginev1.SyncRequest) bool) *enginev1.SyncRequest {
	l.t.Helper()
	for range 1000 {
		if report := l.report(); wanted(report) {
			return report
		}
	}
	l.t.Fatal("no report is as it should be")
	return nil
}

// outcome waits for a task's outcome.
func (l *line) outcome(id engine.TaskUID) *enginev1.TaskOutcome {
	l.t.Helper()
	for l.outcomes[id] == nil {
		l.report()
	}
	return l.outcomes[id]
}

// grant grants a task of a template that is sent with it.
func (l *line) grant(number uint32, template *enginev1.TaskTemplate, args ...[]byte) engine.TaskUID {
	l.t.Helper()
	id := engine.NewTaskUID()
	template.Number = number
	grant := &enginev1.TaskGrant{Task: &enginev1.TaskSubmission{TaskId: id[:], Template: number}, Epoch: 1, Attempt: 1, SessionId: "session"}
	for _, arg := range args {
		grant.Task.Arguments = append(grant.Task.Arguments, &enginev1.TaskArgument{Value: arg})
	}
	l.send(&enginev1.SyncResponse{Templates: []*enginev1.TaskTemplate{template}, TaskGrants: []*enginev1.TaskGrant{grant}})
	return id
}

// startWorker starts a worker of a switchboard; change may be nil.
func startWorker(t testing.TB, change func(*worker.Config)) (*worker.Worker, *switchboard) {
	t.Helper()
	head := &switchboard{streams: make(chan *line)}
	listener := bufconn.Listen(1 << 20)
	server := rpc.NewServer(slog.New(slog.DiscardHandler))
	enginev1.RegisterWorkerServiceServer(server, head)
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	conn, err := rpc.Dial("passthrough:///head", grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	store := storetest.Open(t, objectstore.Config{})
	config := worker.Config{
		Conn: conn, Resources: engine.Resources{CPU: 2}, Models: fake.New(), Logger: slog.New(slog.DiscardHandler), ModelFolder: t.TempDir(),
		Store: func(context.Context) (*objectstore.Store, error) { return store, nil },
	}
	if change != nil {
		change(&config)
	}
	w, err := worker.Start(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
		defer cancel()
		if err := errors.Join(w.Stop(ctx), conn.Close()); err != nil {
			t.Error(err)
		}
		server.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return w, head
}

// waiter is an operator that runs until it is let go, or its context ends.
func waiter(entered chan<- struct{}, through <-chan struct{}) *operator.Registry {
	registry := &operator.Registry{}
	registry.Register("wait", func(ctx context.Context, _ []byte, _ []*operator.Table) ([]operator.Output, error) {
		operator.Progress(ctx, 1, 2)
		entered <- struct{}{}
		select {
		case <-through:
			return nil, nil
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	})
	return registry
}

// Tasks run on while there is no stream, and the next one hears of everything that is not released.
func TestTasksOutliveAStream(t *testing.T) {
	entered, through := make(chan struct{}, 1), make(chan struct{})
	_, head := startWorker(t, func(c *worker.Config) { c.Operators = waiter(entered, through) })
	l, first := head.next(t)
	if got := first.GetHello().GetOperators(); !slices.Equal(got, []string{"echo", "embed", "infer", "noop", "wait"}) {
		t.Errorf("the worker offers %v", got)
	}
	ended := l.grant(1, &enginev1.TaskTemplate{Operator: "noop"})
	if outcome := l.outcome(ended); outcome.GetState() != enginev1.TaskState_TASK_STATE_SUCCEEDED {
		t.Errorf("%v", outcome)
	}
	runs := l.grant(2, &enginev1.TaskTemplate{Operator: "wait"})
	<-entered
	held := l.until(func(r *enginev1.SyncRequest) bool { return len(r.GetHeldTasks()) > 0 }).GetHeldTasks()[0]
	if engine.TaskUID(held.GetTaskId()) != runs || held.GetDone() != 1 || held.GetTotal() != 2 || held.GetQuietNanos() == 0 {
		t.Errorf("%v", held)
	}
	close(l.hangUp)
	close(through)
	l, first = head.next(t)
	outcomes := map[engine.TaskUID]bool{}
	for _, outcome := range first.GetOutcomes() {
		outcomes[engine.TaskUID(outcome.GetTaskId())] = true
	}
	if !outcomes[ended] || len(first.GetOutcomeSessions()) != len(first.GetOutcomes()) || len(first.GetOutcomes())+len(first.GetHeldTasks()) != 2 {
		t.Errorf("the next stream hears of %v held and %v ended", first.GetHeldTasks(), first.GetOutcomes())
	}
	l.outcome(runs)
}

func TestDrainOrder(t *testing.T) {
	for _, test := range []struct {
		name   string
		within int64
		kind   string // of the task's error
	}{
		{"what runs may end", 0, ""},
		{"what takes too long is given back", 1, "unavailable"},
	} {
		t.Run(test.name, func(t *testing.T) {
			entered, through := make(chan struct{}, 1), make(chan struct{})
			evacuated := make(chan struct{})
			w, head := startWorker(t, func(c *worker.Config) {
				c.Operators = waiter(entered, through)
				c.Evacuate = func(context.Context) error { close(evacuated); return nil }
			})
			l, _ := head.next(t)
			id := l.grant(1, &enginev1.TaskTemplate{Operator: "wait"})
			<-entered
			l.send(&enginev1.SyncResponse{Drain: &enginev1.DrainOrder{WithinMillis: test.within, Reason: "test"}})
			l.until(func(r *enginev1.SyncRequest) bool { return r.GetDraining() })
			if test.within == 0 {
				close(through)
			}
			if outcome := l.outcome(id); outcome.GetError().GetKind() != test.kind {
				t.Errorf("%v", outcome)
			}
			select {
			case <-evacuated:
				t.Error("the worker's objects were brought away before the head had heard of the outcome")
			default:
			}
			l.send(&enginev1.SyncResponse{AcknowledgedSequence: l.last})
			<-evacuated
			l.until(func(r *enginev1.SyncRequest) bool { return r.GetGoodbye() })
			if w.Drained() {
				t.Error("the worker has left before the head has acknowledged its goodbye")
			}
			l.send(&enginev1.SyncResponse{AcknowledgedSequence: l.last})
			<-w.Done()
			if !w.Drained() || w.Err() != nil {
				t.Errorf("drained is %v, the error %v", w.Drained(), w.Err())
			}
		})
	}
}

// A worker says goodbye although an operator that does not return has taken all the time that there was.
func TestGoodbyeDespiteAStuckOperator(t *testing.T) {
	entered, through := make(chan struct{}), make(chan struct{})
	registry := &operator.Registry{}
	registry.Register("stuck", func(context.Context, []byte, []*operator.Table) ([]operator.Output, error) {
		close(entered)
		<-through
		return nil, nil
	})
	w, head := startWorker(t, func(c *worker.Config) { c.Operators = registry })
	l, _ := head.next(t)
	l.grant(1, &enginev1.TaskTemplate{Operator: "stuck"})
	<-entered
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	stopped := make(chan error, 1)
	go func() { stopped <- w.Stop(ctx) }() // lifecycle: it ends with the goodbye.
	l.until(func(r *enginev1.SyncRequest) bool { return r.GetGoodbye() })
	l.send(&enginev1.SyncResponse{AcknowledgedSequence: l.last})
	if err := <-stopped; err == nil {
		t.Error("nobody says that the operator still runs")
	}
	close(through)
}

// encodeTable writes records as the value of an argument.
func encodeTable(t testing.TB, records ...arrow.Record) []byte {
	t.Helper()
	encoding, err := table.Encode(records[0].Schema(), records...)
	if err != nil {
		t.Fatal(err)
	}
	defer encoding.Release()
	var data bytes.Buffer
	for _, p := range encoding.Pieces() {
		if p.Data == nil {
			data.Write(make([]byte, p.Zeros))
		}
		data.Write(p.Data)
	}
	return data.Bytes()
}

// recordOf makes a record of JSON rows.
func recordOf(t testing.TB, rows string, fields ...arrow.Field) arrow.Record {
	t.Helper()
	record, _, err := array.RecordFromJSON(memory.DefaultAllocator, arrow.NewSchema(fields, nil), strings.NewReader(rows))
	if err != nil {
		t.Fatal(err)
	}
	return record
}

// The steps infer and embed as operators: a program sends a table and gets it back with the step's columns.
func TestStepOperators(t *testing.T) {
	loader := fake.New()
	cache, err := runtime.NewCache(loader, runtime.CacheConfig{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // after the worker's end
		if err := cache.Close(); err != nil {
			t.Error(err)
		}
	})
	_, head := startWorker(t, func(c *worker.Config) { c.Models = cache })
	l, _ := head.next(t)
	linear := enginetest.WriteModel(t, enginetest.LinearModel(engine.Float64, 1, 10, 100))
	folder := enginetest.EmbeddingFolder(t)
	metadata := arrow.NewMetadata([]string{"unit"}, []string{"knots"})
	x := []arrow.Field{{Name: "a", Type: arrow.PrimitiveTypes.Float64, Metadata: metadata}, {Name: "b", Type: arrow.PrimitiveTypes.Float64}}
	text := []arrow.Field{{Name: "id", Type: arrow.PrimitiveTypes.Int64}, {Name: "title", Type: arrow.BinaryTypes.String, Nullable: true}}
	twoTexts := append(slices.Clone(text), arrow.Field{Name: "body", Type: arrow.BinaryTypes.String})
	numbers := encodeTable(t, recordOf(t, `[{"a": 1, "b": 2}, {"a": 3, "b": 4}]`, x...), recordOf(t, `[]`, x...), recordOf(t, `[{"a": 5, "b": 6}]`, x...))
	texts := encodeTable(t, recordOf(t, `[{"id": 1, "title": "a b"}, {"id": 2, "title": null}]`, text...))
	for i, test := range []struct {
		name, operator string
		params         map[string]any
		arg            []byte
		want           string // of the columns that are added, or of the error
		kind           engine.Kind
	}{
		{name: "infer", operator: "infer", params: map[string]any{"model": linear, "output": "y"}, arg: numbers, want: "a b y [211 431] [] [651]"},
		{name: "infer again", operator: "infer", params: map[string]any{"model": linear, "output": "y"}, arg: numbers, want: "a b y [211 431] [] [651]"},
		{name: "other columns", operator: "infer", params: map[string]any{"model": linear, "inputs": []string{"b", "a"}}, arg: numbers, want: "a b variable [121 341] [] [561]"},
		{name: "embed", operator: "embed", params: map[string]any{"model": folder}, arg: texts, want: "id title embedding [[3 1 11.5 0] (null)]"},
		{name: "embed into", operator: "embed", params: map[string]any{"model": folder, "output": "v", "normalize": "true"}, arg: texts, want: "id title v [["},
		{name: "several texts", operator: "embed", params: map[string]any{"model": folder}, arg: encodeTable(t, recordOf(t, `[]`, twoTexts...)), want: `"title", "body"`, kind: engine.KindInvalidArgument},
		{name: "no text", operator: "embed", params: map[string]any{"model": folder}, arg: numbers, want: "no column of text", kind: engine.KindData},
		{name: "NaN", operator: "embed", params: map[string]any{"model": folder}, arg: encodeTable(t, recordOf(t, `[{"id": 1, "title": "a"}, {"id": 2, "title": "z"}]`, text...)), want: "row 1", kind: engine.KindData},
		{name: "no parameters", operator: "infer", arg: numbers, want: "infer.model", kind: engine.KindInvalidArgument},
		{name: "unknown parameter", operator: "infer", params: map[string]any{"modell": linear}, arg: numbers, want: "modell", kind: engine.KindInvalidArgument},
		{name: "missing column", operator: "infer", params: map[string]any{"model": linear, "inputs": []string{"a", "c"}}, arg: numbers, want: `column "c" is missing`, kind: engine.KindData},
		{name: "missing model", operator: "infer", params: map[string]any{"model": linear + "x"}, arg: numbers, want: linear + "x", kind: engine.KindNotFound},
		{name: "no argument", operator: "infer", params: map[string]any{"model": linear}, want: "takes one table, found 0", kind: engine.KindInvalidArgument},
	} {
		t.Run(test.name, func(t *testing.T) {
			l.t = t
			var params []byte
			if test.params != nil {
				if params, err = json.Marshal(test.params); err != nil {
					t.Fatal(err)
				}
			}
			var args [][]byte
			if test.arg != nil {
				args = [][]byte{test.arg}
			}
			outcome := l.outcome(l.grant(uint32(i+1), &enginev1.TaskTemplate{Operator: test.operator, Params: params}, args...))
			if test.kind != 0 {
				e := outcome.GetError()
				if e.GetKind() != test.kind.String() || !strings.Contains(rpc.FromProto(e).Error(), test.want) || strings.Contains(e.GetMessage(), "steps[0]") {
					t.Errorf("%v, expected %s: %s", e, test.kind, test.want)
				}
				return
			}
			if outcome.GetError() != nil {
				t.Fatal(outcome.GetError())
			}
			opened, err := table.Open(outcome.GetOutputs()[0].GetValue(), table.Options{})
			if err != nil {
				t.Fatal(err)
			}
			defer opened.Release()
			var got []string
			for _, f := range opened.Schema().Fields() {
				got = append(got, f.Name)
			}
			for _, record := range opened.Records() {
				got = append(got, record.Column(int(record.NumCols())-1).String())
			}
			if text := strings.Join(got, " "); !strings.HasPrefix(text, test.want) {
				t.Errorf("%s, expected %s", text, test.want)
			}
		})
	}
	// Models are loaded once, until their files change.
	before := loader.Stats().Loads
	l.t = t
	change := func() string {
		params, err := json.Marshal(map[string]any{"model": linear, "output": "y"})
		if err != nil {
			t.Fatal(err)
		}
		outcome := l.outcome(l.grant(100, &enginev1.TaskTemplate{Operator: "infer", Params: params}, numbers))
		opened, err := table.Open(outcome.GetOutputs()[0].GetValue(), table.Options{})
		if err != nil {
			t.Fatal(err, outcome)
		}
		defer opened.Release()
		return opened.Records()[0].Column(2).String()
	}
	if got := change(); got != "[211 431]" || loader.Stats().Loads != before {
		t.Errorf("%s after %d loads more", got, loader.Stats().Loads-before)
	}
	if err := os.WriteFile(linear, enginetest.LinearModel(engine.Float64, 2, 10, 100), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(linear, time.Now(), time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	if got := change(); got != "[212 432]" {
		t.Errorf("%s after the model has changed", got)
	}
}
