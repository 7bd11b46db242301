package worker

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"maps"
	"runtime/debug"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/memory"
	"golang.org/x/sync/errgroup"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/dataset"
	"github.com/f708428e/engine/dataset/folder"
	"github.com/f708428e/engine/internal/jobplan"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// partsOutput publishes tasks that may have several files: one for each sink, each value of partition_by, and for rejected rows, or with
// file_size several in a row of what is not rejected. All of them are sealed under names that nobody sees; then one record, put if absent, says which attempt's they are, and they are revealed. Whoever
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
	d := &partsDraft{output: o, lease: l, router: newRouter(o), files: map[target]*partFile{}, rolled: map[target]int{}}
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
	found := o.published(record)
	found.adopted = true
	return found, nil
}

// published is what a record says. Files of rejected rows are listed, and not counted as written.
func (o *partsOutput) published(record *jobplan.TaskRecord) *part {
	p := &part{counts: record.Counts, epoch: record.Epoch}
	for _, s := range record.Parts {
		if o.folders[s.Folder].Name != jobplan.RejectsName {
			p.sizeBytes += s.SizeBytes
		}
		p.parts = append(p.parts, &enginev1.PartInfo{Output: int32(s.Folder), Name: s.Part, Rows: s.Rows, SizeBytes: s.SizeBytes}) //nolint:gosec // A job has few.
	}
	p.counts.BytesWritten = p.sizeBytes
	return p
}

// target is where a file of a task belongs: a folder by its place, and the folders key=value in it.
type target struct {
	folder    int
	partition string
}

const (
	// maxOpenFiles bounds how many files a task writes at a time, maxTaskFiles how many it writes: the log of the head lists them.
	maxOpenFiles, maxTaskFiles = 1_000, 10_000
	// piecesOfFile is into how many pieces rows are cut at least that would fill a file: so much of it may be too much.
	piecesOfFile = 8
)

// partsDraft writes the files of one attempt.
type partsDraft struct {
	output *partsOutput
	lease  *lease
	router *router
	// files are those that are being written; begun is how many have been begun, and rolled how many of each target have been full.
	files  map[target]*partFile
	begun  int
	rolled map[target]int
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

// sizeBytes is about how large the file is.
func (f *partFile) sizeBytes() int64 { return f.staging.SizeBytes() + f.writer.PendingBytes() }

// file returns the file of a target, which it begins if there is none that has room.
func (d *partsDraft) file(ctx context.Context, t target) (*partFile, error) {
	most := d.output.folders[t.folder].FileSizeBytes
	if f := d.files[t]; f != nil {
		if most == 0 || f.sizeBytes() < most {
			return f, nil
		}
		if err := d.seal(ctx, t); err != nil {
			return nil, err
		}
		d.rolled[t]++
	}
	if len(d.files) == maxOpenFiles {
		return nil, engine.Errorf(engine.KindData, "write parts", d.output.folders[t.folder].Place.Target(), "a task meets more than %d values of partition_by: each would be a file", maxOpenFiles).
			WithHint("partition by columns of fewer values, or filter and sort the input before")
	}
	if d.begun == maxTaskFiles {
		return nil, engine.Errorf(engine.KindData, "write parts", d.output.folders[t.folder].Place.Target(), "a task writes more than %d files", maxTaskFiles).
			WithHint("choose a larger file_size")
	}
	// Files of one attempt that differ by their folders alone need different names as long as nobody sees them.
	f, err := d.create(ctx, t, d.rolled[t], strconv.Itoa(d.begun))
	if err != nil {
		return nil, err
	}
	d.begun++
	d.files[t] = f
	return f, nil
}

// create begins a file of a target, of which it has a number. as is part of its name until it is published.
func (d *partsDraft) create(ctx context.Context, t target, number int, as string) (*partFile, error) {
	in := d.output.folders[t.folder]
	attempt := strconv.FormatUint(uint64(d.lease.epoch), 10) + "-" + as
	staging, err := in.Place.Begin(ctx, in.PartName(d.lease.task.Job, d.lease.task.Index, t.partition, number), attempt)
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
		most := d.output.folders[t.folder].FileSizeBytes
		for from := int64(0); from < rows.NumRows(); {
			to := rows.NumRows()
			if most > 0 {
				to = from + dataset.BatchRowsWithin(rows, from, to-from, max(1, most/piecesOfFile))
			}
			if err := d.add(ctx, t, rows, from, to); err != nil {
				return err
			}
			from = to
		}
		return nil
	})
}

