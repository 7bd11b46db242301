package tasks_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
	"weak"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/objectstore/table"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
	"github.com/f708428e/engine/runtime/operator"
	"github.com/f708428e/engine/worker/tasks"
)

// read returns the numbers of an object of the store.
func (h *head) read(id engine.ObjectID) (values []int64) {
	h.t.Helper()
	handle, err := h.store.Get(h.t.Context(), id)
	if err != nil {
		h.t.Fatal(err)
	}
	opened, err := table.Open(handle.Bytes(), table.Options{Release: handle.Release})
	if err != nil {
		h.t.Fatal(err)
	}
	defer opened.Release()
	for _, record := range opened.Records() {
		values = append(values, record.Column(0).(*array.Int64).Int64Values()...)
	}
	return values
}

// Outputs become objects of the session, small ones travel along, and a task reads what another has made.
func TestOutputsAreObjects(t *testing.T) {
	h := start(t, map[string]operator.Func{"sum": sum, "several": func(context.Context, []byte, []*operator.Table) ([]operator.Output, error) {
		return []operator.Output{operator.Record(numbers(1, 1)), {}, operator.Record(numbers(0, 5000))}, nil
	}}, nil)
	h.template(&enginev1.TaskTemplate{Number: 1, Operator: "several", Outputs: 4})
	h.template(&enginev1.TaskTemplate{Number: 2, Operator: "sum", InlineBytes: -1})
	id := h.grant(1)
	outputs := h.outcome(id).GetOutputs()
	if len(outputs) != 3 || outputs[1].GetSizeBytes() != 0 {
		t.Fatalf("%v", outputs)
	}
	for i, rows := range map[int]int64{0: 1, 2: 5000} {
		info, ok := h.store.Info(id.Output(i))
		if !ok || info.SizeBytes != outputs[i].GetSizeBytes() || outputs[i].GetRows() != rows || info.Rows != rows ||
			len(info.Owners) != 1 || info.Owners[0] != (engine.ObjectOwner{Kind: engine.OwnerSession, ID: "session"}) {
			t.Errorf("output %d: %+v, %v", i, info, outputs[i])
		}
	}
	if _, ok := h.store.Info(id.Output(1)); ok || len(outputs[0].GetValue()) != int(outputs[0].GetSizeBytes()) || len(outputs[2].GetValue()) != 0 {
		t.Error("the empty output has an object, or the wrong values travel along")
	}
	if rows, _, err := table.Check(outputs[0].GetValue(), table.Options{}); rows != 1 || err != nil {
		t.Errorf("the value has %d rows, %v", rows, err)
	}
	next := h.grant(2, reference(id.Output(0)), reference(id.Output(2)), value(encode(t, numbers(100, 1))))
	outcome := h.outcome(next)
	if got := h.read(next.Output(0)); len(got) != 1 || got[0] != 1+4999*5000/2+100 || outcome.GetOutputs()[0].GetValue() != nil {
		t.Errorf("%v, %v", got, outcome)
	}
}

// What an earlier attempt has left under an output's id counts; what a cancelled one has made goes.
func TestOutputsOfEarlierAttempts(t *testing.T) {
	g := newGate()
	made := make(chan struct{})
	h := start(t, map[string]operator.Func{
		"sum": sum,
		"late": func(ctx context.Context, params []byte, args []*operator.Table) ([]operator.Output, error) {
			_, _ = g.run(ctx, params, args)
			<-made
			return []operator.Output{operator.Record(numbers(1, 1))}, nil // It does not care about its context.
		},
	}, nil)
	h.template(&enginev1.TaskTemplate{Number: 1, Operator: "sum"})
	h.template(&enginev1.TaskTemplate{Number: 2, Operator: "late"})
	grant := h.newGrant(1, value(encode(t, numbers(5, 1))))
	id := engine.TaskUID(grant.GetTask().GetTaskId())
	before := encode(t, numbers(42, 1))
	put(t, h.store, id.Output(0), before)
	h.tasks.Take(&enginev1.SyncResponse{TaskGrants: []*enginev1.TaskGrant{grant}})
	output := h.outcome(id).GetOutputs()[0]
	if !bytes.Equal(output.GetValue(), before) || output.GetRows() != 1 || h.read(id.Output(0))[0] != 42 {
		t.Errorf("the object of an earlier attempt was replaced: %v", output)
	}
	if info, _ := h.store.Info(id.Output(0)); len(info.Owners) != 2 {
		t.Errorf("owners are %v, expected the session as well", info.Owners)
	}
	late := h.grant(2)
	g.wait(t)
	h.revoke(late, false)
	close(made)
	if outcome := h.outcome(late); outcome.GetState() != cancelled {
		t.Errorf("%v", outcome)
	}
	if _, ok := h.store.Info(late.Output(0)); ok {
		t.Error("what a cancelled task has made is left")
	}
}

// stuck is a record that panics when it is given back.
type stuck struct{ arrow.Record }

func (stuck) Release() { panic("stuck") }

