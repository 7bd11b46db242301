package worker

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"strconv"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/memory"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/dataset"
	"github.com/f708428e/engine/dataset/folder"
	"github.com/f708428e/engine/internal/jobplan"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// The metadata that a part's file carries, or that stands beside it: whose it is, and what its attempt did.
const (
	metaJob      = "engine.job"
	metaTask     = "engine.task"
	metaEpoch    = "engine.epoch"
	metaRead     = "engine.rows_read"
	metaWritten  = "engine.rows_written"
	metaRejected = "engine.rows_rejected"
	metaBytes    = "engine.bytes_read"
	metaBatches  = "engine.batches"
	// metaTruncated is left out where it is 0.
	metaTruncated = "engine.texts_truncated"
	// metaFiltered is left out where it is 0.
	metaFiltered = "engine.rows_filtered"
)

// folderOutput publishes parts as files of an output folder.
type folderOutput struct {
	jobplan.Folder
	schema    *arrow.Schema
	allocator memory.Allocator
}

func (o *folderOutput) begin(ctx context.Context, l *lease) (draft, *part, error) {
	if found, err := o.adopt(ctx, l); found != nil || err != nil {
		return nil, found, err
	}
	staging, err := o.Place.Begin(ctx, l.plan.GetPart(), strconv.FormatUint(uint64(l.epoch), 10))
	if err != nil {
		return nil, nil, err
	}
	d := &fileDraft{output: o, lease: l, staging: staging}
	if !o.Sink.HoldsMetadata() {
		d.kept = map[string]string{}
		staging.Keep(d.kept)
	}
	d.Writer, err = o.Sink.Create(staging, o.schema, o.allocator)
	if err != nil {
		return nil, nil, errors.Join(err, staging.Discard())
	}
	return d, nil, nil
}

// adopt returns the part that is in place already: an earlier attempt published it and could not report that. It returns nil if there
// is none.
func (o *folderOutput) adopt(ctx context.Context, l *lease) (*part, error) {
	path := o.Place.PartPath(l.plan.GetPart())
	size, err := o.Place.Look(ctx, l.plan.GetPart())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil //nolint:nilnil // There is none, which is no error.
	}
	if err != nil {
		return nil, engine.WrapError("look for part", path, err)
	}
	var held func(string) (map[string]string, error)
	if o.Sink.HoldsMetadata() {
		held = o.Sink.Metadata
	}
	metadata, err := o.Place.Metadata(ctx, l.plan.GetPart(), held)
	if err != nil {
		return nil, err
	}
	if metadata[metaJob] != string(l.task.Job) || metadata[metaTask] != strconv.Itoa(l.task.Index) {
		return nil, engine.Errorf(engine.KindConflict, "publish part", path, "a file that is not this task's output is in its place: it names job %q, task %q", metadata[metaJob], metadata[metaTask])
	}
	number := func(key string) int64 {
		n, parseErr := strconv.ParseInt(metadata[key], 10, 64)
		if parseErr != nil && err == nil {
			err = engine.Errorf(engine.KindCorrupt, "read part", path, "its metadata %s is %q", key, metadata[key])
		}
		return n
	}
	var truncated, filtered int64
	if metadata[metaTruncated] != "" {
		truncated = number(metaTruncated)
	}
	if metadata[metaFiltered] != "" {
		filtered = number(metaFiltered)
	}
	found := &part{
		counts: &enginev1.TaskCounts{
			RowsRead: number(metaRead), RowsWritten: number(metaWritten), RowsRejected: number(metaRejected),
			BytesRead: number(metaBytes), BytesWritten: size, Batches: number(metaBatches), TextsTruncated: truncated,
			RowsFiltered: filtered,
		},
		sizeBytes: size, epoch: engine.Epoch(number(metaEpoch)), adopted: true, //nolint:gosec // An epoch fits.
	}
	if err != nil {
		return nil, err
	}
	return found, nil
}

// fileDraft is a file under its staging name.
type fileDraft struct {
	dataset.Writer
	output  *folderOutput
	lease   *lease
	staging folder.Draft
	// kept is what stands beside the file, for a sink whose files hold no metadata.
	kept map[string]string
}

func (d *fileDraft) publish(ctx context.Context, counts *enginev1.TaskCounts, right func(context.Context) error) (*part, error) {
	l := d.lease
	metadata := map[string]string{
		metaJob: string(l.task.Job), metaTask: strconv.Itoa(l.task.Index), metaEpoch: strconv.FormatUint(uint64(l.epoch), 10),
		metaRead: strconv.FormatInt(counts.GetRowsRead(), 10), metaWritten: strconv.FormatInt(counts.GetRowsWritten(), 10),
		metaRejected: strconv.FormatInt(counts.GetRowsRejected(), 10), metaBytes: strconv.FormatInt(counts.GetBytesRead(), 10),
		metaBatches: strconv.FormatInt(counts.GetBatches(), 10),
	}
	if n := counts.GetTextsTruncated(); n > 0 {
		metadata[metaTruncated] = strconv.FormatInt(n, 10)
	}
	if n := counts.GetRowsFiltered(); n > 0 {
		metadata[metaFiltered] = strconv.FormatInt(n, 10)
	}
	if d.kept != nil {
		maps.Copy(d.kept, metadata)
	}
	err := d.Finish(metadata)
	if err := errors.Join(err, d.Close()); err != nil {
		return nil, err
	}
	if err := right(ctx); err != nil {
		return nil, err
	}
	won, err := d.staging.Publish(ctx)
	if err != nil {
		return nil, err
	}
	if !won {
		found, err := d.output.adopt(ctx, l)
		if err == nil && found == nil {
			err = engine.Errorf(engine.KindInternal, "publish part", d.output.Place.PartPath(l.plan.GetPart()), "another attempt's part is gone again")
		}
		return found, err
	}
	counts.BytesWritten = d.staging.SizeBytes()
	return &part{counts: counts, sizeBytes: counts.GetBytesWritten(), epoch: l.epoch}, nil
}

func (d *fileDraft) close() error { return errors.Join(d.Close(), d.staging.Discard()) }
