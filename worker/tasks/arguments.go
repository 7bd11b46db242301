package tasks

import (
	"context"
	"strconv"
	"time"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/internal/rpc"
	"github.com/f708428e/engine/objectstore"
	"github.com/f708428e/engine/objectstore/table"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
	"github.com/f708428e/engine/runtime/operator"
)

// store returns the node's store.
func (t *Tasks) store(ctx context.Context) (*objectstore.Store, error) {
	if store := t.opened.Load(); store != nil {
		return store, nil
	}
	if t.config.Store == nil {
		return nil, engine.Errorf(engine.KindUnavailable, "open object store", "", "worker %s has none", t.config.Node)
	}
	store, err := t.config.Store(ctx)
	if err == nil {
		t.opened.Store(store)
	}
	return store, err
}

// isHere reports whether the arguments can be opened without waiting for other nodes.
func (t *Tasks) isHere(arguments []*enginev1.TaskArgument) bool {
	for _, a := range arguments {
		if len(a.GetObjectId()) != len(engine.ObjectID{}) {
			continue
		}
		store := t.opened.Load()
		if store == nil {
			return false
		}
		if _, ok := store.Info(engine.ObjectID(a.GetObjectId())); !ok {
			return false
		}
	}
	return true
}

// fetchArguments brings the arguments of tasks here, one task after the other, as long as there are any.
func (t *Tasks) fetchArguments(ctx context.Context) error {
	for {
		t.mu.Lock()
		r := t.nextFetchLocked()
		if r == nil {
			t.fetchers--
			t.mu.Unlock()
			return nil
		}
		ctx, cancel := context.WithCancelCause(ctx)
		r.cancel = cancel
		t.mu.Unlock()
		err := t.fetchFor(ctx, r.arguments)
		cancel(nil)
		t.fetched(r, err)
	}
}

// nextFetchLocked takes the first task that still waits for its arguments; nil if there is none.
func (t *Tasks) nextFetchLocked() *task {
	for len(t.toFetch) > 0 {
		r := t.toFetch[0]
		t.toFetch[0] = nil // The array stays as long as any of them is in it.
		t.toFetch = t.toFetch[1:]
		if r.phase == fetching {
			return r
		}
	}
	return nil
}

func (t *Tasks) fetchFor(ctx context.Context, arguments []*enginev1.TaskArgument) error {
	store, err := t.store(ctx)
	if err != nil {
		return engine.WrapError(rpc.OpGetArgument, "", err)
	}
	for _, a := range arguments {
		if len(a.GetObjectId()) != len(engine.ObjectID{}) {
			continue
		}
		id := engine.ObjectID(a.GetObjectId())
		if _, ok := store.Info(id); ok {
			continue
		}
		if err := t.fetch(ctx, id); err != nil {
			return lost(id, err)
		}
	}
	return nil
}

// fetched lets a task whose arguments are here wait for its resources.
func (t *Tasks) fetched(r *task, err error) {
	t.mu.Lock()
	r.cancel = nil
	if r.phase == fetching {
		switch {
		case err == nil:
			r.phase = waiting
			t.admission.add(r)
		case t.leaving:
			t.forgetLocked(r)
		default:
			t.endLocked(r, t.failure(r, err))
			t.sayChangedLocked()
		}
	}
	if r.phase == ended {
		r.arguments = nil
	}
	started := t.admitLocked(nil)
	t.mu.Unlock()
	t.start(started)
}

// The pauses between looks for an object that the cluster does not know: the node that has made it tells the directory a little after
// it has told of the task's end.
const (
	firstLook = 10 * time.Millisecond
	lookFor   = time.Second
)

// fetch brings one object here.
func (t *Tasks) fetch(ctx context.Context, id engine.ObjectID) error {
	if t.config.Fetch == nil {
		return engine.Errorf(engine.KindUnavailable, "fetch object", id.String(), "it is not on this node, which can reach no other")
	}
	until := time.Now().Add(lookFor)
	for pause := firstLook; ; pause *= 2 {
		err := t.config.Fetch(ctx, id)
		if err == nil || engine.KindOf(err) != engine.KindNotFound || time.Now().After(until) {
			return err
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return context.Cause(ctx)
		}
	}
}

// lost is the error of an object that could not be had.
func lost(id engine.ObjectID, err error) error {
	kind := engine.KindOf(err)
	if kind == engine.KindNotFound {
		kind = engine.KindUnavailable // The head has granted the task because the object was there.
	}
	return &engine.Error{Kind: kind, Op: rpc.OpGetArgument, ID: id.String(), Err: err}
}

// openArguments opens the arguments of a task. The caller releases them.
func (t *Tasks) openArguments(ctx context.Context, r *task) (args []*operator.Table, err error) {
	if len(r.arguments) == 0 {
		return nil, nil
	}
	defer func() {
		if err != nil {
			for _, arg := range args {
				arg.Release()
			}
			args = nil
		}
	}()
	args = make([]*operator.Table, 0, len(r.arguments))
	for i, a := range r.arguments {
		var opened *table.Table
		if a.GetObjectId() == nil {
			// It comes from outside: everything in it is looked at.
			if opened, err = table.Open(a.GetValue(), table.Options{}); err != nil {
				return args, engine.WrapError(rpc.OpGetArgument, "argument "+strconv.Itoa(i+1), err)
			}
		} else {
			id, err := rpc.ObjectIDFromProto(a.GetObjectId())
			if err != nil {
				return args, engine.WrapError(rpc.OpGetArgument, "argument "+strconv.Itoa(i+1), err)
			}
			if opened, err = t.open(ctx, id); err != nil {
				return args, lost(id, err)
			}
		}
		args = append(args, opened)
	}
	return args, nil
}
