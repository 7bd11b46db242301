package client_test

import (
	"context"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/f708428e/engine"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// submission is a task as the fake head got it.
type submission struct {
	*enginev1.TaskSubmission
	template *enginev1.TaskTemplate
}

// fakeTasks is a TaskService that runs tasks by a function.
type fakeTasks struct {
	enginev1.UnimplementedTaskServiceServer
	head *fakeHead

	mu     sync.Mutex
	window int64
	// run returns how a task ends, or nil if finish will say so. Nil lets all succeed.
	run func(submission) *enginev1.TaskOutcome
	// refuse returns a refusal, or nil.
	refuse func(submission) *enginev1.TaskRefusal
	// err is what a new stream gets.
	err error
	// known are the tasks that were taken, in order, each once; ended those of them that have an outcome which is not acknowledged.
	known        []submission
	has          map[engine.TaskUID]bool
	ended        map[engine.TaskUID]*enginev1.TaskOutcome
	acknowledged map[engine.TaskUID]int
	cancelled    map[engine.TaskUID]*enginev1.TaskCancellation
	retired      map[uint32]bool
	streams      int // opened so far
	messages     int // of tasks
	stream       *fakeStream
	changed      chan struct{}
	tasks        map[engine.TaskUID]*enginev1.Task
	calls        []proto.Message
	// waitErrs are what calls of WaitPlacementGroup return, one after the other; listErr what ListPlacementGroups does.
	waitErrs []error
	listErr  error
}

// fakeStream is a stream of a client.
type fakeStream struct {
	out   []*enginev1.RunTasksResponse
	woken chan struct{}
	end   chan error
}

func newFakeTasks(head *fakeHead) *fakeTasks {
	f := &fakeTasks{
		head: head, has: map[engine.TaskUID]bool{}, ended: map[engine.TaskUID]*enginev1.TaskOutcome{}, acknowledged: map[engine.TaskUID]int{}, retired: map[uint32]bool{},
		cancelled: map[engine.TaskUID]*enginev1.TaskCancellation{}, changed: make(chan struct{}), tasks: map[engine.TaskUID]*enginev1.Task{},
	}
	head.tasks = f
	return f
}

func succeeded(id []byte, values ...[]byte) *enginev1.TaskOutcome {
	outcome := &enginev1.TaskOutcome{TaskId: id, State: enginev1.TaskState_TASK_STATE_SUCCEEDED, NodeId: "node-a", Attempts: 1, RunNanos: 5, StartUnixNanos: 1}
	for _, value := range values {
		outcome.Outputs = append(outcome.Outputs, &enginev1.TaskOutput{SizeBytes: int64(len(value)), Rows: 1, Value: value})
	}
	return outcome
}

func failed(id []byte, kind engine.Kind, text string) *enginev1.TaskOutcome {
	return &enginev1.TaskOutcome{
		TaskId: id, State: enginev1.TaskState_TASK_STATE_FAILED, Attempts: 1, Error: &enginev1.Error{Kind: kind.String(), Operation: "run", Message: text},
	}
}

func (f *fakeTasks) RunTasks(stream grpc.BidiStreamingServer[enginev1.RunTasksRequest, enginev1.RunTasksResponse]) error {
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	f.mu.Lock()
	f.streams++
	f.change()
	if f.err != nil {
		defer f.mu.Unlock()
		return f.err
	}
	f.head.mu.Lock()
	fenced := f.head.ended[first.GetSessionId()]
	f.head.mu.Unlock()
	if fenced || first.GetSessionId() == "" {
		defer f.mu.Unlock()
		return engine.Errorf(engine.KindFenced, "run tasks", first.GetSessionId(), "the session is not open")
	}
	mine := &fakeStream{woken: make(chan struct{}, 1), end: make(chan error, 1)}
	mine.add(&enginev1.RunTasksResponse{ClusterId: testCluster, Window: f.window})
	if len(f.ended) > 0 {
		mine.add(&enginev1.RunTasksResponse{Outcomes: slices.Collect(maps.Values(f.ended))})
	}
	f.stream = mine
	f.mu.Unlock()
	go func() { // ends with the handler
		templates := map[uint32]*enginev1.TaskTemplate{}
		for {
			request, err := stream.Recv()
			if err != nil {
				mine.close(err)
				return
			}
			f.take(mine, templates, request)
		}
	}()
	for {
		select {
		case err := <-mine.end:
			return err
		case <-mine.woken:
			f.mu.Lock()
			out := mine.out
			mine.out = nil
			f.mu.Unlock()
			for _, response := range out {
				if err := stream.Send(response); err != nil {
					return err
				}
			}
		}
	}
}

func (s *fakeStream) add(response *enginev1.RunTasksResponse) {
	s.out = append(s.out, response)
	select {
	case s.woken <- struct{}{}:
	default:
	}
}

func (s *fakeStream) close(err error) {
	select {
	case s.end <- err:
	default:
	}
}

func (f *fakeTasks) change() {
	close(f.changed)
	f.changed = make(chan struct{})
}

func (f *fakeTasks) take(stream *fakeStream, templates map[uint32]*enginev1.TaskTemplate, request *enginev1.RunTasksRequest) {
	f.mu.Lock()
	defer f.mu.Unlock()
	defer f.change()
	for _, template := range request.GetTemplates() {
		if templates[template.GetNumber()] != nil {
			stream.close(engine.Errorf(engine.KindInvalidArgument, "run tasks", "", "template %d came twice", template.GetNumber()))
		}
		templates[template.GetNumber()] = template
	}
	response := &enginev1.RunTasksResponse{}
	if len(request.GetTasks()) > 0 {
		f.messages++
	}
	for _, task := range request.GetTasks() {
		s := submission{task, templates[task.GetTemplate()]}
		id := engine.TaskUID(task.GetTaskId())
		if s.template == nil {
			stream.close(engine.Errorf(engine.KindInvalidArgument, "run tasks", id.String(), "there is no template %d", task.GetTemplate()))
			return
		}
		if f.refuse != nil {
			if refusal := f.refuse(s); refusal != nil {
				response.Refusals = append(response.Refusals, refusal)
				continue
			}
		}
		if f.has[id] {
			if outcome := f.ended[id]; outcome != nil {
				response.Outcomes = append(response.Outcomes, outcome)
			}
			continue
		}
		f.known, f.has[id] = append(f.known, s), true
		outcome := succeeded(task.GetTaskId())
		if f.run != nil {
			outcome = f.run(s)
		}
		if outcome != nil {
			f.ended[id] = outcome
			response.Outcomes = append(response.Outcomes, outcome)
		}
	}
	for _, cancellation := range request.GetCancellations() {
		id := engine.TaskUID(cancellation.GetTaskId())
		f.cancelled[id] = cancellation
		if f.ended[id] == nil && f.acknowledged[id] == 0 {
			outcome := &enginev1.TaskOutcome{TaskId: id[:], State: enginev1.TaskState_TASK_STATE_CANCELLED}
			f.ended[id] = outcome
			response.Outcomes = append(response.Outcomes, outcome)
		}
	}
	for ids := request.GetAcknowledged(); len(ids) > 0; ids = ids[16:] {
		id := engine.TaskUID(ids[:16])
		f.acknowledged[id]++
		delete(f.ended, id)
	}
	for _, number := range request.GetRetiredTemplates() {
		f.retired[number] = true
	}
	if len(response.GetOutcomes())+len(response.GetRefusals()) > 0 {
		stream.add(response)
	}
}

// finish ends a task that run returned nil for.
func (f *fakeTasks) finish(outcome *enginev1.TaskOutcome) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ended[engine.TaskUID(outcome.GetTaskId())] = outcome
	f.stream.add(&enginev1.RunTasksResponse{Outcomes: []*enginev1.TaskOutcome{outcome}})
}

