package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/client"
	"github.com/f708428e/engine/internal/jobfile"
)

func (a *app) jobShowCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "show ID",
		Short: "Print a job as a job file, which can be submitted again",
		Long:  "Show prints the job as it was submitted, with absolute paths and overrides applied: as YAML, or as JSON with -o json.",
		Args:  oneArgument,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withJob(cmd.Context(), args[0], func(ctx context.Context, job *client.Job) error {
				j, err := job.Status(ctx)
				if err != nil {
					return err
				}
				format := jobfile.YAML
				if a.output == "json" {
					format = jobfile.JSON
				}
				text, err := jobfile.Marshal(j.GetSpec(), format)
				if err != nil {
					return err
				}
				_, err = a.stdout.Write(text)
				return engine.WrapError("print", "", err)
			})
		},
	}
}
