package client

import (
	"context"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/apache/arrow/go/v15/arrow"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/internal/rpc"
	"github.com/f708428e/engine/objectstore"
	"github.com/f708428e/engine/objectstore/local"
	"github.com/f708428e/engine/objectstore/table"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// Table is an object that was got. Its records lie over shared memory if the object is on this machine: they, and whatever was made
// of them without a copy, texts included, are valid until they are released. Release gives the memory back; it stays readable until
// then even if the object is deleted, the client closed, or the store gone.
type Table = table.Table

// Put keeps a record as an object of its own. See PutTable.
func (c *Client) Put(ctx context.Context, record arrow.Record) (engine.ObjectRef, error) {
	if record == nil {
		return engine.ObjectRef{}, engine.Errorf(engine.KindInvalidArgument, "put object", "", "the record is nil")
	}
	return c.PutTable(ctx, record.Schema(), record)
}

// PutTable keeps records of one schema, of which there may be none, as one immutable object, in the store of this machine if there is
// one. When it returns, the object can be read everywhere. Unless it is pinned it lives as long as the client's session: it is deleted
// when the client is closed, and some seconds after the client was lost. The caller keeps its records and must not change them before
// PutTable returns.
//
// A full store makes the call wait until there is room or ctx ends, 30 seconds if ctx has no deadline. Errors are of kind
// engine.KindInvalidArgument for a type that Arrow IPC cannot hold and for an object that is larger than the store (with both sizes),
// engine.KindExhausted if there was no room in time (with who uses how much), engine.KindUnavailable if no store can be reached.
func (c *Client) PutTable(ctx context.Context, schema *arrow.Schema, records ...arrow.Record) (engine.ObjectRef, error) {
	if schema == nil {
		return engine.ObjectRef{}, engine.Errorf(engine.KindInvalidArgument, "put object", "", "the schema is nil")
	}
	encoding, err := table.Encode(schema, records...)
	if err != nil {
		return engine.ObjectRef{}, err
	}
	defer encoding.Release()
	if err := c.objects.session.ensure(ctx); err != nil {
		return engine.ObjectRef{}, err
	}
	id := engine.NewObjectID()
	if err := c.objects.put(ctx, id, encoding); err != nil {
		return engine.ObjectRef{}, err
	}
	// If the session ended meanwhile, the object may be the next one's, which has to be open soon.
	if err := c.objects.session.ensure(ctx); err != nil {
		return engine.ObjectRef{}, err
	}
	return engine.ObjectRef{ID: id, Cluster: c.objects.clusterID()}, nil
}

// put tries the stores of this machine, and then others, until one has the object.
func (o *objects) put(ctx context.Context, id engine.ObjectID, encoding *table.Encoding) error {
	var tried []error
	// Only this call knows the id: a conflict at a later try says that an earlier one arrived and its answer was lost.
	done := func(err error) bool {
		if err == nil || len(tried) > 0 && engine.KindOf(err) == engine.KindConflict {
			return true
		}
		tried = append(tried, err)
		return false
	}
	fatal := func() bool {
		return engine.KindOf(tried[len(tried)-1]) != engine.KindUnavailable || ctx.Err() != nil
	}
	const tries = 2 // A socket that broke is redialled once.
	var whyFar error
	for range tries {
		var near []nearStore
		if near, whyFar = o.near(ctx); len(near) == 0 {
			break
		}
		_, err := near[o.spread%len(near)].Put(ctx, id, encoding)
		if done(err) {
			return nil
		}
		if fatal() {
			return err
		}
	}
	if encoding.SizeBytes() <= engine.MaxInlineObjectBytes {
		err := o.putByHead(ctx, id, encoding)
		if done(err) {
			return nil
		}
		return engine.WrapError("put object", id.String(), join(tried, whyFar))
	}
	stores, err := o.stores(ctx)
	if err != nil {
		return err
	}
	for _, i := range rand.Perm(len(stores)) {
		store, err := o.far(ctx, stores[i].GetFlight())
		if err == nil {
			_, err = store.Put(ctx, id, o.session.id(), objectstore.DefaultDomain, encoding)
		}
		if done(err) {
			return nil
		}
		if fatal() {
			return err
		}
	}
	if len(tried) == 0 && whyFar == nil {
		return engine.Errorf(engine.KindUnavailable, "put object", id.String(), "the cluster has no object store that takes an object of %s", engine.FormatSize(encoding.SizeBytes())).
			WithHint("`engine memory` shows the stores")
	}
	return engine.WrapError("put object", id.String(), join(tried, whyFar))
}

// putByHead sends a small object to the head.
func (o *objects) putByHead(ctx context.Context, id engine.ObjectID, encoding *table.Encoding) error {
	data := make([]byte, encoding.SizeBytes())
	encoding.CopyTo(data)
	_, err := o.service.PutObject(ctx, &enginev1.PutObjectRequest{ObjectId: id[:], Data: data, SessionId: o.session.id()})
	return err
}

// reasons are why each store that was tried failed. The first gives the kind.
type reasons []error

// join is the reasons of all stores that were tried, and why those of this machine were not.
func join(tried []error, whyFar error) error {
	if whyFar != nil {
		tried = append(tried, whyFar)
	}
	return reasons(tried)
}

// Error returns all reasons in one line.
func (r reasons) Error() string {
	texts := make([]string, len(r))
	for i, err := range r {
		texts[i] = err.Error()
	}
	return strings.Join(texts, "; ")
}

// Unwrap returns the reasons.
func (r reasons) Unwrap() []error { return r }

// Get returns an object's table: without a copy if the object is on this machine, else after it was brought here. The caller releases
// it. An object that was spilled or checkpointed is read back first.
//
// Errors are of kind engine.KindNotFound for an object that nobody knows, engine.KindUnavailable for one whose copies are all gone or out
// of reach, engine.KindInvalidArgument for a reference of another cluster, engine.KindCorrupt if every copy is damaged, and
// engine.KindExhausted if this machine's store has no room for a copy.
//
// Of a task's output, Get waits until the task has ended, as long as ctx lasts, and returns the task's own error if it has failed.
func (c *Client) Get(ctx context.Context, ref engine.ObjectRef) (*Table, error) {
	if err := c.objects.check(ctx, "get object", ref); err != nil {
		return nil, err
	}
	if task, output, ok := ref.ID.Producer(); ok {
		return c.getOutput(ctx, ref, task, output)
	}
	return c.objects.get(ctx, ref.ID)
}

func (o *objects) get(ctx context.Context, id engine.ObjectID) (*Table, error) {
	near, _ := o.near(ctx)
	// Several stores of one machine: whoever has the object serves it without a copy, so nothing is fetched before all were asked.
	for _, store := range near {
		got, _, err := store.Get(ctx, id, local.GetOptions{Fetch: len(near) == 1})
		if err == nil || !elsewhere(ctx, err) {
			return got, err
		}
	}
	return o.getByHead(ctx, id)
}

// getByHead asks the head for an object that no store of this machine has. The head knows better why an object cannot be had than a store
// does, and restores one that only has a checkpoint.
func (o *objects) getByHead(ctx context.Context, id engine.ObjectID) (*Table, error) {
	response, err := o.service.GetObject(ctx, &enginev1.GetObjectRequest{ObjectId: id[:]})
	if err != nil {
		return nil, err
	}
	if data := response.GetData(); len(data) > 0 {
		return table.Open(data, table.Options{})
	}
	var tried []error
	near, whyFar := o.near(ctx)
	if len(near) > 0 {
		got, _, err := near[o.spread%len(near)].Get(ctx, id, local.GetOptions{Fetch: true})
		if err == nil || !elsewhere(ctx, err) {
			return got, err
		}
		tried = append(tried, err)
	}
	for _, holder := range inOrder(response.GetObject().GetHolders()) {
		store, err := o.far(ctx, holder.GetStore().GetFlight())
		if err == nil {
			var got *Table
			if got, err = store.Get(ctx, id); err == nil || !elsewhere(ctx, err) {
				return got, err
			}
		}
		tried = append(tried, err)
	}
	if len(tried) == 0 && whyFar == nil {
		return nil, engine.Errorf(engine.KindUnavailable, "get object", id.String(), "no store that has it can be reached")
	}
	return nil, engine.WrapError("get object", id.String(), join(tried, whyFar))
}

// elsewhere tells whether an object may be had from another store after this error.
func elsewhere(ctx context.Context, err error) bool {
	if ctx.Err() != nil {
		return false
	}
	switch engine.KindOf(err) {
	case engine.KindNotFound, engine.KindUnavailable, engine.KindCorrupt:
		return true
	default:
		return false
	}
}

// inOrder are the holders that can be reached over the network, those with the object in memory first, each group in random order so
// that many readers spread over them.
func inOrder(holders []*enginev1.ObjectHolder) []*enginev1.ObjectHolder {
	var memory, rest []*enginev1.ObjectHolder
	for _, i := range rand.Perm(len(holders)) {
		switch holder := holders[i]; {
		case holder.GetStore().GetFlight() == "":
		case holder.GetState() == enginev1.ObjectState_OBJECT_STATE_IN_MEMORY:
			memory = append(memory, holder)
		default:
			rest = append(rest, holder)
		}
	}
	return append(memory, rest...)
}

// Wait blocks until count of the objects can be read, all of them if count is 0, and returns those that can, in the order of refs. It
// waits as long as ctx lasts, also across a restart of the head, unless that is away for more than a minute; then it returns those that are
// there beside the error. A head that cannot be reached at first is not waited for. A task that fails makes no objects, so to wait for tasks,
// see WaitTasks.
func (c *Client) Wait(ctx context.Context, refs []engine.ObjectRef, count int) ([]engine.ObjectRef, error) {
	if count < 0 || count > len(refs) {
		return nil, engine.Errorf(engine.KindInvalidArgument, "wait for objects", "", "%d of %d objects are wanted", count, len(refs))
	}
	if count == 0 {
		count = len(refs)
	}
	for _, ref := range refs {
		if err := c.objects.check(ctx, "wait for objects", ref); err != nil {
			return nil, err
		}
	}
	var ready []engine.ObjectRef
	heard := false
	err := follow(ctx, "wait for objects", "", func(ctx context.Context, alive func()) error {
		for len(ready) < count {
			// A call ends before the deadline, so that its answer arrives; and before the one that a call without a deadline gets.
			const window, margin = 20 * time.Second, 50 * time.Millisecond
			left := untilDeadline(ctx)
			timeout := min(window, max(left-margin, left/2))
			last := heard && timeout < window
			if !heard {
				timeout = 0 // Once there was an answer, a head that goes away is waited for.
			}
			response, err := c.objects.service.WaitObjects(ctx, &enginev1.WaitObjectsRequest{
				ObjectIds: ids(refs), Count: int32(min(count, 1<<30)), Timeout: durationpb.New(timeout), //nolint:gosec // Bounded.
			})
			if err != nil {
				return err
			}
			heard = true
			alive()
			ready = pick(refs, response.GetReady())
			if len(ready) < count && last {
				return engine.Errorf(engine.KindDeadline, "wait for objects", "", "%d of %d are there: %w", len(ready), count, context.DeadlineExceeded)
			}
		}
		return nil
	})
	return ready, err
}

// pick returns the references whose ids are among those of an answer.
func pick(refs []engine.ObjectRef, found [][]byte) []engine.ObjectRef {
	have := make(map[string]bool, len(found))
	for _, id := range found {
		have[string(id)] = true
	}
	var picked []engine.ObjectRef
	for _, ref := range refs {
		if have[string(ref.ID[:])] {
			picked = append(picked, ref)
		}
	}
	return picked
}

// Delete deletes objects and all their copies, whoever owns them. Checkpoints stay, tables that are open go on, and one that is unknown
// counts as deleted.
func (c *Client) Delete(ctx context.Context, refs ...engine.ObjectRef) error {
	for _, ref := range refs {
		if err := c.objects.check(ctx, "delete object", ref); err != nil {
			return err
		}
	}
	if near, _ := c.objects.near(ctx); len(near) > 0 {
		deleted := make([]engine.ObjectID, len(refs))
		for i, ref := range refs {
			deleted[i] = ref.ID
		}
		// This machine's store tells the head, and so forgets its copy before the call returns.
		if err := near[c.objects.spread%len(near)].Delete(ctx, deleted...); err == nil || engine.KindOf(err) != engine.KindUnavailable || ctx.Err() != nil {
			return err
		}
	}
	_, err := c.objects.service.DeleteObjects(ctx, &enginev1.DeleteObjectsRequest{ObjectIds: ids(refs)})
	return err
}

// untilDeadline is how long a context lasts; rpc.CallTimeout if it has no deadline.
func untilDeadline(ctx context.Context) time.Duration {
	deadline, ok := ctx.Deadline()
	if !ok {
		return rpc.CallTimeout
	}
	return max(0, time.Until(deadline))
}
