package client

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"time"

	"google.golang.org/grpc"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/internal/rpc"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// keep keeps a stream open until ctx ends or no head takes it. What has not ended by then ends with the reason.
func (t *tasks) keep(ctx context.Context) error {
	var backoff rpc.Backoff
	opened := false
	for {
		// A head that takes the stream and ends it at once is not there yet for this client: an outcome says that it is.
		err := t.follow(ctx, func() { opened = true }, backoff.Reset)
		switch {
		case ctx.Err() != nil:
			err = errClosed
		case passing(err) && (opened || engine.KindOf(err) == engine.KindFenced || rpc.IsNotLeader(err) != nil):
			backoff.Wait(ctx, nil)
			continue
		}
		t.mu.Lock()
		t.kept = false
		t.endAll(err, false)
		t.mu.Unlock()
		return nil
	}
}

// passing reports whether a stream that ended so may be opened again. A session that has ended is replaced by another one.
func passing(err error) bool {
	switch engine.KindOf(err) {
	case engine.KindUnavailable, engine.KindFenced, engine.KindDeadline, engine.KindExhausted:
		return true
	default:
		return errors.Is(err, io.EOF)
	}
}

// follow opens one stream, submits all that has not ended, and takes in outcomes until the stream breaks. It calls opened with the first
// answer, and useful with each that has outcomes.
func (t *tasks) follow(ctx context.Context, opened, useful func()) error {
	if err := t.objects.session.ensure(ctx); err != nil {
		return err
	}
	session := t.objects.session.id()
	t.newSession(session)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := t.service.RunTasks(ctx)
	if err != nil {
		return err
	}
	// The reason why a stream broke is what receiving says, here and below.
	_ = stream.Send(&enginev1.RunTasksRequest{SessionId: session})
	response, err := stream.Recv()
	if err != nil {
		return err
	}
	opened()
	t.objects.heard(response.GetClusterId())
	t.connect(session, int(response.GetWindow()))
	stop := t.sender.start(ctx, stream)
	for err == nil {
		if len(response.GetOutcomes()) > 0 {
			useful()
		}
		t.take(response)
		response, err = stream.Recv()
	}
	t.mu.Lock()
	t.connected = false
	t.mu.Unlock()
	cancel() // a send that is under way returns
	stop()
	return err
}

// newSession ends what was submitted under a session that is no more.
func (t *tasks) newSession(session string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.session != "" && t.session != session {
		t.endAll(engine.Errorf(engine.KindFenced, "keep session", t.session, "the session has ended: the head did not hear from this client in time"), true)
		t.acknowledged = nil
	}
	t.session = session
}

// connect prepares for a stream: everything that has not ended is submitted on it, under the ids that it had.
func (t *tasks) connect(session string, window int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.stream++
	t.connected = true
	t.templates.restart()
	t.cancellations = nil
	if window > 0 {
		t.window = window
	}
	for _, r := range t.refused {
		r.timer.Stop()
	}
	clear(t.refused)
	clear(t.queue)
	t.queue = t.queue[:0]
	for _, h := range t.unfinished {
		h.queued, h.refused = true, false
		t.queue = append(t.queue, h)
	}
	slices.SortFunc(t.queue, byID)
}

// byID is the order of submission: ids count up.
func byID(a, b *TaskHandle) int { return bytes.Compare(a.id[:], b.id[:]) }

// takeAtOnce is how many outcomes are taken in under the lock at once: those who submit wait no longer than that.
const takeAtOnce = 256

// take takes in what the head has said.
func (t *tasks) take(response *enginev1.RunTasksResponse) {
	outcomes := response.GetOutcomes()
	for len(outcomes) > 0 {
		n := min(takeAtOnce, len(outcomes))
		t.takeOutcomes(outcomes[:n])
		outcomes = outcomes[n:]
	}
	if len(response.GetRefusals()) > 0 {
		t.takeRefusals(response.GetRefusals())
	}
}

func (t *tasks) takeOutcomes(outcomes []*enginev1.TaskOutcome) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, outcome := range outcomes {
		wire := outcome.GetTaskId()
		if len(wire) != len(engine.TaskUID{}) {
			continue // nothing of ours
		}
		// One that has ended comes again if its acknowledgement was lost.
		t.acknowledged = append(t.acknowledged, wire...)
		h := t.unfinished[engine.TaskUID(wire)]
		if h == nil {
			continue
		}
		if string(t.node) != outcome.GetNodeId() {
			t.node = engine.NodeID(outcome.GetNodeId())
		}
		result, err := resultOf(outcome, t.node)
		t.end(h, &result, err)
	}
	t.sender.acknowledge(len(t.acknowledged))
}

// offerAtOnce is how many tasks that were refused are offered again at a time.
const offerAtOnce = 10_000

