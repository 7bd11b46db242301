package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/f708428e/engine/client"
)

func (a *app) jobResumeCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "resume ID",
		Short: "Let a failed or stopped job go on",
		Long: `Resume lets a failed or stopped job go on from its recorded plan; what is committed is not done again. It is refused if the inputs
or a model have changed since.`,
		Args: oneArgument,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withJob(cmd.Context(), args[0], func(ctx context.Context, job *client.Job) error {
				j, err := job.Resume(ctx)
				if err != nil {
					return err
				}
				return a.printState(j)
			})
		},
	}
}
