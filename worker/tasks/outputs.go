package tasks

import (
	"cmp"
	"context"
	"path/filepath"
	"strings"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/internal/jobplan"
	"github.com/f708428e/engine/objectstore"
	"github.com/f708428e/engine/objectstore/table"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
	"github.com/f708428e/engine/runtime/operator"
)

const opOutput = "keep output"

// draft is an output that is being put into the store.
type draft struct {
	id engine.ObjectID
	// domain is its security domain: the task's queue.
	domain  string
	wire    *enginev1.TaskOutput
	pending *objectstore.Pending
	rows    objectstore.Description
}

// keep puts what an operator has returned into the store, as objects of the task's session. All are written before the first one
// becomes visible. An object that is there already under an output's id, because an earlier attempt got that far or because a copy of
// what that made is here, stays and counts: objects never change.
func (t *Tasks) keep(ctx context.Context, r *task, results []operator.Output) (outputs []*enginev1.TaskOutput, made []engine.ObjectID, err error) {
	if len(results) > r.template.outputs {
		return nil, nil, engine.Errorf(engine.KindInvalidArgument, "operator "+r.template.wire.GetOperator(), "",
			"it has returned %d outputs, the task has %d", len(results), r.template.outputs)
	}
	folder := r.template.wire.GetCheckpoint()
	if folder != "" && !filepath.IsAbs(folder) && !strings.Contains(folder, "://") {
		return nil, nil, engine.Errorf(engine.KindInvalidArgument, opOutput, folder, "the checkpoint's folder is neither an absolute path nor a URI")
	}
	store, err := t.store(ctx)
	if err != nil {
		return nil, nil, engine.WrapError(opOutput, "", err)
	}
	owner := engine.ObjectOwner{Kind: engine.OwnerSession, ID: r.session}
	var drafts []*draft
	complete := false
	defer func() {
		for _, d := range drafts {
			if d.pending != nil {
				d.pending.Abort() // of one that was not sealed
			}
		}
		if !complete { // An error, or a panic.
			store.Delete(made...)
			made = nil
		}
	}()
	for i := range results {
		d := &draft{id: r.id.Output(i), domain: cmp.Or(r.template.wire.GetQueue(), objectstore.DefaultDomain), wire: &enginev1.TaskOutput{}}
		outputs = append(outputs, d.wire)
		if results[i].IsZero() {
			continue
		}
		drafts = append(drafts, d)
		if err := t.write(ctx, store, d, &results[i], owner, r.template.inline); err != nil {
			return nil, nil, engine.WrapError(opOutput, d.id.String(), err)
		}
	}
	for _, d := range drafts {
		if d.pending == nil {
			continue
		}
		if _, err := d.pending.Seal(d.rows); err != nil {
			return nil, made, engine.WrapError(opOutput, d.id.String(), err)
		}
		made = append(made, d.id)
	}
	if folder != "" {
		for _, d := range drafts {
			if err := checkpoint(ctx, store, d, owner, folder, r.template.inline); err != nil {
				return nil, made, engine.WrapError(opOutput, d.id.String(), err)
			}
		}
	}
	complete = true
	return outputs, made, nil
}

// write writes one output into the store, without making it visible, and takes its value if it is small.
func (t *Tasks) write(ctx context.Context, store *objectstore.Store, d *draft, output *operator.Output, owner engine.ObjectOwner, inline int64) error {
	if found, err := adopt(ctx, store, d, owner, inline); found || err != nil {
		return err
	}
	encoding, err := output.Encode()
	if err != nil {
		return err
	}
	defer encoding.Release()
	d.pending, err = store.Create(ctx, objectstore.Creation{ID: d.id, SizeBytes: encoding.SizeBytes(), Domain: d.domain, Owner: owner})
	if engine.KindOf(err) == engine.KindConflict && err != nil {
		// Somebody brings a copy of it here at this moment: the next attempt finds that.
		return engine.Errorf(engine.KindUnavailable, "", "", "%w", err)
	}
	if err != nil {
		return err
	}
	encoding.CopyTo(d.pending.Bytes())
	d.rows = objectstore.Description{Rows: encoding.Rows(), Batches: encoding.Batches()}
	d.describe(encoding, inline)
	return nil
}

func (d *draft) describe(encoding *table.Encoding, inline int64) {
	d.wire.SizeBytes, d.wire.Rows = encoding.SizeBytes(), encoding.Rows()
	if d.wire.SizeBytes <= inline {
		d.wire.Value = make([]byte, d.wire.SizeBytes)
		copy(d.wire.Value, d.pending.Bytes())
	}
}

// adopt takes an object that is in the store already as the output.
func adopt(ctx context.Context, store *objectstore.Store, d *draft, owner engine.ObjectOwner, inline int64) (found bool, err error) {
	if _, ok := store.Info(d.id); !ok {
		return false, nil
	}
	info, err := store.Promote(d.id, []engine.ObjectOwner{owner}, "")
	switch {
	case err == nil:
	case engine.KindOf(err) == engine.KindNotFound:
		return false, nil // It has just gone.
	default:
		return false, err
	}
	d.wire.SizeBytes, d.wire.Rows, d.wire.Value = info.SizeBytes, info.Rows, nil
	if info.SizeBytes > inline {
		return true, nil
	}
	handle, err := store.Get(ctx, d.id)
	if err != nil {
		return false, err
	}
	defer handle.Release()
	d.wire.Value = append([]byte(nil), handle.Bytes()...)
	return true, nil
}

// checkpoint makes an output durable. If an earlier attempt has left another content there, that counts: nobody can tell who has read
// it.
func checkpoint(ctx context.Context, store *objectstore.Store, d *draft, owner engine.ObjectOwner, folder string, inline int64) error {
	uri, err := store.Checkpoint(ctx, d.id, folder)
	if engine.KindOf(err) == engine.KindConflict && err != nil {
		store.Delete(d.id)
		_, err = store.Restore(ctx, jobplan.CheckpointURI(folder, d.id), d.domain, []engine.ObjectOwner{owner})
		if err == nil {
			_, err = adopt(ctx, store, d, owner, inline)
		}
		if err == nil {
			uri, err = store.Checkpoint(ctx, d.id, folder)
		}
	}
	d.wire.Checkpoint = uri
	return err
}
