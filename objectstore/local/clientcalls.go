package local

import (
	"context"
	"os"
	"runtime"
	"slices"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/objectstore"
	"github.com/f708428e/engine/objectstore/table"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

const (
	// maxIDs bounds the objects of one request, and maxPieces the pieces of one that lends memory, so that they fit into a message.
	maxIDs, maxPieces = 40_000, 40_000
	// lendingGrace is how long a call that was given up waits for the store to let go of the memory that it reads.
	lendingGrace = 2 * time.Second
)

// begin makes a call and locks the stream for its request, which the caller appends to buffer and ends with commit.
func (c *Client) begin(ctx context.Context, op string, holds bool) (call *call, number uint64, buffer []byte, err error) {
	if err := ctx.Err(); err != nil {
		return nil, 0, nil, engine.WrapError(op, "", context.Cause(ctx))
	}
	timeout := c.options.Timeout
	call = newCall()
	call.holds = holds
	if deadline, limited := ctx.Deadline(); limited {
		timeout = max(time.Until(deadline), time.Nanosecond)
	} else {
		call.until = time.Now().Add(timeout)
	}
	c.mu.Lock()
	if c.err != nil {
		err = c.err
		c.mu.Unlock()
		call.recycle()
		return nil, 0, nil, err
	}
	if !call.until.IsZero() && !c.lateRuns {
		c.lateRuns = true
		c.late.Reset(timeout)
	}
	c.number++
	number = c.number
	c.calls[number] = call
	c.mu.Unlock()
	buffer, ok := c.stream.Begin(false)
	if !ok {
		// The reading goroutine finds out too, and ends all calls.
		<-call.ready
		err = call.err
		call.recycle()
		return nil, 0, nil, err
	}
	// The store's answer at the deadline says more than that it has passed, so it should come before.
	return call, number, appendRequest(buffer, number, timeout-min(timeout/8, 100*time.Millisecond)), nil
}

// commit sends the request that begin began. A file that is not nil goes along, and belongs to the client from now on.
func (c *Client) commit(buffer []byte, file *os.File) {
	c.stream.Commit(buffer, file)
	c.signal()
}

// await waits for the response to a request, and ends the call. What the answer pins is the caller's, after an error too.
func (c *Client) await(ctx context.Context, op string, id engine.ObjectID, call *call, number uint64) (answer response, used *arena, err error) {
	defer call.recycle()
	select {
	case <-call.ready:
	case <-ctx.Done():
		err = engine.WrapError(op, idText(id), context.Cause(ctx))
	case <-call.late:
		err = engine.Errorf(engine.KindDeadline, op, idText(id), "the store has not answered within %v", c.options.Timeout)
	}
	if err != nil && c.giveUp(call, number) {
		return response{}, nil, err
	}
	switch {
	case call.err != nil:
		return response{}, nil, call.err
	case call.answer.err != nil:
		return call.answer, call.arena, call.answer.err
	default:
		return call.answer, call.arena, nil
	}
}

// failLate tells the calls that have waited for too long, and looks again when the next could have. All have the same patience, so one timer
// serves them, and is seldom set.
func (c *Client) failLate() {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	var next time.Time
	for _, call := range c.calls {
		switch {
		case call.until.IsZero():
		case !now.Before(call.until):
			select {
			case call.late <- struct{}{}:
			default: // It knows.
			}
		case next.IsZero() || call.until.Before(next):
			next = call.until
		}
	}
	c.lateRuns = !next.IsZero()
	if c.lateRuns {
		c.late.Reset(next.Sub(now))
	}
}

// idText names an object in an error; the zero id is none.
func idText(id engine.ObjectID) string {
	if id == (engine.ObjectID{}) {
		return ""
	}
	return id.String()
}

// giveUp tells the store that nobody waits for a call any more. It returns false if the response is there after all.
func (c *Client) giveUp(call *call, number uint64) bool {
	c.mu.Lock()
	waiting := c.calls[number] == call
	if waiting && !call.holds {
		delete(c.calls, number)
	}
	c.mu.Unlock()
	if waiting {
		c.post(callCancel, &enginev1.StoreCancel{Number: number})
		if !call.holds {
			return true
		}
		grace := time.NewTimer(lendingGrace)
		defer grace.Stop()
		select {
		case <-call.ready:
			return false
		case <-grace.C:
		}
		// The store hangs, perhaps amid reading. It makes no object of what it reads once the connection is closed; that must not be,
		// however, while tables need it.
		c.mu.Lock()
		idle := c.tables == 0
		c.mu.Unlock()
		if idle {
			c.disconnect()
		}
	}
	<-call.ready
	return false
}

// post sends a request whose response nobody waits for.
func (c *Client) post(kind protowire.Number, message proto.Message) {
	c.mu.Lock()
	c.number++
	number := c.number
	c.mu.Unlock()
	if buffer, ok := c.stream.Begin(false); ok {
		c.commit(appendCall(appendRequest(buffer, number, 0), kind, message), nil)
	}
}

// newCall takes a call from the pool.
func newCall() *call { return calls.Get().(*call) }

// recycle gives a call back that nobody will answer any more.
func (c *call) recycle() {
	select {
	case <-c.late: // The answer came at the same time.
	default:
	}
	c.answer, c.arena, c.err, c.holds, c.until = response{}, nil, nil, false, time.Time{}
	calls.Put(c)
}

// simple makes a call that is rare.
func (c *Client) simple(ctx context.Context, op string, id engine.ObjectID, kind protowire.Number, message proto.Message, file *os.File, holds bool) (response, *arena, error) {
	call, number, buffer, err := c.begin(ctx, op, holds)
	if err != nil {
		closeFile(file)
		return response{}, nil, err
	}
	c.commit(appendCall(buffer, kind, message), file)
	return c.await(ctx, op, id, call, number)
}

// Put keeps a table as an object, owned by the client's session. It copies the bytes once, and needs neither e nor its records after it
// returns; the caller releases e. It blocks while the store has no room. The errors' kinds: engine.KindConflict if the id exists,
// engine.KindInvalidArgument if the object is larger than the store, engine.KindExhausted if there was no room in time.
//
// If ctx ends while the store reads from this process's memory, Put waits until it lets go, which it does at once.
func (c *Client) Put(ctx context.Context, id engine.ObjectID, e *table.Encoding) (objectstore.Info, error) {
	var info objectstore.Info
	var err error
	switch size := e.SizeBytes(); {
	case size <= engine.MaxInlineObjectBytes:
		info, err = c.putInline(ctx, id, e)
		info.Inline = true
	case c.executor:
		info, err = c.putArena(ctx, id, e)
	default:
		info, err = c.putFrom(ctx, id, e)
	}
	if err != nil {
		return objectstore.Info{}, err
	}
	return info, nil
}

func (c *Client) putInline(ctx context.Context, id engine.ObjectID, e *table.Encoding) (objectstore.Info, error) {
	call, number, buffer, err := c.begin(ctx, opPut, false)
	if err != nil {
		return objectstore.Info{}, err
	}
	size := int(e.SizeBytes())
	buffer = appendPutInline(buffer, id, size)
	at := len(buffer)
	buffer = slices.Grow(buffer, size)[:at+size]
	e.CopyTo(buffer[at:])
	c.commit(buffer, nil)
	answer, _, err := c.await(ctx, opPut, id, call, number)
	return answer.info, err
}

// putFrom has the store read the object from this process's memory, or from a memfd where it may not.
func (c *Client) putFrom(ctx context.Context, id engine.ObjectID, e *table.Encoding) (objectstore.Info, error) {
	c.mu.Lock()
	noReading := c.noReading
	c.mu.Unlock()
	pieces := e.Pieces()
	if !noReading && len(pieces) <= maxPieces {
		message := &enginev1.StorePutFrom{ObjectId: id[:], Addresses: make([]uint64, len(pieces)), Lengths: make([]uint64, len(pieces))}
		for i, piece := range pieces {
			message.Lengths[i] = uint64(piece.Zeros) //nolint:gosec // Not negative.
			if piece.Data != nil {
				message.Addresses[i], message.Lengths[i] = addressOf(piece.Data), uint64(len(piece.Data))
			}
		}
		answer, _, err := c.simple(ctx, opPut, id, callPutFrom, message, nil, true)
		// The store has read behind the compiler's back.
		runtime.KeepAlive(pieces)
		runtime.KeepAlive(e)
		if !refusedReading(err) {
			return answer.info, err
		}
		c.mu.Lock()
		c.noReading = true
		c.mu.Unlock()
	}
	file, err := makeMemfd(e.SizeBytes(), e.CopyTo)
	if err != nil {
		return objectstore.Info{}, err
	}
	message := &enginev1.StorePutFrom{ObjectId: id[:], Addresses: []uint64{0}, Lengths: []uint64{uint64(e.SizeBytes())}, Descriptor_: true} //nolint:gosec // Not negative.
	answer, _, err := c.simple(ctx, opPut, id, callPutFrom, message, file, false)
	return answer.info, err
}

// refusedReading reports whether the system does not let the store read this process's memory.
func refusedReading(err error) bool {
	e, ok := err.(*engine.Error) //nolint:errorlint // It comes from the wire as it is.
	return ok && e.Kind == engine.KindPermission && e.Op == opReadMemory
}

// putArena writes the object into an arena of this executor's own.
func (c *Client) putArena(ctx context.Context, id engine.ObjectID, e *table.Encoding) (objectstore.Info, error) {
	answer, used, err := c.simple(ctx, opPut, id, callCreate, &enginev1.StoreCreate{ObjectId: id[:], SizeBytes: e.SizeBytes()}, nil, false)
	if err != nil {
		if answer.number == 0 {
			// There is no response, so the store may have made room all the same.
			c.post(callAbort, &enginev1.StoreAbort{ObjectId: id[:]})
		}
		return objectstore.Info{}, err
	}
	if used == nil || answer.place.SizeBytes != e.SizeBytes() {
		return objectstore.Info{}, engine.Errorf(engine.KindInternal, opPut, id.String(), "the store gave no place of %d bytes", e.SizeBytes())
	}
	e.CopyTo(used.bytes(&answer.place))
	c.unuse(used)
	answer, _, err = c.simple(ctx, opPut, id, callSeal, &enginev1.StoreSeal{ObjectId: id[:], Rows: e.Rows(), Batches: e.Batches()}, nil, false)
	return answer.info, err
}

// Get returns an object without copying it: the table lies over memory that is mapped read-only, or over the bytes of a small object
// that came along. The caller releases the table, which gives up the pin at the store once nothing made of the table is in use. The
// errors' kinds: engine.KindNotFound, engine.KindPermission if the object belongs to another domain, engine.KindCorrupt,
// engine.KindDeadline, and what Fetch returned at the store.
func (c *Client) Get(ctx context.Context, id engine.ObjectID, options GetOptions) (*table.Table, objectstore.Info, error) {
	call, number, buffer, err := c.begin(ctx, opGet, false)
	if err != nil {
		return nil, objectstore.Info{}, err
	}
	c.commit(appendGet(buffer, id, options), nil)
	answer, used, err := c.await(ctx, opGet, id, call, number)
	if err != nil {
		return nil, objectstore.Info{}, err
	}
	// The store has validated the object, or a trusted executor has made it.
	tableOptions := table.Options{Trusted: true}
	data := answer.data
	if used != nil {
		pin := answer.place.pin
		data = used.bytes(&answer.place)
		tableOptions.Release = func() { c.release(used, pin) }
	}
	answer.info.Inline = used == nil
	t, err := table.Open(data, tableOptions)
	if err != nil {
		if used != nil {
			tableOptions.Release()
		}
		return nil, objectstore.Info{}, engine.WrapError(opGet, id.String(), err)
	}
	return t, answer.info, nil
}

// release ends a pin and a user of an arena. It does not wait for the store.
func (c *Client) release(used *arena, pin uint64) {
	c.mu.Lock()
	c.releaseLocked(pin)
	c.mu.Unlock()
	c.unuse(used)
}

// unuse ends a user of an arena, and the connection if only that user kept it.
func (c *Client) unuse(used *arena) {
	c.mu.Lock()
	c.tables--
	unused := c.arenas.unrefer(used)
	last := c.err != nil && c.tables == 0
	c.mu.Unlock()
	unmap(unused)
	if last {
		c.disconnect()
	}
}

// Wait returns when count of the objects exist, in this store or elsewhere; a count of zero is all of them. It returns those that do in
// the order of ids; if they are too few at the deadline, with an error of kind engine.KindDeadline. At most 40,000 ids.
func (c *Client) Wait(ctx context.Context, ids []engine.ObjectID, count int) ([]engine.ObjectID, error) {
	if len(ids) > maxIDs {
		return nil, engine.Errorf(engine.KindInvalidArgument, opWait, "", "%d objects, at most %d", len(ids), maxIDs)
	}
	if count < 0 || count > len(ids) {
		return nil, engine.Errorf(engine.KindInvalidArgument, opWait, "", "wait for %d of %d objects", count, len(ids))
	}
	message := &enginev1.StoreWait{ObjectIds: rawIDs(ids), Count: int32(count)} //nolint:gosec // Bounded above.
	answer, _, err := c.simple(ctx, opWait, engine.ObjectID{}, callWait, message, nil, false)
	return answer.ready, err
}

// Delete deletes objects, whoever owns them. Ids that nobody knows are ignored.
func (c *Client) Delete(ctx context.Context, ids ...engine.ObjectID) error {
	for some := range slices.Chunk(ids, maxIDs) {
		if _, _, err := c.simple(ctx, opDelete, engine.ObjectID{}, callDelete, &enginev1.StoreDelete{ObjectIds: rawIDs(some)}, nil, false); err != nil {
			return err
		}
	}
	return nil
}

func rawIDs(ids []engine.ObjectID) [][]byte {
	raw := make([][]byte, len(ids))
	for i := range ids {
		raw[i] = ids[i][:]
	}
	return raw
}
