package worker

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/memory"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/dataset"
	"github.com/f708428e/engine/dataset/folder"
	"github.com/f708428e/engine/internal/jobplan"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// partsOutput publishes tasks that may have several files: one for each sink, each value of partition_by, and for rejected rows. All of them
// are sealed under names that nobody sees; then one record, put if absent, says which attempt's they are, and they are revealed. Whoever
// finds the record can do that, so a crash in between loses nothing, and two attempts need not agree on their rows.
type partsOutput struct {
	folders   []jobplan.Folder
	schemas   []*arrow.Schema
	split     *jobplan.Split
	schema    *arrow.Schema
	allocator memory.Allocator
}

func newPartsOutput(folders []jobplan.Folder, program *jobplan.Program, allocator memory.Allocator) (*partsOutput, error) {
	o := &partsOutput{folders: folders, split: program.Split, schema: program.OutputSchema, allocator: allocator}
	for _, f := range folders {
		if f.Name == jobplan.RejectsName {
			o.schemas = append(o.schemas, rejectsSchema)
			continue
		}
		schema, err := f.FileSchema(program.OutputSchema)
		if err != nil {
			return nil, err
		}
		o.schemas = append(o.schemas, schema)
	}
	return o, nil
}

func (o *partsOutput) begin(ctx context.Context, l *lease) (draft, *part, error) {
	if found, err := o.adopt(ctx, l); found != nil || err != nil {
		return nil, found, err
	}
	d := &partsDraft{output: o, lease: l, router: newRouter(o), files: map[target]*partFile{}}
	// A reader of a table wants its columns, also where it has no rows. Of partitions nobody knows which there are.
	for i, f := range o.folders {
		if len(f.PartitionBy) == 0 && f.Name != jobplan.RejectsName {
			if _, err := d.file(ctx, target{folder: i}); err != nil {
				return nil, nil, errors.Join(err, d.close())
			}
		}
	}
	return d, nil, nil
}

// adopt returns what an earlier attempt recorded, and makes sure that it can be seen; nil if there is no record.
func (o *partsOutput) adopt(ctx context.Context, l *lease) (*part, error) {
	content, err := o.folders[0].Place.Record(ctx, folder.RecordName(folder.TaskRecord, l.task.Job, l.task.Index))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil //nolint:nilnil // There is none, which is no error.
	}
	if err != nil {
		return nil, err
	}
	record, err := jobplan.ReadTaskRecord(content)
	if err != nil {
		return nil, engine.WrapError("read record", l.task.String(), err)
	}
	if record.Job != l.task.Job || record.Task != l.task.Index {
		return nil, engine.Errorf(engine.KindConflict, "publish parts", l.task.String(), "the record in its place is that of job %q, task %d", record.Job, record.Task)
	}
	if err := record.Reveal(ctx, o.folders); err != nil {
		return nil, err
	}
	found := publishedParts(record)
	found.adopted = true
	return found, nil
}

func publishedParts(record *jobplan.TaskRecord) *part {
	p := &part{counts: record.Counts, epoch: record.Epoch}
	for _, s := range record.Parts {
		p.sizeBytes += s.SizeBytes
		p.parts = append(p.parts, &enginev1.PartInfo{Output: int32(s.Folder), Name: s.Part, Rows: s.Rows, SizeBytes: s.SizeBytes}) //nolint:gosec // A job has few.
	}
	p.counts.BytesWritten = p.sizeBytes
	return p
}

// target is one file of a task: a folder by its place, and the folders key=value in it.
type target struct {
	folder    int
	partition string
}

// maxOpenFiles bounds how many files a task writes at a time.
const maxOpenFiles = 1000

// partsDraft writes the files of one attempt.
type partsDraft struct {
	output *partsOutput
	lease  *lease
	router *router
	files  map[target]*partFile
	// rejected is that of rejected rows; nil if there are none. See rejector.
	rejected *partFile
	// sealed are files that nobody sees, and that are deleted unless the record names them.
	sealed []jobplan.TaskPart
}

// partFile is one of them.
type partFile struct {
	writer  dataset.Writer
	staging folder.Draft
	rows    int64
}

// file returns the file of a target, which it begins if it is new.
func (d *partsDraft) file(ctx context.Context, t target) (*partFile, error) {
	if f := d.files[t]; f != nil {
		return f, nil
	}
	if len(d.files) == maxOpenFiles {
		return nil, engine.Errorf(engine.KindData, "write parts", d.output.folders[t.folder].Place.Target(), "a task meets more than %d values of partition_by: each would be a file", maxOpenFiles).
			WithHint("partition by columns of fewer values, or filter and sort the input before")
	}
	// Files of one attempt that differ by their folders alone need different names as long as nobody sees them.
	f, err := d.create(ctx, t, strconv.Itoa(len(d.files)))
	if err != nil {
		return nil, err
	}
	d.files[t] = f
	return f, nil
}

