package api_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/test/bufconn"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/head/api"
	"github.com/f708428e/engine/head/dispatch"
	"github.com/f708428e/engine/head/joblog"
	"github.com/f708428e/engine/head/objects"
	"github.com/f708428e/engine/head/state"
	"github.com/f708428e/engine/internal/rpc"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// taskServer serves tasks, objects, workers, and the cluster in memory.
type taskServer struct {
	t       *testing.T
	ctx     context.Context
	store   *state.Store
	tasks   enginev1.TaskServiceClient
	objects enginev1.ObjectServiceClient
	workers enginev1.WorkerServiceClient
	cluster enginev1.ClusterServiceClient
}

func serveTasks(t *testing.T, config dispatch.Config) *taskServer {
	t.Helper()
	logger := slog.New(slog.DiscardHandler)
	dir := t.TempDir()
	store, err := state.Open(state.Config{Dir: dir, NewClusterID: "c"})
	check(t, err)
	<-store.Terms()
	config.ClusterID, config.Term = "c", 1
	directory := objects.NewDirectory(objects.Config{ClusterID: "c", Term: 1, LeaseTime: config.LeaseTimeOrDefault(), Remade: true}, logger, nil)
	dispatcher := dispatch.NewDispatcher(config, dispatch.Hooks{
		Watch: directory.Watch, Unwatch: directory.Unwatch, GiveUp: directory.GiveUp, Line: func(dispatch.Line) {},
		Drained: func(node engine.NodeID) {
			entry := &enginev1.LogEntry{Fact: &enginev1.LogEntry_NodeDrained{NodeDrained: &enginev1.NodeDrained{NodeId: string(node)}}}
			store.ProposeAsync(context.Background(), func(error) {}, entry)
		},
	}, nil)
	directory.Subscribe(dispatcher.HearObjects)
	check(t, api.UseState(store, dispatcher))
	server := rpc.NewServer(logger, asOwner()...)
	objectsServer := api.NewObjects(directory)
	enginev1.RegisterObjectServiceServer(server, objectsServer)
	enginev1.RegisterTaskServiceServer(server, api.NewTasks(dispatcher, objectsServer))
	enginev1.RegisterClusterServiceServer(server, api.NewCluster(store, dispatcher, "test", "", "", time.Now()))
	enginev1.RegisterWorkerServiceServer(server, api.NewWorkers(store, dispatcher, directory, joblog.New(dir), logger, ""))
	listener := bufconn.Listen(1 << 20)
	conn, err := rpc.Dial("passthrough:///test", grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }))
	check(t, err)
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	ended := make(chan error, 3)
	go func() { ended <- server.Serve(listener) }()
	go func() { ended <- directory.Run(ctx) }()
	go func() { ended <- dispatcher.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		check(t, conn.Close())
		server.Stop()
		for range 3 {
			check(t, <-ended)
		}
		check(t, store.Close())
	})
	return &taskServer{
		t: t, ctx: ctx, store: store, tasks: enginev1.NewTaskServiceClient(conn), objects: enginev1.NewObjectServiceClient(conn),
		workers: enginev1.NewWorkerServiceClient(conn), cluster: enginev1.NewClusterServiceClient(conn),
	}
}

// session opens a session that lasts as long as the returned stream.
func (s *taskServer) session(id string) enginev1.ObjectService_OpenSessionClient {
	s.t.Helper()
	stream, err := s.objects.OpenSession(s.ctx)
	check(s.t, err)
	check(s.t, stream.Send(&enginev1.OpenSessionRequest{SessionId: id}))
	_, err = stream.Recv()
	check(s.t, err)
	return stream
}

// run opens a session's stream of tasks.
func (s *taskServer) run(session string, first *enginev1.RunTasksRequest) enginev1.TaskService_RunTasksClient {
	s.t.Helper()
	stream, err := s.tasks.RunTasks(s.ctx)
	check(s.t, err)
	first.SessionId = session
	check(s.t, stream.Send(first))
	welcome, err := stream.Recv()
	check(s.t, err)
	if welcome.GetClusterId() != "c" || welcome.GetWindow() <= 0 || len(welcome.GetOutcomes()) != 0 {
		s.t.Fatalf("the first message is %v", welcome)
	}
	return stream
}

