package local

import (
	"context"
	"slices"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/objectstore"
)

// waitAnywhere waits for count of the objects in the store and, if elsewhere is not nil, anywhere else at the same time; a count of zero is
// all of them. It returns those that exist in the order of ids, and an error if they are too few.
func waitAnywhere(ctx context.Context, store *objectstore.Store, elsewhere func(context.Context, []engine.ObjectID, int) ([]engine.ObjectID, error), ids []engine.ObjectID, count int) ([]engine.ObjectID, error) {
	if elsewhere == nil {
		return store.Wait(ctx, ids, count)
	}
	distinct := map[engine.ObjectID]bool{}
	for _, id := range ids {
		distinct[id] = true
	}
	if count <= 0 || count > len(distinct) {
		count = len(distinct)
	}
	type result struct {
		ready []engine.ObjectID
		err   error
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	local := make(chan result, 1)
	go func() { // lifecycle: it ends with ctx, and is waited for below.
		ready, err := store.Wait(ctx, ids, count)
		if err == nil {
			cancel()
		}
		local <- result{ready, err}
	}()
	ready, err := elsewhere(ctx, ids, count)
	if err == nil && len(ready) >= count {
		cancel()
	}
	here := <-local
	there := map[engine.ObjectID]bool{}
	for _, id := range slices.Concat(ready, here.ready) {
		there[id] = true
	}
	all := slices.DeleteFunc(slices.Clone(ids), func(id engine.ObjectID) bool { return !there[id] })
	switch {
	case len(there) >= count:
		return all, nil
	case err != nil:
		return all, err
	default:
		return all, here.err
	}
}
