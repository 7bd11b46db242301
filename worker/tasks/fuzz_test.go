package tasks_test

import (
	"context"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/f708428e/engine"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// FuzzTake gives the tasks answers that no sound head would send. They must neither panic nor lose count: once everything is revoked
// and released, nothing is left.
func FuzzTake(f *testing.F) {
	id := engine.NewTaskUID()
	for _, answer := range []*enginev1.SyncResponse{
		{Templates: []*enginev1.TaskTemplate{{Number: 1, Operator: "noop"}}},
		{Templates: []*enginev1.TaskTemplate{{Number: 1, Operator: "echo", Outputs: -4, InlineBytes: 1 << 30, Resources: &enginev1.Resources{Custom: map[string]float64{"": -1}}}}},
		{TaskGrants: []*enginev1.TaskGrant{
			{Task: &enginev1.TaskSubmission{TaskId: id[:], Template: 1, Arguments: []*enginev1.TaskArgument{{}, {ObjectId: id[:]}, {ObjectId: []byte("x"), Value: []byte("y")}}}, Epoch: 1, GpuDevices: []int32{-1, 7}},
			{}, {Task: &enginev1.TaskSubmission{TaskId: id[:]}, Epoch: 9},
		}},
		{TaskRevocations: []*enginev1.TaskRevocation{{TaskId: id[:]}, {}, {TaskId: id[:], Forget: true}}, ReleasedTasks: append([]byte{1}, id[:]...), RetiredTemplates: []uint32{0, 1}},
		{Welcome: &enginev1.HeadWelcome{ClusterId: "b"}, AcknowledgedSequence: 1 << 63},
	} {
		data, err := proto.Marshal(answer)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data, data)
	}
	f.Fuzz(func(t *testing.T, first, second []byte) {
		h := start(t, nil, nil)
		h.template(&enginev1.TaskTemplate{Number: 1, Operator: "noop"})
		for _, data := range [][]byte{first, second} {
			var answer enginev1.SyncResponse
			if proto.Unmarshal(data, &answer) != nil {
				return
			}
			h.tasks.Take(&answer)
			h.tasks.Report(&enginev1.SyncRequest{Sequence: 2}, true, time.Now())
		}
		h.tasks.GiveBack()
		for {
			// A new stream tells all; what it tells is released.
			report := &enginev1.SyncRequest{Sequence: 1}
			h.tasks.Report(report, false, time.Now())
			if len(report.GetHeldTasks()) > 0 {
				t.Fatalf("held after all were given back: %v", report)
			}
			if len(report.GetOutcomes()) == 0 {
				break
			}
			var released []byte
			for _, outcome := range report.GetOutcomes() {
				released = append(released, outcome.GetTaskId()...)
			}
			h.tasks.Take(&enginev1.SyncResponse{AcknowledgedSequence: 1, ReleasedTasks: released})
		}
		if idle, _ := h.tasks.Idle(); !idle {
			t.Fatal("not idle in the end")
		}
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
		defer cancel()
		if err := h.tasks.Stop(ctx); err != nil {
			t.Fatal(err)
		}
	})
}