// fakeWorker runs what it is granted at once, but for what hold says.
type fakeWorker struct {
	stream enginev1.WorkerService_SyncClient
	mu     sync.Mutex
	// ran counts how often each task ran, released those of which the outcome was released.
	ran      map[engine.TaskUID]int
	released int
	drain    *enginev1.DrainOrder
	// changed is signalled after each answer.
	changed chan struct{}
	ended   chan error
}

func (s *taskServer) worker(id string, cpu float64, labels map[string]string, hold func(*enginev1.TaskGrant) bool) *fakeWorker {
	s.t.Helper()
	ctx, cancel := context.WithCancel(s.ctx)
	stream, err := s.workers.Sync(ctx)
	check(s.t, err)
	w := &fakeWorker{stream: stream, ran: map[engine.TaskUID]int{}, changed: make(chan struct{}, 1), ended: make(chan error, 1)}
	check(s.t, stream.Send(&enginev1.SyncRequest{Sequence: 1, Hello: &enginev1.WorkerHello{
		ProtocolVersion: rpc.WorkerProtocolVersion, NodeId: id, Total: &enginev1.Resources{Cpu: &cpu}, Operators: []string{"noop"}, Labels: labels,
	}}))
	go func() { w.ended <- w.sync(id, hold) }()
	s.t.Cleanup(func() {
		cancel()
		if err := <-w.ended; err == nil {
			s.t.Error("the stream of the worker ended by itself")
		}
	})
	<-w.changed // It has joined.
	return w
}

func (w *fakeWorker) sync(id string, hold func(*enginev1.TaskGrant) bool) error {
	for sequence := uint64(2); ; sequence++ {
		answer, err := w.stream.Recv()
		if err != nil {
			return err
		}
		report := &enginev1.SyncRequest{Sequence: sequence, AcknowledgedSequence: answer.GetSequence()}
		w.mu.Lock()
		for _, grant := range answer.GetTaskGrants() {
			if hold != nil && hold(grant) {
				continue
			}
			w.ran[engine.TaskUID(grant.GetTask().GetTaskId())]++
			report.Outcomes = append(report.Outcomes, &enginev1.TaskOutcome{
				TaskId: grant.GetTask().GetTaskId(), State: enginev1.TaskState_TASK_STATE_SUCCEEDED, NodeId: id, Epoch: grant.GetEpoch(), RunNanos: 1000,
			})
		}
		w.released += len(answer.GetReleasedTasks()) / 16
		if d := answer.GetDrain(); d != nil {
			w.drain = d
		}
		w.mu.Unlock()
		select {
		case w.changed <- struct{}{}:
		default:
		}
		if len(report.GetOutcomes()) > 0 || answer.GetDrain() != nil {
			if err := w.stream.Send(report); err != nil {
				return err
			}
		}
	}
}

// until waits for something of the worker that answers change.
func (w *fakeWorker) until(ctx context.Context, is func() bool) bool {
	for {
		w.mu.Lock()
		done := is()
		w.mu.Unlock()
		if done {
			return true
		}
		select {
		case <-w.changed:
		case <-ctx.Done():
			return false
		}
	}
}

// submissions makes tasks of template 1.
func submissions(n int) []*enginev1.TaskSubmission {
	made := make([]*enginev1.TaskSubmission, n)
	for i := range made {
		id := engine.NewTaskUID()
		made[i] = &enginev1.TaskSubmission{TaskId: id[:], Template: 1}
	}
	return made
}

var noop = []*enginev1.TaskTemplate{{Number: 1, Operator: "noop"}}

