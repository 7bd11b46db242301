package transfer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/objectstore"
)

// attempt is the work of one pull: it asks one holder after the other until the object is whole. It belongs to one goroutine.
type attempt struct {
	puller *Puller
	id     engine.ObjectID
	// failed has the holders that failed, in order.
	failed []failure
	// busy has those that are to be asked again later, and busyUntil is when that ends.
	busy      []failure
	busyUntil time.Time
	// part is what has been received; nil if nothing has.
	part *part
	// alone forbids to continue what another holder began: after a checksum that was wrong it must be known whose bytes were.
	alone bool
	// fill, unless nil, is where the bytes go, which are to have the checksum want, instead of into an object of the store.
	fill []byte
	want uint32
}

// failure is why a holder did not deliver.
type failure struct {
	holder Holder
	err    error
}

// part is an object that is partly received, and the room that it has.
type part struct {
	// pending is nil if the attempt has fill. data are the bytes.
	pending *objectstore.Pending
	data    []byte
	description
	// offset is how much has been received, and sum its checksum; holders counts who sent it.
	offset  int64
	sum     uint32
	holders int
}

// otherObject is what a holder says of its copy, which is not the one that was expected.
type otherObject struct{ description }

// Error implements error.
func (o otherObject) Error() string {
	return fmt.Sprintf("it has another object: %d bytes with checksum %08x in domain %q", o.total, o.crc, o.domain)
}

// hereError is a failure of this node, for which no holder is to blame.
type hereError struct{ error }

// Unwrap returns the cause.
func (e hereError) Unwrap() error { return e.error }

const (
	// busyPause is about how long a pull waits before it asks busy holders again.
	busyPause = 100 * time.Millisecond
	// busyPatience is how many times the Patience it does so, and that it waits for Locate.
	busyPatience = 10
)

// errMixed is a wrong checksum of bytes that several holders sent.
var errMixed = errors.New("checksum of bytes from several holders is wrong")

// run pulls the object.
func (a *attempt) run(ctx context.Context) error {
	p, id := a.puller, a.id
	defer a.drop()
	for {
		holders, err := p.locate(ctx, id)
		if err != nil {
			if len(a.failed) > 0 && ctx.Err() == nil {
				return a.failure(err)
			}
			if ctx.Err() != nil {
				err = context.Cause(ctx) // What was asked may have other words for it.
			}
			return engine.WrapError("pull object", id.String(), err)
		}
		holder, ok := p.choose(holders, slices.Concat(a.failed, a.busy))
		if !ok && len(a.busy) > 0 {
			if err := a.waitForBusy(ctx); err != nil {
				return err
			}
			continue
		}
		if !ok {
			return a.failure(nil)
		}
		err = a.from(ctx, holder)
		p.unload(holder)
		var here hereError
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return engine.WrapError("pull object", id.String(), context.Cause(ctx))
		case errors.As(err, &here):
			return engine.WrapError("pull object", id.String(), here.error)
		case engine.KindOf(err) == engine.KindExhausted:
			a.busy = append(a.busy, failure{holder, err})
			if a.part != nil && a.part.offset == 0 {
				a.drop()
			}
		case errors.Is(err, errMixed):
			a.alone = true
			a.drop()
			p.config.Logger.WarnContext(ctx, "object is pulled again from one holder", "object", id.String(), "holder", string(holder.Node), "error", err)
		default:
			a.failed = append(a.failed, failure{holder, err})
			p.config.Logger.WarnContext(ctx, "holder did not deliver object", "object", id.String(), "holder", string(holder.Node), "address", holder.Address, "error", err)
		}
	}
}

// waitForBusy waits a moment before all holders that are busy are asked again, unless they have been for too long.
func (a *attempt) waitForBusy(ctx context.Context) error {
	now := time.Now()
	if a.busyUntil.IsZero() {
		a.busyUntil = now.Add(busyPatience * a.puller.config.Patience)
	}
	if now.After(a.busyUntil) {
		a.failed = append(a.failed, a.busy...)
		return a.failure(nil)
	}
	a.busy = nil
	timer := time.NewTimer(busyPause/2 + rand.N(busyPause)) //nolint:gosec // Any spread will do.
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return engine.WrapError("pull object", a.id.String(), context.Cause(ctx))
	}
}

// locate asks for holders, which may have to wait until the object is restored somewhere.
func (p *Puller) locate(ctx context.Context, id engine.ObjectID) ([]Holder, error) {
	ctx, cancel := context.WithTimeout(ctx, busyPatience*p.config.Patience)
	defer cancel()
	return p.config.Locate(ctx, id)
}

