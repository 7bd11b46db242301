package main

import (
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/internal/rpc"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

var jobStates = []engine.JobState{engine.JobPending, engine.JobRunning, engine.JobSucceeded, engine.JobFailed, engine.JobStopped}

func (a *app) jobListCommand() *cobra.Command {
	var limit int
	var stateNames []string
	var old historyFlags
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List jobs, the newest first",
		Long: `List shows the jobs that the head knows. With --history it shows those that have ended, also those that the head has forgotten, from the
event log: that of the head, or, without a head, that of --event-log.`,
		Example: "  engine job list --state failed\n  engine job list --history --since 7d\n  engine job list --history --event-log s3://bucket/events",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if limit < 1 || limit > 10_000 {
				return usagef("--limit %d: expected 1 to 10000", limit)
			}
			states, err := parseStates(stateNames)
			if err != nil {
				return err
			}
			if old.wanted {
				return a.listHistory(cmd.Context(), old, limit, states)
			}
			if old.since != "" || old.place != "" {
				return usagef("job list: --since and --event-log go with --history")
			}
			c, err := a.connect(cmd.Context())
			if err != nil {
				return err
			}
			defer func() { _ = c.Close() }() // all calls have returned
			jobs, err := c.Jobs(cmd.Context(), limit, states...)
			if err != nil {
				return err
			}
			views := make([]jobView, len(jobs))
			for i, j := range jobs {
				views[i] = viewJob(j)
			}
			return a.print(views, func(w io.Writer) error {
				return a.jobTable(w, jobs)
			})
		},
	}
	old.add(cmd.Flags())
	cmd.Flags().IntVar(&limit, "limit", 100, "at most `N` jobs")
	cmd.Flags().StringSliceVar(&stateNames, "state", nil, "only jobs in these `STATES`: pending, running, succeeded, failed, stopped")
	return cmd
}

func parseStates(names []string) ([]engine.JobState, error) {
	var states []engine.JobState
next:
	for _, name := range names {
		for _, s := range jobStates {
			if strings.EqualFold(name, string(s)) {
				states = append(states, s)
				continue next
			}
		}
		return nil, usagef("--state %s: expected pending, running, succeeded, failed, or stopped", name)
	}
	return states, nil
}

func (a *app) jobTable(w io.Writer, jobs []*enginev1.Job) error {
	if len(jobs) == 0 {
		_, err := io.WriteString(w, "no jobs\n")
		return engine.WrapError("print", "", err)
	}
	t := newTable(w, "job id", "name", "state", ">rows", ">splits", "submitted", ">elapsed", "submission id")
	for _, j := range jobs {
		p := j.GetProgress()
		splits := ""
		if p.GetSplitsTotal() > 0 {
			splits = count(p.GetSplitsDone()) + "/" + count(p.GetSplitsTotal())
		}
		t.AppendRow([]any{
			j.GetJobId(), j.GetName(), string(rpc.JobStateFromProto(j.GetState())), count(p.GetRowsRead()), splits, when(j.GetSubmitTime()), a.elapsed(j), j.GetSubmissionId(),
		})
	}
	t.Render()
	return nil
}

// elapsed is how long a job has taken since its submission; for one that was resumed that includes the time between.
func (a *app) elapsed(j *enginev1.Job) string {
	if j.GetSubmitTime() == nil {
		return ""
	}
	end := a.now()
	if j.GetEndTime() != nil {
		end = j.GetEndTime().AsTime()
	}
	return span(end.Sub(j.GetSubmitTime().AsTime()))
}