func TestTasksRunOverStreams(t *testing.T) {
	s := serveTasks(t, dispatch.Config{})
	s.session(sessionID)
	w := s.worker("w", 2, nil, nil)
	const n = 5_000
	tasks := submissions(n)
	stream := s.run(sessionID, &enginev1.RunTasksRequest{Templates: noop, Tasks: tasks[:1]})
	check(t, stream.Send(&enginev1.RunTasksRequest{Tasks: tasks[1:]}))
	seen := map[engine.TaskUID]bool{}
	for len(seen) < n {
		response, err := stream.Recv()
		check(t, err)
		var acknowledged []byte
		for _, outcome := range response.GetOutcomes() {
			id := engine.TaskUID(outcome.GetTaskId())
			if seen[id] || outcome.GetState() != enginev1.TaskState_TASK_STATE_SUCCEEDED {
				t.Fatalf("outcome %v, seen before: %t", outcome, seen[id])
			}
			seen[id] = true
			acknowledged = append(acknowledged, id[:]...)
		}
		check(t, stream.Send(&enginev1.RunTasksRequest{Acknowledged: acknowledged}))
	}
	if !w.until(s.ctx, func() bool { return w.released == n }) {
		t.Fatalf("%d of %d outcomes were released", w.released, n)
	}
	for id, times := range w.ran {
		if times != 1 {
			t.Fatalf("task %s ran %d times", id, times)
		}
	}
	summaries, err := s.tasks.SummarizeTasks(s.ctx, &enginev1.SummarizeTasksRequest{})
	check(t, err)
	if got := summaries.GetSummaries(); len(got) != 1 || got[0].GetName() != "noop" || got[0].GetStates()["SUCCEEDED"] != n {
		t.Fatalf("summaries are %v", got)
	}
	listed, err := s.tasks.ListTasks(s.ctx, &enginev1.ListTasksRequest{Limit: 10, States: []enginev1.TaskState{enginev1.TaskState_TASK_STATE_SUCCEEDED}})
	check(t, err)
	if len(listed.GetTasks()) != 10 || listed.GetTotal() != n {
		t.Fatalf("%d tasks are listed of %d", len(listed.GetTasks()), listed.GetTotal())
	}
	got, err := s.tasks.GetTask(s.ctx, &enginev1.GetTaskRequest{TaskId: tasks[n-1].GetTaskId()})
	check(t, err)
	if got.GetTask().GetNodeId() != "w" || got.GetTask().GetSessionId() != sessionID {
		t.Fatalf("the task is %v", got.GetTask())
	}
	check(t, stream.CloseSend())
	if _, err := stream.Recv(); !errors.Is(err, io.EOF) {
		t.Fatalf("a stream whose client has ended it ends with %v", err)
	}
}

// A stream that breaks is followed by another one: it begins with the outcomes that were not acknowledged, and the first one ends.
func TestTaskStreamIsReplaced(t *testing.T) {
	s := serveTasks(t, dispatch.Config{})
	s.session(sessionID)
	s.worker("w", 2, nil, nil)
	tasks := submissions(3)
	first := s.run(sessionID, &enginev1.RunTasksRequest{Templates: noop, Tasks: tasks})
	for n := 0; n < len(tasks); {
		response, err := first.Recv()
		check(t, err)
		n += len(response.GetOutcomes())
	}
	second := s.run(sessionID, &enginev1.RunTasksRequest{Acknowledged: tasks[0].GetTaskId()})
	var again int
	for again < 2 {
		response, err := second.Recv()
		check(t, err)
		for _, outcome := range response.GetOutcomes() {
			if engine.TaskUID(outcome.GetTaskId()) == engine.TaskUID(tasks[0].GetTaskId()) {
				continue // The acknowledgement may be taken in after the stream has begun.
			}
			again++
		}
	}
	for {
		_, err := first.Recv()
		if err == nil {
			continue
		}
		if kind := engine.KindOf(rpc.FromStatus("", err)); kind != engine.KindFenced {
			t.Fatalf("the first stream ended with %v, expected kind fenced", err)
		}
		return
	}
}

