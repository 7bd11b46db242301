package api

import (
	"context"
	"math"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/head/dispatch"
	"github.com/f708428e/engine/head/state"
	"github.com/f708428e/engine/internal/jobplan"
	"github.com/f708428e/engine/internal/rpc"
	"github.com/f708428e/engine/internal/security/access"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

const (
	// maxWeight bounds the weight of a queue, maxQueues how many may be set.
	maxWeight = 1e6
	maxQueues = 10_000
	// maxReasonBytes bounds the reason of a drain.
	maxReasonBytes = 1_000
	// maxPriority bounds priorities, as that of a job does.
	maxPriority = 1_000_000
)

// SetQueue implements enginev1.ClusterServiceServer.
func (s *Cluster) SetQueue(ctx context.Context, request *enginev1.SetQueueRequest) (*enginev1.SetQueueResponse, error) {
	queue := request.GetQueue()
	if err := checkQueue(queue); err != nil {
		return nil, err
	}
	if err := checkOwn(ctx, "set queue", queue.GetName()); err != nil {
		return nil, err
	}
	entry := &enginev1.LogEntry{Fact: &enginev1.LogEntry_QueueSet{QueueSet: &enginev1.QueueSet{Queue: queue}}}
	err := s.store.ProposeIf(ctx, func(st *state.State) error {
		if n := len(st.Queues()); n >= maxQueues && st.Queue(queue.GetName()) == nil {
			return engine.Errorf(engine.KindExhausted, "set queue", queue.GetName(), "%d queues are set, which is the limit", n)
		}
		return nil
	}, entry)
	if err != nil {
		return nil, err
	}
	return &enginev1.SetQueueResponse{}, s.useQueues()
}

// DeleteQueue implements enginev1.ClusterServiceServer.
func (s *Cluster) DeleteQueue(ctx context.Context, request *enginev1.DeleteQueueRequest) (*enginev1.DeleteQueueResponse, error) {
	const operation = "delete queue"
	name := request.GetName()
	if name == dispatch.DefaultQueue {
		return nil, engine.Errorf(engine.KindInvalidArgument, operation, name, "the default queue is always there")
	}
	if err := checkOwn(ctx, operation, name); err != nil {
		return nil, err
	}
	for _, view := range s.dispatcher.Queues() {
		if view.Queue.GetName() == name && view.Pending+view.Running+view.Jobs+view.Groups > 0 {
			return nil, engine.Errorf(engine.KindConflict, operation, name, "%d tasks wait and %d run in it, and it has %d placement groups", view.Pending, view.Running, view.Groups).
				WithHint("wait for them, or stop and remove them")
		}
	}
	entry := &enginev1.LogEntry{Fact: &enginev1.LogEntry_QueueDeleted{QueueDeleted: &enginev1.QueueDeleted{Name: name}}}
	err := s.store.ProposeIf(ctx, func(st *state.State) error {
		if st.Queue(name) == nil {
			return engine.Errorf(engine.KindNotFound, operation, name, "no queue of this name is set")
		}
		return nil
	}, entry)
	if err != nil {
		return nil, err
	}
	return &enginev1.DeleteQueueResponse{}, s.useQueues()
}

// ListQueues implements enginev1.ClusterServiceServer.
func (s *Cluster) ListQueues(ctx context.Context, _ *enginev1.ListQueuesRequest) (*enginev1.ListQueuesResponse, error) {
	response := &enginev1.ListQueuesResponse{}
	caller := access.Of(ctx)
	for _, view := range s.dispatcher.Queues() {
		if !caller.MayUse(view.Queue.GetName()) {
			continue
		}
		response.Queues = append(response.Queues, &enginev1.QueueStatus{
			Queue: view.Queue, Used: rpc.ResourcesToProto(view.Used), TasksPending: view.Pending, TasksRunning: view.Running, Jobs: view.Jobs,
			Share: view.Share, FairShare: view.FairShare,
		})
	}
	return response, nil
}

// useQueues lets the dispatcher follow what is durable. Of several calls at a time none may overtake another.
func (s *Cluster) useQueues() error {
	s.applying.Lock()
	defer s.applying.Unlock()
	var queues []*enginev1.Queue
	s.store.View(func(st *state.State) { queues = st.Queues() })
	return s.dispatcher.SetQueues(queues)
}

// UseState tells a new dispatcher what is durable of queues and drains, before workers connect.
func UseState(store *state.Store, dispatcher *dispatch.Dispatcher) error {
	var queues []*enginev1.Queue
	var drains []*enginev1.NodeDraining
	store.View(func(s *state.State) { queues, drains = s.Queues(), s.Draining() })
	for _, d := range drains {
		var deadline time.Time
		if d.GetDeadline() != nil {
			deadline = d.GetDeadline().AsTime()
		}
		dispatcher.Drain(engine.NodeID(d.GetNodeId()), deadline, d.GetReason())
	}
	return dispatcher.SetQueues(queues)
}

// checkQueue refuses a queue that cannot be.
func checkQueue(queue *enginev1.Queue) error {
	const operation = "set queue"
	name := queue.GetName()
	if engine.CheckSubmissionID(name) != nil {
		return engine.Errorf(engine.KindInvalidArgument, operation, name, "%q is no name of a queue: use 1 to 200 letters, digits, and ._:/@+-", name)
	}
	if w := queue.GetWeight(); math.IsNaN(w) || w < 0 || w > maxWeight {
		return engine.Errorf(engine.KindInvalidArgument, operation, name, "weight must be between 0 and %d, found %v; 0 means 1", int64(maxWeight), w)
	}
	if p := queue.GetPriority(); p < -maxPriority || p > maxPriority {
		return engine.Errorf(engine.KindInvalidArgument, operation, name, "priority must be between -%d and %d, found %d", maxPriority, maxPriority, p)
	}
	if n := queue.GetMaxPending(); n < 0 {
		return engine.Errorf(engine.KindInvalidArgument, operation, name, "max_pending must not be negative, found %d", n)
	}
	_, err := rpc.ResourcesFromProto(queue.GetQuota())
	return engine.WrapError(operation, name, err)
}

// DrainNode implements enginev1.ClusterServiceServer.
func (s *Cluster) DrainNode(ctx context.Context, request *enginev1.DrainNodeRequest) (*enginev1.DrainNodeResponse, error) {
	const operation = "drain node"
	id := engine.NodeID(request.GetNodeId())
	if err := checkWhole(ctx, operation); err != nil {
		return nil, err
	}
	if len(request.GetReason()) > maxReasonBytes {
		return nil, engine.Errorf(engine.KindInvalidArgument, operation, string(id), "the reason has %d bytes, at most %d are allowed", len(request.GetReason()), maxReasonBytes)
	}
	var deadline time.Time
	if text := request.GetWithin(); text != "" {
		within, err := jobplan.ParseDuration(text)
		if err != nil || within <= 0 {
			return nil, engine.Errorf(engine.KindInvalidArgument, operation, string(id), "within: %q is not a duration above zero: write numbers with ms, s, m, h, or d", text)
		}
		deadline = time.Now().Add(within)
	}
	if _, err := s.liveNode(operation, id); err != nil {
		return nil, err
	}
	draining := &enginev1.NodeDraining{NodeId: string(id), Reason: request.GetReason()}
	if !deadline.IsZero() {
		draining.Deadline = timestamppb.New(deadline)
	}
	if err := s.store.Propose(ctx, &enginev1.LogEntry{Fact: &enginev1.LogEntry_NodeDraining{NodeDraining: draining}}); err != nil {
		return nil, err
	}
	select {
	case <-s.dispatcher.Drain(id, deadline, request.GetReason()):
	case <-ctx.Done():
		return nil, engine.WrapError(operation, string(id), context.Cause(ctx))
	}
	for _, node := range s.dispatcher.Nodes() {
		if node.ID == id {
			return &enginev1.DrainNodeResponse{Node: nodeMessage(node)}, nil
		}
	}
	return &enginev1.DrainNodeResponse{Node: &enginev1.Node{NodeId: string(id), State: enginev1.NodeState_NODE_STATE_DEAD}}, nil
}

// liveNode returns a node that can be told something.
func (s *Cluster) liveNode(operation string, id engine.NodeID) (dispatch.NodeView, error) {
	for _, node := range s.dispatcher.Nodes() {
		switch {
		case node.ID != id:
		case node.State == enginev1.NodeState_NODE_STATE_DEAD:
			return node, engine.Errorf(engine.KindConflict, operation, string(id), "the node has left already")
		default:
			return node, nil
		}
	}
	return dispatch.NodeView{}, engine.Errorf(engine.KindNotFound, operation, string(id), "no such node").WithHint("`engine node list` shows those that there are")
}
