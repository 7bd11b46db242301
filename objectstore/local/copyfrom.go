package local

import (
	"context"
	"os"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/f708428e/engine"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// opReadMemory names the failure after which a client puts with a memfd instead.
const opReadMemory = "read the client's memory"

const (
	// copyBytes is how much is copied between looks at the request's end.
	copyBytes = 1 << 20
	// copySegments is how many pieces one system call takes (IOV_MAX).
	copySegments = 1024
)

// copyWorkers is how many goroutines copy at a time, of all requests: copying is bound by the memory, which two cores load.
func copyWorkers() int { return max(1, min(runtime.GOMAXPROCS(0), 2)) }

// segment is a piece of an object that is copied from a client: its place in the object and at the client, an address or an offset.
type segment struct {
	at, length int
	from       uint64
}

// batch is what one goroutine copies at a time.
type batch []segment

// putFrom copies an object out of a client's memory or memfd.
func (c *conn) putFrom(ctx context.Context, r *request) {
	var m enginev1.StorePutFrom
	err := decode(r.body, &m)
	var file *os.File
	if m.GetDescriptor_() {
		file = c.stream.File("put")
	}
	if err == nil && m.GetDescriptor_() && file == nil {
		err = engine.Errorf(engine.KindInvalidArgument, opPut, "", "no descriptor came along")
	}
	var size int64
	if err == nil {
		size, err = sum(m.GetLengths())
	}
	creation, creationErr := c.creation(m.GetObjectId(), size)
	if err == nil {
		err = creationErr
	}
	if err == nil && len(m.GetAddresses()) != len(m.GetLengths()) {
		err = engine.Errorf(engine.KindInvalidArgument, opPut, creation.ID.String(), "%d addresses for %d pieces", len(m.GetAddresses()), len(m.GetLengths()))
	}
	if err == nil && file == nil && c.executor != "" {
		// What the kernel says of an inherited connection is who made it: this process.
		err = engine.Errorf(engine.KindInvalidArgument, opPut, creation.ID.String(), "an executor writes into an arena itself")
	}
	if err == nil && file == nil && c.peer.PID <= 0 {
		err = engine.Errorf(engine.KindPermission, opReadMemory, creation.ID.String(), "the client's process is in a namespace that the store cannot see")
	}
	if err != nil {
		closeFile(file)
		c.fail(r.number, err)
		return
	}
	c.start(ctx, r, opPut, func(ctx context.Context, answer *response) error {
		defer closeFile(file)
		return c.create(ctx, creation, answer, func(ctx context.Context, memory []byte) error {
			read := func(dst []byte, batch batch) error { return readProcess(c.peer.PID, dst, batch) }
			if file != nil {
				if err := checkMemfd(file); err != nil {
					return engine.WrapError(opPut, creation.ID.String(), err)
				}
				read = func(dst []byte, batch batch) error { return readFile(file, dst, batch) }
			}
			err := c.copy(ctx, memory, m.GetAddresses(), m.GetLengths(), file != nil, read)
			if err == nil && hungUp(c.stream.Conn) {
				// The process that connected may be gone, and another one may have got its number and been read.
				err = engine.Errorf(engine.KindCanceled, opPut, creation.ID.String(), "the client went away")
			}
			return err
		})
	})
}

// sum adds lengths that come from outside.
func sum(lengths []uint64) (total int64, err error) {
	for _, length := range lengths {
		const limit = 1 << 56
		if length > limit || total > limit {
			return 0, engine.Errorf(engine.KindInvalidArgument, opPut, "", "a piece of %d bytes", length)
		}
		total += int64(length)
	}
	return total, nil
}

// copy fills memory with the pieces, whose lengths add up to its own. A piece at address 0 is zeros, unless they are offsets.
func (c *conn) copy(ctx context.Context, memory []byte, addresses, lengths []uint64, offsets bool, read func(dst []byte, batch batch) error) error {
	batches := cut(memory, addresses, lengths, offsets)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var next atomic.Int64
	work := func() {
		for i := int(next.Add(1)); i <= len(batches); i = int(next.Add(1)) {
			if err := c.copyBatch(ctx, memory, batches[i-1], read); err != nil {
				cancel(err)
				return
			}
		}
	}
	var helpers sync.WaitGroup
	for range min(copyWorkers(), len(batches)) - 1 {
		helpers.Go(work) // lifecycle: waited for below; copyBatch ends with ctx.
	}
	work()
	helpers.Wait()
	return context.Cause(ctx)
}

// copyBatch copies a batch when it is its turn among all requests of the server.
func (c *conn) copyBatch(ctx context.Context, memory []byte, batch batch, read func(dst []byte, batch batch) error) error {
	select {
	case c.server.copying <- struct{}{}:
		defer func() { <-c.server.copying }()
		return read(memory, batch)
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// cut sets the zeros among the pieces and returns the others in batches.
func cut(memory []byte, addresses, lengths []uint64, offsets bool) (batches []batch) {
	var b batch
	at, bytes := 0, 0
	for i, address := range addresses {
		for left := int(lengths[i]); left > 0; { //nolint:gosec // The sum has been looked at.
			n := left
			if address == 0 && !offsets {
				clear(memory[at : at+n])
			} else {
				n = min(n, copyBytes-bytes)
				b = append(b, segment{at: at, length: n, from: address})
				address += uint64(n) //nolint:gosec // Not negative.
				bytes += n
			}
			at += n
			left -= n
			if bytes == copyBytes || len(b) == copySegments {
				batches = append(batches, b)
				b, bytes = nil, 0
			}
		}
	}
	if len(b) > 0 {
		batches = append(batches, b)
	}
	return batches
}
