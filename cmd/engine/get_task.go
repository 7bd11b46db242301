package main

import (
	"io"

	"github.com/spf13/cobra"

	"github.com/f708428e/engine/client"
	"github.com/f708428e/engine/internal/rpc"
)

func (a *app) getTaskCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "task ID",
		Short:   "Show a task of a client",
		Long:    `Task shows what the head knows of a task that a client has submitted: where it stands, why it waits, or how it ended.`,
		Example: `  engine get task 3f2a9c7be1d04486a5c0f7e2b9d80000`,
		Args:    oneArgument,
		RunE: func(cmd *cobra.Command, args []string) error {
			ids, err := taskIDs(args)
			if err != nil {
				return err
			}
			return a.withClient(cmd.Context(), func(c *client.Client) error {
				task, err := c.Task(cmd.Context(), ids[0])
				if err != nil {
					return err
				}
				view := viewTask(task)
				return a.print(view, func(w io.Writer) error { return a.describeTask(w, view) })
			})
		},
	}
}

func (a *app) describeTask(w io.Writer, v taskView) error {
	var failure, hint, attempts string
	if e := v.Error; e != nil {
		failure = e.Message
		for _, part := range []string{e.ID, e.Operation} {
			if part != "" {
				failure = part + ": " + failure
			}
		}
		failure += " [" + e.Kind + "]"
		hint = e.Hint
	}
	if v.Attempts > 0 {
		attempts = count(v.Attempts)
	}
	resources, _ := rpc.ResourcesFromProto(v.wire) // The head took them.
	return fields(w,
		"task", v.TaskID,
		"name", v.Name,
		"operator", v.Operator,
		"state", v.State,
		"reason", v.Reason,
		"progress", v.progress(),
		"error", failure,
		"hint", hint,
		"queue", v.Queue,
		"resources", resources.String(),
		"node", v.NodeID,
		"attempts", attempts,
		"submitted", a.whenAgo(v.SubmitTime),
		"started", a.whenAgo(v.StartTime),
		"ended", a.whenAgo(v.EndTime),
		"ran", a.ran(v),
		"session", v.SessionID,
		"parent", v.ParentTaskID,
		"job", v.JobID,
	)
}
