package api_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/head/dispatch"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

func wantPermission(t *testing.T, what string, err error) {
	t.Helper()
	if engine.KindOf(err) != engine.KindPermission || err == nil {
		t.Errorf("%s: %v, expected a refusal", what, err)
	}
}

// TestObjectsOfOtherQueues has somebody who is granted one queue try everything with an object of another.
func TestObjectsOfOtherQueues(t *testing.T) {
	s := serveObjects(t, time.Minute)
	stream := s.open(sessionID)
	ours, theirs := engine.NewObjectID(), engine.NewObjectID()
	object := func(id engine.ObjectID, domain string) *enginev1.ObjectCopy {
		return &enginev1.ObjectCopy{
			ObjectId: id[:], State: enginev1.ObjectState_OBJECT_STATE_IN_MEMORY, Primary: true, SizeBytes: 1 << 20, Domain: domain,
			Owners: []*enginev1.ObjectOwner{{Kind: "pin", Id: domain + "/pin"}, {Kind: "session", Id: sessionID}},
		}
	}
	s.store("n1", object(ours, "a"), object(theirs, "b"))
	ctx := granted(s.ctx, "a")
	own := strings.Repeat("b", 32)
	mine, err := s.objects.OpenSession(ctx)
	check(t, err)
	check(t, mine.Send(&enginev1.OpenSessionRequest{SessionId: own}))
	_, err = mine.Recv()
	check(t, err)
	for name, call := range map[string]func(ctx context.Context, id engine.ObjectID) error{
		"get": func(ctx context.Context, id engine.ObjectID) error {
			return ignore(s.objects.GetObject(ctx, &enginev1.GetObjectRequest{ObjectId: id[:]}))
		},
		"wait": func(ctx context.Context, id engine.ObjectID) error {
			return ignore(s.objects.WaitObjects(ctx, &enginev1.WaitObjectsRequest{ObjectIds: [][]byte{id[:]}, Count: 1}))
		},
		"hold": func(ctx context.Context, id engine.ObjectID) error {
			return ignore(s.objects.HoldObjects(ctx, &enginev1.HoldObjectsRequest{ObjectIds: [][]byte{id[:]}, SessionId: own}))
		},
		"release": func(ctx context.Context, id engine.ObjectID) error {
			return ignore(s.objects.ReleaseObjects(ctx, &enginev1.ReleaseObjectsRequest{ObjectIds: [][]byte{id[:]}, SessionId: own}))
		},
		"pin": func(ctx context.Context, id engine.ObjectID) error {
			return ignore(s.objects.PinObject(ctx, &enginev1.PinObjectRequest{ObjectId: id[:], Name: "new-" + id.String()}))
		},
		"checkpoint": func(ctx context.Context, id engine.ObjectID) error {
			return ignore(s.objects.CheckpointObject(ctx, &enginev1.CheckpointObjectRequest{ObjectId: id[:], Folder: "/tmp"}))
		},
		"delete": func(ctx context.Context, id engine.ObjectID) error {
			return ignore(s.objects.DeleteObjects(ctx, &enginev1.DeleteObjectsRequest{ObjectIds: [][]byte{id[:]}}))
		},
	} {
		wantPermission(t, name, call(ctx, theirs))
		if name == "delete" || name == "checkpoint" {
			continue // The store of the test does nothing, or everything.
		}
		if err := call(ctx, ours); engine.KindOf(err) == engine.KindPermission && err != nil {
			t.Errorf("%s of an object of the own queue: %v", name, err)
		}
	}
	wantPermission(t, "take the name of a pin", ignore(s.objects.PinObject(ctx, &enginev1.PinObjectRequest{ObjectId: ours[:], Name: "b/pin"})))
	wantPermission(t, "unpin", ignore(s.objects.UnpinObject(ctx, &enginev1.UnpinObjectRequest{Name: "b/pin"})))
	id := engine.NewObjectID()
	for _, domain := range []string{"b", "default"} {
		wantPermission(t, "put", ignore(s.objects.PutObject(ctx, &enginev1.PutObjectRequest{ObjectId: id[:], Data: []byte("x"), SessionId: own, Domain: domain})))
		wantPermission(t, "restore", ignore(s.objects.RestoreObject(ctx, &enginev1.RestoreObjectRequest{Uri: "/tmp/x", SessionId: own, Domain: domain})))
	}
	// Sessions of others.
	wantPermission(t, "put for another's session", ignore(s.objects.PutObject(ctx, &enginev1.PutObjectRequest{ObjectId: id[:], Data: []byte("x"), SessionId: sessionID})))
	wantPermission(t, "hold for another's session", ignore(s.objects.HoldObjects(ctx, &enginev1.HoldObjectsRequest{ObjectIds: [][]byte{ours[:]}, SessionId: sessionID})))
	thief, err := s.objects.OpenSession(ctx)
	check(t, err)
	check(t, thief.Send(&enginev1.OpenSessionRequest{SessionId: sessionID}))
	wantPermission(t, "take a session", ignore(thief.Recv()))
	check(t, stream.Send(&enginev1.OpenSessionRequest{}))
	if _, err := stream.Recv(); err != nil {
		t.Errorf("the session that somebody wanted to take: %v", err)
	}
	// What is shown.
	described, err := s.objects.DescribeObjects(ctx, &enginev1.DescribeObjectsRequest{ObjectIds: [][]byte{ours[:], theirs[:]}, Names: []string{"a/pin", "b/pin"}})
	check(t, err)
	for _, info := range described.GetObjects() {
		if info.GetDomain() != "a" {
			t.Errorf("%v is described", info)
		}
	}
	listed, err := s.objects.ListObjects(ctx, &enginev1.ListObjectsRequest{})
	check(t, err)
	if len(described.GetObjects()) != 2 || len(listed.GetObjects()) != 1 || listed.GetTotal() != 1 || listed.GetTotalBytes() != 1<<20 {
		t.Errorf("described %v, listed %v", described, listed)
	}
	usage, err := s.objects.GetObjectStoreUsage(ctx, &enginev1.GetObjectStoreUsageRequest{})
	check(t, err)
	for _, store := range usage.GetStores() {
		if len(store.GetOwners()) > 0 {
			t.Errorf("the owners %v are shown", store.GetOwners())
		}
	}
	check(t, stream.CloseSend())
}