// breakStream ends the stream that is open.
func (f *fakeTasks) breakStream(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.stream.close(err)
}

// await waits until something holds, asked under the lock.
func (f *fakeTasks) await(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for {
		f.mu.Lock()
		ok, changed := holds(), f.changed
		f.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-changed:
		case <-time.After(2 * time.Minute):
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

func (f *fakeTasks) awaitKnown(t *testing.T, n int) {
	t.Helper()
	f.await(t, "submissions", func() bool { return len(f.known) >= n })
}

func (f *fakeTasks) GetTask(_ context.Context, r *enginev1.GetTaskRequest) (*enginev1.GetTaskResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	id := engine.TaskUID(r.GetTaskId())
	if task := f.tasks[id]; task != nil {
		return &enginev1.GetTaskResponse{Task: task}, nil
	}
	return nil, engine.Errorf(engine.KindNotFound, "get task", id.String(), "no such task")
}

func (f *fakeTasks) called(request proto.Message) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls = append(f.calls, request)
}

func (f *fakeTasks) ListTasks(_ context.Context, r *enginev1.ListTasksRequest) (*enginev1.ListTasksResponse, error) {
	f.called(r)
	return &enginev1.ListTasksResponse{Total: 7}, nil
}

func (f *fakeTasks) SummarizeTasks(_ context.Context, r *enginev1.SummarizeTasksRequest) (*enginev1.SummarizeTasksResponse, error) {
	f.called(r)
	return &enginev1.SummarizeTasksResponse{Summaries: []*enginev1.TaskSummary{{Name: "n"}}}, nil
}

func (f *fakeTasks) CancelTasks(_ context.Context, r *enginev1.CancelTasksRequest) (*enginev1.CancelTasksResponse, error) {
	f.called(r)
	return &enginev1.CancelTasksResponse{Cancelled: int64(len(r.GetTasks()))}, nil
}

func (f *fakeTasks) CreatePlacementGroup(_ context.Context, r *enginev1.CreatePlacementGroupRequest) (*enginev1.CreatePlacementGroupResponse, error) {
	f.called(r)
	return &enginev1.CreatePlacementGroupResponse{}, nil
}

func (f *fakeTasks) WaitPlacementGroup(_ context.Context, r *enginev1.WaitPlacementGroupRequest) (*enginev1.WaitPlacementGroupResponse, error) {
	f.called(r)
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.waitErrs) > 0 {
		err := f.waitErrs[0]
		f.waitErrs = f.waitErrs[1:]
		return nil, err
	}
	return &enginev1.WaitPlacementGroupResponse{Group: &enginev1.PlacementGroup{PlacementGroupId: r.GetPlacementGroupId(), Nodes: []string{"node-a"}}}, nil
}

func (f *fakeTasks) RemovePlacementGroup(_ context.Context, r *enginev1.RemovePlacementGroupRequest) (*enginev1.RemovePlacementGroupResponse, error) {
	f.called(r)
	return &enginev1.RemovePlacementGroupResponse{}, nil
}

func (f *fakeTasks) ListPlacementGroups(_ context.Context, r *enginev1.ListPlacementGroupsRequest) (*enginev1.ListPlacementGroupsResponse, error) {
	f.called(r)
	f.mu.Lock()
	defer f.mu.Unlock()
	return &enginev1.ListPlacementGroupsResponse{Groups: []*enginev1.PlacementGroup{{Name: "g"}}}, f.listErr
}