// A client that does not read gets nothing more granted than its bound; the tasks go on when it does.
func TestClientThatDoesNotRead(t *testing.T) {
	config := dispatch.Config{}
	config.Tasks.MaxUnread = 100
	s := serveTasks(t, config)
	s.session(sessionID)
	w := s.worker("w", 2, nil, nil)
	tasks := submissions(5_000)
	stream := s.run(sessionID, &enginev1.RunTasksRequest{Templates: noop, Tasks: tasks})
	ran := func() int { w.mu.Lock(); defer w.mu.Unlock(); return len(w.ran) }
	if !w.until(s.ctx, func() bool { return len(w.ran) >= 100 }) {
		t.Fatalf("%d tasks ran", ran())
	}
	// What was granted before the bound was met may still end.
	summary := func() map[string]int64 {
		summaries, err := s.tasks.SummarizeTasks(s.ctx, &enginev1.SummarizeTasksRequest{})
		check(t, err)
		return summaries.GetSummaries()[0].GetStates()
	}
	for summary()["RUNNING"] > 0 {
	}
	if n := ran(); n == len(tasks) {
		t.Fatal("everything ran although nothing was acknowledged")
	}
	seen := 0
	for seen < len(tasks) {
		response, err := stream.Recv()
		check(t, err)
		var acknowledged []byte
		for _, outcome := range response.GetOutcomes() {
			seen++
			acknowledged = append(acknowledged, outcome.GetTaskId()...)
		}
		check(t, stream.Send(&enginev1.RunTasksRequest{Acknowledged: acknowledged}))
	}
}

func TestTasksOfEndedSessionAreCancelled(t *testing.T) {
	s := serveTasks(t, dispatch.Config{})
	session := s.session(sessionID)
	stream := s.run(sessionID, &enginev1.RunTasksRequest{Templates: []*enginev1.TaskTemplate{{Number: 1, Operator: "noop", WaitForNodes: true}}, Tasks: submissions(5)})
	check(t, session.CloseSend())
	if _, err := session.Recv(); !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	for {
		if _, err := stream.Recv(); err != nil {
			if kind := engine.KindOf(rpc.FromStatus("", err)); kind != engine.KindFenced {
				t.Fatalf("the stream ended with %v, expected kind fenced", err)
			}
			break
		}
	}
	listed, err := s.tasks.ListTasks(s.ctx, &enginev1.ListTasksRequest{States: []enginev1.TaskState{enginev1.TaskState_TASK_STATE_PENDING}})
	check(t, err)
	if listed.GetTotal() != 0 {
		t.Fatalf("%d tasks of a session that has ended wait", listed.GetTotal())
	}
}

func TestBadTaskRequests(t *testing.T) {
	s := serveTasks(t, dispatch.Config{})
	kindOf := func(err error) engine.Kind { return engine.KindOf(rpc.FromStatus("", err)) }
	for name, test := range map[string]struct {
		call func() error
		kind engine.Kind
	}{
		"session that is not open": {func() error {
			stream, err := s.tasks.RunTasks(s.ctx)
			check(t, err)
			check(t, stream.Send(&enginev1.RunTasksRequest{SessionId: strings.Repeat("b", 32)}))
			_, err = stream.Recv()
			return err
		}, engine.KindFenced},
		"no session": {func() error {
			stream, err := s.tasks.RunTasks(s.ctx)
			check(t, err)
			check(t, stream.Send(&enginev1.RunTasksRequest{}))
			_, err = stream.Recv()
			return err
		}, engine.KindInvalidArgument},
		"short id": {func() error {
			_, err := s.tasks.GetTask(s.ctx, &enginev1.GetTaskRequest{TaskId: []byte{1}})
			return err
		}, engine.KindInvalidArgument},
		"id of an output": {func() error {
			id := engine.NewTaskUID().Output(0)
			_, err := s.tasks.CancelTasks(s.ctx, &enginev1.CancelTasksRequest{Tasks: []*enginev1.TaskCancellation{{TaskId: id[:]}}})
			return err
		}, engine.KindInvalidArgument},
		"unknown task": {func() error {
			id := engine.NewTaskUID()
			_, err := s.tasks.GetTask(s.ctx, &enginev1.GetTaskRequest{TaskId: id[:]})
			return err
		}, engine.KindNotFound},
		"limit": {func() error {
			_, err := s.tasks.ListTasks(s.ctx, &enginev1.ListTasksRequest{Limit: -1})
			return err
		}, engine.KindInvalidArgument},
		"unknown group": {func() error {
			id := engine.NewPlacementGroupID()
			_, err := s.tasks.WaitPlacementGroup(s.ctx, &enginev1.WaitPlacementGroupRequest{PlacementGroupId: id[:]})
			return err
		}, engine.KindNotFound},
		"queue without a name": {func() error {
			_, err := s.cluster.SetQueue(s.ctx, &enginev1.SetQueueRequest{})
			return err
		}, engine.KindInvalidArgument},
		"negative weight": {func() error {
			_, err := s.cluster.SetQueue(s.ctx, &enginev1.SetQueueRequest{Queue: &enginev1.Queue{Name: "q", Weight: -1}})
			return err
		}, engine.KindInvalidArgument},
		"unknown queue": {func() error {
			_, err := s.cluster.DeleteQueue(s.ctx, &enginev1.DeleteQueueRequest{Name: "q"})
			return err
		}, engine.KindNotFound},
		"default queue": {func() error {
			_, err := s.cluster.DeleteQueue(s.ctx, &enginev1.DeleteQueueRequest{Name: "default"})
			return err
		}, engine.KindInvalidArgument},
		"unknown node": {func() error {
			_, err := s.cluster.DrainNode(s.ctx, &enginev1.DrainNodeRequest{NodeId: "n"})
			return err
		}, engine.KindNotFound},
		"no duration": {func() error {
			_, err := s.cluster.DrainNode(s.ctx, &enginev1.DrainNodeRequest{NodeId: "n", Within: "soon"})
			return err
		}, engine.KindInvalidArgument},
	} {
		if err := test.call(); kindOf(err) != test.kind {
			t.Errorf("%s: %v, expected kind %s", name, err, test.kind)
		}
	}
}