// textless is an error that has no text if it is nil, which an error that holds a nil pointer of it is not.
type textless struct{ text string }

func (e *textless) Error() string { return e.text }

// A panic in what an operator has returned fails its task, which leaves nothing; others go on.
func TestPanicInAnOutput(t *testing.T) {
	schema := arrow.NewSchema([]arrow.Field{{Name: "s", Type: arrow.BinaryTypes.String}}, nil)
	good := func() operator.Output { return operator.Record(numbers(1, 1)) }
	for name, returns := range map[string]func() ([]operator.Output, error){
		"no record": func() ([]operator.Output, error) {
			return []operator.Output{good(), operator.Records(schema, nil)}, nil
		},
		"no release": func() ([]operator.Output, error) {
			return []operator.Output{operator.Record(stuck{numbers(1, 1)})}, nil
		},
		"error of none": func() ([]operator.Output, error) { return nil, (*textless)(nil) },
	} {
		t.Run(name, func(t *testing.T) {
			h := start(t, map[string]operator.Func{"bad": func(context.Context, []byte, []*operator.Table) ([]operator.Output, error) { return returns() }}, nil)
			h.template(&enginev1.TaskTemplate{Number: 1, Operator: "bad", Outputs: 2})
			h.template(&enginev1.TaskTemplate{Number: 2, Operator: "noop"})
			id := h.grant(1)
			outcome := h.outcome(id)
			e := outcome.GetError()
			if outcome.GetState() != failed || e.GetKind() != "internal" || e.GetOperation() != "operator bad" || !strings.Contains(e.GetMessage(), "panic: ") {
				t.Errorf("%v", outcome)
			}
			if used := h.store.Usage(); used.Objects != 0 || used.ObjectBytes != 0 {
				t.Errorf("left are %+v", used)
			}
			if outcome := h.outcome(h.grant(2)); outcome.GetState() != succeeded {
				t.Errorf("%v", outcome)
			}
		})
	}
}

// What a task was given goes with it, although lists and queues that it was in still have its place.
func TestEndedTasksAreNotKept(t *testing.T) {
	g := newGate()
	var h *head
	h = start(t, map[string]operator.Func{"gate": g.run, "sum": sum}, func(c *tasks.Config) {
		c.Total.CPU = 1
		c.Fetch = func(_ context.Context, id engine.ObjectID) error {
			put(h.t, h.store, id, encode(h.t, numbers(1, 1)))
			return nil
		}
	})
	h.template(&enginev1.TaskTemplate{Number: 1, Operator: "gate"})
	h.template(&enginev1.TaskTemplate{Number: 2, Operator: "sum"})
	// One that waited for its argument, and has ended.
	ended := func() weak.Pointer[engine.TaskUID] {
		grant := h.newGrant(2, reference(engine.NewObjectID()))
		id := engine.TaskUID(grant.GetTask().GetTaskId())
		h.tasks.Take(&enginev1.SyncResponse{TaskGrants: []*enginev1.TaskGrant{grant}})
		if outcome := h.outcome(id); outcome.GetState() != succeeded {
			t.Errorf("%v", outcome)
		}
		h.release(id)
		h.report(false)
		return weak.Make((*engine.TaskUID)(grant.GetTask().GetTaskId()))
	}()
	// One that waits for the only core, and is forgotten.
	running := h.grant(1)
	g.wait(t)
	forgotten := func() weak.Pointer[enginev1.TaskArgument] {
		argument := value(encode(t, numbers(1, 1)))
		h.revoke(h.grant(2, argument), true)
		return weak.Make(argument)
	}()
	for until := time.Now().Add(2 * time.Minute); ended.Value() != nil || forgotten.Value() != nil; runtime.GC() {
		if time.Now().After(until) {
			t.Fatalf("kept are the ended task: %t, the argument of the forgotten one: %t", ended.Value() != nil, forgotten.Value() != nil)
		}
	}
	close(g.through)
	h.outcome(running)
}

