package tasks

import (
	"time"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/internal/rpc"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

const (
	opRun = "run task"
	// maxTaskBytes bounds the arguments of one task that travel with it.
	maxTaskBytes = 16 << 20
	// maxTemplates bounds the templates of a stream that are not retired.
	maxTemplates = 100_000
	// taskOverhead is about what a task costs beside its arguments, argumentOverhead what one argument costs.
	taskOverhead     = 400
	argumentOverhead = 100
	// refusalPause is when a client may send again what was refused.
	refusalPause = 250 * time.Millisecond
)

// Submit takes in a message of a client, which belongs to the core from then on. The error says that the stream was replaced or its
// session has ended (engine.KindFenced), or that the client does not read what it is answered, has sent too many templates, or that there is
// no memory for another one (engine.KindExhausted): the stream must end.
func (c *Core) Submit(now time.Time, id string, stream uint64, request *enginev1.RunTasksRequest) error {
	s := c.sessions[id]
	if s == nil || s.stream != stream {
		return engine.Errorf(engine.KindFenced, opSubmit, id, "this stream was replaced or its session has ended")
	}
	if len(s.strays)+len(s.refusals) > maxUnsent {
		return engine.Errorf(engine.KindExhausted, opSubmit, id, "the client does not read what it is answered")
	}
	for _, wire := range request.GetTemplates() {
		switch {
		case len(s.bindings) >= maxTemplates:
			return engine.Errorf(engine.KindExhausted, opSubmit, id, "the stream has carried %d templates that are not retired", len(s.bindings))
		case c.bytes > 2*c.config.MaxBytes:
			return engine.Errorf(engine.KindExhausted, opSubmit, id, "the arguments of tasks that have not ended and all templates take %s, too much for another template",
				engine.FormatSize(c.bytes))
		}
		c.bind(now, s, wire)
	}
	for _, wire := range request.GetTasks() {
		c.submit(now, s, wire)
	}
	if len(request.GetCancellations()) > 0 {
		c.cancelAll(now, []*session{s}, request.GetCancellations())
	}
	for ids := request.GetAcknowledged(); len(ids) >= len(engine.TaskUID{}); ids = ids[len(engine.TaskUID{}):] {
		if t := c.tasks[engine.TaskUID(ids)]; t != nil && t.unread && t.session == s {
			c.acknowledge(t)
		}
	}
	for _, number := range request.GetRetiredTemplates() {
		c.unbind(s, number)
	}
	c.refill(now)
	return nil
}

// submit takes in one task.
func (c *Core) submit(now time.Time, s *session, wire *enginev1.TaskSubmission) {
	id, err := taskID(wire.GetTaskId())
	if err != nil {
		c.stray(s, &enginev1.TaskOutcome{TaskId: wire.GetTaskId(), State: enginev1.TaskState_TASK_STATE_FAILED, Error: rpc.ToProto(err)})
		return
	}
	b := s.binding(wire.GetTemplate())
	if known := c.tasks[id]; known != nil {
		c.submitAgain(s, known, b, wire)
		return
	}
	switch {
	case b == nil:
		c.stray(s, failed(id, wire.GetTaskId(), refuse("the stream has not carried template %d", wire.GetTemplate())))
		return
	case int64(s.tasks.count) >= c.config.Window:
		c.refuse(s, id, wire, "the session has %d tasks that have not ended or are not acknowledged, as many as it may", s.tasks.count)
		return
	case b.template.queue.pending >= b.template.queue.limit(&c.config):
		c.refuse(s, id, wire, "queue %s has %d tasks that wait, as many as it may", b.template.queue.name, b.template.queue.pending)
		return
	}
	bytes, err := sizeOf(wire)
	if err == nil && c.bytes+bytes > c.config.MaxBytes {
		c.refuse(s, id, wire, "the arguments of tasks that have not ended and all templates take %s, as much as they may", engine.FormatSize(c.bytes))
		return
	}
	if s.refused != nil {
		delete(s.refused, id)
	}
	c.accept(now, s, b, id, wire, bytes, err)
}

// accept makes a task of a submission. With an error it ends at once.
func (c *Core) accept(now time.Time, s *session, b *binding, id engine.TaskUID, wire *enginev1.TaskSubmission, bytes int64, err error) {
	t := c.newTask()
	c.number++
	t.id, t.session, t.template, t.submission, t.number, t.submitted = id, s, b.template, wire, c.number, now.UnixNano()
	t.bytes = uint32(bytes) //nolint:gosec // Bounded by maxTaskBytes.
	t.template.users++
	c.bytes += bytes
	c.tasks[id] = t
	t.home = &s.tasks
	t.home.pushBack(t)
	c.countState(t, 1)
	wire.Template = t.template.wire.GetNumber()
	if parent := wire.GetParentTaskId(); err == nil && len(parent) > 0 {
		if len(parent) != len(engine.TaskUID{}) {
			err = refuse("parent_task_id: expected %d bytes, found %d", len(engine.TaskUID{}), len(parent))
		} else {
			t.rare().parent = engine.TaskUID(parent)
			c.addChild(t)
		}
	}
	if len(c.producers) > 0 {
		c.expectFrom(t)
	}
	switch {
	case b.template.err != nil:
		c.finish(now, t, &enginev1.TaskOutcome{TaskId: wire.GetTaskId(), State: enginev1.TaskState_TASK_STATE_FAILED, Error: b.template.err}, nil)
		return
	case err != nil:
		c.finish(now, t, failed(id, wire.GetTaskId(), err), nil)
		return
	}
	t.class = b.class
	t.class.refs++
	if len(c.orphans) > 0 && c.adopt(now, t) {
		return
	}
	if wire.GetAgain() && c.config.Term > 1 && now.Before(c.settled) {
		c.delay(t, c.settled)
		return
	}
	c.prepare(now, t, false)
}

// submitAgain takes in a task that is known already.
func (c *Core) submitAgain(s *session, t *task, b *binding, wire *enginev1.TaskSubmission) {
	switch {
	case t.session.id != s.id:
		c.stray(s, failed(t.id, wire.GetTaskId(), engine.Errorf(engine.KindConflict, opSubmit, t.id.String(), "a task of another session has this id")))
	case b == nil || b.template != t.template:
		c.stray(s, failed(t.id, wire.GetTaskId(), engine.Errorf(engine.KindConflict, opSubmit, t.id.String(), "another task was submitted under this id")))
	case t.state == stateEnded && !t.unread:
		c.stray(s, t.outcome) // It never runs again once it was acknowledged.
	}
}

func (q *queue) limit(config *Config) int64 {
	if q.max > 0 {
		return q.max
	}
	return config.MaxPending
}

// refuse says that a submission is not accepted now.
func (c *Core) refuse(s *session, id engine.TaskUID, wire *enginev1.TaskSubmission, format string, args ...any) {
	s.refusals = append(s.refusals, &enginev1.TaskRefusal{
		TaskId: wire.GetTaskId(), Error: rpc.ToProto(engine.Errorf(engine.KindExhausted, opSubmit, id.String(), format, args...)),
		RetryAfterMillis: refusalPause.Milliseconds(),
	})
	if s.refused == nil {
		s.refused = map[engine.TaskUID]struct{}{}
	}
	if len(s.refused) < maxRefused {
		s.refused[id] = struct{}{}
	}
	c.wakeSession(s)
}

// taskID reads the id of a task.
func taskID(wire []byte) (engine.TaskUID, error) {
	if len(wire) != len(engine.TaskUID{}) {
		return engine.TaskUID{}, refuse("a task id has %d bytes, found %d", len(engine.TaskUID{}), len(wire))
	}
	id := engine.TaskUID(wire)
	if id[14] != 0 || id[15] != 0 || id.IsZero() {
		return engine.TaskUID{}, refuse("%s is no task id: it must end in 0000 and not be zero", id)
	}
	return id, nil
}

// sizeOf checks the arguments of a submission and returns about how much memory it costs.
func sizeOf(wire *enginev1.TaskSubmission) (bytes int64, err error) {
	if len(wire.GetArguments()) == 0 {
		return taskOverhead, nil
	}
	bytes = taskOverhead + argumentOverhead*int64(len(wire.GetArguments()))
	if len(wire.GetArguments()) > engine.MaxTaskArguments {
		return taskOverhead, refuse("%d arguments, at most %d are allowed", len(wire.GetArguments()), engine.MaxTaskArguments)
	}
	for i, a := range wire.GetArguments() {
		id, value := a.GetObjectId(), a.GetValue()
		switch {
		case (id == nil) == (value == nil):
			return taskOverhead, refuse("argument %d must be either an object or a value", i+1)
		case id != nil && len(id) != len(engine.ObjectID{}):
			return taskOverhead, refuse("argument %d: an object id has %d bytes, found %d", i+1, len(engine.ObjectID{}), len(id))
		case len(value) > engine.MaxInlineObjectBytes:
			return taskOverhead, refuse("argument %d is a value of %s, at most %s are allowed", i+1, engine.FormatSize(int64(len(value))),
				engine.FormatSize(engine.MaxInlineObjectBytes)).WithHint("put it into the object store and pass the reference")
		}
		bytes += int64(len(value))
	}
	if bytes > maxTaskBytes {
		return taskOverhead, refuse("its values have %s, at most %s are allowed", engine.FormatSize(bytes), engine.FormatSize(maxTaskBytes)).
			WithHint("put them into the object store and pass the references")
	}
	return bytes, nil
}

// failed is the outcome of a task that has failed here.
func failed(id engine.TaskUID, wireID []byte, err error) *enginev1.TaskOutcome {
	wire := rpc.ToProto(err)
	if wire.GetId() == "" {
		wire.Id = id.String()
	}
	return &enginev1.TaskOutcome{TaskId: wireID, State: enginev1.TaskState_TASK_STATE_FAILED, Error: wire}
}

// cancelled is the outcome of a task that was cancelled here.
func cancelled(t *task, cause error) *enginev1.TaskOutcome {
	outcome := failed(t.id, t.id[:], cause)
	outcome.State, outcome.Attempts = enginev1.TaskState_TASK_STATE_CANCELLED, int32(t.attempts)
	return outcome
}
