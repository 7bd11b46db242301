package api

import (
	"path/filepath"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/head/state"
	"github.com/f708428e/engine/internal/jobplan"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// outputs lists what the committed tasks of a job have made.
func outputs(job *state.Job, clusterID string) []*enginev1.OutputFile {
	describe := fileOutput(job)
	if job.Spec.GetSink().GetObject() != nil {
		describe = objectOutput(job, clusterID)
	}
	var made []*enginev1.OutputFile
	for i, committed := range job.Committed {
		if committed != nil {
			out := describe(i)
			out.Rows, out.SizeBytes, out.Checkpoint = committed.GetCounts().GetRowsWritten(), committed.GetPartSizeBytes(), committed.GetCheckpoint()
			made = append(made, out)
		}
	}
	return made
}

// fileOutput names files where they can be found: in the folder that the user named, or, if a job that overwrites did not succeed, in its
// work folder.
func fileOutput(job *state.Job) func(task int) *enginev1.OutputFile {
	dir := job.Plan.GetOutput().GetFolder()
	if job.State() != engine.JobSucceeded {
		dir = job.Plan.GetOutput().GetWorkFolder()
	}
	return func(task int) *enginev1.OutputFile {
		return &enginev1.OutputFile{Path: filepath.Join(dir, job.Plan.GetTasks()[task].GetPart())}
	}
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