// takeRefusals sets tasks back, and with them those of their queue that are still to be sent.
func (t *tasks) takeRefusals(refusals []*enginev1.TaskRefusal) {
	t.mu.Lock()
	defer t.mu.Unlock()
	again := map[string][]*TaskHandle{}
	for _, refusal := range refusals {
		wire := refusal.GetTaskId()
		if len(wire) != len(engine.TaskUID{}) {
			continue
		}
		h := t.unfinished[engine.TaskUID(wire)]
		if h == nil || h.queued {
			continue
		}
		if h.cancelled != nil {
			h.submitted = 0 // the head does not know it
			t.end(h, &TaskResult{State: engine.TaskCancelled}, engine.Errorf(engine.KindCanceled, "run task", h.id.String(), "it was cancelled before the head took it"))
			continue
		}
		h.queued, h.refused = true, true
		name := h.template.key.queue
		again[name] = append(again[name], h)
		r := t.refused[name]
		if r == nil {
			r = &refused{}
			t.refused[name] = r
		}
		r.pause = min(max(time.Duration(refusal.GetRetryAfterMillis())*time.Millisecond, time.Millisecond), time.Minute)
	}
	if len(again) == 0 {
		return
	}
	// What is still to be sent came after those that were refused, and before those that wait behind an earlier refusal.
	kept := t.queue[:0]
	for _, h := range t.queue {
		if h.ended.Load() {
			continue
		}
		if name := h.template.key.queue; again[name] != nil {
			h.refused = true
			again[name] = append(again[name], h)
		} else {
			kept = append(kept, h)
		}
	}
	clear(t.queue[len(kept):])
	t.queue = kept
	for name, tasks := range again {
		r := t.refused[name]
		inOrder := len(r.tasks) == 0 || bytes.Compare(tasks[len(tasks)-1].id[:], r.tasks[0].id[:]) < 0
		if r.tasks = append(tasks, r.tasks...); !inOrder {
			slices.SortFunc(r.tasks, byID) // refusals of several messages
		}
		if r.timer != nil {
			r.timer.Stop()
		}
		stream := t.stream
		r.timer = time.AfterFunc(r.pause, func() { t.offer(name, stream) })
	}
}

// offer sends some of the tasks that were refused again. The rest follows after another pause, if these are not refused.
func (t *tasks) offer(queue string, stream uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	r := t.refused[queue]
	if r == nil || stream != t.stream || !t.connected {
		return // all is submitted anew
	}
	n := min(len(r.tasks), offerAtOnce)
	for _, h := range r.tasks[:n] {
		if !h.ended.Load() {
			h.refused = false
			t.queue = append(t.queue, h)
		}
	}
	clear(r.tasks[:n])
	if r.tasks = r.tasks[n:]; len(r.tasks) == 0 {
		delete(t.refused, queue)
	} else {
		r.timer = time.AfterFunc(r.pause, func() { t.offer(queue, stream) })
	}
	t.sender.wake(false)
}

// next takes what is to be sent into one message, and returns nil if that is nothing. Nobody else may be sending.
func (t *tasks) next() *enginev1.RunTasksRequest {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.connected || len(t.queue) == 0 && len(t.cancellations) == 0 && len(t.acknowledged) == 0 {
		return nil
	}
	request := &enginev1.RunTasksRequest{Cancellations: t.cancellations, Acknowledged: t.acknowledged, RetiredTemplates: t.templates.retired}
	t.cancellations, t.acknowledged, t.templates.retired = nil, nil, nil
	n := min(len(t.queue), maxBatchTasks)
	tasks := make([]enginev1.TaskSubmission, n)
	request.Tasks = make([]*enginev1.TaskSubmission, 0, n)
	size, taken := 0, 0
	cluster := t.objects.clusterID()
	for ; taken < n && size < maxBatchBytes; taken++ {
		h := t.queue[taken]
		if h.ended.Load() {
			continue
		}
		if err := foreign(h.args, cluster); err != nil {
			t.end(h, &TaskResult{State: engine.TaskFailed}, engine.WrapError("run task", h.id.String(), err))
			continue
		}
		h.queued = false
		number, first := t.templates.number(h.template, t.stream)
		if first {
			request.Templates = append(request.Templates, h.template.wire)
			size += len(h.template.wire.GetParams()) + templateBytes
		}
		submission := &tasks[len(request.Tasks)]
		submission.TaskId, submission.Template, submission.Again = h.id[:], number, h.submitted != 0 && h.submitted != t.stream
		h.submitted = t.stream
		if !h.parent.IsZero() {
			submission.ParentTaskId = h.parent[:]
		}
		size += taskBytes
		if len(h.args) > 0 {
			var more int
			submission.Arguments, more = argumentsOf(h.args)
			size += more
		}
		if h.cancelled != nil {
			request.Cancellations = append(request.Cancellations, cancellation(h))
		}
		request.Tasks = append(request.Tasks, submission)
	}
	clear(t.queue[:taken]) // The array lives on, and must not keep tasks that have ended.
	if taken == len(t.queue) {
		t.queue = t.queue[:0]
	} else {
		t.queue = t.queue[taken:]
	}
	return request
}

// foreign refuses references to objects of another cluster.
func foreign(args []engine.Arg, cluster string) error {
	for i := range args {
		if other := args[i].Ref.Cluster; other != "" && other != cluster && args[i].Value == nil {
			return engine.Errorf(engine.KindInvalidArgument, "pass argument", args[i].Ref.String(), "the object belongs to cluster %s, and this client to %s", other, cluster)
		}
	}
	return nil
}

// argumentsOf is the wire's form of arguments and about how many bytes it has.
func argumentsOf(args []engine.Arg) (wire []*enginev1.TaskArgument, sizeBytes int) {
	slab := make([]enginev1.TaskArgument, len(args))
	wire = make([]*enginev1.TaskArgument, len(args))
	for i := range args {
		wire[i] = &slab[i]
		if value := args[i].Value; value != nil {
			slab[i].Value = value
			sizeBytes += len(value)
		} else {
			slab[i].ObjectId = args[i].Ref.ID[:]
		}
		sizeBytes += argumentBytes
	}
	return wire, sizeBytes
}

// taskStream is what tasks are sent over.
type taskStream = grpc.BidiStreamingClient[enginev1.RunTasksRequest, enginev1.RunTasksResponse]
