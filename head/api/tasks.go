package api

import (
	"context"
	"errors"
	"io"
	"slices"

	"google.golang.org/grpc"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/head/dispatch"
	"github.com/f708428e/engine/head/objects"
	"github.com/f708428e/engine/internal/security/access"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

const (
	// maxOutcomes bounds one message of outcomes; the core bounds its bytes.
	maxOutcomes = 2_000
	// maxCancellations bounds one call of CancelTasks.
	maxCancellations = 100_000
	// maxListedTasks bounds one listing; defaultListedTasks is what one has that does not say so.
	maxListedTasks     = 10_000
	defaultListedTasks = 100
)

// Tasks serves enginev1.TaskService.
type Tasks struct {
	enginev1.UnimplementedTaskServiceServer
	dispatcher *dispatch.Dispatcher
	directory  *objects.Directory
	// sessions are those of the service of objects.
	sessions *sessions
}

// NewTasks makes the server of the tasks of clients, whose sessions and objects the directory knows. What the directory tells must reach
// the dispatcher; see dispatch.Dispatcher.HearObjects.
func NewTasks(dispatcher *dispatch.Dispatcher, objects *Objects) *Tasks {
	return &Tasks{dispatcher: dispatcher, directory: objects.directory, sessions: objects.sessions}
}

// RunTasks implements enginev1.TaskServiceServer. One goroutine takes in what the client sends, this one sends what has gathered
// meanwhile: a client that does not read keeps its outcomes waiting in the core, which then grants it nothing more.
func (s *Tasks) RunTasks(stream grpc.BidiStreamingServer[enginev1.RunTasksRequest, enginev1.RunTasksResponse]) error {
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	session := first.GetSessionId()
	if err := s.sessions.check(stream.Context(), "run tasks", session); err != nil {
		return err
	}
	if err := s.directory.CheckSession(session); err != nil {
		return engine.WrapError("run tasks", session, err)
	}
	number, window, responses := s.dispatcher.OpenTasks(session)
	defer s.dispatcher.CloseTasks(session, number)
	if err := s.checkAgain(session); err != nil {
		return engine.WrapError("run tasks", session, err)
	}
	if err := stream.Send(&enginev1.RunTasksResponse{ClusterId: s.directory.ClusterID(), Window: window}); err != nil {
		return err
	}
	received := make(chan error, 1)
	go func() { // lifecycle: Recv fails when the handler has returned.
		received <- s.receiveTasks(stream, session, number, first)
	}()
	for {
		select {
		case <-responses:
		case err := <-received:
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		for {
			response, open := s.dispatcher.RespondTasks(session, number, maxOutcomes)
			if !open {
				return engine.Errorf(engine.KindFenced, "run tasks", session, "the session has ended, or another stream of it has begun")
			}
			if response == nil {
				break
			}
			if err := stream.Send(response); err != nil {
				return err
			}
		}
	}
}

// receiveTasks takes in messages until the stream ends.
func (s *Tasks) receiveTasks(
	stream grpc.BidiStreamingServer[enginev1.RunTasksRequest, enginev1.RunTasksResponse], session string, number uint64, request *enginev1.RunTasksRequest,
) error {
	for {
		if err := s.checkTasks(stream.Context(), request); err != nil {
			return err
		}
		if err := s.dispatcher.SubmitTasks(session, number, request); err != nil {
			return err
		}
		var err error
		if request, err = stream.Recv(); err != nil {
			return err
		}
	}
}

// CancelTasks implements enginev1.TaskServiceServer.
func (s *Tasks) CancelTasks(ctx context.Context, request *enginev1.CancelTasksRequest) (*enginev1.CancelTasksResponse, error) {
	if n := len(request.GetTasks()); n > maxCancellations {
		return nil, engine.Errorf(engine.KindInvalidArgument, "cancel tasks", "", "%d tasks, at most %d are allowed", n, maxCancellations)
	}
	for _, cancellation := range request.GetTasks() {
		if _, err := taskID("cancel tasks", cancellation.GetTaskId()); err != nil {
			return nil, err
		}
	}
	if err := s.checkCancellations(ctx, "cancel tasks", request.GetTasks()); err != nil {
		return nil, err
	}
	return &enginev1.CancelTasksResponse{Cancelled: s.dispatcher.CancelTasks(request.GetTasks())}, nil
}

// GetTask implements enginev1.TaskServiceServer.
func (s *Tasks) GetTask(ctx context.Context, request *enginev1.GetTaskRequest) (*enginev1.GetTaskResponse, error) {
	id, err := taskID("get task", request.GetTaskId())
	if err != nil {
		return nil, err
	}
	task, err := s.dispatcher.Task(id)
	if err == nil {
		err = access.Check(ctx, "get task", id.String(), task.GetQueue())
	}
	if err != nil {
		return nil, err
	}
	return &enginev1.GetTaskResponse{Task: task}, nil
}

// ListTasks implements enginev1.TaskServiceServer.
func (s *Tasks) ListTasks(ctx context.Context, request *enginev1.ListTasksRequest) (*enginev1.ListTasksResponse, error) {
	limit := int(request.GetLimit())
	switch {
	case limit < 0 || limit > maxListedTasks:
		return nil, engine.Errorf(engine.KindInvalidArgument, "list tasks", "", "limit must be between 0 and %d, found %d", maxListedTasks, limit)
	case limit == 0:
		limit = defaultListedTasks
	}
	found, total := s.dispatcher.ListTasks(request, access.Of(ctx).MayUse, limit)
	return &enginev1.ListTasksResponse{Tasks: found, Total: total}, nil
}

// SummarizeTasks implements enginev1.TaskServiceServer.
func (s *Tasks) SummarizeTasks(ctx context.Context, _ *enginev1.SummarizeTasksRequest) (*enginev1.SummarizeTasksResponse, error) {
	if err := checkWhole(ctx, "summarize tasks"); err != nil {
		return nil, err
	}
	return &enginev1.SummarizeTasksResponse{Summaries: s.dispatcher.Summaries()}, nil
}

// CreatePlacementGroup implements enginev1.TaskServiceServer.
func (s *Tasks) CreatePlacementGroup(ctx context.Context, request *enginev1.CreatePlacementGroupRequest) (*enginev1.CreatePlacementGroupResponse, error) {
	const operation = "create placement group"
	id, err := groupID(operation, request.GetPlacementGroupId())
	if err != nil {
		return nil, err
	}
	if err := checkOwn(ctx, operation, request.GetQueue()); err != nil {
		return nil, err
	}
	if err := s.sessions.check(ctx, operation, request.GetSessionId()); err != nil {
		return nil, err
	}
	if err := s.directory.CheckSession(request.GetSessionId()); err != nil {
		return nil, engine.WrapError(operation, id.String(), err)
	}
	session := request.GetSessionId() // The request belongs to the dispatcher from then on.
	if err := s.dispatcher.CreateGroup(request); err != nil {
		return nil, err
	}
	return &enginev1.CreatePlacementGroupResponse{}, engine.WrapError(operation, id.String(), s.checkAgain(session))
}

// checkAgain returns an error if a session has ended after it was checked: the dispatcher may have heard of that before it was given
// something new of the session, and is told once more so that this does not stay for good.
func (s *Tasks) checkAgain(session string) error {
	err := s.directory.CheckSession(session)
	if err != nil {
		s.dispatcher.HearObjects(objects.News{EndedSessions: []string{session}})
	}
	return err
}

// WaitPlacementGroup implements enginev1.TaskServiceServer.
func (s *Tasks) WaitPlacementGroup(ctx context.Context, request *enginev1.WaitPlacementGroupRequest) (*enginev1.WaitPlacementGroupResponse, error) {
	id, err := groupID("wait for placement group", request.GetPlacementGroupId())
	if err != nil {
		return nil, err
	}
	if err := s.checkGroup(ctx, "wait for placement group", id[:]); err != nil {
		return nil, err
	}
	group, err := s.dispatcher.WaitGroup(ctx, id)
	return &enginev1.WaitPlacementGroupResponse{Group: group}, err
}

// RemovePlacementGroup implements enginev1.TaskServiceServer.
func (s *Tasks) RemovePlacementGroup(ctx context.Context, request *enginev1.RemovePlacementGroupRequest) (*enginev1.RemovePlacementGroupResponse, error) {
	id, err := groupID("remove placement group", request.GetPlacementGroupId())
	if err != nil {
		return nil, err
	}
	if err := s.checkGroup(ctx, "remove placement group", id[:]); err != nil {
		return nil, err
	}
	return &enginev1.RemovePlacementGroupResponse{}, s.dispatcher.RemoveGroup(id)
}

// ListPlacementGroups implements enginev1.TaskServiceServer.
func (s *Tasks) ListPlacementGroups(ctx context.Context, _ *enginev1.ListPlacementGroupsRequest) (*enginev1.ListPlacementGroupsResponse, error) {
	caller := access.Of(ctx)
	groups := slices.DeleteFunc(s.dispatcher.Groups(), func(g *enginev1.PlacementGroup) bool { return !caller.MayUse(g.GetQueue()) })
	return &enginev1.ListPlacementGroupsResponse{Groups: groups}, nil
}

// taskID reads the id of a task.
func taskID(operation string, wire []byte) (engine.TaskUID, error) {
	var id engine.TaskUID
	if len(wire) != len(id) {
		return id, engine.Errorf(engine.KindInvalidArgument, operation, "", "the id of a task has %d bytes, found %d", len(id), len(wire))
	}
	copy(id[:], wire)
	if id[14] != 0 || id[15] != 0 || id.IsZero() {
		return id, engine.Errorf(engine.KindInvalidArgument, operation, id.String(), "this is not the id of a task: it must end in two zero bytes, and not be zero")
	}
	return id, nil
}

// groupID reads the id of a placement group.
func groupID(operation string, wire []byte) (engine.PlacementGroupID, error) {
	var id engine.PlacementGroupID
	if len(wire) != len(id) {
		return id, engine.Errorf(engine.KindInvalidArgument, operation, "", "the id of a placement group has %d bytes, found %d", len(id), len(wire))
	}
	copy(id[:], wire)
	if id == (engine.PlacementGroupID{}) {
		return id, engine.Errorf(engine.KindInvalidArgument, operation, "", "the id of a placement group is zero")
	}
	return id, nil
}