func TestQueuesAreDurableAndListed(t *testing.T) {
	s := serveTasks(t, dispatch.Config{})
	cpu := 3.0
	_, err := s.cluster.SetQueue(s.ctx, &enginev1.SetQueueRequest{Queue: &enginev1.Queue{Name: "etl", Weight: 3, Quota: &enginev1.Resources{Cpu: &cpu}, Priority: 2}})
	check(t, err)
	s.store.View(func(st *state.State) {
		if q := st.Queue("etl"); q.GetWeight() != 3 || q.GetPriority() != 2 {
			t.Errorf("the durable queue is %v", q)
		}
	})
	s.session(sessionID)
	s.worker("w", 4, nil, func(*enginev1.TaskGrant) bool { return true })
	stream := s.run(sessionID, &enginev1.RunTasksRequest{
		Templates: []*enginev1.TaskTemplate{{Number: 1, Operator: "noop", Queue: "etl", WaitForNodes: true}}, Tasks: submissions(5),
	})
	defer func() { check(t, stream.CloseSend()) }()
	for {
		listed, err := s.cluster.ListQueues(s.ctx, &enginev1.ListQueuesRequest{})
		check(t, err)
		queues := listed.GetQueues()
		if len(queues) != 2 || queues[0].GetQueue().GetName() != "default" || queues[1].GetQueue().GetName() != "etl" {
			t.Fatalf("queues are %v", queues)
		}
		if q := queues[1]; q.GetTasksRunning() == 3 {
			if q.GetTasksPending() != 2 || q.GetUsed().GetCpu() != 3 || q.GetShare() != 0.75 || q.GetFairShare() != 1 {
				t.Fatalf("the queue is %v", q)
			}
			break
		}
	}
	if _, err = s.cluster.DeleteQueue(s.ctx, &enginev1.DeleteQueueRequest{Name: "etl"}); engine.KindOf(rpc.FromStatus("", err)) != engine.KindConflict {
		t.Fatalf("deleting a queue in use: %v, expected kind conflict", err)
	}
}

