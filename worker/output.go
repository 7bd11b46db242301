package worker

import (
	"context"

	"github.com/apache/arrow/go/v15/arrow"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/internal/jobplan"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// output is where the parts of one job go: each appears once, whatever becomes of the attempts at it. It is safe for concurrent use.
type output interface {
	// begin starts an attempt's part. If an earlier attempt has published it, begin returns that instead.
	begin(ctx context.Context, l *lease) (draft, *part, error)
}

// draft is a part that is being written, by one goroutine.
type draft interface {
	// Write appends a record batch, which stays the caller's. After dataset.RefusedRows, all rows but these have been appended.
	Write(ctx context.Context, record arrow.Record) error
	// publish completes the part and makes it visible as a whole, once right says that the lease allows it. If another attempt came
	// first, its part is returned.
	publish(ctx context.Context, counts *enginev1.TaskCounts, right func(context.Context) error) (*part, error)
	// close frees what the draft holds, whether it was published or not.
	close() error
}

// part is a published part.
type part struct {
	// counts are those of the attempt that made it.
	counts *enginev1.TaskCounts
	// sizeBytes is its length.
	sizeBytes int64
	// epoch is that of the attempt that made it; zero if that is not known.
	epoch engine.Epoch
	// checkpoint is the URI of an object's durable copy, or empty.
	checkpoint string
	// parts are the files of a task that may have several.
	parts []*enginev1.PartInfo
	// adopted says that an earlier attempt published it.
	adopted bool
}

// newOutput returns the output of a job.
func (w *Worker) newOutput(j *jobEntry, program *jobplan.Program) (output, error) {
	assignment := j.assignment
	job, spec := engine.JobID(assignment.GetJobId()), assignment.GetSpec()
	folders, err := jobplan.Folders(spec, job, w.storage(j))
	if err != nil {
		return nil, err
	}
	var elsewhere output
	switch {
	case spec.GetSink().GetPostgres() != nil:
		target, err := jobplan.PostgresTarget(spec, job, j.secrets)
		if err != nil {
			return nil, err
		}
		elsewhere = &postgresOutput{target: target, schema: program.OutputSchema}
	case spec.GetSink().GetObject() != nil:
		kept, err := jobplan.NewObjectOutput(spec, job)
		if err != nil {
			return nil, err
		}
		elsewhere = newObjectOutput(kept, program, program.Filters() || jobplan.KeepsOn(spec.GetOnBadRow()), w.config.Store)
	}
	switch {
	case elsewhere != nil && len(folders) > 0:
		return &besideOutput{output: elsewhere, rejects: folders[0], allocator: w.config.Allocator}, nil
	case elsewhere != nil:
		return elsewhere, nil
	case jobplan.SeveralParts(folders):
		return newPartsOutput(folders, program, w.config.Allocator)
	default:
		return &folderOutput{Folder: folders[0], schema: program.OutputSchema, allocator: w.config.Allocator}, nil
	}
}