// choose returns a holder that has not failed: one of those that send us least now, by chance, so that the copies of an object that
// many nodes want at once are spread over those that have it already.
func (p *Puller) choose(holders []Holder, failed []failure) (Holder, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var best []Holder
next:
	for _, h := range holders {
		if h.Node == p.config.Self || h.Address == "" {
			continue
		}
		for _, f := range failed {
			if f.holder.Node == h.Node && f.holder.Address == h.Address {
				continue next
			}
		}
		if len(best) > 0 && p.loads[h.Node] > p.loads[best[0].Node] {
			continue
		}
		if len(best) > 0 && p.loads[h.Node] < p.loads[best[0].Node] {
			best = best[:0]
		}
		best = append(best, h)
	}
	if len(best) == 0 {
		return Holder{}, false
	}
	chosen := best[rand.IntN(len(best))] //nolint:gosec // Any spread will do.
	p.loads[chosen.Node]++
	return chosen, true
}

func (p *Puller) unload(h Holder) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.loads[h.Node]--; p.loads[h.Node] == 0 {
		delete(p.loads, h.Node)
	}
}

// failure says why the object did not come: from whom it was asked, and why not.
func (a *attempt) failure(locate error) error {
	if len(a.failed) == 0 {
		return engine.Errorf(engine.KindNotFound, "pull object", a.id.String(), "no other store has a copy")
	}
	kind := engine.KindCorrupt
	reasons := make([]string, 0, len(a.failed)+1)
	for _, f := range a.failed {
		reasons = append(reasons, fmt.Sprintf("%s at %s: %s", f.holder.Node, f.holder.Address, f.err))
		if engine.KindOf(f.err) != engine.KindCorrupt {
			kind = engine.KindUnavailable
		}
	}
	if locate != nil {
		kind = engine.KindUnavailable
		reasons = append(reasons, "other holders: "+locate.Error())
	}
	return engine.Errorf(kind, "pull object", a.id.String(), "no holder delivered it: %s", strings.Join(reasons, "; "))
}

// from gets what is missing from a holder and seals the object. An error blames the holder unless it is a hereError or ctx has ended.
func (a *attempt) from(ctx context.Context, h Holder) (err error) {
	connection, err := a.puller.conns.get(ctx, h.Address)
	if err != nil {
		return err
	}
	defer func() { a.puller.conns.put(connection, engine.KindOf(err) == engine.KindUnavailable) }()

	// What is said of the copy is a hint: each chunk tells again, and that counts.
	said, checked := description{total: h.SizeBytes, crc: h.CRC32C, domain: cmp.Or(h.Domain, objectstore.DefaultDomain)}, h.Checked
	if said.total <= 0 {
		checked = true
		if said, err = askDescription(ctx, connection, ticket{id: a.id}, a.puller.config.Patience); err != nil {
			return err
		}
	}
	for range 2 {
		if said.total <= 0 {
			return engine.Errorf(engine.KindCorrupt, "", "", "it says that the object has %d bytes", said.total)
		}
		if p := a.part; p != nil && (p.total != said.total || p.offset > 0 && (a.alone || checked && p.crc != said.crc)) {
			a.drop()
		}
		if a.part == nil {
			if err := a.make(ctx, said.total, said.domain); err != nil {
				return err
			}
			if a.part == nil {
				return nil // It came by another way.
			}
		}
		var other otherObject
		switch err := a.receive(ctx, h.Address, connection); {
		case errors.As(err, &other):
			said, checked = other.description, true
			a.drop()
		case err != nil:
			return err
		default:
			return a.finish()
		}
	}
	return engine.Errorf(engine.KindUnavailable, "", "", "it had another object each time that it was asked")
}