// TestTasksOfOtherQueues does the same with tasks, placement groups, and queues.
func TestTasksOfOtherQueues(t *testing.T) {
	s := serveTasks(t, dispatch.Config{})
	s.session(sessionID)
	theirs := engine.NewTaskUID()
	s.run(sessionID, &enginev1.RunTasksRequest{
		Templates: []*enginev1.TaskTemplate{{Number: 1, Operator: "noop", Queue: "b", WaitForNodes: true}},
		Tasks:     []*enginev1.TaskSubmission{{TaskId: theirs[:], Template: 1}},
	})
	group, cpu := engine.NewPlacementGroupID(), 1.0
	_, err := s.tasks.CreatePlacementGroup(s.ctx, &enginev1.CreatePlacementGroupRequest{
		PlacementGroupId: group[:], SessionId: sessionID, Queue: "b", Bundles: []*enginev1.Resources{{Cpu: &cpu}},
	})
	check(t, err)
	for deadline := time.Now().Add(time.Minute); ; {
		if _, err := s.tasks.GetTask(s.ctx, &enginev1.GetTaskRequest{TaskId: theirs[:]}); err == nil {
			break
		} else if time.Now().After(deadline) {
			t.Fatal(err)
		}
		time.Sleep(time.Millisecond) // sleep: the stream of the task does not say that it was taken in.
	}
	ctx := granted(s.ctx, "a")
	own := strings.Repeat("b", 32)
	session, err := s.objects.OpenSession(ctx)
	check(t, err)
	check(t, session.Send(&enginev1.OpenSessionRequest{SessionId: own}))
	_, err = session.Recv()
	check(t, err)
	run := func(as string, request *enginev1.RunTasksRequest) error {
		stream, err := s.tasks.RunTasks(ctx)
		check(t, err)
		request.SessionId = as
		check(t, stream.Send(request))
		for err == nil {
			_, err = stream.Recv()
		}
		return err
	}
	id, output := engine.NewTaskUID(), theirs.Output(0)
	template := func(queue string, placement *enginev1.TaskPlacement) []*enginev1.TaskTemplate {
		return []*enginev1.TaskTemplate{{Number: 1, Operator: "noop", Queue: queue, Placement: placement, WaitForNodes: true}}
	}
	for name, err := range map[string]error{
		"get":            ignore(s.tasks.GetTask(ctx, &enginev1.GetTaskRequest{TaskId: theirs[:]})),
		"cancel":         ignore(s.tasks.CancelTasks(ctx, &enginev1.CancelTasksRequest{Tasks: []*enginev1.TaskCancellation{{TaskId: theirs[:]}}})),
		"summarize":      ignore(s.tasks.SummarizeTasks(ctx, &enginev1.SummarizeTasksRequest{})),
		"wait for group": ignore(s.tasks.WaitPlacementGroup(ctx, &enginev1.WaitPlacementGroupRequest{PlacementGroupId: group[:]})),
		"remove group":   ignore(s.tasks.RemovePlacementGroup(ctx, &enginev1.RemovePlacementGroupRequest{PlacementGroupId: group[:]})),
		"create group": ignore(s.tasks.CreatePlacementGroup(ctx, &enginev1.CreatePlacementGroupRequest{
			PlacementGroupId: id[:], SessionId: own, Queue: "b", Bundles: []*enginev1.Resources{{Cpu: &cpu}},
		})),
		"set queue":                 ignore(s.cluster.SetQueue(ctx, &enginev1.SetQueueRequest{Queue: &enginev1.Queue{Name: "b"}})),
		"delete queue":              ignore(s.cluster.DeleteQueue(ctx, &enginev1.DeleteQueueRequest{Name: "b"})),
		"drain":                     ignore(s.cluster.DrainNode(ctx, &enginev1.DrainNodeRequest{NodeId: "n"})),
		"run in another queue":      run(own, &enginev1.RunTasksRequest{Templates: template("b", nil)}),
		"run in the default queue":  run(own, &enginev1.RunTasksRequest{Templates: template("", nil)}),
		"run in another's group":    run(own, &enginev1.RunTasksRequest{Templates: template("a", &enginev1.TaskPlacement{PlacementGroupId: group[:]})}),
		"run for another's session": run(sessionID, &enginev1.RunTasksRequest{Templates: template("a", nil)}),
		"read another's output": run(own, &enginev1.RunTasksRequest{
			Templates: template("a", nil), Tasks: []*enginev1.TaskSubmission{{TaskId: id[:], Template: 1, Arguments: []*enginev1.TaskArgument{{ObjectId: output[:]}}}},
		}),
		"cancel on a stream": run(own, &enginev1.RunTasksRequest{Cancellations: []*enginev1.TaskCancellation{{TaskId: theirs[:]}}}),
	} {
		wantPermission(t, name, err)
	}
	timeline, err := s.cluster.GetTimeline(ctx, &enginev1.GetTimelineRequest{})
	check(t, err)
	wantPermission(t, "timeline", ignore(timeline.Recv()))
	tasks, err := s.tasks.ListTasks(ctx, &enginev1.ListTasksRequest{})
	check(t, err)
	groups, err := s.tasks.ListPlacementGroups(ctx, &enginev1.ListPlacementGroupsRequest{})
	check(t, err)
	queues, err := s.cluster.ListQueues(ctx, &enginev1.ListQueuesRequest{})
	check(t, err)
	if len(tasks.GetTasks()) != 0 || tasks.GetTotal() != 0 || len(groups.GetGroups()) != 0 || len(queues.GetQueues()) != 0 {
		t.Errorf("shown are %v, %v, %v", tasks, groups, queues)
	}
	if view, err := s.tasks.GetTask(granted(s.ctx, "b"), &enginev1.GetTaskRequest{TaskId: theirs[:]}); err != nil || view.GetTask().GetQueue() != "b" {
		t.Errorf("who is granted the queue gets %v, %v", view, err)
	}
}
