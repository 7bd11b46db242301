package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/client"
	"github.com/f708428e/engine/internal/rpc"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

func (a *app) jobStopCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "stop ID",
		Short: "Stop a job",
		Long: `Stop ends a job. Output files that are finished stay where the sink's mode puts them, without _SUCCESS; engine job resume goes on
from there. Stopping a job that has ended changes nothing.`,
		Args: oneArgument,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withJob(cmd.Context(), args[0], func(ctx context.Context, job *client.Job) error {
				j, err := job.Stop(ctx)
				if err != nil {
					return err
				}
				return a.printState(j)
			})
		},
	}
}

// printState prints a job after something was done to it.
func (a *app) printState(j *enginev1.Job) error {
	return a.print(viewJob(j), func(w io.Writer) error {
		_, err := fmt.Fprintf(w, "%s %s\n", j.GetJobId(), rpc.JobStateFromProto(j.GetState()))
		return engine.WrapError("print", "", err)
	})
}