// add writes the rows between two places.
func (d *partsDraft) add(ctx context.Context, t target, rows arrow.Record, from, to int64) error {
	f, err := d.file(ctx, t)
	if err != nil {
		return err
	}
	piece := rows.NewSlice(from, to)
	defer piece.Release()
	f.rows += to - from
	return f.writer.Write(ctx, piece)
}

// publish implements draft.
func (d *partsDraft) publish(ctx context.Context, counts *enginev1.TaskCounts, right func(context.Context) error) (*part, error) {
	record := &jobplan.TaskRecord{Job: d.lease.task.Job, Task: d.lease.task.Index, Epoch: d.lease.epoch, Counts: counts}
	if d.rejected != nil {
		d.files[target{folder: len(d.output.folders) - 1}], d.rejected = d.rejected, nil
	}
	if err := d.sealAll(ctx); err != nil {
		return nil, err
	}
	slices.SortFunc(d.sealed, func(a, b jobplan.TaskPart) int {
		return cmp.Or(cmp.Compare(a.Folder, b.Folder), cmp.Compare(a.Part, b.Part))
	})
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
	return d.output.published(record), nil
}

// endsAtOnce bounds how many files are sealed or discarded at a time: in a bucket each takes some round trips.
const endsAtOnce = 16

// sealAll completes all files, which nobody sees. What fails, close discards.
func (d *partsDraft) sealAll(ctx context.Context) error {
	var mu sync.Mutex
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(endsAtOnce)
	for t, f := range maps.Clone(d.files) {
		group.Go(func() (err error) {
			defer recovered(&err)
			sealed, err := d.complete(ctx, t, f)
			if err != nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			d.isSealed(t, sealed)
			return nil
		})
	}
	return group.Wait()
}

// recovered makes a panic of a goroutine beside the attempt's an error, as attempt does with its own.
func recovered(err *error) {
	if p := recover(); p != nil {
		*err = engine.Errorf(engine.KindInternal, "run task", "", "panic: %v\n%s", p, debug.Stack())
	}
}

// seal completes the file of a target, which nobody sees. If it fails, close discards it.
func (d *partsDraft) seal(ctx context.Context, t target) error {
	sealed, err := d.complete(ctx, t, d.files[t])
	if err == nil {
		d.isSealed(t, sealed)
	}
	return err
}

func (d *partsDraft) isSealed(t target, sealed jobplan.TaskPart) {
	delete(d.files, t)
	d.sealed = append(d.sealed, sealed)
}

// complete ends the writing of a file and seals it. It may be called for several at the same time.
func (d *partsDraft) complete(ctx context.Context, t target, f *partFile) (jobplan.TaskPart, error) {
	metadata := map[string]string{
		metaJob: string(d.lease.task.Job), metaTask: strconv.Itoa(d.lease.task.Index), metaEpoch: strconv.FormatUint(uint64(d.lease.epoch), 10),
		metaWritten: strconv.FormatInt(f.rows, 10),
	}
	err := f.writer.Finish(metadata)
	if err := errors.Join(err, f.writer.Close()); err != nil {
		return jobplan.TaskPart{}, err
	}
	sealed, err := f.staging.Seal(ctx)
	return jobplan.TaskPart{Sealed: sealed, Folder: t.folder, Rows: f.rows}, err
}

// unsealTimeout bounds the tidying up after an attempt; what it leaves is swept when the job ends.
const unsealTimeout = 10 * time.Second

// close implements draft.
func (d *partsDraft) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), unsealTimeout)
	defer cancel()
	var mu sync.Mutex
	var errs []error
	var group errgroup.Group
	group.SetLimit(endsAtOnce)
	end := func(act func() error) {
		group.Go(func() error {
			if err := act(); err != nil {
				mu.Lock()
				defer mu.Unlock()
				errs = append(errs, err)
			}
			return nil
		})
	}
	for _, p := range d.sealed {
		end(func() error { return d.output.folders[p.Folder].Place.Unseal(ctx, p.Sealed) })
	}
	files := slices.Collect(maps.Values(d.files))
	if d.rejected != nil {
		files = append(files, d.rejected)
	}
	for _, f := range files {
		end(func() error { return errors.Join(f.writer.Close(), f.staging.Discard()) })
	}
	_ = group.Wait()
	return errors.Join(errs...)
}
