package tasks_test

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/objectstore/table"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
	"github.com/f708428e/engine/runtime/operator"
	"github.com/f708428e/engine/worker/tasks"
)

const (
	succeeded = enginev1.TaskState_TASK_STATE_SUCCEEDED
	failed    = enginev1.TaskState_TASK_STATE_FAILED
	cancelled = enginev1.TaskState_TASK_STATE_CANCELLED
)

func TestOutcomes(t *testing.T) {
	none := 0.0
	returns := func(err error) operator.Func {
		return func(context.Context, []byte, []*operator.Table) ([]operator.Output, error) { return nil, err }
	}
	operators := map[string]operator.Func{
		"plain":    returns(errors.New("no such ship")),
		"typed":    returns(engine.Errorf(engine.KindUnavailable, "ask sonar", "ship-1", "it is under water")),
		"wrapped":  returns(errors.Join(errors.New("first"), engine.Errorf(engine.KindModel, "", "", "bad model"))),
		"deadline": returns(context.DeadlineExceeded),
		"panics":   func(context.Context, []byte, []*operator.Table) ([]operator.Output, error) { panic("overboard") },
		"two": func(context.Context, []byte, []*operator.Table) ([]operator.Output, error) {
			return make([]operator.Output, 2), nil
		},
		"long error": returns(errors.New(strings.Repeat("é", 100_000))),
		"exits": func(context.Context, []byte, []*operator.Table) ([]operator.Output, error) {
			runtime.Goexit()
			return nil, nil
		},
		"sum": sum,
		"typed params": operator.Typed(func(_ context.Context, p struct{ Speed int }, _ []*operator.Table) ([]operator.Output, error) {
			if p.Speed != 7 {
				return nil, errors.New("wrong speed")
			}
			return nil, nil
		}),
	}
	h := start(t, operators, nil)
	one := encode(t, numbers(1, 3))
	for i, test := range []struct {
		name     string
		template *enginev1.TaskTemplate
		args     []*enginev1.TaskArgument
		kind     engine.Kind // of a failure
		want     string      // part of the error; empty means success
	}{
		{name: "no-op", template: &enginev1.TaskTemplate{Operator: "noop"}},
		{name: "nothing taken", template: &enginev1.TaskTemplate{Operator: "noop", Resources: &enginev1.Resources{Cpu: &none}}},
		{name: "parameters", template: &enginev1.TaskTemplate{Operator: "typed params", Params: []byte(`{"speed": 7}`)}},
		{name: "unknown parameter", template: &enginev1.TaskTemplate{Operator: "typed params", Params: []byte(`{"sped": 7}`)}, kind: engine.KindInvalidArgument, want: `"sped"`},
		{name: "wrong parameter", template: &enginev1.TaskTemplate{Operator: "typed params", Params: []byte(`{"speed": "7"}`)}, kind: engine.KindInvalidArgument, want: "expected int"},
		{name: "a user's error", template: &enginev1.TaskTemplate{Operator: "plain"}, kind: engine.KindData, want: "no such ship"},
		{name: "a typed error", template: &enginev1.TaskTemplate{Operator: "typed"}, kind: engine.KindUnavailable, want: "ship-1"},
		{name: "a wrapped error", template: &enginev1.TaskTemplate{Operator: "wrapped"}, kind: engine.KindModel, want: "bad model"},
		{name: "a deadline of the operator's own", template: &enginev1.TaskTemplate{Operator: "deadline"}, kind: engine.KindDeadline, want: "deadline"},
		{name: "panic", template: &enginev1.TaskTemplate{Operator: "panics"}, kind: engine.KindInternal, want: "overboard"},
		{name: "end of the goroutine", template: &enginev1.TaskTemplate{Operator: "exits"}, kind: engine.KindInternal, want: "ended its goroutine"},
		{name: "end of another goroutine", template: &enginev1.TaskTemplate{Operator: "exits"}, kind: engine.KindInternal, want: "ended its goroutine"},
		{name: "long error", template: &enginev1.TaskTemplate{Operator: "long error"}, kind: engine.KindData, want: "…"},
		{name: "too many outputs", template: &enginev1.TaskTemplate{Operator: "two"}, kind: engine.KindInvalidArgument, want: "returned 2 outputs, the task has 1"},
		{name: "outputs without objects", template: &enginev1.TaskTemplate{Operator: "two", Outputs: 2}},
		{name: "no such operator", template: &enginev1.TaskTemplate{Operator: "nop"}, kind: engine.KindNotFound, want: `no operator "nop"`},
		{name: "negative request", template: &enginev1.TaskTemplate{Operator: "noop", Resources: &enginev1.Resources{Gpu: -1}}, kind: engine.KindInvalidArgument, want: "gpu must be between"},
		{name: "impossible request", template: &enginev1.TaskTemplate{Operator: "noop", Resources: &enginev1.Resources{Gpu: 1}}, kind: engine.KindInvalidArgument, want: "it needs cpu: 1, gpu: 1, node node-1 has cpu: 2"},
		{name: "unknown resource", template: &enginev1.TaskTemplate{Operator: "noop", Resources: &enginev1.Resources{Custom: map[string]float64{"licence": 1}}}, kind: engine.KindInvalidArgument, want: "licence: 1"},
		{name: "value", template: &enginev1.TaskTemplate{Operator: "sum"}, args: []*enginev1.TaskArgument{value(one), value(one)}},
		{name: "damaged value", template: &enginev1.TaskTemplate{Operator: "sum"}, args: []*enginev1.TaskArgument{value(one), value(one[:len(one)-1])}, kind: engine.KindCorrupt, want: "argument 2"},
		{name: "object that is nowhere", template: &enginev1.TaskTemplate{Operator: "sum"}, args: []*enginev1.TaskArgument{reference(engine.ObjectID{9})}, kind: engine.KindUnavailable, want: engine.ObjectID{9}.String()},
		{name: "id that is none", template: &enginev1.TaskTemplate{Operator: "sum"}, args: []*enginev1.TaskArgument{{ObjectId: []byte("short")}}, kind: engine.KindInvalidArgument, want: "5 bytes"},
		{name: "echo", template: &enginev1.TaskTemplate{Operator: "echo"}, args: []*enginev1.TaskArgument{value(one)}},
		{name: "echo with parameters", template: &enginev1.TaskTemplate{Operator: "echo", Params: []byte("{}")}, args: []*enginev1.TaskArgument{value(one)}, kind: engine.KindInvalidArgument, want: "takes none"},
		{name: "relative checkpoint", template: &enginev1.TaskTemplate{Operator: "echo", Checkpoint: "out"}, args: []*enginev1.TaskArgument{value(one)}, kind: engine.KindInvalidArgument, want: "absolute"},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.template.Number = uint32(i + 1)
			h.template(test.template)
			id := h.grant(uint32(i+1), test.args...)
			outcome := h.outcome(id)
			if outcome.GetNodeId() != node || outcome.GetAttempts() != 1 || outcome.GetEpoch() != h.epoch {
				t.Errorf("%v", outcome)
			}
			if test.want == "" {
				if outcome.GetState() != succeeded || outcome.GetError() != nil || outcome.GetRunNanos() <= 0 || outcome.GetStartUnixNanos() == 0 {
					t.Errorf("%v", outcome)
				}
				return
			}
			e := outcome.GetError()
			text := e.GetOperation() + ": " + e.GetId() + ": " + e.GetMessage()
			if outcome.GetState() != failed || e.GetKind() != test.kind.String() || !strings.Contains(text, test.want) || len(text) > 5000 {
				t.Errorf("%v, expected %s and %q", outcome, test.kind, test.want)
			}
			if test.name == "object that is nowhere" && (e.GetOperation() != "get argument" || e.GetId() != test.want) {
				t.Errorf("the head cannot read which object is lost: %v", e)
			}
		})
	}
	id := h.grant(1000)
	if outcome := h.outcome(id); outcome.GetError().GetKind() != "internal" {
		t.Errorf("a template that was not sent: %v", outcome)
	}
}

