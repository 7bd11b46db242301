package objects

import (
	"context"
	"slices"
	"time"

	"github.com/f708428e/engine"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// maxTries is how many stores are asked for the same thing, one after the other.
const maxTries = 3

// request begins requests to stores; collect waits for their results.
func (d *Directory) request(begin func(core *Core, now time.Time) ([]uint64, error)) (pending, error) {
	var p pending
	var err error
	d.do(func(core *Core, now time.Time) {
		var numbers []uint64
		numbers, err = begin(core, now)
		for _, number := range numbers {
			waiting := make(chan Result, 1)
			d.results[number] = waiting
			p = append(p, reply{number, waiting})
		}
	})
	return p, err
}

// pending are requests under way.
type pending []reply

type reply struct {
	number uint64
	result chan Result
}

// collect waits for all results, and returns them and the first error among them.
func (d *Directory) collect(ctx context.Context, operation string, p pending) (results []Result, err error) {
	for i, r := range p {
		select {
		case result := <-r.result:
			results = append(results, result)
			if result.Err != nil && err == nil {
				err = result.Err
			}
		case <-ctx.Done():
			d.drop(p[i:])
			return results, engine.WrapError(operation, "", context.Cause(ctx))
		}
	}
	return results, err
}

// drop gives up on results that are not there yet.
func (d *Directory) drop(p pending) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, r := range p {
		delete(d.results, r.number)
	}
}

// try asks one store after the other until one has done it, or says that none can.
func (d *Directory) try(ctx context.Context, operation string, begin func(core *Core, now time.Time, apart []engine.NodeID) (uint64, error)) (Result, error) {
	var apart []engine.NodeID
	var first error
	for range maxTries {
		p, err := d.request(func(core *Core, now time.Time) ([]uint64, error) {
			number, err := begin(core, now, apart)
			if err != nil || number == 0 {
				return nil, err
			}
			return []uint64{number}, nil
		})
		if err == nil && len(p) == 0 {
			return Result{}, nil
		}
		if err == nil {
			var results []Result
			if results, err = d.collect(ctx, operation, p); err == nil {
				return results[0], nil
			}
			if len(results) > 0 {
				apart = append(apart, results[0].Node)
			}
		}
		if first == nil {
			first = err
		}
		if kind := engine.KindOf(err); ctx.Err() != nil || len(apart) == 0 || !kind.Retryable() && kind != engine.KindNotFound && kind != engine.KindCorrupt {
			break
		}
	}
	return Result{}, first
}

// resolve makes sure that everything that the stores had before the call is known: what has just been put in a store, the head may not
// have heard of yet.
func (d *Directory) resolve(ctx context.Context, ids []engine.ObjectID, names []string) error {
	d.mu.Lock()
	unknownIDs, unknownNames := d.core.Unknown(ids, names)
	d.mu.Unlock()
	if len(unknownIDs) == 0 && len(unknownNames) == 0 {
		return nil
	}
	waiter, answer := d.await(unknownIDs, len(unknownIDs))
	defer d.abandon(waiter)
	if len(unknownNames) > 0 {
		answer = nil // They have to be asked for in any case.
	}
	asked, err := d.request(func(core *Core, _ time.Time) ([]uint64, error) { return core.Refresh() })
	defer d.drop(asked)
	if err != nil {
		return err
	}
	for learned := d.learned; len(asked) > 0 || learned != nil; {
		var next chan Result
		if len(asked) > 0 {
			next = asked[0].result
		}
		select {
		case <-answer:
			return nil
		case <-next: // A store that went away has nothing to tell.
			asked = asked[1:]
		case <-learned:
			learned = nil
		case <-ctx.Done():
			return engine.WrapError("find object", "", context.Cause(ctx))
		}
	}
	return nil
}

// await begins to wait for objects.
func (d *Directory) await(ids []engine.ObjectID, count int) (uint64, chan Answer) {
	answer := make(chan Answer, 1)
	var number uint64
	d.do(func(core *Core, now time.Time) {
		number = core.Wait(now, ids, count)
		d.answers[number] = answer
	})
	return number, answer
}

// abandon ends a wait, and returns what can be read now if it had not been answered.
func (d *Directory) abandon(number uint64) (ready []engine.ObjectID) {
	d.do(func(core *Core, _ time.Time) {
		ready = core.Abandon(number)
		delete(d.answers, number)
	})
	return ready
}

