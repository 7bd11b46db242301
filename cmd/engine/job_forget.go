package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/f708428e/engine/client"
)

func (a *app) jobForgetCommand() *cobra.Command {
	var discard bool
	cmd := &cobra.Command{
		Use:   "forget ID",
		Short: "Drop a job that has ended",
		Long: `Forget drops a job that has ended, with its log and its objects; it cannot be resumed then, and its submission id is free. Of a job that
did not succeed, what it has written goes that nobody sees: in mode overwrite, all of it. In the other modes the files that it has
published stay, rows without a _SUCCESS, unless --discard deletes them. The output of a job that succeeded stays in any case.

Heads forget jobs by themselves after 30 days, or when 1,000 newer ones have ended, as if without --discard.`,
		Args: oneArgument,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withJob(cmd.Context(), args[0], func(ctx context.Context, job *client.Job) error {
				j, err := job.Forget(ctx, discard)
				if err != nil {
					return err
				}
				if a.output != "table" {
					return a.print(viewJob(j), nil)
				}
				fmt.Fprintf(a.stdout, "job %s is forgotten\n", j.GetJobId())
				return nil
			})
		},
	}
	cmd.Flags().BoolVar(&discard, "discard", false, "also delete the files that the job has published, unless it succeeded")
	return cmd
}
