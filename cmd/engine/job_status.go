package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/client"
	"github.com/f708428e/engine/internal/rpc"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

func (a *app) jobStatusCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "status ID",
		Short: "Show where a job stands",
		Args:  oneArgument,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withJob(cmd.Context(), args[0], func(ctx context.Context, job *client.Job) error {
				j, err := job.Status(ctx)
				if err != nil {
					return err
				}
				return a.printJob(j)
			})
		},
	}
}

func (a *app) printJob(j *enginev1.Job) error {
	return a.print(viewJob(j), func(w io.Writer) error { return a.describeJob(w, j) })
}

func (a *app) describeJob(w io.Writer, j *enginev1.Job) error {
	p := j.GetProgress()
	var splits, bytes, rows, lost, outputs, resumed string
	if p.GetSplitsTotal() > 0 {
		splits = fmt.Sprintf("%s of %s (%s of %s done, %s running)", count(p.GetSplitsDone()), count(p.GetSplitsTotal()), plural(p.GetTasksDone(), "task"),
			count(p.GetTasksTotal()), count(p.GetTasksRunning()))
		bytes = fmt.Sprintf("%s of %s read, %s written", engine.FormatSize(p.GetBytesRead()), engine.FormatSize(p.GetBytesTotal()), engine.FormatSize(p.GetBytesWritten()))
		rows = fmt.Sprintf("%s read, %s written, %s rejected, in %s", count(p.GetRowsRead()), count(p.GetRowsWritten()), count(p.GetRowsRejected()),
			plural(p.GetBatches(), "batch"))
		if n := p.GetRowsFiltered(); n > 0 {
			rows += fmt.Sprintf(", %s filtered out", count(n))
		}
		if n := p.GetTextsTruncated(); n > 0 {
			rows += fmt.Sprintf(", %s cut", plural(n, "text"))
		}
	}
	if n := p.GetAttemptsLost(); n > 0 {
		lost = plural(n, "attempt") + " made again"
	}
	if n := j.GetResumptions(); n > 0 {
		resumed = plural(n, "time")
	}
	if files := j.GetOutputs(); len(files) > 0 {
		outputs = describeOutputs(files)
	}
	var failure, hint string
	if e := j.GetError(); e != nil {
		failure = e.GetMessage()
		for _, part := range []string{e.GetId(), e.GetOperation()} {
			if part != "" {
				failure = part + ": " + failure
			}
		}
		failure += " [" + e.GetKind() + "]"
		hint = e.GetHint()
	}
	var labels []string
	for _, name := range slices.Sorted(maps.Keys(j.GetLabels())) {
		labels = append(labels, name+"="+j.GetLabels()[name])
	}
	inputs := ""
	if j.GetOnlyNew() {
		inputs = fmt.Sprintf("%s new, %s left out because earlier jobs have read them", count(j.GetInputs()), count(j.GetInputsKnown()))
	}
	return fields(w,
		"job", j.GetJobId(),
		"name", j.GetName(),
		"submission id", j.GetSubmissionId(),
		"state", string(rpc.JobStateFromProto(j.GetState())),
		"reason", j.GetReason(),
		"error", failure,
		"hint", hint,
		"cached from", j.GetCachedFrom(),
		"inputs", inputs,
		"splits", splits,
		"rows", rows,
		"bytes", bytes,
		"lost", lost,
		"columns", rpc.ListColumns(j.GetSourceColumns()),
		"output", outputs,
		"submitted", when(j.GetSubmitTime()),
		"started", when(j.GetStartTime()),
		"ended", when(j.GetEndTime()),
		"elapsed", a.elapsed(j),
		"resumed", resumed,
		"labels", strings.Join(labels, " "),
	)
}

// describeOutputs says how many outputs there are and where.
func describeOutputs(outputs []*enginev1.OutputFile) string {
	first := outputs[0]
	if len(first.GetObjectId()) == 0 {
		paths := make([]string, len(outputs))
		for i, o := range outputs {
			paths[i] = o.GetPath()
		}
		return fmt.Sprintf("%s in %s", plural(len(outputs), "file"), foldersOf(paths))
	}
	text := plural(len(outputs), "object")
	switch {
	case first.GetPin() != "":
		text += " as " + path.Dir(first.GetPin()) + "/…"
	case len(outputs) == 1:
		text += ": " + first.GetPath()
	default:
		text += ": " + first.GetPath() + " and others"
	}
	if first.GetCheckpoint() != "" {
		text += ", checkpointed in " + strings.TrimSuffix(first.GetCheckpoint(), path.Base(first.GetCheckpoint()))
	}
	return text
}
