package objects

import (
	"bytes"
	"context"
	"log/slog"
	"slices"
	"sync"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/internal/lifecycle"
	"github.com/f708428e/engine/internal/rpc"
	"github.com/f708428e/engine/objectstore"
	"github.com/f708428e/engine/objectstore/table"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

const (
	// maxSlow is how many orders that read or write files or wait for room are carried out at the same time.
	maxSlow = 16
	// maxDone is how many results are remembered, for orders that are repeated because the stream that carried the result broke.
	maxDone = 10_000
)

// orders carries out what the head says, and keeps the results until they have been sent. Each order is carried out once, unless its result
// has been forgotten. It is safe for concurrent use.
type orders struct {
	store *objectstore.Store
	// pull brings a copy of an object that is elsewhere.
	pull   func(context.Context, engine.ObjectID) error
	logger *slog.Logger
	group  *lifecycle.Group
	// slow has a place for each slow order that is carried out.
	slow chan struct{}
	// ready signals that there are results.
	ready chan struct{}

	mu      sync.Mutex
	cluster string
	// running are the orders under way, done the latest results by their numbers, oldest their order.
	running map[uint64]struct{}
	done    map[uint64]*enginev1.ObjectOrderResult
	oldest  []uint64
	unsent  []*enginev1.ObjectOrderResult
}

func newOrders(store *objectstore.Store, pull func(context.Context, engine.ObjectID) error, logger *slog.Logger) *orders {
	return &orders{
		store: store, pull: pull, logger: logger, group: lifecycle.NewGroup(context.Background(), "orders"), slow: make(chan struct{}, maxSlow),
		ready: make(chan struct{}, 1), running: map[uint64]struct{}{}, done: map[uint64]*enginev1.ObjectOrderResult{},
	}
}

// stop ends the orders under way.
func (o *orders) stop(ctx context.Context) error { return o.group.Stop(ctx) }

// join forgets the results of another cluster's orders, whose numbers mean nothing here.
func (o *orders) join(cluster string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.cluster != cluster {
		o.cluster = cluster
		clear(o.done)
		o.oldest, o.unsent = nil, nil
	}
}

// take begins orders. It does not block: what may take long is done in the background.
func (o *orders) take(all []*enginev1.ObjectOrder) {
	for _, order := range all {
		if !o.begin(order.GetNumber()) {
			continue
		}
		if quick(order) {
			o.finish(order, o.carryOut(context.Background(), order))
			continue
		}
		started := o.group.Go("order", func(ctx context.Context) error {
			select {
			case o.slow <- struct{}{}:
			case <-ctx.Done():
				return nil
			}
			defer func() { <-o.slow }()
			o.finish(order, o.carryOut(ctx, order))
			return nil
		})
		if !started {
			return // The worker stops, and its objects go with it.
		}
	}
}

// begin reports whether an order is to be carried out. The result of one that has been is sent again.
func (o *orders) begin(number uint64) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if _, ok := o.running[number]; ok {
		return false
	}
	if result := o.done[number]; result != nil {
		o.queue(result)
		return false
	}
	o.running[number] = struct{}{}
	return true
}

func (o *orders) queue(result *enginev1.ObjectOrderResult) {
	o.unsent = append(o.unsent, result)
	select {
	case o.ready <- struct{}{}:
	default: // It is awake already.
	}
}

func (o *orders) finish(order *enginev1.ObjectOrder, result *enginev1.ObjectOrderResult) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.running, order.GetNumber())
	o.queue(result)
	if len(result.GetData()) > 0 {
		return // It can be read again, and would hold memory.
	}
	o.done[result.GetNumber()] = result
	if o.oldest = append(o.oldest, result.GetNumber()); len(o.oldest) > maxDone {
		delete(o.done, o.oldest[0])
		o.oldest = o.oldest[1:]
	}
}