// create begins a file of a target. as is part of its name until it is published.
func (d *partsDraft) create(ctx context.Context, t target, as string) (*partFile, error) {
	in := d.output.folders[t.folder]
	attempt := strconv.FormatUint(uint64(d.lease.epoch), 10) + "-" + as
	staging, err := in.Place.Begin(ctx, in.PartName(d.lease.task.Job, d.lease.task.Index, t.partition), attempt)
	if err != nil {
		return nil, err
	}
	writer, err := in.Sink.Create(staging, d.output.schemas[t.folder], d.output.allocator)
	if err != nil {
		return nil, errors.Join(err, staging.Discard())
	}
	return &partFile{writer: writer, staging: staging}, nil
}

// Write implements draft.
func (d *partsDraft) Write(ctx context.Context, record arrow.Record) error {
	return d.router.route(record, func(t target, rows arrow.Record) error {
		f, err := d.file(ctx, t)
		if err != nil {
			return err
		}
		f.rows += rows.NumRows()
		return f.writer.Write(ctx, rows)
	})
}

// publish implements draft.
func (d *partsDraft) publish(ctx context.Context, counts *enginev1.TaskCounts, right func(context.Context) error) (*part, error) {
	record := &jobplan.TaskRecord{Job: d.lease.task.Job, Task: d.lease.task.Index, Epoch: d.lease.epoch, Counts: counts}
	if d.rejected != nil {
		d.files[target{folder: len(d.output.folders) - 1}], d.rejected = d.rejected, nil
	}
	order := slices.SortedFunc(maps.Keys(d.files), func(a, b target) int {
		return cmp.Or(cmp.Compare(a.folder, b.folder), cmp.Compare(a.partition, b.partition))
	})
	for _, t := range order {
		sealed, err := d.seal(ctx, d.files[t])
		if err != nil {
			return nil, err
		}
		d.sealed = append(d.sealed, jobplan.TaskPart{Sealed: sealed, Folder: t.folder, Rows: d.files[t].rows})
	}
	record.Parts = d.sealed
	content, err := json.MarshalIndent(record, "", "  ")
	if err != nil {
		return nil, engine.Errorf(engine.KindInternal, "publish parts", d.lease.task.String(), "%w", err)
	}
	if err := right(ctx); err != nil {
		return nil, err
	}
	name := folder.RecordName(folder.TaskRecord, record.Job, record.Task)
	won, err := d.output.folders[0].Place.PutRecord(ctx, name, strconv.FormatUint(uint64(record.Epoch), 10), append(content, '\n'))
	if err != nil {
		d.sealed = nil // Nobody knows whether the record is there: the next attempt finds out, or the job's end.
		return nil, err
	}
	if !won {
		found, err := d.output.adopt(ctx, d.lease)
		if err == nil && found == nil {
			err = engine.Errorf(engine.KindInternal, "publish parts", d.lease.task.String(), "another attempt's record is gone again")
		}
		return found, err
	}
	d.sealed = nil
	if err := record.Reveal(ctx, d.output.folders); err != nil {
		return nil, err
	}
	return publishedParts(record), nil
}

func (d *partsDraft) seal(ctx context.Context, f *partFile) (folder.Sealed, error) {
	metadata := map[string]string{
		metaJob: string(d.lease.task.Job), metaTask: strconv.Itoa(d.lease.task.Index), metaEpoch: strconv.FormatUint(uint64(d.lease.epoch), 10),
		metaWritten: strconv.FormatInt(f.rows, 10),
	}
	err := f.writer.Finish(metadata)
	if err := errors.Join(err, f.writer.Close()); err != nil {
		return folder.Sealed{}, err
	}
	return f.staging.Seal(ctx)
}

// unsealTimeout bounds the tidying up after an attempt; what it leaves is swept when the job ends.
const unsealTimeout = 10 * time.Second

// close implements draft.
func (d *partsDraft) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), unsealTimeout)
	defer cancel()
	var err error
	for _, p := range d.sealed {
		err = errors.Join(err, d.output.folders[p.Folder].Place.Unseal(ctx, p.Sealed))
	}
	for _, f := range d.files {
		err = errors.Join(err, f.writer.Close(), f.staging.Discard())
	}
	if f := d.rejected; f != nil {
		err = errors.Join(err, f.writer.Close(), f.staging.Discard())
	}
	return err
}
