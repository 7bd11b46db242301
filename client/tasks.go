package client

import (
	"context"
	"sync"
	"time"

	"google.golang.org/grpc"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/internal/telemetry"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// Run submits a task and returns at once with a handle of it; what is wrong with the task is the error of the handle's Wait. Only if as many
// tasks as the head allows have not ended, Run blocks until one of them has or ctx ends, which is the task's end too: that is a million unless
// the head is told otherwise, and 100,000 before it has said so. A task that was submitted goes on whatever becomes of ctx: Cancel ends it.
//
// Tasks belong to the client's session, as do their outputs: Close cancels what has not ended. A head that restarts goes on with
// them. A task may run more than once if a node or the connection to it is lost, but not after its end was told here. Under the context of a
// running operator the tasks are children of the operator's own.
//
// The values among the task's arguments and its parameters must not be changed before it has ended.
func (c *Client) Run(ctx context.Context, task engine.Task) *TaskHandle {
	return c.tasks.run(ctx, &task)
}

// RunMany submits tasks as Run does, in their order, and returns their handles.
func (c *Client) RunMany(ctx context.Context, tasks ...engine.Task) []*TaskHandle {
	handles := make([]*TaskHandle, len(tasks))
	for i := range tasks {
		handles[i] = c.tasks.run(ctx, &tasks[i])
	}
	return handles
}

// WaitTasks blocks until count of the tasks have ended, all of them if count is 0, and returns those that have and those that have not, in
// the order of handles. How they have ended, Wait of each says. When ctx ends it returns what there is then, beside ctx's error. The handles
// must be of this client.
func (c *Client) WaitTasks(ctx context.Context, handles []*TaskHandle, count int) (ended, pending []*TaskHandle, err error) {
	for _, h := range handles {
		if h.tasks != c.tasks {
			return nil, handles, engine.Errorf(engine.KindInvalidArgument, "wait for tasks", h.id.String(), "it is a task of another client")
		}
	}
	if count < 0 || count > len(handles) {
		return nil, handles, engine.Errorf(engine.KindInvalidArgument, "wait for tasks", "", "%d of %d tasks are wanted", count, len(handles))
	}
	if count == 0 {
		count = len(handles)
	}
	if w := c.tasks.await(handles, count); w != nil {
		select {
		case <-w.done:
		case <-ctx.Done():
			err = engine.WrapError("wait for tasks", "", context.Cause(ctx))
		}
		c.tasks.forget(handles, w)
	}
	for _, h := range handles {
		if h.Ended() {
			ended = append(ended, h)
		} else {
			pending = append(pending, h)
		}
	}
	return ended, pending, err
}

// tasks is the client's way to run tasks: what has not ended, and the stream over which it is told. A goroutine keeps the stream open from
// the first task on until the client is closed or no head takes it; another one sends, see sender.
type tasks struct {
	// Constant.
	service enginev1.TaskServiceClient
	objects *objects
	sender  *sender

	mu sync.Mutex
	// unfinished are the tasks that have not ended.
	unfinished map[engine.TaskUID]*TaskHandle
	// window is how many there may be, and room is closed when there are fewer again; nil while nobody waits for that.
	window int
	room   chan struct{}
	// kept says that a goroutine keeps the stream, and session is the session under which tasks were submitted; empty if none was.
	kept    bool
	session string
	// stream counts the streams; connected says that the last one is open.
	stream    uint64
	connected bool

	// What is to be sent: tasks in order, cancellations, and ids of tasks whose outcomes were taken in.
	queue         []*TaskHandle
	cancellations []*enginev1.TaskCancellation
	acknowledged  []byte
	templates     templates
	refused       map[string]*refused
	recent        recent
	node          engine.NodeID
}

// firstWindow is how many tasks may be unfinished before the head has said how many.
const firstWindow = 100_000

func newTasks(conn grpc.ClientConnInterface, objects *objects) *tasks {
	t := &tasks{
		service: enginev1.NewTaskServiceClient(conn), objects: objects, unfinished: map[engine.TaskUID]*TaskHandle{}, window: firstWindow,
		refused: map[string]*refused{},
	}
	t.sender = newSender(t)
	return t
}

func (t *tasks) run(ctx context.Context, task *engine.Task) *TaskHandle {
	h := &TaskHandle{id: engine.NewTaskUID(), tasks: t}
	h.parent, _ = engine.TaskFrom(ctx)
	key, err := keyOf(task)
	key.trace = telemetry.Parent(ctx)
	if err == nil {
		err = checkArgs(task.Args)
	}
	t.mu.Lock()
	if err == nil && len(t.unfinished) >= t.window {
		err = t.awaitRoom(ctx)
	}
	if err == nil {
		err = t.recent.blamed(task.Args)
	}
	if err == nil {
		h.template, err = t.templates.get(key, task, t.stream)
	}
	if err == nil && !t.kept {
		t.kept = t.objects.group.Go("tasks", t.keep)
		if !t.kept {
			h.template.users--
			err = errClosed
		}
	}
	if err != nil {
		t.endUnsent(h, err)
		t.mu.Unlock()
		return h
	}
	if len(task.Args) > 0 {
		h.args = append(h.args, task.Args...)
	}
	t.unfinished[h.id] = h
	alone := len(t.unfinished) == 1
	t.enqueue(h)
	t.mu.Unlock()
	t.sender.wake(alone)
	return h
}

// awaitRoom returns when another task may be submitted. t.mu is held, but not meanwhile.
func (t *tasks) awaitRoom(ctx context.Context) error {
	for len(t.unfinished) >= t.window {
		if t.room == nil {
			t.room = make(chan struct{})
		}
		room := t.room
		t.mu.Unlock()
		var err error
		select {
		case <-room:
		case <-ctx.Done():
			err = engine.Errorf(engine.KindOf(context.Cause(ctx)), "run task", "", "the client waits for room among unfinished tasks: %w", context.Cause(ctx))
		case <-t.objects.group.Done():
			err = errClosed
		}
		t.mu.Lock()
		if err != nil {
			return err
		}
	}
	return nil
}

// enqueue puts a task behind those that are to be sent, or behind those of its queue that the head has refused. t.mu is held.
func (t *tasks) enqueue(h *TaskHandle) {
	h.queued = true
	if len(t.refused) > 0 {
		if r := t.refused[h.template.key.queue]; r != nil {
			h.refused = true
			r.tasks = append(r.tasks, h)
			return
		}
	}
	t.queue = append(t.queue, h)
}

// end ends a task that was among the unfinished. t.mu is held.
func (t *tasks) end(h *TaskHandle, result *TaskResult, err error) {
	delete(t.unfinished, h.id)
	h.template.users--
	h.end(result, err)
	t.recent.add(h)
	if t.room != nil && len(t.unfinished) < t.window {
		close(t.room)
		t.room = nil
	}
}

// endUnsent ends a task that the head will never hear of. t.mu is held.
func (t *tasks) endUnsent(h *TaskHandle, err error) {
	h.end(resultWithout(err), err)
	t.recent.add(h)
}

// resultWithout is the result of a task that has ended here, by an error, and not at the head.
func resultWithout(err error) *TaskResult {
	if engine.KindOf(err) == engine.KindCanceled {
		return &TaskResult{State: engine.TaskCancelled}
	}
	return &TaskResult{State: engine.TaskFailed}
}

// endAll ends all unfinished tasks, or those that were submitted. t.mu is held.
func (t *tasks) endAll(err error, submittedOnly bool) {
	for _, h := range t.unfinished {
		if !submittedOnly || h.submitted != 0 {
			t.end(h, resultWithout(err), engine.WrapError("run task", h.id.String(), err))
		}
	}
}

func (t *tasks) cancel(h *TaskHandle, options CancelOptions) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if h.ended.Load() {
		return
	}
	h.cancelled = &options
	if h.refused {
		// The head may not take it soon. It hears that it need not wait for it, for the sake of tasks that wait for its outputs.
		t.cancellations = append(t.cancellations, cancellation(h))
		t.sender.wake(false)
		h.submitted = 0
		t.end(h, &TaskResult{State: engine.TaskCancelled}, engine.Errorf(engine.KindCanceled, "run task", h.id.String(), "it was cancelled before the head took it"))
		return
	}
	if !h.queued {
		t.cancellations = append(t.cancellations, cancellation(h))
		t.sender.wake(false)
	}
}

func cancellation(h *TaskHandle) *enginev1.TaskCancellation {
	return &enginev1.TaskCancellation{TaskId: h.id[:], Children: h.cancelled.Children, Force: h.cancelled.Force}
}

// await makes one wait for count of the tasks; nil if as many have ended.
func (t *tasks) await(handles []*TaskHandle, count int) *waiter {
	w := &waiter{need: count, done: make(chan struct{})}
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, h := range handles {
		if h.ended.Load() {
			w.need--
		}
	}
	if w.need <= 0 {
		return nil
	}
	for _, h := range handles {
		if !h.ended.Load() {
			h.addWaiter(w)
		}
	}
	return w
}

// forget undoes await.
func (t *tasks) forget(handles []*TaskHandle, w *waiter) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, h := range handles {
		if !h.ended.Load() {
			h.removeWaiter(w)
		}
	}
}

// refused are tasks of one queue that the head has refused for now, and those that came after them: they wait so that the order stays.
type refused struct {
	tasks []*TaskHandle
	// timer offers some of them again.
	timer *time.Timer
	// pause is as the head last said it.
	pause time.Duration
}