// What an operator learns of its task, and what the head learns of its progress.
func TestContext(t *testing.T) {
	seen := make(chan operator.Task, 1)
	through := make(chan struct{})
	h := start(t, map[string]operator.Func{"look": func(ctx context.Context, _ []byte, _ []*operator.Table) ([]operator.Output, error) {
		operator.Logger(ctx).InfoContext(ctx, "looking")
		id, ok := engine.TaskFrom(ctx)
		if !ok || id != operator.TaskID(ctx) {
			return nil, errors.New("the context does not name the task")
		}
		operator.Progress(ctx, 3, 10)
		seen <- operator.Task{ID: id, Attempt: operator.Attempt(ctx), Devices: operator.Devices(ctx), Resources: operator.Resources(ctx)}
		<-through
		return nil, nil
	}}, func(c *tasks.Config) { c.Total.GPU = 2 })
	h.tasks.Take(&enginev1.SyncResponse{Welcome: &enginev1.HeadWelcome{ClusterId: "cluster", ReportInterval: durationpb.New(time.Nanosecond)}})
	h.template(&enginev1.TaskTemplate{Number: 1, Operator: "look", Resources: &enginev1.Resources{Gpu: 0.5}})
	grant := h.newGrant(1)
	grant.Attempt, grant.GpuDevices = 3, []int32{1}
	h.tasks.Take(&enginev1.SyncResponse{TaskGrants: []*enginev1.TaskGrant{grant}})
	task := <-seen
	if task.ID != engine.TaskUID(grant.GetTask().GetTaskId()) || task.Attempt != 3 || !slices.Equal(task.Devices, []int{1}) || task.Resources.GPU != 0.5 || task.Resources.CPU != 1 {
		t.Errorf("the operator sees %+v", task)
	}
	held := h.report(true).GetHeldTasks()
	if len(held) != 1 || held[0].GetDone() != 3 || held[0].GetTotal() != 10 || held[0].GetQuietNanos() <= 0 || held[0].GetRunNanos() < held[0].GetQuietNanos() ||
		!slices.Equal(held[0].GetGpuDevices(), []int32{1}) || held[0].GetTemplate() != nil {
		t.Errorf("the head hears %v", held)
	}
	if held := h.report(false).GetHeldTasks(); len(held) != 0 {
		t.Errorf("a report that is not due speaks of %v", held)
	}
	close(through)
	if outcome := h.outcome(task.ID); outcome.GetState() != succeeded || outcome.GetAttempts() != 3 {
		t.Errorf("%v", outcome)
	}
}

