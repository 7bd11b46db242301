package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/f708428e/engine/client"
)

func (a *app) jobWaitCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "wait ID",
		Short: "Wait until a job has ended; the exit code says how",
		Args:  oneArgument,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withJob(cmd.Context(), args[0], func(ctx context.Context, job *client.Job) error {
				result, err := a.follow(ctx, job, followOptions{})
				if err != nil {
					return a.refused(err)
				}
				return a.report(result)
			})
		},
	}
}
