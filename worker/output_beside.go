package worker

import (
	"context"
	"errors"
	"io/fs"
	"strconv"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/memory"
	"github.com/cespare/xxhash/v2"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/dataset"
	"github.com/f708428e/engine/dataset/folder"
	"github.com/f708428e/engine/internal/jobplan"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// metaRejects says in the note beside a file of rejected rows which rows these are, in whatever order.
const metaRejects = "engine.rejects"

// besideOutput is an output that is no folder, with a folder for rejected rows beside it. No commit covers both. So an attempt publishes its
// rejected rows first, if there are none of the task yet, and goes on only if those in place are the rows that it has rejected itself. Whichever
// attempt's rows are committed then, what they lack is in the file. Who rejects other rows than an earlier attempt, which takes a step that is not
// the same twice, fails.
type besideOutput struct {
	output
	rejects   jobplan.Folder
	allocator memory.Allocator
}

func (o *besideOutput) begin(ctx context.Context, l *lease) (draft, *part, error) {
	rows, found, err := o.output.begin(ctx, l)
	switch {
	case err != nil:
		return nil, nil, err
	case found != nil:
		return nil, found, o.list(ctx, l, found)
	default:
		return &besideDraft{draft: rows, output: o, lease: l}, nil, nil
	}
}

func (o *besideOutput) part(l *lease) string {
	return o.rejects.PartName(l.task.Job, l.task.Index, "", 0)
}

// published returns the note of a task's rejected rows, and the length of their file; nil if there is none.
func (o *besideOutput) published(ctx context.Context, l *lease) (note map[string]string, sizeBytes int64, err error) {
	size, err := o.rejects.Place.Look(ctx, o.part(l))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, 0, nil
	}
	if err != nil {
		return nil, 0, err
	}
	note, err = o.rejects.Place.Metadata(ctx, o.part(l), nil)
	return note, size, err
}

// list adds the file of rejected rows to a task that is committed.
func (o *besideOutput) list(ctx context.Context, l *lease, committed *part) error {
	rejected := committed.counts.GetRowsRejected()
	if rejected == 0 {
		return nil
	}
	note, size, err := o.published(ctx, l)
	if err != nil {
		return err
	}
	path := o.rejects.Place.PartPath(o.part(l))
	switch rows := strconv.FormatInt(rejected, 10); {
	case note == nil:
		return engine.Errorf(engine.KindCorrupt, "list rejected rows", path, "it should hold %s rows and is gone", rows).
			WithHint("somebody deleted it; run the job again under a new id")
	case note[metaWritten] != rows:
		return engine.Errorf(engine.KindConflict, "list rejected rows", path, "it holds %s rows, the task has rejected %s", note[metaWritten], rows)
	}
	committed.parts = append(committed.parts, &enginev1.PartInfo{Output: jobplan.BesideOutput, Name: o.part(l), Rows: rejected, SizeBytes: size})
	return nil
}

// besideDraft is an attempt's rows, with those that it rejects. The draft is used by one goroutine, and reject by one at a time, which may be
// another.
type besideDraft struct {
	draft
	output *besideOutput
	lease  *lease
	// staging and writer are the file of rejected rows, once there is one; rows and digest are what it holds.
	staging folder.Draft
	writer  dataset.Writer
	kept    map[string]string
	rows    int64
	digest  uint64
}

// reject implements rejector.
func (d *besideDraft) reject(ctx context.Context, record arrow.Record) error {
	if d.staging == nil {
		staging, err := d.output.rejects.Place.Begin(ctx, d.output.part(d.lease), strconv.FormatUint(uint64(d.lease.epoch), 10))
		if err != nil {
			return err
		}
		d.staging, d.kept = staging, map[string]string{}
		staging.Keep(d.kept)
		if d.writer, err = d.output.rejects.Sink.Create(staging, rejectsSchema, d.output.allocator); err != nil {
			return err
		}
	}
	for row := range int(record.NumRows()) {
		d.digest += rejectDigest(record, row)
	}
	d.rows += record.NumRows()
	return d.writer.Write(ctx, record)
}

// rejectDigest identifies a rejected row by where it comes from, or by what it is if it has no place, and not by what is said of it: the
// line, row, and text of an offset are looked up, for which there may be no answer. The sum of those of rows does not depend on their order, which two goroutines
// may settle between them.
func rejectDigest(record arrow.Record, row int) uint64 {
	var atOffset, inRow bool
	for i, column := range record.Columns() {
		name := record.ColumnName(i)
		atOffset = atOffset || name == "offset" && !column.IsNull(row)
		inRow = inRow || name == "row" && !column.IsNull(row)
	}
	h := xxhash.New()
	for i, column := range record.Columns() {
		switch name := record.ColumnName(i); {
		case name == "column", name == "reason", name == "line", name == "row" && atOffset, name == "raw" && (atOffset || inRow):
		default:
			_, _ = h.WriteString(column.ValueStr(row)) // never fails
			_, _ = h.Write([]byte{0})
		}
	}
	return h.Sum64()
}

// publish implements draft.
func (d *besideDraft) publish(ctx context.Context, counts *enginev1.TaskCounts, right func(context.Context) error) (*part, error) {
	if err := right(ctx); err != nil {
		return nil, err
	}
	won, err := d.publishRejects(ctx)
	if err != nil {
		return nil, err
	}
	if !won {
		if err := d.compare(ctx); err != nil {
			return nil, err
		}
	}
	committed, err := d.draft.publish(ctx, counts, right)
	if err != nil {
		return nil, err
	}
	return committed, d.output.list(ctx, d.lease, committed)
}

// publishRejects makes the attempt's file of rejected rows the task's, unless it has none, or there is one.
func (d *besideDraft) publishRejects(ctx context.Context) (won bool, err error) {
	if d.staging == nil {
		return false, nil
	}
	if err := errors.Join(d.writer.Finish(nil), d.writer.Close()); err != nil {
		return false, err
	}
	d.kept[metaJob], d.kept[metaTask] = string(d.lease.task.Job), strconv.Itoa(d.lease.task.Index)
	d.kept[metaEpoch] = strconv.FormatUint(uint64(d.lease.epoch), 10)
	d.kept[metaWritten], d.kept[metaRejects] = strconv.FormatInt(d.rows, 10), d.identity()
	return d.staging.Publish(ctx)
}

func (d *besideDraft) identity() string { return strconv.FormatUint(d.digest, 16) }

// compare refuses rejected rows that are not those of an earlier attempt.
func (d *besideDraft) compare(ctx context.Context) error {
	note, _, err := d.output.published(ctx, d.lease)
	if err != nil || note == nil && d.rows == 0 {
		return err
	}
	if note[metaRejects] == d.identity() && note[metaJob] == string(d.lease.task.Job) && note[metaTask] == strconv.Itoa(d.lease.task.Index) {
		return nil
	}
	return engine.Errorf(engine.KindConflict, "publish rejected rows", d.output.rejects.Place.PartPath(d.output.part(d.lease)),
		"an earlier attempt has rejected %s rows, and this one %d, or others: a step does not do the same twice", note[metaWritten], d.rows)
}

func (d *besideDraft) close() error {
	err := d.draft.close()
	if d.writer != nil {
		err = errors.Join(err, d.writer.Close())
	}
	if d.staging != nil {
		err = errors.Join(err, d.staging.Discard())
	}
	return err
}
