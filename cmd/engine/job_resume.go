package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/f708428e/engine/client"
)

func (a *app) jobResumeCommand() *cobra.Command {
	var secretFlags []string
	cmd := &cobra.Command{
		Use:   "resume ID",
		Short: "Let a failed or stopped job go on",
		Long: `Resume lets a failed or stopped job go on from its recorded plan; what is committed is not done again, and inputs of which all is
committed are not opened. It is refused if inputs were added or changed since, if one is gone of which rows are yet to be read, or if a
model has changed; the error lists what differs. With --only-new at its submission, inputs that came since are left to the next job.

The job keeps the secrets that it was submitted with; --secret replaces one, such as a password that has changed.`,
		Args: oneArgument,
		RunE: func(cmd *cobra.Command, args []string) error {
			given, err := givenSecrets(secretFlags)
			if err != nil {
				return err
			}
			return a.withJob(cmd.Context(), args[0], func(ctx context.Context, job *client.Job) error {
				j, err := job.ResumeWith(ctx, given.Message())
				if err != nil {
					return err
				}
				return a.printState(j)
			})
		},
	}
	cmd.Flags().StringArrayVar(&secretFlags, "secret", nil, secretUsage)
	return cmd
}