// results returns what has not been sent. What cannot be is given back.
func (o *orders) results() []*enginev1.ObjectOrderResult {
	o.mu.Lock()
	defer o.mu.Unlock()
	unsent := o.unsent
	o.unsent = nil
	return unsent
}

func (o *orders) giveBack(results []*enginev1.ObjectOrderResult) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.unsent = append(slices.Clone(results), o.unsent...)
	if len(o.unsent) > 0 {
		select {
		case o.ready <- struct{}{}:
		default:
		}
	}
}

// quick reports whether an order neither waits nor reads files.
func quick(order *enginev1.ObjectOrder) bool {
	switch what := order.GetOrder().(type) {
	case *enginev1.ObjectOrder_Promote:
		return !what.Promote.GetFetch()
	case *enginev1.ObjectOrder_Put, *enginev1.ObjectOrder_Fetch, *enginev1.ObjectOrder_Describe, *enginev1.ObjectOrder_Checkpoint, *enginev1.ObjectOrder_Restore:
		return false
	default:
		return true
	}
}

// carryOut does what an order says.
func (o *orders) carryOut(ctx context.Context, order *enginev1.ObjectOrder) *enginev1.ObjectOrderResult {
	result := &enginev1.ObjectOrderResult{Number: order.GetNumber()}
	if err := o.do(ctx, order, result); err != nil {
		if kind := engine.KindOf(err); kind == engine.KindInternal || kind == engine.KindCorrupt {
			o.logger.WarnContext(ctx, "an order of the head failed", "order", order.GetNumber(), "error", err)
		}
		result = &enginev1.ObjectOrderResult{Number: order.GetNumber(), Error: rpc.ToProto(err)}
	}
	return result
}

func (o *orders) do(ctx context.Context, order *enginev1.ObjectOrder, result *enginev1.ObjectOrderResult) error {
	switch what := order.GetOrder().(type) {
	case nil:
		return nil // The result is all that is wanted.
	case *enginev1.ObjectOrder_Delete:
		ids, err := rpc.ObjectIDsFromProto(what.Delete.GetObjectIds())
		if err == nil {
			o.store.Delete(ids...)
		}
		return err
	case *enginev1.ObjectOrder_EndOwner:
		owner, err := rpc.OwnerFromProto(what.EndOwner.GetOwner())
		if err == nil {
			o.store.EndOwner(owner)
		}
		return err
	case *enginev1.ObjectOrder_Own:
		add, err := rpc.OwnersFromProto(what.Own.GetAdd())
		if err != nil {
			return err
		}
		remove, err := rpc.OwnersFromProto(what.Own.GetRemove())
		if err != nil {
			return err
		}
		return o.with(what.Own.GetObjectId(), result, func(id engine.ObjectID) error { return o.store.Own(id, add, remove) })
	case *enginev1.ObjectOrder_Promote:
		owners, err := rpc.OwnersFromProto(what.Promote.GetOwners())
		if err != nil {
			return err
		}
		return o.with(what.Promote.GetObjectId(), result, func(id engine.ObjectID) error {
			if _, here := o.store.Info(id); !here && what.Promote.GetFetch() {
				if err := o.pull(ctx, id); err != nil {
					return err
				}
			}
			_, err := o.store.Promote(id, owners, what.Promote.GetCheckpoint())
			return err
		})
	case *enginev1.ObjectOrder_Put:
		return o.with(what.Put.GetObjectId(), result, func(id engine.ObjectID) error { return o.put(ctx, id, what.Put) })
	case *enginev1.ObjectOrder_Fetch:
		return o.with(what.Fetch.GetObjectId(), result, func(id engine.ObjectID) error { return o.fetch(ctx, id, result) })
	case *enginev1.ObjectOrder_Describe:
		return o.with(what.Describe.GetObjectId(), result, func(id engine.ObjectID) error { return o.schema(ctx, id, result) })
	case *enginev1.ObjectOrder_Checkpoint:
		var uri string
		err := o.with(what.Checkpoint.GetObjectId(), result, func(id engine.ObjectID) (err error) {
			uri, err = o.store.Checkpoint(ctx, id, what.Checkpoint.GetFolder())
			return err
		})
		if result.GetObject() != nil {
			result.Object.Checkpoint = uri // The object may have another one by now.
		}
		return err
	case *enginev1.ObjectOrder_Restore:
		owners, err := rpc.OwnersFromProto(what.Restore.GetOwners())
		if err != nil {
			return err
		}
		info, err := o.store.Restore(ctx, what.Restore.GetUri(), what.Restore.GetDomain(), owners)
		result.Object = copyToProto(&info)
		return err
	default:
		return engine.Errorf(engine.KindVersion, "carry out order", "", "this worker does not know what order %d says", order.GetNumber()).
			WithHint("run the same version of engine on every node")
	}
}

