package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/f708428e/engine/client"
)

func (a *app) jobCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "job",
		Short: "Look at jobs, wait for them, stop, resume, and forget them",
		Long:  "The job commands work on jobs of the head at --address. A job is named by its id or its submission id.",
		Args:  cobra.ArbitraryArgs,
		RunE:  a.group,
	}
	cmd.AddCommand(a.jobListCommand(), a.jobStatusCommand(), a.jobLogsCommand(), a.jobWaitCommand(), a.jobStopCommand(), a.jobShowCommand(),
		a.jobResumeCommand(), a.jobForgetCommand())
	return cmd
}

// withJob runs f with the job of that id; nothing is asked of the head before f does.
func (a *app) withJob(ctx context.Context, id string, f func(context.Context, *client.Job) error) error {
	if id == "" {
		return usagef("the job's id is empty")
	}
	c, err := a.connect(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }() // all calls have returned
	return f(ctx, c.Job(id))
}
