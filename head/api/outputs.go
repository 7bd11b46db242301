package api

import (
	"path/filepath"
	"strings"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/head/state"
	"github.com/f708428e/engine/internal/jobplan"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// outputs lists what the committed tasks of a job have made.
func outputs(job *state.Job, clusterID string) []*enginev1.OutputFile {
	if job.Spec.GetSink().GetPostgres() != nil {
		return append(table(job), furtherFiles(job)...)
	}
	if job.Spec.GetSink().GetObject() == nil {
		return files(job)
	}
	describe := objectOutput(job, clusterID)
	var made []*enginev1.OutputFile
	for i, committed := range job.Committed {
		if committed != nil {
			out := describe(i)
			out.Rows, out.SizeBytes, out.Checkpoint = committed.GetCounts().GetRowsWritten(), committed.GetPartSizeBytes(), committed.GetCheckpoint()
			made = append(made, out)
		}
	}
	return append(made, furtherFiles(job)...)
}

// files names files where they can be found: in the folder that the user named, or, if a job that overwrites did not succeed, in its work
// folder. Those of a task stand together.
func files(job *state.Job) []*enginev1.OutputFile {
	var made []*enginev1.OutputFile
	for i, committed := range job.Committed {
		if name := job.Plan.GetTasks()[i].GetPart(); name != "" && committed != nil {
			made = append(made, file(job, job.Plan.GetOutput(), name, committed.GetCounts().GetRowsWritten(), committed.GetPartSizeBytes()))
		}
		made = append(made, filesOf(job, committed)...)
	}
	return made
}

// furtherFiles are those of a job whose rows go elsewhere: of rejected rows.
func furtherFiles(job *state.Job) (made []*enginev1.OutputFile) {
	for _, committed := range job.Committed {
		made = append(made, filesOf(job, committed)...)
	}
	return made
}

// filesOf are the files of a task that may have several, or none.
func filesOf(job *state.Job, committed *enginev1.TaskCommitted) (made []*enginev1.OutputFile) {
	for _, p := range committed.GetParts() {
		plan := job.Plan.GetOutput()
		if at := p.GetOutput(); at > 0 {
			plan = job.Plan.GetFurtherOutputs()[at-1]
		}
		made = append(made, file(job, plan, p.GetName(), p.GetRows(), p.GetSizeBytes()))
	}
	return made
}

func file(job *state.Job, plan *enginev1.OutputPlan, name string, rows, size int64) *enginev1.OutputFile {
	dir := plan.GetFolder()
	if job.State() != engine.JobSucceeded {
		dir = plan.GetWorkFolder()
	}
	return &enginev1.OutputFile{Path: inside(dir, name), Rows: rows, SizeBytes: size, Sink: plan.GetName()}
}

// inside is the path or URI of a name in an output folder.
func inside(folder, name string) string {
	if strings.Contains(folder, "://") {
		return folder + "/" + name
	}
	return filepath.Join(folder, name)
}

// table is the one output of a job that writes a table: whatever its tasks have committed is in there.
func table(job *state.Job) []*enginev1.OutputFile {
	out := &enginev1.OutputFile{Path: job.Plan.GetOutput().GetFolder()}
	if job.State() != engine.JobSucceeded {
		out.Path = job.Plan.GetOutput().GetWorkFolder()
	}
	for _, committed := range job.Committed {
		out.Rows += committed.GetCounts().GetRowsWritten()
		out.SizeBytes += committed.GetPartSizeBytes()
	}
	if job.CommittedCount == 0 {
		return nil
	}
	return []*enginev1.OutputFile{out}
}

// objectOutput names objects by their references.
func objectOutput(job *state.Job, clusterID string) func(task int) *enginev1.OutputFile {
	// A spec that was accepted has a sink that can be read.
	kept, _ := jobplan.NewObjectOutput(job.Spec, job.ID)
	return func(task int) *enginev1.OutputFile {
		id := kept.ID(task)
		out := &enginev1.OutputFile{Path: engine.ObjectRef{ID: id, Cluster: clusterID}.String(), ObjectId: id[:]}
		if job.State() == engine.JobSucceeded {
			out.Pin = kept.Pin(task)
		}
		return out
	}
}