// TestQueueOfPlacementGroups sees that a queue with nothing but a placement group counts as one with work, and stays.
func TestQueueOfPlacementGroups(t *testing.T) {
	s := serveTasks(t, dispatch.Config{})
	_, err := s.cluster.SetQueue(s.ctx, &enginev1.SetQueueRequest{Queue: &enginev1.Queue{Name: "etl"}})
	check(t, err)
	s.session(sessionID)
	cpu := 2.0
	id := engine.NewPlacementGroupID()
	_, err = s.tasks.CreatePlacementGroup(s.ctx, &enginev1.CreatePlacementGroupRequest{
		PlacementGroupId: id[:], SessionId: sessionID, Bundles: []*enginev1.Resources{{Cpu: &cpu}}, Queue: "etl",
	})
	check(t, err)
	s.worker("w", 4, nil, nil)
	_, err = s.tasks.WaitPlacementGroup(s.ctx, &enginev1.WaitPlacementGroupRequest{PlacementGroupId: id[:]})
	check(t, err)
	listed, err := s.cluster.ListQueues(s.ctx, &enginev1.ListQueuesRequest{})
	check(t, err)
	if q := listed.GetQueues()[1]; q.GetQueue().GetName() != "etl" || q.GetShare() != 0.5 || q.GetFairShare() != 1 {
		t.Fatalf("the queue is %v, expected that it has half and is due all", q)
	}
	if _, err = s.cluster.DeleteQueue(s.ctx, &enginev1.DeleteQueueRequest{Name: "etl"}); engine.KindOf(rpc.FromStatus("", err)) != engine.KindConflict {
		t.Fatalf("deleting the queue of a placement group: %v, expected kind conflict", err)
	}
	_, err = s.tasks.RemovePlacementGroup(s.ctx, &enginev1.RemovePlacementGroupRequest{PlacementGroupId: id[:]})
	check(t, err)
	_, err = s.cluster.DeleteQueue(s.ctx, &enginev1.DeleteQueueRequest{Name: "etl"})
	check(t, err)
}

func TestDrainIsDurableUntilTheNodeHasLeft(t *testing.T) {
	s := serveTasks(t, dispatch.Config{})
	w := s.worker("w", 4, nil, nil)
	drained, err := s.cluster.DrainNode(s.ctx, &enginev1.DrainNodeRequest{NodeId: "w", Within: "10m", Reason: "new kernel"})
	check(t, err)
	if drained.GetNode().GetState() != enginev1.NodeState_NODE_STATE_DRAINING {
		t.Fatalf("the node is %v", drained.GetNode())
	}
	if w.drain.GetReason() != "new kernel" || w.drain.GetWithinMillis() <= 0 {
		t.Fatalf("the node was told %v", w.drain)
	}
	draining := func() (n int) {
		s.store.View(func(st *state.State) { n = len(st.Draining()) })
		return n
	}
	if draining() != 1 {
		t.Fatal("the drain is not durable")
	}
	check(t, w.stream.Send(&enginev1.SyncRequest{Sequence: 1000, Draining: true, Goodbye: true}))
	for draining() != 0 {
		if s.ctx.Err() != nil {
			t.Fatal("the drain of a node that has left is still recorded")
		}
	}
	if _, err := s.cluster.DrainNode(s.ctx, &enginev1.DrainNodeRequest{NodeId: "w"}); engine.KindOf(rpc.FromStatus("", err)) != engine.KindConflict {
		t.Fatalf("draining a node that has left: %v, expected kind conflict", err)
	}
}

func TestPlacementGroupIsWaitedFor(t *testing.T) {
	s := serveTasks(t, dispatch.Config{})
	s.session(sessionID)
	id := engine.NewPlacementGroupID()
	cpu := 1.0
	_, err := s.tasks.CreatePlacementGroup(s.ctx, &enginev1.CreatePlacementGroupRequest{
		PlacementGroupId: id[:], SessionId: sessionID, Bundles: []*enginev1.Resources{{Cpu: &cpu}, {Cpu: &cpu}},
		Strategy: enginev1.PlacementStrategy_PLACEMENT_STRATEGY_STRICT_PACK,
	})
	check(t, err)
	placed := make(chan error, 1)
	go func() {
		group, err := s.tasks.WaitPlacementGroup(s.ctx, &enginev1.WaitPlacementGroupRequest{PlacementGroupId: id[:]})
		if err == nil && strings.Join(group.GetGroup().GetNodes(), " ") != "w w" {
			err = errors.New("the group lies on " + strings.Join(group.GetGroup().GetNodes(), " "))
		}
		placed <- err
	}()
	s.worker("w", 2, nil, nil)
	check(t, <-placed)
	_, err = s.tasks.RemovePlacementGroup(s.ctx, &enginev1.RemovePlacementGroupRequest{PlacementGroupId: id[:]})
	check(t, err)
	listed, err := s.tasks.ListPlacementGroups(s.ctx, &enginev1.ListPlacementGroupsRequest{})
	check(t, err)
	if len(listed.GetGroups()) != 0 {
		t.Fatalf("groups are %v after the only one was removed", listed.GetGroups())
	}
}
