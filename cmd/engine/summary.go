package main

import (
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/client"
)

func (a *app) summaryCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "summary",
		Short: "Count what a cluster does",
		Args:  cobra.ArbitraryArgs,
		RunE:  a.group,
	}
	cmd.AddCommand(a.summaryTasksCommand())
	return cmd
}

func (a *app) summaryTasksCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "tasks",
		Short: "Count tasks by name and state",
		Long: `Tasks counts the tasks of clients and of jobs by name and state since the head started, with the mean time of those that succeeded, how many
attempts were lost with their nodes, and why some wait.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withClient(cmd.Context(), func(c *client.Client) error {
				summaries, err := c.TaskSummaries(cmd.Context())
				if err != nil {
					return err
				}
				views := viewTaskSummaries(summaries)
				return a.print(views, func(w io.Writer) error { return taskSummaryTable(w, views) })
			})
		},
	}
}

func taskSummaryTable(w io.Writer, summaries []taskSummaryView) error {
	if len(summaries) == 0 {
		_, err := io.WriteString(w, "no tasks\n")
		return engine.WrapError("print", "", err)
	}
	t := newTable(w, "name", "operator", ">waits for args", ">pending", ">running", ">succeeded", ">failed", ">cancelled", ">mean", ">lost", "why")
	for _, s := range summaries {
		row := []any{s.Name, s.Operator}
		for _, state := range taskStates {
			row = append(row, countUnlessZero(s.States[string(state)]))
		}
		mean := ""
		if s.MeanSeconds > 0 {
			mean = time.Duration(s.MeanSeconds * float64(time.Second)).Round(time.Microsecond).String()
		}
		t.AppendRow(append(row, mean, countUnlessZero(s.AttemptsLost), firstLine(s.Reason)))
	}
	t.SuppressEmptyColumns()
	t.Render()
	return nil
}

func countUnlessZero(n int64) string {
	if n == 0 {
		return ""
	}
	return count(n)
}