func TestTimeout(t *testing.T) {
	defer tasks.SetAbandonAfter(time.Millisecond)()
	g := newGate()
	stubborn := make(chan struct{})
	h := start(t, map[string]operator.Func{
		"polite": g.run,
		"stubborn": func(context.Context, []byte, []*operator.Table) ([]operator.Output, error) {
			<-stubborn
			return nil, nil
		},
	}, func(c *tasks.Config) { c.Total.CPU = 1 })
	h.template(&enginev1.TaskTemplate{Number: 1, Operator: "polite", Timeout: durationpb.New(5 * time.Millisecond)})
	h.template(&enginev1.TaskTemplate{Number: 2, Operator: "stubborn", Timeout: durationpb.New(5 * time.Millisecond)})
	h.template(&enginev1.TaskTemplate{Number: 3, Operator: "noop"})
	for _, template := range []uint32{1, 2} {
		outcome := h.outcome(h.grant(template))
		if outcome.GetState() != failed || outcome.GetError().GetKind() != "deadline" || !strings.Contains(outcome.GetError().GetMessage(), "5ms") || outcome.GetRunNanos() < int64(5*time.Millisecond) {
			t.Errorf("%v", outcome)
		}
	}
	// The one that does not return has an outcome, and still the core.
	id := h.grant(3)
	h.report(false)
	if h.outcomes[id] != nil {
		t.Error("a task ran on the core of one that has not returned")
	}
	close(stubborn)
	if outcome := h.outcome(id); outcome.GetState() != succeeded {
		t.Errorf("%v", outcome)
	}
}

