package client

import (
	"context"

	"github.com/apache/arrow/go/v15/arrow"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/internal/rpc"
	"github.com/f708428e/engine/objectstore/table"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// Value makes an argument of records of one schema, of which there is at least one, that travels with its task. The records may be released
// once it returns. More than engine.MaxInlineObjectBytes are refused: Put them, and pass the reference.
func Value(records ...arrow.Record) (engine.Arg, error) {
	if len(records) == 0 || records[0] == nil {
		return engine.Arg{}, engine.Errorf(engine.KindInvalidArgument, "make argument", "", "there is no record")
	}
	encoding, err := table.Encode(records[0].Schema(), records...)
	if err != nil {
		return engine.Arg{}, err
	}
	defer encoding.Release()
	if size := encoding.SizeBytes(); size > engine.MaxInlineObjectBytes {
		return engine.Arg{}, engine.Errorf(engine.KindInvalidArgument, "make argument", "", "a value of %s, at most %s are allowed", engine.FormatSize(size),
			engine.FormatSize(engine.MaxInlineObjectBytes)).WithHint("Put it and pass the reference")
	}
	stream := make([]byte, encoding.SizeBytes())
	encoding.CopyTo(stream)
	return engine.Value(stream), nil
}

// Task returns what the head knows of a task, of whichever client. It is an error of kind engine.KindNotFound if that is nothing: tasks that
// ended a while ago are forgotten.
func (c *Client) Task(ctx context.Context, id engine.TaskUID) (*enginev1.Task, error) {
	response, err := c.tasks.service.GetTask(ctx, &enginev1.GetTaskRequest{TaskId: id[:]})
	return response.GetTask(), err
}

// TaskFilter selects tasks. The zero filter selects all, those of jobs too.
type TaskFilter struct {
	// States are those that are wanted. Empty means all.
	States []engine.TaskState
	// Name is the tasks' name. Empty means any.
	Name string
	// Node is where they are, or were last. Empty means anywhere.
	Node engine.NodeID
	// Job is whose they are. Empty means any job's, or none.
	Job engine.JobID
}

// Tasks returns up to limit tasks and how many there are in all: those that have not ended and the last that have. Those of clients come
// first, the newest first, then those of jobs, of the newest job first and in order of their index. A limit of 0 means 100.
func (c *Client) Tasks(ctx context.Context, filter TaskFilter, limit int) (*enginev1.ListTasksResponse, error) {
	request := &enginev1.ListTasksRequest{Name: filter.Name, NodeId: string(filter.Node), JobId: string(filter.Job), Limit: int32(min(limit, 1<<30))} //nolint:gosec // Bounded.
	for _, state := range filter.States {
		request.States = append(request.States, rpc.TaskStateToProto(state))
	}
	return c.tasks.service.ListTasks(ctx, request)
}

// TaskSummaries counts the tasks of all clients by name and state, since the head started.
func (c *Client) TaskSummaries(ctx context.Context) ([]*enginev1.TaskSummary, error) {
	response, err := c.tasks.service.SummarizeTasks(ctx, &enginev1.SummarizeTasksRequest{})
	return response.GetSummaries(), err
}

// CancelTasks cancels tasks of any client, and returns how many of them had not ended.
func (c *Client) CancelTasks(ctx context.Context, options CancelOptions, tasks ...engine.TaskUID) (int64, error) {
	request := &enginev1.CancelTasksRequest{Tasks: make([]*enginev1.TaskCancellation, len(tasks))}
	for i := range tasks {
		request.Tasks[i] = &enginev1.TaskCancellation{TaskId: tasks[i][:], Children: options.Children, Force: options.Force}
	}
	response, err := c.tasks.service.CancelTasks(ctx, request)
	return response.GetCancelled(), err
}