// with calls f for the object, and adds to the result what is known of it afterwards.
func (o *orders) with(wire []byte, result *enginev1.ObjectOrderResult, f func(engine.ObjectID) error) error {
	id, err := rpc.ObjectIDFromProto(wire)
	if err != nil {
		return err
	}
	if err := f(id); err != nil {
		return err
	}
	if info, ok := o.store.Info(id); ok {
		result.Object = copyToProto(&info)
	} else {
		result.Object = &enginev1.ObjectCopy{ObjectId: id[:]} // It ended with its last owner.
	}
	return nil
}

// put keeps a small object that came with an order. One that is there already with the same bytes was put by the same order.
func (o *orders) put(ctx context.Context, id engine.ObjectID, put *enginev1.PutObjectOrder) error {
	owner, err := rpc.OwnerFromProto(put.GetOwner())
	if err != nil {
		return err
	}
	data := put.GetData()
	pending, err := o.store.Create(ctx, objectstore.Creation{ID: id, SizeBytes: int64(len(data)), Domain: put.GetDomain(), Owner: owner})
	if engine.KindOf(err) == engine.KindConflict {
		if handle, getErr := o.store.Get(ctx, id); getErr == nil {
			defer handle.Release()
			if bytes.Equal(handle.Bytes(), data) {
				return nil
			}
		}
	}
	if err != nil {
		return err
	}
	defer pending.Abort()
	copy(pending.Bytes(), data)
	opened, err := table.Open(pending.Bytes(), table.Options{})
	if err != nil {
		return engine.WrapError("put object", id.String(), err)
	}
	description := objectstore.Description{Rows: opened.Rows(), Batches: int64(len(opened.Records()))}
	opened.Release()
	_, err = pending.Seal(description)
	return err
}

// fetch reads a small object.
func (o *orders) fetch(ctx context.Context, id engine.ObjectID, result *enginev1.ObjectOrderResult) error {
	info, ok := o.store.Info(id)
	if ok && info.SizeBytes > engine.MaxInlineObjectBytes {
		return engine.Errorf(engine.KindInvalidArgument, "fetch object", id.String(), "%d bytes are too many for a message, at most %d", info.SizeBytes, engine.MaxInlineObjectBytes)
	}
	handle, err := o.store.Get(ctx, id)
	if err != nil {
		return err
	}
	defer handle.Release()
	result.Data = bytes.Clone(handle.Bytes())
	return nil
}

// schema reads an object's schema.
func (o *orders) schema(ctx context.Context, id engine.ObjectID, result *enginev1.ObjectOrderResult) error {
	handle, err := o.store.Get(ctx, id)
	if err != nil {
		return err
	}
	defer handle.Release()
	opened, err := table.Open(handle.Bytes(), table.Options{Trusted: true})
	if err != nil {
		return engine.WrapError("describe object", id.String(), err)
	}
	defer opened.Release()
	empty, err := table.Encode(opened.Schema())
	if err != nil {
		return engine.WrapError("describe object", id.String(), err)
	}
	defer empty.Release()
	result.Data = make([]byte, empty.SizeBytes())
	empty.CopyTo(result.Data)
	return nil
}