func TestRevocation(t *testing.T) {
	g := newGate()
	h := start(t, map[string]operator.Func{"gate": g.run}, func(c *tasks.Config) { c.Total.CPU = 1 })
	h.template(&enginev1.TaskTemplate{Number: 1, Operator: "gate"})
	runs := h.grant(1)
	g.wait(t)
	waits, forgotten := h.grant(1), h.grant(1)

	h.revoke(waits, false)
	if outcome := h.outcome(waits); outcome.GetState() != cancelled || outcome.GetError().GetKind() != "canceled" || outcome.GetRunNanos() != 0 {
		t.Errorf("one that waited: %v", outcome)
	}
	h.revoke(forgotten, true)
	h.tasks.Take(&enginev1.SyncResponse{TaskRevocations: []*enginev1.TaskRevocation{{TaskId: runs[:], Epoch: 99}, {TaskId: []byte("x")}, {TaskId: make([]byte, 16)}}})
	held := h.connect("cluster").GetHeldTasks()
	h.template(&enginev1.TaskTemplate{Number: 2, Operator: "gate"})
	if len(held) != 1 || engine.TaskUID(held[0].GetTaskId()) != runs || held[0].GetTemplate().GetOperator() != "gate" {
		t.Errorf("held are %v, expected the one that runs, whose other lease was revoked", held)
	}
	next := h.grant(2)
	for _, id := range []engine.TaskUID{runs, next} {
		h.tasks.Take(&enginev1.SyncResponse{TaskRevocations: []*enginev1.TaskRevocation{{TaskId: id[:], UnlessBegun: true}}})
	}
	if outcome := h.outcome(next); outcome.GetState() != cancelled || h.outcomes[runs] != nil {
		t.Errorf("one that had not begun: %v; one that had: %v", outcome, h.outcomes[runs])
	}
	h.revoke(runs, false)
	if outcome := h.outcome(runs); outcome.GetState() != cancelled || outcome.GetRunNanos() <= 0 {
		t.Errorf("one that ran: %v", outcome)
	}
	// Whatever the order in a message: a revocation of an earlier lease, or of the grant beside it.
	h.template(&enginev1.TaskTemplate{Number: 1, Operator: "gate"})
	both := h.newGrant(1)
	h.tasks.Take(&enginev1.SyncResponse{
		TaskGrants:      []*enginev1.TaskGrant{both},
		TaskRevocations: []*enginev1.TaskRevocation{{TaskId: both.GetTask().GetTaskId(), Epoch: both.GetEpoch()}},
	})
	if outcome := h.outcome(engine.TaskUID(both.GetTask().GetTaskId())); outcome.GetState() != cancelled {
		t.Errorf("one that was granted and revoked in one message: %v", outcome)
	}
	again := h.newGrant(1)
	h.tasks.Take(&enginev1.SyncResponse{TaskGrants: []*enginev1.TaskGrant{again}})
	g.wait(t)
	newer := &enginev1.TaskGrant{Task: again.GetTask(), Epoch: again.GetEpoch() + 10, Attempt: 2, SessionId: "session"}
	h.tasks.Take(&enginev1.SyncResponse{
		TaskRevocations: []*enginev1.TaskRevocation{{TaskId: again.GetTask().GetTaskId(), Epoch: again.GetEpoch(), Forget: true}},
		TaskGrants:      []*enginev1.TaskGrant{newer},
	})
	g.wait(t)
	close(g.through)
	if outcome := h.outcome(engine.TaskUID(again.GetTask().GetTaskId())); outcome.GetState() != succeeded || outcome.GetAttempts() != 2 || outcome.GetEpoch() != newer.GetEpoch() {
		t.Errorf("the newer lease: %v", outcome)
	}
	if len(g.has()) != 3 {
		t.Errorf("%d attempts were made, expected 3", len(g.has()))
	}
}

// A task that runs when another lease for it comes goes on under that.
func TestNewerGrantOfARunningTask(t *testing.T) {
	g := newGate()
	h := start(t, map[string]operator.Func{"gate": g.run}, nil)
	h.template(&enginev1.TaskTemplate{Number: 1, Operator: "gate"})
	grant := h.newGrant(1)
	h.tasks.Take(&enginev1.SyncResponse{TaskGrants: []*enginev1.TaskGrant{grant, grant}})
	g.wait(t)
	newer := &enginev1.TaskGrant{Task: grant.GetTask(), Epoch: grant.GetEpoch() + 5, Attempt: 2, SessionId: "session"}
	h.tasks.Take(&enginev1.SyncResponse{TaskGrants: []*enginev1.TaskGrant{newer, grant}})
	close(g.through)
	outcome := h.outcome(engine.TaskUID(grant.GetTask().GetTaskId()))
	if outcome.GetEpoch() != newer.GetEpoch() || outcome.GetAttempts() != 2 || len(g.has()) != 1 {
		t.Errorf("%v after %d attempts", outcome, len(g.has()))
	}
	// Once it has ended, a newer lease means a new attempt, and an older one nothing.
	third := &enginev1.TaskGrant{Task: grant.GetTask(), Epoch: newer.GetEpoch() + 1, Attempt: 3, SessionId: "session"}
	h.tasks.Take(&enginev1.SyncResponse{TaskGrants: []*enginev1.TaskGrant{newer}})
	h.tasks.Take(&enginev1.SyncResponse{TaskGrants: []*enginev1.TaskGrant{third}})
	if outcome := h.outcome(engine.TaskUID(grant.GetTask().GetTaskId())); outcome.GetAttempts() != 3 || len(g.has()) != 2 {
		t.Errorf("%v after %d attempts", outcome, len(g.has()))
	}
}

