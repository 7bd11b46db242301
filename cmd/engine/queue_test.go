package main

import (
	"context"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/f708428e/engine"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// fakeQueues is what a fakeHead knows of queues and drains.
type fakeQueues struct {
	queues  []*enginev1.QueueStatus
	set     *enginev1.Queue
	deleted string
	drain   *enginev1.DrainNodeRequest
}

func (h *fakeHead) ListQueues(context.Context, *enginev1.ListQueuesRequest) (*enginev1.ListQueuesResponse, error) {
	_, err := h.called("list queues")
	return &enginev1.ListQueuesResponse{Queues: h.queues.queues}, err
}

func (h *fakeHead) SetQueue(_ context.Context, r *enginev1.SetQueueRequest) (*enginev1.SetQueueResponse, error) {
	_, err := h.called("set queue")
	h.queues.set = r.GetQueue()
	return &enginev1.SetQueueResponse{}, err
}

func (h *fakeHead) DeleteQueue(_ context.Context, r *enginev1.DeleteQueueRequest) (*enginev1.DeleteQueueResponse, error) {
	_, err := h.called("delete queue")
	h.queues.deleted = r.GetName()
	return &enginev1.DeleteQueueResponse{}, err
}

func (h *fakeHead) DrainNode(_ context.Context, r *enginev1.DrainNodeRequest) (*enginev1.DrainNodeResponse, error) {
	_, err := h.called("drain node")
	h.queues.drain = r
	return &enginev1.DrainNodeResponse{Node: &enginev1.Node{NodeId: r.GetNodeId(), State: enginev1.NodeState_NODE_STATE_DRAINING, TasksRunning: 2}}, err
}

func someQueues() fakeQueues {
	cpu := 8.0
	return fakeQueues{queues: []*enginev1.QueueStatus{
		{Queue: &enginev1.Queue{Name: "default"}, Used: &enginev1.Resources{}},
		{
			Queue: &enginev1.Queue{Name: "etl", Weight: 3, Priority: 2, Quota: &enginev1.Resources{Cpu: &cpu, Memory: "64GiB"}},
			Used:  &enginev1.Resources{Cpu: &cpu}, TasksPending: 12_345, TasksRunning: 8, Jobs: 2, Share: 0.62, FairShare: 0.5,
		},
	}}
}

func TestQueueList(t *testing.T) {
	c := newConsole(t, &fakeHead{queues: someQueues()})
	c.run(t, 0, "queue", "list")
	holds := func(wanted ...string) {
		t.Helper()
		for _, want := range wanted {
			if !strings.Contains(c.stdout.String(), want) {
				t.Errorf("stdout does not hold %q:\n%s", want, c.stdout)
			}
		}
	}
	holds("etl", "cpu: 8, memory: 64GiB", "62%", "50%", "12,345", "none")
	c.run(t, 0, "queue", "list", "-o", "json")
	holds(`"name": "default"`, `"weight": 1`, `"quota": null`, `"max_pending": 2000000`, `"memory_bytes": 68719476736`, `"fair_share": 0.5`)
}

func TestQueueSetChangesWhatFlagsName(t *testing.T) {
	cpu, license := 4.5, 2.0
	for _, test := range []struct {
		args []string
		want *enginev1.Queue
	}{
		{[]string{"new"}, &enginev1.Queue{Name: "new"}},
		{[]string{"etl", "--weight", "0.5"}, func() *enginev1.Queue {
			q := someQueues().queues[1].GetQueue()
			q.Weight = 0.5
			return q
		}()},
		{[]string{"etl", "--quota", "none", "--priority", "-1"}, &enginev1.Queue{Name: "etl", Weight: 3, Priority: -1}},
		{
			[]string{"etl", "--quota", "cpu=4.5,memory=1GiB", "--quota", "license=2", "--max-pending", "10"},
			&enginev1.Queue{Name: "etl", Weight: 3, Priority: 2, MaxPending: 10, Quota: &enginev1.Resources{Cpu: &cpu, Memory: "1GiB", Custom: map[string]float64{"license": license}}},
		},
	} {
		head := &fakeHead{queues: someQueues()}
		c := newConsole(t, head)
		c.run(t, 0, append([]string{"queue", "set"}, test.args...)...)
		if !proto.Equal(head.queues.set, test.want) {
			t.Errorf("%v sets %v, expected %v", test.args, head.queues.set, test.want)
		}
	}
}

func TestQueueMistakes(t *testing.T) {
	for _, args := range [][]string{
		{"queue", "set"}, {"queue", "set", "q", "--quota", "cpu"}, {"queue", "set", "q", "--quota", "cpu=many"}, {"queue", "set", "q", "--quota", "cpu=-1"},
		{"queue", "set", "q", "--quota", "memory=lots"}, {"queue", "delete"}, {"node", "drain"}, {"node", "drain", "n", "--within", "soon"},
		{"node", "drain", "n", "--within", "0s"}, {"queue", "lst"}, {"node", "drian"},
	} {
		head := &fakeHead{queues: someQueues()}
		c := newConsole(t, head)
		c.run(t, 2, args...)
		if head.queues.set != nil || head.queues.drain != nil {
			t.Errorf("%v did something", args)
		}
	}
}

func TestQueueDelete(t *testing.T) {
	head := &fakeHead{queues: someQueues()}
	c := newConsole(t, head)
	c.run(t, 0, "queue", "delete", "etl")
	c.wantOut(t, "etl deleted\n")
	if head.queues.deleted != "etl" {
		t.Errorf("deleted is %q", head.queues.deleted)
	}
	head.err = engine.Errorf(engine.KindConflict, "delete queue", "etl", "3 tasks wait and 1 run in it")
	c.run(t, 5, "queue", "delete", "etl")
	c.wantErr(t, "error: delete queue: etl: 3 tasks wait and 1 run in it\n")
}

func TestNodeDrain(t *testing.T) {
	head := &fakeHead{}
	c := newConsole(t, head)
	c.run(t, 0, "node", "drain", testNode, "--within", "10m", "--reason", "new kernel")
	c.wantOut(t, testNode+" DRAINING, 2 tasks\n")
	if d := head.queues.drain; d.GetNodeId() != testNode || d.GetWithin() != "10m0s" || d.GetReason() != "new kernel" {
		t.Errorf("the request is %v", d)
	}
	c.run(t, 0, "node", "list")
	c.wantOut(t, "no nodes\n")
}
