package client

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/internal/rpc"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// TaskHandle is a task that Run has submitted. Its outputs may be named, and be arguments of further tasks, before they exist. They
// live as long as the client's session unless they are pinned, whether the handle is kept or not. It is safe for concurrent use.
type TaskHandle struct {
	// Constant.
	id     engine.TaskUID
	parent engine.TaskUID
	tasks  *tasks
	// ended is set last: what follows is constant from then on.
	ended  atomic.Bool
	result TaskResult
	err    error

	// The lock of tasks guards the rest. template and args are there until the task has ended.
	template *template
	args     []engine.Arg
	// queued says that the task is still to be sent, and refused that this is after a pause. submitted is the stream that it was sent on last;
	// 0 if on none.
	queued, refused bool
	submitted       uint64
	// cancelled is how the task was cancelled, nil if it was not.
	cancelled *CancelOptions
	// waiting are those to be told; nil if nobody waits.
	waiting *waiting
}

// waiting are those who wait for a task.
type waiting struct {
	done    chan struct{} // nil if nobody asked for it
	waiters []*waiter
}

// waiter waits for some of many tasks.
type waiter struct {
	need int
	done chan struct{}
}

// TaskResult is how a task ended. It and all that it holds are not to be changed.
type TaskResult struct {
	// State is TaskSucceeded, TaskFailed, or TaskCancelled.
	State engine.TaskState
	// Outputs are what the task has made, in order. There may be fewer than asked for.
	Outputs []TaskOutput
	// Node is where the last attempt ran. Empty if there was none.
	Node engine.NodeID
	// Attempts counts the attempts.
	Attempts int
	// RunTime is how long the last attempt took, and Started when it began by its node's clock: the zero time if there was none.
	RunTime time.Duration
	Started time.Time
}

// TaskOutput is one object that a task has made.
type TaskOutput struct {
	// SizeBytes is the length of its Arrow IPC stream. Zero means that the task made no such object.
	SizeBytes int64
	// Rows is its length as a table.
	Rows int64
	// Value is the Arrow IPC stream itself if it is small: see engine.TaskOptions.InlineBytes. Get needs no further call then.
	Value []byte
	// Checkpoint is the URI of its durable copy, if the task was to make one.
	Checkpoint string
}

// ID is the task's id.
func (h *TaskHandle) ID() engine.TaskUID { return h.id }

// Ref refers to the task's only, or first, output.
func (h *TaskHandle) Ref() engine.ObjectRef { return h.Output(0) }

// Output refers to the task's output n, counted from 0.
func (h *TaskHandle) Output(n int) engine.ObjectRef {
	return engine.ObjectRef{ID: h.id.Output(n), Cluster: h.tasks.objects.clusterID()}
}

// Wait blocks until the task has ended, and returns its result. The error is the task's own if it failed or was cancelled, beside the result;
// without a result it is about the waiting. It waits as long as ctx lasts, also across a restart of the head.
func (h *TaskHandle) Wait(ctx context.Context) (*TaskResult, error) {
	if !h.ended.Load() {
		select {
		case <-h.Done():
		case <-ctx.Done():
			return nil, engine.WrapError("wait for task", h.id.String(), context.Cause(ctx))
		}
	}
	return &h.result, h.err
}

// Ended reports whether the task has ended, so that Wait returns at once.
func (h *TaskHandle) Ended() bool { return h.ended.Load() }

// closed is the channel of what has ended.
var closed = func() <-chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}()

// Done is closed when the task has ended.
func (h *TaskHandle) Done() <-chan struct{} {
	if h.ended.Load() {
		return closed
	}
	h.tasks.mu.Lock()
	defer h.tasks.mu.Unlock()
	if h.ended.Load() {
		return closed
	}
	if h.waiting == nil {
		h.waiting = &waiting{}
	}
	if h.waiting.done == nil {
		h.waiting.done = make(chan struct{})
	}
	return h.waiting.done
}

// CancelOptions say how a task is cancelled.
type CancelOptions struct {
	// Children cancels also the tasks that the task has submitted, and those that they have.
	Children bool
	// Force does not wait for the operator to return: the task counts as cancelled at once, and what its operator still does counts for
	// nothing.
	Force bool
}

// Cancel asks for the end of the task, and returns at once. A task that has ended meanwhile stays what it is; one that is cancelled ends
// with an error of kind engine.KindCanceled, and so do those that wait for its outputs.
func (h *TaskHandle) Cancel(options CancelOptions) { h.tasks.cancel(h, options) }

// end gives the task its result and tells all who wait. tasks.mu is held.
func (h *TaskHandle) end(result *TaskResult, err error) {
	h.result, h.err = *result, err
	h.template, h.args, h.cancelled = nil, nil, nil
	h.ended.Store(true)
	if h.waiting == nil {
		return
	}
	if h.waiting.done != nil {
		close(h.waiting.done)
	}
	for _, w := range h.waiting.waiters {
		if w.need--; w.need == 0 {
			close(w.done)
		}
	}
	h.waiting = nil
}

// addWaiter makes one wait for the task. tasks.mu is held.
func (h *TaskHandle) addWaiter(w *waiter) {
	if h.waiting == nil {
		h.waiting = &waiting{}
	}
	h.waiting.waiters = append(h.waiting.waiters, w)
}

// removeWaiter undoes addWaiter. tasks.mu is held.
func (h *TaskHandle) removeWaiter(w *waiter) {
	if h.waiting == nil {
		return
	}
	for i, one := range h.waiting.waiters {
		if one == w {
			last := len(h.waiting.waiters) - 1
			h.waiting.waiters[i] = h.waiting.waiters[last]
			h.waiting.waiters = h.waiting.waiters[:last]
			return
		}
	}
}

// resultOf reads an outcome. The node's name is shared with what was read before.
func resultOf(outcome *enginev1.TaskOutcome, node engine.NodeID) (TaskResult, error) {
	result := TaskResult{
		State: engine.TaskSucceeded, Node: node, Attempts: int(outcome.GetAttempts()), RunTime: time.Duration(outcome.GetRunNanos()),
	}
	if start := outcome.GetStartUnixNanos(); start != 0 {
		result.Started = time.Unix(0, start)
	}
	if outcome.GetState() != enginev1.TaskState_TASK_STATE_SUCCEEDED {
		result.State = engine.TaskFailed
		if outcome.GetState() == enginev1.TaskState_TASK_STATE_CANCELLED {
			result.State = engine.TaskCancelled
		}
		return result, errorOf(outcome)
	}
	if outputs := outcome.GetOutputs(); len(outputs) > 0 {
		result.Outputs = make([]TaskOutput, len(outputs))
		for i, output := range outputs {
			result.Outputs[i] = TaskOutput{SizeBytes: output.GetSizeBytes(), Rows: output.GetRows(), Value: output.GetValue(), Checkpoint: output.GetCheckpoint()}
		}
	}
	return result, nil
}

// errorOf is the error of a task that did not end well.
func errorOf(outcome *enginev1.TaskOutcome) error {
	if err := rpc.FromProto(outcome.GetError()); err != nil {
		return err
	}
	kind := engine.KindInternal
	if outcome.GetState() == enginev1.TaskState_TASK_STATE_CANCELLED {
		kind = engine.KindCanceled
	}
	return engine.Errorf(kind, "run task", engine.ObjectID(outcome.GetTaskId()).String(), "it ended %s", rpc.TaskStateFromProto(outcome.GetState()))
}