// A new stream is told everything that is not released; a head of another cluster nothing.
func TestStreams(t *testing.T) {
	g := newGate()
	h := start(t, map[string]operator.Func{"gate": g.run, "sum": sum}, nil)
	h.template(&enginev1.TaskTemplate{Number: 7, Operator: "sum"})
	h.template(&enginev1.TaskTemplate{Number: 8, Operator: "gate"})
	var ended []engine.TaskUID
	for i := range 5 {
		ended = append(ended, h.grant(7, value(encode(t, numbers(i, 2)))))
		h.outcome(ended[i])
	}
	if report := h.report(true); len(report.GetOutcomes()) != 0 || len(report.GetOutcomeSessions()) != 0 {
		t.Errorf("outcomes are told twice on a stream: %v", report)
	}
	h.release(ended[1], ended[3])
	runs := h.grant(8)
	g.wait(t)

	first := h.connect("cluster")
	if n := len(first.GetOutcomes()); n != 3 || !slices.Equal(first.GetOutcomeSessions(), []string{"session", "session", "session"}) {
		t.Fatalf("%d outcomes of sessions %v", n, first.GetOutcomeSessions())
	}
	for i, want := range []int{0, 2, 4} {
		outcome := first.GetOutcomes()[i]
		if engine.TaskUID(outcome.GetTaskId()) != ended[want] || len(outcome.GetOutputs()[0].GetValue()) == 0 {
			t.Errorf("outcome %d is %v", i, outcome)
		}
	}
	if held := first.GetHeldTasks(); len(held) != 1 || engine.TaskUID(held[0].GetTaskId()) != runs || held[0].GetSessionId() != "session" || held[0].GetRunNanos() <= 0 {
		t.Errorf("held are %v", held)
	}
	// Numbers of templates belong to a stream.
	if outcome := h.outcome(h.grant(7)); outcome.GetError().GetKind() != "internal" {
		t.Errorf("%v", outcome)
	}
	h.release(ended...)
	h.connect("another")
	if outcome := h.outcomes[runs]; outcome != nil {
		t.Errorf("%v", outcome)
	}
	if again := h.connect("another"); len(again.GetHeldTasks())+len(again.GetOutcomes()) != 0 {
		t.Errorf("another cluster hears %v", again)
	}
}

// A drained worker is idle when everything has ended and the head has heard of it.
func TestIdle(t *testing.T) {
	g := newGate()
	h := start(t, map[string]operator.Func{"gate": g.run}, func(c *tasks.Config) { c.Total.CPU = 1 })
	if idle, _ := h.tasks.Idle(); !idle {
		t.Error("not idle with nothing to do")
	}
	h.template(&enginev1.TaskTemplate{Number: 1, Operator: "gate"})
	runs := h.grant(1)
	g.wait(t)
	waits := h.grant(1)
	idle, changed := h.tasks.Idle()
	if idle {
		t.Error("idle while a task runs")
	}
	h.tasks.GiveBack()
	select {
	case <-changed:
	case <-time.After(2 * time.Minute):
		t.Fatal("nobody says that tasks were given back")
	}
	for _, id := range []engine.TaskUID{runs, waits} {
		if outcome := h.outcome(id); outcome.GetState() != failed || outcome.GetError().GetKind() != "unavailable" {
			t.Errorf("%v", outcome)
		}
	}
	idle, changed = h.tasks.Idle()
	if idle {
		t.Error("idle before the head has heard of the outcomes")
	}
	h.tasks.Take(&enginev1.SyncResponse{AcknowledgedSequence: h.sequence})
	<-changed
	if idle, _ := h.tasks.Idle(); !idle {
		t.Error("not idle after the head has heard of the outcomes")
	}
}

// A lease of a job takes what it needs at once, and tasks start in what is left.
func TestHold(t *testing.T) {
	none := 0.0
	h := start(t, nil, nil)
	h.template(&enginev1.TaskTemplate{Number: 1, Operator: "noop"})
	h.template(&enginev1.TaskTemplate{Number: 2, Operator: "noop", Resources: &enginev1.Resources{Cpu: &none}})
	room, giveBack := h.tasks.Hold(engine.Resources{CPU: 3}, nil)
	<-room
	waits, free := h.grant(1), h.grant(2)
	h.outcome(free)
	h.report(false)
	if h.outcomes[waits] != nil {
		t.Error("a task ran on a core that a job has")
	}
	giveBack()
	giveBack()
	h.outcome(waits)
	h.tasks.Hold(engine.Resources{CPU: 1}, nil)
	h.outcome(h.grant(1))
}