// Wait returns when count of the objects can be read, or ctx ends, with those that can, in the order of the request. A count of zero
// means all. The end of ctx is no error; it is one of kind engine.KindUnavailable or engine.KindNotFound if there will never be enough
// of them, because some are lost or deleted. Objects that have a checkpoint alone are brought back.
func (d *Directory) Wait(ctx context.Context, ids []engine.ObjectID, count int) ([]engine.ObjectID, error) {
	if count == 0 {
		count = len(ids)
	}
	number, answered := d.await(ids, count)
	select {
	case answer := <-answered:
		return answer.Ready, answer.Err
	case <-ctx.Done():
	}
	ready := d.abandon(number)
	select {
	case answer := <-answered:
		return answer.Ready, answer.Err
	default:
		return ready, nil
	}
}

// readable waits until an object can be read that is known.
func (d *Directory) readable(ctx context.Context, id engine.ObjectID) error {
	if err := d.resolve(ctx, []engine.ObjectID{id}, nil); err != nil {
		return err
	}
	d.mu.Lock()
	_, known := d.core.Describe(id)
	err := d.core.unknown(id)
	d.mu.Unlock()
	if !known {
		return err
	}
	ready, err := d.Wait(ctx, []engine.ObjectID{id}, 1)
	if err == nil && len(ready) == 0 {
		err = engine.WrapError("find object", id.String(), context.Cause(ctx))
	}
	return err
}

// Describe returns what is known of objects by their ids and by the names of pins, in that order. Of one that is not known nothing is
// returned.
func (d *Directory) Describe(ctx context.Context, ids []engine.ObjectID, names []string) (found []*enginev1.ObjectInfo, err error) {
	if err := d.resolve(ctx, ids, names); err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	ids = slices.Clone(ids)
	for _, name := range names {
		if id, ok := d.core.Named(name); ok {
			ids = append(ids, id)
		}
	}
	for _, id := range ids {
		if info, ok := d.core.Describe(id); ok {
			found = append(found, info)
		}
	}
	return found, nil
}

// Put keeps a small object in a store of the directory's choice. An empty security domain is the stores' default.
func (d *Directory) Put(ctx context.Context, id engine.ObjectID, data []byte, domain string, owner engine.ObjectOwner) (*enginev1.ObjectInfo, error) {
	_, err := d.try(ctx, "put object", func(core *Core, now time.Time, apart []engine.NodeID) (uint64, error) {
		return core.Put(now, id, data, domain, owner, apart)
	})
	return d.found(id, err)
}

// found returns what is known of an object that a store has just told of.
func (d *Directory) found(id engine.ObjectID, err error) (*enginev1.ObjectInfo, error) {
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if info, ok := d.core.Describe(id); ok {
		return info, nil
	}
	return nil, d.core.unknown(id)
}

// Get returns what is known of an object, and its bytes if it is small. It waits until ctx ends for one that does not exist yet if wait
// is set, and for one that is brought back from its checkpoint.
func (d *Directory) Get(ctx context.Context, id engine.ObjectID, wait bool) (data []byte, info *enginev1.ObjectInfo, err error) {
	if wait {
		var ready []engine.ObjectID
		if ready, err = d.Wait(ctx, []engine.ObjectID{id}, 1); err == nil && len(ready) == 0 {
			err = engine.WrapError("get object", id.String(), context.Cause(ctx))
		}
	} else {
		err = d.readable(ctx, id)
	}
	if info, err = d.found(id, err); err != nil || info.GetSizeBytes() > engine.MaxInlineObjectBytes {
		return nil, info, err
	}
	if data, err = d.read(ctx, id, false); err != nil {
		return nil, nil, err
	}
	return data, info, nil
}

// Schema returns an object's schema, as an Arrow IPC stream without record batches.
func (d *Directory) Schema(ctx context.Context, id engine.ObjectID) ([]byte, error) {
	if err := d.readable(ctx, id); err != nil {
		return nil, err
	}
	return d.read(ctx, id, true)
}

func (d *Directory) read(ctx context.Context, id engine.ObjectID, schema bool) ([]byte, error) {
	result, err := d.try(ctx, "read object", func(core *Core, _ time.Time, apart []engine.NodeID) (uint64, error) {
		return core.Read(id, schema, apart)
	})
	return result.Reply.GetData(), err
}

// Delete deletes all copies of objects, whoever owns them. Unknown ones count as deleted. It waits for the stores that can be reached.
func (d *Directory) Delete(ctx context.Context, ids []engine.ObjectID) error {
	p, err := d.request(func(core *Core, now time.Time) ([]uint64, error) { return core.Delete(now, ids), nil })
	if err != nil {
		return err
	}
	_, err = d.collect(ctx, "delete objects", p)
	if ctx.Err() != nil {
		return err
	}
	return nil // What a store did not hear, it will.
}