// make reserves the bytes in flight and the object's room in its domain's memory. Without an error and without a part the object is in the store already.
func (a *attempt) make(ctx context.Context, total int64, domain string) error {
	p := a.puller
	if a.fill != nil {
		if total != int64(len(a.fill)) {
			return engine.Errorf(engine.KindCorrupt, "", "", "it says that the object has %d bytes, expected %d", total, len(a.fill))
		}
		a.part = &part{data: a.fill, description: description{total: total, domain: domain}}
		return nil
	}
	if err := p.bytes.Acquire(ctx, min(total, p.config.MaxBytesInFlight)); err != nil {
		return hereError{err}
	}
	pending, err := p.config.Store.Create(ctx, objectstore.Creation{ID: a.id, SizeBytes: total, Domain: domain})
	if engine.KindOf(err) == engine.KindConflict && err != nil {
		// Somebody else writes it here at this moment: a task that computes it again, or a restore.
		waiting, cancel := context.WithTimeout(ctx, p.config.Patience)
		defer cancel()
		if ids, waitErr := p.config.Store.Wait(waiting, []engine.ObjectID{a.id}, 1); waitErr == nil && len(ids) == 1 {
			p.bytes.Release(min(total, p.config.MaxBytesInFlight))
			return nil
		}
	}
	if err != nil {
		p.bytes.Release(min(total, p.config.MaxBytesInFlight))
		return hereError{err}
	}
	a.part = &part{pending: pending, data: pending.Bytes(), description: description{total: total, domain: domain}}
	return nil
}

// drop gives up what has been received.
func (a *attempt) drop() {
	if a.part == nil {
		return
	}
	if a.fill == nil {
		a.part.pending.Abort()
		a.puller.bytes.Release(min(a.part.total, a.puller.config.MaxBytesInFlight))
	}
	a.part = nil
}

// receive takes bytes until the object is whole. An otherObject error says that the holder has another one than the part was made for or
// begun with.
func (a *attempt) receive(ctx context.Context, address string, connection *conn) error {
	if bulk := a.puller.config.DialBulk; bulk != nil && a.part.total-a.part.offset >= bulkFrom {
		// Who does not take bulk connections is asked as everybody asks, and says then what else is wrong.
		if raw, err := dialBulk(ctx, bulk, address, a.puller.config.Patience); err == nil {
			return a.receiveBulk(ctx, raw)
		}
	}
	return a.receiveChunks(ctx, connection)
}

func dialBulk(ctx context.Context, dial func(context.Context, string) (net.Conn, error), address string, patience time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, patience/3) // What is unreachable is asked once more, over Flight.
	defer cancel()
	return dial(ctx, address)
}

// receiveChunks is receive over Flight.
func (a *attempt) receiveChunks(ctx context.Context, connection *conn) error {
	part := a.part
	c, err := getChunks(ctx, connection, ticket{id: a.id, offset: part.offset, chunk: chunkBytes}, a.puller.config.Patience)
	if err != nil {
		return err
	}
	defer c.close()
	for begun := false; part.offset < part.total; {
		meta, message, err := c.next()
		if errors.Is(err, io.EOF) {
			return engine.Errorf(engine.KindUnavailable, "", "", "the stream ended after %d of %d bytes", part.offset, part.total)
		}
		if err != nil {
			return err
		}
		n := int64(message.bodyBytes)
		switch {
		case meta.total != part.total, meta.domain != part.domain, part.offset > 0 && meta.description != part.description:
			return otherObject{meta.description}
		case meta.offset != part.offset || n == 0 || n > part.total-part.offset:
			return engine.Errorf(engine.KindCorrupt, "", "", "it sent %d bytes at offset %d, expected those at %d of %d", n, meta.offset, part.offset, part.total)
		}
		part.description = meta.description
		if !begun {
			part.holders++
			begun = true
		}
		if err := message.read(part.data[part.offset:]); err != nil {
			return engine.Errorf(engine.KindCorrupt, "", "", "message: %w", err)
		}
		part.sum = crc32.Update(part.sum, castagnoli, part.data[part.offset:][:n])
		part.offset += n
	}
	return nil
}

// finish seals the object, unless the attempt has fill, if its checksum is right.
func (a *attempt) finish() error {
	part := a.part
	if part.sum != part.crc {
		if part.holders > 1 {
			return errMixed
		}
		err := engine.Errorf(engine.KindCorrupt, "", "", "checksum %08x of what it sent, it said %08x", part.sum, part.crc)
		a.drop()
		return err
	}
	if a.fill != nil {
		if part.sum != a.want {
			a.drop()
			return engine.Errorf(engine.KindCorrupt, "", "", "it has another object: checksum %08x, expected %08x", part.sum, a.want)
		}
		a.part = nil
		return nil
	}
	_, err := part.pending.SealChecked(objectstore.Description{Rows: part.rows, Batches: part.batches}, part.sum)
	if err != nil {
		return hereError{err}
	}
	a.puller.bytes.Release(min(part.total, a.puller.config.MaxBytesInFlight))
	a.part = nil
	return nil
}
