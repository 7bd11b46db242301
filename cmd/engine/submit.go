package main

import (
	"context"
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
	var sets, secretFlags []string
	var wait, logs, onlyNew bool
	cmd := &cobra.Command{
		Use:   "submit JOB.yaml",
		Short: "Give a job to the cluster and print its id",
		Long: `Submit gives a job to the head at --address and prints the job's id on standard output. The job is durable when the command
returns. "-" reads the job file from standard input.

With --submission-id the command can be repeated: the same id and the same job attach to the job that exists, and a job of that id
that failed or was stopped goes on where it stood. Another job under that id is refused, and so is one that has ended and whose inputs
or models have changed since; the error shows what differs.

With --only-new the job reads the inputs alone that have come since earlier jobs wrote to its output folders, whose mode must be
append. What those have read stands beside their rows, so it is known to every head and to engine run. An input that has changed
since is an error, and so are rows of a job that has not finished. If nothing is new, the job succeeds without rows.

A credential field of the job file names a secret. Of ${secret:env:NAME} and ${secret:file:PATH} this command sends its own variable and file,
if it has them; otherwise head and workers look for theirs, where --allow-secret allows it. --secret gives those that have names of their
own. The head keeps them encrypted until the job has succeeded or is forgotten, and shows them to nobody.`,
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
			secrets, err := findSecrets(spec, secretFlags)
			if err != nil {
				return refuse(err)
			}
			c, err := a.connect(ctx)
			if err != nil {
				return refuse(err)
			}
			defer func() { _ = c.Close() }() // all calls have returned
			job, err := c.Submit(ctx, spec, submitOptions(submissionID, onlyNew, secrets)...)
			if err != nil {
				return refuse(err)
			}
			if job.Attached() {
				if err := a.attachTo(ctx, job, secrets); err != nil {
					return refuse(err)
				}
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
	cmd.Flags().StringArrayVar(&secretFlags, "secret", nil, secretUsage)
	cmd.Flags().BoolVar(&wait, "wait", false, "wait until the job has ended; the exit code says how")
	cmd.Flags().BoolVar(&onlyNew, "only-new", false, onlyNewUsage)
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

const onlyNewUsage = "read the inputs alone that earlier jobs with the same output folder have not read; needs mode: append"

func submitOptions(submissionID string, onlyNew bool, secrets map[string][]byte) []client.SubmitOption {
	options := []client.SubmitOption{client.WithSecrets(secrets)}
	if submissionID != "" {
		options = append(options, client.WithSubmissionID(submissionID))
	}
	if onlyNew {
		options = append(options, client.WithOnlyNew())
	}
	return options
}

// attachTo says what an earlier submission of the same id has become, and lets its job go on if it failed or was stopped.
func (a *app) attachTo(ctx context.Context, job *client.Job, secrets map[string][]byte) error {
	status, err := job.Status(ctx)
	if err != nil {
		return err
	}
	switch state := rpc.JobStateFromProto(status.GetState()); state {
	case engine.JobFailed, engine.JobStopped:
		a.notef("job %s of this submission id is %s; it goes on where it stood", job.ID(), state)
		_, err := job.ResumeWith(ctx, secrets)
		return err
	default:
		a.notef("job %s exists with this submission id and is the same; nothing new was submitted", job.ID())
		return nil
	}
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
