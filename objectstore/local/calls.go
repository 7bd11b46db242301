package local

import (
	"bytes"
	"context"
	"os"

	"google.golang.org/protobuf/proto"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/objectstore"
	"github.com/f708428e/engine/objectstore/shm"
	"github.com/f708428e/engine/objectstore/table"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// The operations, as errors name them.
const (
	opPut    = "put object"
	opGet    = "get object"
	opWait   = "wait for objects"
	opDelete = "delete objects"
)

// handle answers a request if that is quick, or starts it. ctx is the life of what it starts.
func (c *conn) handle(ctx context.Context, r *request) {
	switch r.call {
	case callPutInline:
		c.putInline(ctx, r)
	case callGet:
		c.get(ctx, r)
	case callRelease:
		c.unpin(r.pins)
	case callCancel:
		var m enginev1.StoreCancel
		if decode(r.body, &m) == nil {
			c.cancel(m.GetNumber())
		}
	case callPutFrom:
		c.putFrom(ctx, r)
	case callCreate, callArenaMapped, callSeal, callAbort:
		c.write(ctx, r)
	case callDelete:
		c.delete(ctx, r)
	case callWait:
		c.wait(ctx, r)
	default:
		c.fail(r.number, engine.Errorf(engine.KindVersion, "read request", "", "request %d is none that this store knows", r.call))
	}
}

// decode reads the message of a call.
func decode(data []byte, message proto.Message) error {
	if err := proto.Unmarshal(data, message); err != nil {
		return engine.Errorf(engine.KindInvalidArgument, "read request", "", "%w", err)
	}
	return nil
}

// decodeID reads an object's id.
func decodeID(op string, data []byte) (engine.ObjectID, error) {
	id, ok := objectID(data)
	if !ok || id == (engine.ObjectID{}) {
		return id, engine.Errorf(engine.KindInvalidArgument, op, "", "an object id has 16 bytes that are not all zero, this one is %x", data[:min(len(data), 64)])
	}
	return id, nil
}

func decodeIDs(op string, data [][]byte) ([]engine.ObjectID, error) {
	ids := make([]engine.ObjectID, len(data))
	for i := range data {
		var err error
		if ids[i], err = decodeID(op, data[i]); err != nil {
			return nil, err
		}
	}
	return ids, nil
}

// creation says what is to be created of what a client puts.
func (c *conn) creation(rawID []byte, size int64) (objectstore.Creation, error) {
	id, err := decodeID(opPut, rawID)
	if err != nil {
		return objectstore.Creation{}, err
	}
	if c.peer.Session == "" {
		return objectstore.Creation{}, engine.Errorf(engine.KindInvalidArgument, opPut, id.String(), "this connection has no session that could own an object")
	}
	if size <= 0 {
		return objectstore.Creation{}, engine.Errorf(engine.KindInvalidArgument, opPut, id.String(), "an object of %d bytes is no Arrow stream", size)
	}
	return objectstore.Creation{
		ID: id, SizeBytes: size, Domain: c.peer.Domain, Owner: engine.ObjectOwner{Kind: engine.OwnerSession, ID: c.peer.Session},
	}, nil
}

func (c *conn) putInline(ctx context.Context, r *request) {
	creation, err := c.creation(r.id, int64(len(r.data)))
	if err == nil && len(r.data) > engine.MaxInlineObjectBytes {
		err = engine.Errorf(engine.KindInvalidArgument, opPut, creation.ID.String(), "%d bytes inside of a message, at most %d", len(r.data), engine.MaxInlineObjectBytes)
	}
	if err != nil {
		c.fail(r.number, err)
		return
	}
	pending, err := c.server.config.Store.TryCreate(creation)
	switch {
	case err == nil:
		answer := response{number: r.number, hasInfo: true}
		copy(pending.Bytes(), r.data)
		answer.info, err = c.seal(creation.ID, pending)
		c.answer(&answer, err, nil)
	case engine.KindOf(err) == engine.KindExhausted:
		data := bytes.Clone(r.data)
		c.start(ctx, r, opPut, func(ctx context.Context, answer *response) error {
			return c.create(ctx, creation, answer, func(_ context.Context, memory []byte) error {
				copy(memory, data)
				return nil
			})
		})
	default:
		c.fail(r.number, err)
	}
}

// create creates an object, waiting for room, has it written, and seals it.
func (c *conn) create(ctx context.Context, creation objectstore.Creation, answer *response, write func(ctx context.Context, memory []byte) error) error {
	pending, err := c.server.config.Store.Create(ctx, creation)
	if err != nil {
		return err
	}
	if err := write(ctx, pending.Bytes()); err != nil {
		pending.Abort()
		return err
	}
	answer.info, err = c.seal(creation.ID, pending)
	answer.hasInfo = err == nil
	return err
}

// seal makes what was copied from a client an object, if it is a table. The client cannot reach this copy, so what is checked stays so.
func (c *conn) seal(id engine.ObjectID, pending *objectstore.Pending) (objectstore.Info, error) {
	rows, batches, err := table.Check(pending.Bytes(), table.Options{Trusted: c.executor != "", MaxCopyBytes: -1})
	if err != nil {
		pending.Abort()
		return objectstore.Info{}, engine.WrapError(opPut, id.String(), err)
	}
	return pending.Seal(objectstore.Description{Rows: rows, Batches: batches})
}

func (c *conn) get(ctx context.Context, r *request) {
	id, err := decodeID(opGet, r.id)
	if err != nil {
		c.fail(r.number, err)
		return
	}
	store := c.server.config.Store
	if handle, ok := store.Resident(id); ok {
		answer := response{number: r.number}
		if err := c.read(handle, &answer); err != nil {
			c.fail(r.number, err)
		}
		return
	}
	wait, fetch := r.wait, r.fetch
	c.start(ctx, r, opGet, func(ctx context.Context, answer *response) error {
		handle, err := c.find(ctx, id, wait, fetch)
		if err != nil {
			return err
		}
		return c.read(handle, answer)
	})
}

// find gets an object from wherever it may be.
func (c *conn) find(ctx context.Context, id engine.ObjectID, wait, fetch bool) (*objectstore.Handle, error) {
	config := &c.server.config
	handle, err := config.Store.Get(ctx, id)
	if engine.KindOf(err) != engine.KindNotFound {
		return handle, err
	}
	if wait {
		elsewhere := config.WaitElsewhere
		if !fetch {
			elsewhere = nil
		}
		if _, err := waitAnywhere(ctx, config.Store, elsewhere, []engine.ObjectID{id}, 1); err != nil {
			return nil, engine.WrapError(opGet, id.String(), err)
		}
		if handle, err = config.Store.Get(ctx, id); engine.KindOf(err) != engine.KindNotFound {
			return handle, err
		}
	}
	if !fetch || config.Fetch == nil {
		return nil, err
	}
	if err := config.Fetch(ctx, id); err != nil {
		return nil, err
	}
	return config.Store.Get(ctx, id)
}

// read answers a get. After an error, nothing was sent. The handle becomes a pin or is released.
func (c *conn) read(handle *objectstore.Handle, answer *response) error {
	answer.info, answer.hasInfo = handle.Info(), true
	if c.executor == "" {
		if err := c.server.config.MayRead(c.peer, answer.info.Domain); err != nil {
			handle.Release()
			return err
		}
	}
	answer.sent = true
	place, ok := handle.Place()
	if !ok {
		answer.data = handle.Bytes()
		c.answer(answer, nil, nil)
		handle.Release()
		return nil
	}
	answer.hasPlace, answer.place.Place = true, place
	file, err := c.descriptor(place.Arena)
	if err != nil {
		answer.sent = false
		handle.Release()
		return err
	}
	buffer, ok := c.stream.Begin(true)
	if !ok {
		closeFile(file)
		handle.Release()
		return nil
	}
	// Under the stream's lock, so that the descriptor goes with the first message that needs it.
	c.mu.Lock()
	if _, sent := c.readable[place.Arena]; !sent && file != nil {
		c.readable[place.Arena] = struct{}{}
		answer.place.descriptor = true
	}
	c.lastPin++
	c.pins[c.lastPin] = handle
	answer.place.pin = c.lastPin
	c.mu.Unlock()
	if !answer.place.descriptor {
		closeFile(file)
		file = nil
	}
	c.stream.Commit(answer.append(buffer), file)
	return nil
}

// descriptor opens an arena for reading, unless the client has its descriptor.
func (c *conn) descriptor(arena uint64) (*os.File, error) {
	c.mu.Lock()
	_, sent := c.readable[arena]
	c.mu.Unlock()
	if sent {
		return nil, nil //nolint:nilnil // There is nothing to send.
	}
	file, err := c.server.config.Store.Descriptor(arena)
	if err != nil {
		return nil, err
	}
	return shm.ReadOnly(file)
}

func closeFile(file *os.File) {
	if file != nil {
		_ = file.Close()
	}
}

func (c *conn) delete(ctx context.Context, r *request) {
	var m enginev1.StoreDelete
	err := decode(r.body, &m)
	var ids []engine.ObjectID
	if err == nil {
		ids, err = decodeIDs(opDelete, m.GetObjectIds())
	}
	for _, id := range ids {
		if info, ok := c.server.config.Store.Info(id); ok && err == nil && c.executor == "" {
			err = engine.WrapError(opDelete, id.String(), c.server.config.MayRead(c.peer, info.Domain))
		}
	}
	if err != nil {
		c.fail(r.number, err)
		return
	}
	if c.server.config.Delete == nil {
		c.server.config.Store.Delete(ids...)
		c.fail(r.number, nil)
		return
	}
	c.start(ctx, r, opDelete, func(ctx context.Context, _ *response) error { return c.server.config.Delete(ctx, ids) })
}

func (c *conn) wait(ctx context.Context, r *request) {
	var m enginev1.StoreWait
	err := decode(r.body, &m)
	var ids []engine.ObjectID
	if err == nil {
		ids, err = decodeIDs(opWait, m.GetObjectIds())
	}
	if count := int(m.GetCount()); err == nil && (count < 0 || count > len(ids)) {
		err = engine.Errorf(engine.KindInvalidArgument, opWait, "", "wait for %d of %d objects", count, len(ids))
	}
	if err != nil {
		c.fail(r.number, err)
		return
	}
	c.start(ctx, r, opWait, func(ctx context.Context, answer *response) (err error) {
		answer.ready, err = waitAnywhere(ctx, c.server.config.Store, c.server.config.WaitElsewhere, ids, int(m.GetCount()))
		return err
	})
}