func TestCheckpoint(t *testing.T) {
	h := start(t, map[string]operator.Func{"sum": sum}, nil)
	folder := t.TempDir()
	h.template(&enginev1.TaskTemplate{Number: 1, Operator: "sum", Checkpoint: folder})
	id := h.grant(1, value(encode(t, numbers(5, 2))))
	uri := h.outcome(id).GetOutputs()[0].GetCheckpoint()
	if name := filepath.Base(uri); name != id.Output(0).String()+".arrows" {
		t.Errorf("the checkpoint is %q", uri)
	}
	first := h.read(id.Output(0))
	// The object is lost, and another attempt computes something else: what was made durable counts.
	h.store.Delete(id.Output(0))
	h.release(id)
	h.epoch++
	h.tasks.Take(&enginev1.SyncResponse{TaskGrants: []*enginev1.TaskGrant{{
		Task:  &enginev1.TaskSubmission{TaskId: id[:], Template: 1, Arguments: []*enginev1.TaskArgument{value(encode(t, numbers(7, 3)))}},
		Epoch: h.epoch, Attempt: 2, SessionId: "session",
	}}})
	output := h.outcome(id).GetOutputs()[0]
	if got := h.read(id.Output(0)); got[0] != first[0] || output.GetCheckpoint() != uri {
		t.Errorf("%v, %v, expected %v", got, output, first)
	}
	if rows, _, err := table.Check(output.GetValue(), table.Options{}); err != nil || rows != 1 {
		t.Errorf("the value has %d rows, %v", rows, err)
	}
	// A folder that cannot be written fails the task, and leaves no object.
	file := filepath.Join(folder, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	h.template(&enginev1.TaskTemplate{Number: 2, Operator: "sum", Checkpoint: filepath.Join(file, "below")})
	bad := h.grant(2, value(encode(t, numbers(5, 2))))
	outcome := h.outcome(bad)
	if _, ok := h.store.Info(bad.Output(0)); ok || outcome.GetState() != failed {
		t.Errorf("%v", outcome)
	}
}

// elsewhere is another node's store.
type elsewhere struct {
	mu sync.Mutex
	// has are the objects, which appear once they were looked for as often as late says.
	has  map[engine.ObjectID][]byte
	late map[engine.ObjectID]int
	// now and most count the fetches that go on.
	now, most int
	// several, if not nil, is closed when two go on.
	several chan struct{}
	hold    chan struct{}
}

func (e *elsewhere) fetch(ctx context.Context, h *head, id engine.ObjectID) error {
	e.mu.Lock()
	e.now++
	if e.most = max(e.most, e.now); e.most == 2 && e.several != nil {
		close(e.several)
		e.several = nil
	}
	data, ok := e.has[id]
	if e.late[id]--; e.late[id] >= 0 {
		ok = false
	}
	e.mu.Unlock()
	defer func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.now--
	}()
	if e.hold != nil {
		select {
		case <-e.hold:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	if !ok {
		return engine.Errorf(engine.KindNotFound, "find object", id.String(), "no such object")
	}
	put(h.t, h.store, id, data)
	return nil
}

func TestArgumentsFromElsewhere(t *testing.T) {
	e := &elsewhere{has: map[engine.ObjectID][]byte{}, late: map[engine.ObjectID]int{}, hold: make(chan struct{}), several: make(chan struct{})}
	several := e.several
	var h *head
	h = start(t, map[string]operator.Func{"sum": sum}, func(c *tasks.Config) {
		c.Fetch = func(ctx context.Context, id engine.ObjectID) error { return e.fetch(ctx, h, id) }
	})
	h.template(&enginev1.TaskTemplate{Number: 1, Operator: "sum"})
	want := map[engine.TaskUID]int64{}
	var ids []engine.TaskUID
	for i := range 40 {
		id := engine.NewObjectID()
		e.mu.Lock()
		e.has[id] = encode(t, numbers(i, 1))
		if i%5 == 0 {
			e.late[id] = 2 // The directory hears of it later than of the task that has made it.
		}
		e.mu.Unlock()
		task := h.grant(1, reference(id))
		want[task] = int64(i)
		ids = append(ids, task)
	}
	// Tasks that need nothing from elsewhere do not wait for those that do.
	h.outcome(h.grant(1, value(encode(t, numbers(1, 1)))))
	revoked := ids[39]
	h.revoke(revoked, false)
	if outcome := h.outcome(revoked); outcome.GetState() != cancelled {
		t.Errorf("%v", outcome)
	}
	<-several
	close(e.hold)
	for _, id := range ids[:39] {
		if outcome := h.outcome(id); outcome.GetState() != succeeded {
			t.Fatalf("%v", outcome)
		}
		if got := h.read(id.Output(0)); got[0] != want[id] {
			t.Errorf("%d, expected %d", got[0], want[id])
		}
	}
	if e.most > 8 {
		t.Errorf("%d fetches at a time", e.most)
	}
}

// A fetch that is under way when its task is revoked, or the worker stops, ends.
func TestFetchIsCancelled(t *testing.T) {
	entered := make(chan struct{}, 1)
	ended := make(chan error, 1)
	h := start(t, map[string]operator.Func{"sum": sum}, func(c *tasks.Config) {
		c.Fetch = func(ctx context.Context, _ engine.ObjectID) error {
			entered <- struct{}{}
			<-ctx.Done()
			ended <- context.Cause(ctx)
			return context.Cause(ctx)
		}
	})
	h.template(&enginev1.TaskTemplate{Number: 1, Operator: "sum"})
	id := h.grant(1, reference(engine.NewObjectID()))
	<-entered
	h.revoke(id, false)
	if outcome := h.outcome(id); outcome.GetState() != cancelled {
		t.Errorf("%v", outcome)
	}
	select {
	case err := <-ended:
		if err == nil || errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
	case <-time.After(2 * time.Minute):
		t.Fatal("the fetch goes on")
	}
	h.grant(1, reference(engine.NewObjectID()))
	<-entered // Stop ends it.
}
