package worker

import (
	"context"
	"strconv"
	"sync"

	"github.com/apache/arrow/go/v15/arrow"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/dataset/object"
	"github.com/f708428e/engine/internal/jobplan"
	"github.com/f708428e/engine/objectstore"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

const opObject = "publish object"

// objectOutput publishes parts as objects of this node's store, under ids that are the same at every attempt.
//
// Two attempts may both leave a copy, when one lost its lease after it had sealed it. The head's directory sees both and keeps one; so an
// attempt never deletes what it has sealed, as it cannot know which. Where there are checkpoints, the first one counts, and a later
// attempt adopts it.
type objectOutput struct {
	jobplan.ObjectOutput
	schema *arrow.Schema
	// leavesOut says that objects may have fewer rows than were read for them.
	leavesOut bool
	store     func(context.Context) (*objectstore.Store, error)

	mu sync.Mutex
	// attempts has a channel for each task that an attempt of this worker is at, closed when it has ended: the next one then finds
	// the object there, or gone, and not on its way to either.
	attempts map[int]chan struct{}
}

func newObjectOutput(kept jobplan.ObjectOutput, program *jobplan.Program, leavesOut bool, store func(context.Context) (*objectstore.Store, error)) *objectOutput {
	return &objectOutput{ObjectOutput: kept, schema: program.OutputSchema, leavesOut: leavesOut, store: store, attempts: map[int]chan struct{}{}}
}

func (o *objectOutput) begin(ctx context.Context, l *lease) (draft, *part, error) {
	if o.store == nil {
		return nil, nil, errNoStore
	}
	store, err := o.store(ctx)
	if err != nil {
		return nil, nil, err
	}
	end, err := o.enter(ctx, l.task.Index)
	if err != nil {
		return nil, nil, err
	}
	d := &objectDraft{output: o, store: store, task: l.task.Index, id: o.ID(l.task.Index), epoch: l.epoch, end: end}
	found, err := d.adopt(ctx)
	if found != nil || err != nil {
		end()
		return nil, found, err
	}
	d.writer = object.NewWriter(o.schema, store.Usage().CapacityBytes)
	return d, nil, nil
}

// enter waits until no other attempt of this worker is at a task. The caller calls end when its own has ended.
func (o *objectOutput) enter(ctx context.Context, task int) (end func(), err error) {
	for {
		o.mu.Lock()
		before := o.attempts[task]
		if before == nil {
			mine := make(chan struct{})
			o.attempts[task] = mine
			o.mu.Unlock()
			return func() {
				o.mu.Lock()
				delete(o.attempts, task)
				o.mu.Unlock()
				close(mine)
			}, nil
		}
		o.mu.Unlock()
		select {
		case <-before:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// objectDraft is an object that an attempt makes.
type objectDraft struct {
	output *objectOutput
	store  *objectstore.Store
	task   int
	id     engine.ObjectID
	epoch  engine.Epoch
	writer *object.Writer
	// end lets the next attempt at the task begin.
	end func()
}

// Write implements draft.
func (d *objectDraft) Write(ctx context.Context, record arrow.Record) error {
	return d.writer.Write(ctx, record)
}

func (d *objectDraft) close() error {
	d.writer.Close()
	d.end()
	return nil
}

// adopt returns the object that is there already: in this store, where an earlier attempt left it, or as a checkpoint, which the
// attempt of a lost worker may have written. It returns nil if there is none.
func (d *objectDraft) adopt(ctx context.Context) (*part, error) {
	info, ok := d.store.Info(d.id)
	switch {
	case ok && info.Primary:
	case ok:
		var err error
		if info, err = d.store.Promote(d.id, []engine.ObjectOwner{d.output.Owner()}, ""); err != nil {
			return nil, engine.WrapError(opObject, d.id.String(), err)
		}
	case d.output.Checkpoint == "":
		return nil, nil //nolint:nilnil // There is none, which is no error.
	default:
		var err error
		info, err = d.store.Restore(ctx, d.output.CheckpointURI(d.task), d.output.Domain, []engine.ObjectOwner{d.output.Owner()})
		switch kind := engine.KindOf(err); {
		case err == nil:
		case kind == engine.KindNotFound, kind == engine.KindCorrupt:
			return nil, nil //nolint:nilnil // There is none yet, or one that is made again.
		default:
			return nil, engine.WrapError(opObject, d.id.String(), err)
		}
	}
	filtered, rejected, err := d.leftOut(ctx)
	if err != nil {
		return nil, err
	}
	found := &part{
		// How many bytes the attempt read, nobody knows any more.
		counts: &enginev1.TaskCounts{
			RowsRead: info.Rows + filtered + rejected, RowsWritten: info.Rows, RowsFiltered: filtered, RowsRejected: rejected, BytesWritten: info.SizeBytes, Batches: info.Batches,
		},
		sizeBytes: info.SizeBytes, adopted: true,
	}
	return found, d.checkpoint(ctx, found)
}

// leftOut returns how many rows were left out when the object was made, by filters and as bad ones, which it says of itself.
func (d *objectDraft) leftOut(ctx context.Context) (filtered, rejected int64, err error) {
	if !d.output.leavesOut {
		return 0, 0, nil
	}
	opened, err := object.FromStore(d.output.store, nil)(ctx, d.id)
	if err != nil {
		return 0, 0, engine.WrapError(opObject, d.id.String(), err)
	}
	defer opened.Release()
	metadata := opened.Schema().Metadata()
	number := func(key string) (n int64) {
		text, ok := metadata.GetValue(key)
		if !ok || err != nil {
			return 0
		}
		if n, err = strconv.ParseInt(text, 10, 64); err != nil {
			err = engine.Errorf(engine.KindCorrupt, opObject, d.id.String(), "its metadata %s is %q", key, text)
		}
		return n
	}
	filtered, rejected = number(metaFiltered), number(metaRejected)
	return filtered, rejected, err
}

func (d *objectDraft) publish(ctx context.Context, counts *enginev1.TaskCounts, right func(context.Context) error) (*part, error) {
	if n := counts.GetRowsFiltered(); n > 0 {
		d.writer.Annotate(metaFiltered, strconv.FormatInt(n, 10))
	}
	if n := counts.GetRowsRejected(); n > 0 {
		d.writer.Annotate(metaRejected, strconv.FormatInt(n, 10))
	}
	encoding, err := d.writer.Encode()
	if err != nil {
		return nil, err
	}
	defer encoding.Release()
	pending, err := d.store.Create(ctx, objectstore.Creation{
		ID: d.id, SizeBytes: encoding.SizeBytes(), Domain: d.output.Domain, Owner: d.output.Owner(),
	})
	if engine.KindOf(err) == engine.KindConflict && err != nil {
		// Somebody brings it from a checkpoint at this moment: the next attempt finds it there.
		return nil, engine.Errorf(engine.KindUnavailable, opObject, d.id.String(), "%w", err)
	}
	if err != nil {
		return nil, engine.WrapError(opObject, d.id.String(), err)
	}
	defer pending.Abort()
	encoding.CopyTo(pending.Bytes())
	if err := right(ctx); err != nil {
		return nil, err
	}
	info, err := pending.Seal(objectstore.Description{Rows: encoding.Rows(), Batches: encoding.Batches()})
	if err != nil {
		return nil, engine.WrapError(opObject, d.id.String(), err)
	}
	counts.BytesWritten = info.SizeBytes
	made := &part{counts: counts, sizeBytes: info.SizeBytes, epoch: d.epoch}
	err = d.checkpoint(ctx, made)
	if engine.KindOf(err) != engine.KindConflict || err == nil {
		return made, err
	}
	// Another attempt's checkpoint came first, and its bytes are not ours: steps need not give the same bits twice.
	d.store.Delete(d.id)
	found, adoptErr := d.adopt(ctx)
	if found == nil && adoptErr == nil {
		adoptErr = err
	}
	return found, adoptErr
}

// checkpoint makes the object durable, if the job asks for that.
func (d *objectDraft) checkpoint(ctx context.Context, p *part) error {
	if d.output.Checkpoint == "" {
		return nil
	}
	uri, err := d.store.Checkpoint(ctx, d.id, d.output.Checkpoint)
	if _, there := d.store.Info(d.id); err != nil && !there {
		// The directory has kept the copy of another attempt; the next one finds what that left.
		return engine.Errorf(engine.KindUnavailable, opObject, d.id.String(), "the object went before it was checkpointed: %w", err)
	}
	p.checkpoint = uri
	return engine.WrapError(opObject, d.id.String(), err)
}

var errNoStore = engine.Errorf(engine.KindUnavailable, opObject, "", "this worker has no object store")