// A lease of a job waits for a task of a client that has begun in what the lease is to have.
func TestHoldWaitsForWhatRuns(t *testing.T) {
	g := newGate()
	h := start(t, map[string]operator.Func{"gate": g.run}, nil)
	h.template(&enginev1.TaskTemplate{Number: 1, Operator: "gate"})
	id := h.grant(1)
	g.wait(t)
	room, giveBack := h.tasks.Hold(engine.Resources{CPU: 2}, nil)
	defer giveBack()
	select {
	case <-room:
		t.Fatal("the lease does not wait")
	default:
	}
	close(g.through)
	h.outcome(id)
	<-room
}

// A lease of a job waits for its own device, though another one is free.
func TestHoldWaitsForItsDevice(t *testing.T) {
	g := newGate()
	h := start(t, map[string]operator.Func{"gate": g.run}, func(c *tasks.Config) { c.Total.GPU = 2 })
	h.template(&enginev1.TaskTemplate{Number: 1, Operator: "gate", Resources: &enginev1.Resources{Gpu: 1}})
	grant := h.newGrant(1)
	grant.GpuDevices = []int32{0}
	h.tasks.Take(&enginev1.SyncResponse{TaskGrants: []*enginev1.TaskGrant{grant}})
	g.wait(t)
	other, giveOtherBack := h.tasks.Hold(engine.Resources{GPU: 1}, []int32{1})
	<-other
	giveOtherBack()
	room, giveBack := h.tasks.Hold(engine.Resources{GPU: 1}, []int32{0})
	defer giveBack()
	select {
	case <-room:
		t.Fatal("the lease does not wait")
	default:
	}
	close(g.through)
	h.outcome(engine.TaskUID(grant.GetTask().GetTaskId()))
	<-room
}

// The first report of a stream says of held tasks what a new head must know, however large their parameters are.
func TestHeldTasksAreToldWithoutParameters(t *testing.T) {
	g := newGate()
	h := start(t, map[string]operator.Func{"gate": g.run}, nil)
	h.template(&enginev1.TaskTemplate{Number: 1, Operator: "gate", Params: make([]byte, 1<<20), Resources: &enginev1.Resources{}})
	const n = 100
	for range n {
		h.grant(1)
	}
	first := h.connect("cluster")
	if size := proto.Size(first); len(first.GetHeldTasks()) != n || size > n<<10 {
		t.Errorf("%d tasks are told in %d bytes", len(first.GetHeldTasks()), size)
	}
	for _, held := range first.GetHeldTasks() {
		if held.GetTemplate().GetOperator() != "gate" || held.GetTemplate().GetResources() == nil {
			t.Fatalf("%v", held)
		}
	}
}

// Values that were told go when they take too much memory; their objects stay.
func TestValuesAreBounded(t *testing.T) {
	const n = 1000
	big := encode(t, numbers(0, 12_000))
	if len(big) > engine.MaxInlineObjectBytes {
		t.Fatal(len(big))
	}
	h := start(t, nil, nil)
	h.template(&enginev1.TaskTemplate{Number: 1, Operator: "echo", InlineBytes: engine.MaxInlineObjectBytes})
	var ids []engine.TaskUID
	for range n {
		id := h.grant(1, value(big))
		if outcome := h.outcome(id); len(outcome.GetOutputs()[0].GetValue()) != len(big) {
			t.Fatalf("the first time an outcome is told, it has its value: %v", outcome)
		}
		ids = append(ids, id)
	}
	bytes, outcomes := 0, h.connect("cluster").GetOutcomes()
	for _, outcome := range outcomes {
		bytes += len(outcome.GetOutputs()[0].GetValue())
		if outcome.GetOutputs()[0].GetSizeBytes() != int64(len(big)) {
			t.Fatalf("%v", outcome.GetOutputs()[0].GetSizeBytes())
		}
	}
	if len(outcomes) != n || bytes > 8<<20 {
		t.Errorf("a new stream is told %d outcomes with %d bytes", len(outcomes), bytes)
	}
	handle, err := h.store.Get(t.Context(), ids[n-1].Output(0))
	if err != nil {
		t.Fatal(err)
	}
	defer handle.Release()
	if rows, _, err := table.Check(handle.Bytes(), table.Options{}); err != nil || rows != 12_000 {
		t.Errorf("%d rows, %v", rows, err)
	}
}
