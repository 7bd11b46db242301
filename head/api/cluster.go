package api

import (
	"context"
	"sync"
	"time"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/head/dispatch"
	"github.com/f708428e/engine/head/state"
	"github.com/f708428e/engine/internal/rpc"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// Cluster serves enginev1.ClusterService.
type Cluster struct {
	enginev1.UnimplementedClusterServiceServer
	store      *state.Store
	dispatcher *dispatch.Dispatcher
	version    string
	web        string
	eventLog   string
	started    time.Time
	// applying is held by the one that lets the dispatcher follow the durable state.
	applying sync.Mutex
}

// NewCluster makes the server; version is the program's, web the head's web address or empty, eventLog where the history is or empty, and
// started when the head did.
func NewCluster(store *state.Store, dispatcher *dispatch.Dispatcher, version, web, eventLog string, started time.Time) *Cluster {
	return &Cluster{store: store, dispatcher: dispatcher, version: version, web: web, eventLog: eventLog, started: started}
}

// GetCluster implements enginev1.ClusterServiceServer.
func (s *Cluster) GetCluster(context.Context, *enginev1.GetClusterRequest) (*enginev1.GetClusterResponse, error) {
	response := &enginev1.GetClusterResponse{
		Version: s.version, StartTime: timestamp(s.started), Web: s.web, EventLog: s.eventLog, Jobs: map[string]int64{},
	}
	s.store.View(func(st *state.State) {
		response.ClusterId = st.ClusterID
		for _, job := range st.Jobs() {
			response.Jobs[string(job.State())]++
		}
	})
	var total, used engine.Resources
	for _, node := range s.dispatcher.Nodes() {
		if node.State != enginev1.NodeState_NODE_STATE_DEAD {
			response.NodesAlive++
			total, used = total.Add(node.Total), used.Add(node.Used)
		}
	}
	response.Total, response.Used = rpc.ResourcesToProto(total), rpc.ResourcesToProto(used)
	response.TasksPending, response.TasksRunning = s.dispatcher.Tasks()
	return response, nil
}

// ListNodes implements enginev1.ClusterServiceServer.
func (s *Cluster) ListNodes(context.Context, *enginev1.ListNodesRequest) (*enginev1.ListNodesResponse, error) {
	response := &enginev1.ListNodesResponse{}
	for _, node := range s.dispatcher.Nodes() {
		response.Nodes = append(response.Nodes, nodeMessage(node))
	}
	return response, nil
}

func nodeMessage(node dispatch.NodeView) *enginev1.Node {
	return &enginev1.Node{
		NodeId: string(node.ID), Host: node.Hello.GetHost(), Pid: node.Hello.GetPid(), State: node.State,
		Total: rpc.ResourcesToProto(node.Total), Used: rpc.ResourcesToProto(node.Used), TasksRunning: int32(node.Running), //nolint:gosec // A node holds fewer.
		Labels: node.Hello.GetLabels(), Version: node.Hello.GetVersion(),
		JoinTime: timestamp(node.Joined), ReportTime: timestamp(node.Reported), Suspect: node.Suspect,
	}
}
