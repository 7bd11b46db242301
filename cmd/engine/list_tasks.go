package main

import (
	"cmp"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/client"
)

// taskStates are the states of a task in the order in which it goes through them.
var taskStates = []engine.TaskState{
	engine.TaskPendingArguments, engine.TaskPending, engine.TaskRunning, engine.TaskSucceeded, engine.TaskFailed, engine.TaskCancelled,
}

func (a *app) listTasksCommand() *cobra.Command {
	var limit int
	var states []string
	var filter client.TaskFilter
	cmd := &cobra.Command{
		Use:   "tasks",
		Short: "List tasks, the newest first",
		Long: `Tasks lists the tasks of clients and of jobs: all that have not ended, and the last ones that have. Summary tasks counts them instead,
which is quicker to read if there are many.`,
		Example: `  engine list tasks --state RUNNING,PENDING
  engine list tasks --name infer --node box-7f3k2m9q --limit 20
  engine list tasks --job 20261122-095900-7f3k2m9q -o json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if limit < 1 || limit > 10_000 {
				return usagef("--limit %d: expected 1 to 10000", limit)
			}
			var err error
			if filter.States, err = parseTaskStates(states); err != nil {
				return err
			}
			return a.withClient(cmd.Context(), func(c *client.Client) error {
				found, err := c.Tasks(cmd.Context(), filter, limit)
				if err != nil {
					return err
				}
				view := viewTasks(found)
				return a.print(view, func(w io.Writer) error { return a.taskTable(w, view) })
			})
		},
	}
	flags := cmd.Flags()
	flags.IntVar(&limit, "limit", 100, "at most `N` tasks")
	flags.StringSliceVar(&states, "state", nil, "only tasks in one of these `STATES`: "+taskStateNames())
	flags.StringVar(&filter.Name, "name", "", "only tasks of this `NAME`")
	flags.StringVar((*string)(&filter.Node), "node", "", "only tasks that are, or were last, on the node with this `ID`")
	flags.StringVar((*string)(&filter.Job), "job", "", "only tasks of the job with this `ID`")
	return cmd
}

func taskStateNames() string {
	names := make([]string, len(taskStates))
	for i, state := range taskStates {
		names[i] = string(state)
	}
	return strings.Join(names, ", ")
}

// parseTaskStates reads names of states, in any case of letters.
func parseTaskStates(names []string) (states []engine.TaskState, err error) {
next:
	for _, name := range names {
		for _, state := range taskStates {
			if strings.EqualFold(name, string(state)) {
				states = append(states, state)
				continue next
			}
		}
		return nil, usagef("--state %s: expected %s", name, taskStateNames())
	}
	return states, nil
}

func (a *app) taskTable(w io.Writer, view tasksView) error {
	if len(view.Tasks) == 0 {
		_, err := io.WriteString(w, "no tasks\n")
		return engine.WrapError("print", "", err)
	}
	t := newTable(w, "task", "name", "state", "node", ">attempts", ">ran", ">age", "why")
	for _, task := range view.Tasks {
		why := task.Reason
		switch {
		case task.Error != nil:
			why = task.Error.Message
		case task.Hanging:
			why = "hangs"
		}
		t.AppendRow([]any{
			task.TaskID, cmp.Or(task.Name, task.Operator), task.State, task.NodeID, task.Attempts, a.ran(task), a.age(task.SubmitTime), firstLine(why),
		})
	}
	t.SuppressEmptyColumns()
	t.Render()
	text := plural(view.Total, "task") + "\n"
	if more := view.Total - int64(len(view.Tasks)); more > 0 {
		text = fmt.Sprintf("%s in all; %s more are not shown (--limit)\n", plural(view.Total, "task"), count(more))
	}
	_, err := io.WriteString(w, text)
	return engine.WrapError("print", "", err)
}

// firstLine is what a table shows of a text.
func firstLine(text string) string {
	const most = 100
	line, rest, _ := strings.Cut(text, "\n")
	runes := []rune(line)
	if len(runes) > most {
		return string(runes[:most]) + "…"
	}
	if rest != "" {
		line += " …"
	}
	return line
}
