package local

import (
	"context"
	"os"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/objectstore"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// write answers what only executors may ask for: to write into an arena.
func (c *conn) write(ctx context.Context, r *request) {
	if c.executor == "" {
		c.fail(r.number, engine.Errorf(engine.KindPermission, opPut, "", "only an executor may write into the store's memory"))
		return
	}
	answer := response{number: r.number}
	var err error
	switch r.call {
	case callCreate:
		c.createForExecutor(ctx, r)
		return
	case callArenaMapped:
		err = c.arenaMapped(r.body)
	case callSeal:
		answer.info, err = c.sealForExecutor(r.body)
		answer.hasInfo = err == nil
	case callAbort:
		var m enginev1.StoreAbort
		if err = decode(r.body, &m); err != nil {
			break
		}
		var pending *objectstore.Pending
		if pending, err = c.takePending(m.GetObjectId()); err == nil {
			pending.Abort()
		}
	}
	c.answer(&answer, err, nil)
}

func (c *conn) createForExecutor(ctx context.Context, r *request) {
	var m enginev1.StoreCreate
	if err := decode(r.body, &m); err != nil {
		c.fail(r.number, err)
		return
	}
	creation, err := c.creation(m.GetObjectId(), m.GetSizeBytes())
	if err == nil && creation.SizeBytes <= engine.MaxInlineObjectBytes {
		err = engine.Errorf(engine.KindInvalidArgument, opPut, creation.ID.String(), "an object of %d bytes travels inside of a message", creation.SizeBytes)
	}
	if err != nil {
		c.fail(r.number, err)
		return
	}
	creation.Writer = c.executor
	pending, err := c.server.config.Store.TryCreate(creation)
	switch {
	case err == nil:
		answer := response{number: r.number}
		if err := c.lend(ctx, creation.ID, pending, &answer); err != nil {
			c.fail(r.number, err)
		}
	case engine.KindOf(err) == engine.KindExhausted:
		c.start(ctx, r, opPut, func(ctx context.Context, answer *response) error {
			pending, err := c.server.config.Store.Create(ctx, creation)
			if err != nil {
				return err
			}
			return c.lend(ctx, creation.ID, pending, answer)
		})
	default:
		c.fail(r.number, err)
	}
}

// lend answers a create: the executor may write. After an error, nothing was sent.
func (c *conn) lend(ctx context.Context, id engine.ObjectID, pending *objectstore.Pending, answer *response) error {
	place, ok := pending.Place()
	if !ok {
		pending.Abort()
		return engine.Errorf(engine.KindInternal, opPut, id.String(), "the store keeps the object outside of its arenas")
	}
	answer.sent, answer.hasPlace, answer.place.Place, answer.place.writable = true, true, place, true
	file, err := c.writableDescriptor(place.Arena)
	if err != nil {
		answer.sent = false
		pending.Abort()
		return err
	}
	buffer, ok := c.stream.Begin(true)
	if !ok {
		closeFile(file)
		pending.Abort()
		return nil
	}
	c.mu.Lock()
	if err := ctx.Err(); err != nil {
		// The executor has given up, and its abort may have been read already.
		c.mu.Unlock()
		c.stream.Unlock()
		closeFile(file)
		answer.sent = false
		pending.Abort()
		return engine.WrapError(opPut, id.String(), err)
	}
	if _, sent := c.writable[place.Arena]; !sent && file != nil {
		c.writable[place.Arena] = false
		answer.place.descriptor = true
	}
	c.pending[id] = pending
	c.mu.Unlock()
	if !answer.place.descriptor {
		closeFile(file)
		file = nil
	}
	c.stream.Commit(answer.append(buffer), file)
	return nil
}

// writableDescriptor duplicates an arena's descriptor, unless the executor has it.
func (c *conn) writableDescriptor(arena uint64) (*os.File, error) {
	c.mu.Lock()
	_, sent := c.writable[arena]
	c.mu.Unlock()
	if sent {
		return nil, nil //nolint:nilnil // There is nothing to send.
	}
	file, err := c.server.config.Store.Descriptor(arena)
	if err != nil {
		return nil, err
	}
	return duplicate(file)
}

func (c *conn) arenaMapped(body []byte) error {
	var m enginev1.StoreArenaMapped
	if err := decode(body, &m); err != nil {
		return err
	}
	arena := m.GetArena()
	c.mu.Lock()
	_, sent := c.writable[arena]
	c.mu.Unlock()
	if !sent {
		return engine.Errorf(engine.KindInvalidArgument, opPut, "", "arena %d is not this executor's", arena)
	}
	if err := c.server.config.Store.SealArena(arena); err != nil {
		return err
	}
	c.mu.Lock()
	if _, sent := c.writable[arena]; sent { // It may have been retired just now.
		c.writable[arena] = true
	}
	c.mu.Unlock()
	return nil
}

func (c *conn) sealForExecutor(body []byte) (objectstore.Info, error) {
	var m enginev1.StoreSeal
	if err := decode(body, &m); err != nil {
		return objectstore.Info{}, err
	}
	if m.GetRows() < 0 || m.GetBatches() < 0 {
		return objectstore.Info{}, engine.Errorf(engine.KindInvalidArgument, opPut, "", "%d rows in %d record batches", m.GetRows(), m.GetBatches())
	}
	pending, err := c.takePending(m.GetObjectId())
	if err != nil {
		return objectstore.Info{}, err
	}
	place, _ := pending.Place()
	c.mu.Lock()
	mapped := c.writable[place.Arena]
	c.mu.Unlock()
	if !mapped {
		pending.Abort()
		return objectstore.Info{}, engine.Errorf(engine.KindInvalidArgument, opPut, "", "arena %d was not mapped, so nothing can have been written", place.Arena)
	}
	return pending.Seal(objectstore.Description{Rows: m.GetRows(), Batches: m.GetBatches()})
}

// takePending claims an object that the executor has created.
func (c *conn) takePending(rawID []byte) (*objectstore.Pending, error) {
	id, err := decodeID(opPut, rawID)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	pending := c.pending[id]
	if pending == nil {
		return nil, engine.Errorf(engine.KindNotFound, opPut, id.String(), "it is not being written on this connection")
	}
	delete(c.pending, id)
	return pending, nil
}
