package tasks_test

import (
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/head/tasks"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// FuzzMessages gives a core whatever a client and a worker may say, and expects that it neither panics nor forgets how much it holds.
func FuzzMessages(f *testing.F) {
	object, task, parent := engine.NewObjectID(), id(1), id(2)
	one := 1.0
	seed := func(request *enginev1.RunTasksRequest, report *enginev1.SyncRequest) {
		client, err := proto.Marshal(request)
		must(f, err)
		worker, err := proto.Marshal(report)
		must(f, err)
		f.Add(client, worker)
	}
	seed(&enginev1.RunTasksRequest{
		Templates: []*enginev1.TaskTemplate{{Number: 1, Operator: "noop", Resources: &enginev1.Resources{Cpu: &one}, Recompute: true}},
		Tasks: []*enginev1.TaskSubmission{
			{TaskId: task[:], Template: 1, Again: true, Arguments: []*enginev1.TaskArgument{{ObjectId: object[:]}, {Value: []byte("x")}}},
			{TaskId: parent[:], Template: 1, ParentTaskId: task[:]},
		},
		Cancellations: []*enginev1.TaskCancellation{{TaskId: task[:], Children: true, Force: true}}, Acknowledged: task[:], RetiredTemplates: []uint32{1},
	}, &enginev1.SyncRequest{
		HeldTasks:       []*enginev1.HeldTask{{TaskId: parent[:], Epoch: 7, SessionId: session, RunNanos: 5, QuietNanos: 3, Template: &enginev1.TaskTemplate{Operator: "noop"}}},
		Outcomes:        []*enginev1.TaskOutcome{{TaskId: task[:], Epoch: 9, State: succeeded, Outputs: []*enginev1.TaskOutput{{SizeBytes: 5, Value: []byte("y")}}}},
		OutcomeSessions: []string{session},
	})
	seed(&enginev1.RunTasksRequest{Tasks: []*enginev1.TaskSubmission{{}}}, &enginev1.SyncRequest{Outcomes: []*enginev1.TaskOutcome{{TaskId: parent[:]}}})
	f.Fuzz(func(t *testing.T, client, worker []byte) {
		c := newCluster(t, tasks.Config{Term: 2, Retained: -1})
		w := c.worker("n1", engine.Resources{CPU: 2})
		s := c.client(session)
		s.template(&enginev1.TaskTemplate{})
		for range 2 {
			request, report := &enginev1.RunTasksRequest{}, &enginev1.SyncRequest{}
			if proto.Unmarshal(client, request) != nil || proto.Unmarshal(worker, report) != nil {
				return
			}
			if c.core.Submit(c.now, session, s.stream, request) != nil {
				return
			}
			c.core.Report(c.now, w.id, report)
			c.pass()
			answer := &enginev1.SyncResponse{}
			c.core.Fill(w.id, answer)
			for c.core.Respond(session, s.stream, 10) != nil {
			}
			c.now = c.now.Add(time.Second)
			c.core.Tick(c.now)
			if proto.Unmarshal(worker, report) != nil {
				return
			}
			c.core.Join(c.now, w.id, nil, report)
			c.core.List(&enginev1.ListTasksRequest{}, func(string) bool { return true }, 100)
		}
		c.core.EndSession(c.now, session)
		c.now = c.now.Add(2 * time.Minute)
		c.core.Tick(c.now)
		c.core.Leave(c.now, w.id, false)
		c.pass()
		if left := c.core.Leftovers(); left != "" {
			t.Fatalf("what is left: %s", left)
		}
	})
}