// Hold makes somebody an owner of objects, and returns when their stores know. A pin's name must be free. On an error some of the objects
// may be owned. A session that is not open is an error of kind engine.KindFenced, also without objects.
func (d *Directory) Hold(ctx context.Context, ids []engine.ObjectID, owner engine.ObjectOwner) error {
	var fenced error
	d.do(func(core *Core, now time.Time) { fenced = core.alive(now, owner) })
	if fenced != nil {
		return engine.WrapError("hold objects", "", fenced)
	}
	if err := d.resolve(ctx, ids, nil); err != nil {
		return err
	}
	// The first try of all goes out together; what a lost store did not do, another one may.
	var p pending
	var failed error
	retry := ids
	for range maxTries {
		var again []engine.ObjectID
		var asked []engine.ObjectID
		failed = nil
		p, _ = d.request(func(core *Core, now time.Time) (numbers []uint64, _ error) {
			for _, id := range retry {
				number, err := core.Hold(now, id, owner)
				switch {
				case err != nil && failed == nil:
					failed = engine.WrapError("hold object", id.String(), err)
				case number != 0:
					numbers, asked = append(numbers, number), append(asked, id)
				}
			}
			return numbers, nil
		})
		results, err := d.collect(ctx, "hold objects", p)
		if ctx.Err() != nil {
			return err
		}
		if failed != nil {
			return failed
		}
		for i, result := range results {
			if result.Err != nil {
				failed = result.Err
				again = append(again, asked[i])
			}
		}
		if len(again) == 0 || engine.KindOf(failed) != engine.KindUnavailable && engine.KindOf(failed) != engine.KindNotFound {
			break
		}
		retry = again
	}
	return failed
}

// Release ends somebody's references to objects, and returns when the stores that can be reached know. Unknown objects count as released.
func (d *Directory) Release(ctx context.Context, ids []engine.ObjectID, owner engine.ObjectOwner) error {
	if err := d.resolve(ctx, ids, nil); err != nil {
		return err
	}
	p, err := d.request(func(core *Core, now time.Time) (numbers []uint64, _ error) {
		for _, id := range ids {
			numbers = append(numbers, core.Release(now, id, owner)...)
		}
		return numbers, nil
	})
	if err != nil {
		return err
	}
	_, err = d.collect(ctx, "release objects", p)
	if ctx.Err() != nil {
		return err
	}
	return nil // A store that did not hear it will, and one that has no such object agrees.
}

// Unpin ends a pin. A name that is not known is an error of kind engine.KindNotFound.
func (d *Directory) Unpin(ctx context.Context, name string) error {
	if err := d.resolve(ctx, nil, []string{name}); err != nil {
		return err
	}
	d.mu.Lock()
	id, ok := d.core.Named(name)
	d.mu.Unlock()
	if !ok {
		return engine.Errorf(engine.KindNotFound, "unpin object", name, "no object is pinned under this name")
	}
	return d.Release(ctx, []engine.ObjectID{id}, engine.ObjectOwner{Kind: engine.OwnerPin, ID: name})
}

// Pin makes an object live on under the name that the owner's id is, and returns what is known of it then. A name that is another
// object's is an error of kind engine.KindConflict.
func (d *Directory) Pin(ctx context.Context, id engine.ObjectID, pin engine.ObjectOwner) (*enginev1.ObjectInfo, error) {
	// Names may be given at a store's Flight service too.
	err := d.resolve(ctx, nil, []string{pin.ID})
	if err == nil {
		err = d.Hold(ctx, []engine.ObjectID{id}, pin)
	}
	return d.found(id, err)
}

// Checkpoint writes an object into a folder, and returns the file's URI when it is durable, with what is known of the object.
func (d *Directory) Checkpoint(ctx context.Context, id engine.ObjectID, folder string) (string, *enginev1.ObjectInfo, error) {
	if err := d.readable(ctx, id); err != nil {
		return "", nil, err
	}
	result, err := d.try(ctx, "checkpoint object", func(core *Core, _ time.Time, apart []engine.NodeID) (uint64, error) {
		return core.Checkpoint(id, folder, apart)
	})
	info, err := d.found(id, err)
	return result.Reply.GetObject().GetCheckpoint(), info, err
}

// Restore makes an object of a checkpoint, under the id that it says, and returns what is known of it. It belongs to a security domain,
// of which an empty one is the stores' default, unless the object is known and has another.
func (d *Directory) Restore(ctx context.Context, uri, domain string, owner engine.ObjectOwner) (*enginev1.ObjectInfo, error) {
	guess := idInURI(uri)
	if guess != (engine.ObjectID{}) {
		if err := d.resolve(ctx, []engine.ObjectID{guess}, nil); err != nil {
			return nil, err
		}
	}
	result, err := d.try(ctx, "restore object", func(core *Core, now time.Time, apart []engine.NodeID) (uint64, error) {
		return core.Restore(now, guess, uri, domain, owner, apart)
	})
	if err != nil {
		return nil, err
	}
	id, err := objectIn(result)
	return d.found(id, err)
}
