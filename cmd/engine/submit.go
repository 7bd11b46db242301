package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/client"
	"github.com/f708428e/engine/internal/rpc"
)

// submitView is what submit prints of a job that it does not wait for.
type submitView struct {
	JobID        string `json:"job_id"`
	SubmissionID string `json:"submission_id"`
	State        string `json:"state"`
	Attached     bool   `json:"attached"`
}

func (a *app) submitCommand() *cobra.Command {
	var submissionID string
	var sets []string
	var wait, logs bool
	cmd := &cobra.Command{
		Use:   "submit JOB.yaml",
		Short: "Give a job to the cluster and print its id",
		Long: `Submit gives a job to the head at --address and prints the job's id on standard output. The job is durable when the command
returns. "-" reads the job file from standard input.

With --submission-id the command can be repeated: the same id and the same job attach to the job that exists, another job under
that id is refused.`,
		Example: `  engine submit job.yaml
  engine submit job.yaml --wait -o json
  engine submit job.yaml --set source.csv.paths='[data/2026-11-22/*.csv]' --submission-id nightly-2026-11-22`,
		Args: oneArgument,
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			waiting := wait || logs
			refuse := func(err error) error {
				if waiting {
					return a.refused(err)
				}
				return err
			}
			if err := checkSubmissionID(cmd, submissionID); err != nil {
				return err
			}
			spec, err := a.loadJob(ctx, args[0], sets, "")
			if err != nil {
				return refuse(err)
			}
			c, err := a.connect(ctx)
			if err != nil {
				return refuse(err)
			}
			defer func() { _ = c.Close() }() // all calls have returned
			job, err := c.Submit(ctx, spec, submitOptions(submissionID)...)
			if err != nil {
				return refuse(err)
			}
			if job.Attached() {
				a.notef("job %s exists with this submission id and is the same; nothing new was submitted", job.ID())
			}
			if !waiting {
				return a.printSubmitted(cmd, job, submissionID)
			}
			if a.output == "table" {
				fmt.Fprintln(a.stdout, job.ID())
			}
			result, err := a.follow(ctx, job, followOptions{logLines: logs})
			if err != nil {
				return err
			}
			return a.report(result)
		},
	}
	cmd.Flags().StringVar(&submissionID, "submission-id", "", "an `ID` of your own that makes submitting idempotent")
	cmd.Flags().StringArrayVar(&sets, "set", nil, setUsage)
	cmd.Flags().BoolVar(&wait, "wait", false, "wait until the job has ended; the exit code says how")
	cmd.Flags().BoolVar(&logs, "follow", false, "wait, and print the job's log on standard error")
	return cmd
}

const setUsage = "override a field of the job file: `PATH=VALUE` such as steps.0.infer.model=m.onnx; may be repeated"

// checkSubmissionID refuses an id that is given and cannot be one: an empty one is a variable that was not set.
func checkSubmissionID(cmd *cobra.Command, id string) error {
	if !cmd.Flags().Changed("submission-id") {
		return nil
	}
	if err := engine.CheckSubmissionID(id); err != nil {
		return usage(engine.WrapError("--submission-id", "", err))
	}
	return nil
}

func submitOptions(submissionID string) []client.SubmitOption {
	if submissionID == "" {
		return nil
	}
	return []client.SubmitOption{client.WithSubmissionID(submissionID)}
}

func (a *app) printSubmitted(cmd *cobra.Command, job *client.Job, submissionID string) error {
	view := submitView{JobID: string(job.ID()), SubmissionID: submissionID, State: string(engine.JobPending), Attached: job.Attached()}
	if a.output != "table" && job.Attached() {
		status, err := job.Status(cmd.Context())
		if err != nil {
			return err
		}
		view.State = string(rpc.JobStateFromProto(status.GetState()))
	}
	return a.print(view, func(w io.Writer) error {
		_, err := fmt.Fprintln(w, job.ID())
		return engine.WrapError("print", "", err)
	})
}
