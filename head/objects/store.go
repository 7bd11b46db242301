package objects

import (
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/internal/rpc"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// store is one node's store. It is alive while its stream is open, and for a lease time after that.
type store struct {
	id      engine.NodeID
	address *enginev1.ObjectStoreAddress
	usage   *enginev1.ObjectStoreUsage
	// session numbers the stream; 0 while none is open.
	session uint64
	// heard is when the store was last connected.
	heard time.Time
	// complete says that the store has told of everything since its stream began, lost that its copies do not count any more.
	complete, lost bool
	copies         map[engine.ObjectID]*object

	// orders are those without a result, waiting those among them that this stream has not carried, by number; queues holds for each
	// object the orders that concern it, of which only the first may be under way.
	orders  map[uint64]*order
	waiting []*order
	queues  map[engine.ObjectID][]uint64
	// ending holds the owners whose end is ordered.
	ending map[engine.ObjectOwner]uint64
	// requests counts the orders that somebody waits for.
	requests int
	welcomed bool
	// leaving is set while the store is about to leave.
	leaving *leaving
	// moves counts the orders to take objects of leaving stores, coming is the size of those.
	moves  int
	coming int64
}

// Connect begins a stream of a store; an earlier one of the same store ends. The stream's number goes with its reports.
func (c *Core) Connect(now time.Time, address *enginev1.ObjectStoreAddress) (uint64, error) {
	if address.GetNodeId() == "" {
		return 0, engine.Errorf(engine.KindInvalidArgument, "connect object store", "", "the first message of a stream names no node")
	}
	id := engine.NodeID(address.GetNodeId())
	s := c.stores[id]
	if s == nil {
		s = &store{
			id: id, copies: map[engine.ObjectID]*object{}, orders: map[uint64]*order{}, queues: map[engine.ObjectID][]uint64{},
			ending: map[engine.ObjectOwner]uint64{},
		}
		c.stores[id] = s
	}
	c.stay(s)
	s.address, s.session, s.heard = address, c.next(), now
	s.complete, s.lost, s.welcomed = false, false, false
	c.wake(s)
	s.waiting = s.waiting[:0]
	for _, o := range s.orders {
		o.sent = false
		s.waiting = append(s.waiting, o)
	}
	slices.SortFunc(s.waiting, func(a, b *order) int { return compareNumbers(a.number, b.number) })
	return s.session, nil
}

// Disconnect ends a stream. A store that has left for good is lost at once, another one when a lease time has passed.
func (c *Core) Disconnect(now time.Time, id engine.NodeID, session uint64, left bool) {
	s := c.stores[id]
	if s == nil || s.session != session {
		return
	}
	s.session, s.heard = 0, now
	if left {
		c.lose(now, s)
	}
}

// lose gives up on the copies of a store.
func (c *Core) lose(now time.Time, s *store) {
	s.lost = true
	c.stay(s)
	loss := Loss{Node: s.id, Copies: len(s.copies)}
	for _, id := range sortedIDs(s.copies) {
		o := c.objects[id]
		r := o.replica(s)
		c.drop(now, o, r, true)
		switch {
		case o.departure == nil:
			if r.primary && len(o.replicas) > 0 && o.primary() == nil {
				loss.Promoted++
			}
		case o.checkpoint != "":
			loss.Checkpointed++
		default:
			loss.Lost++
		}
	}
	for _, number := range sortedNumbers(s.orders) {
		o := s.orders[number]
		if o.wanted {
			c.events.Results = append(c.events.Results, Result{Number: number, Node: s.id, Err: unreachable(s)})
			o.wanted = false
			s.requests--
		}
		if !o.keep {
			c.remove(now, s, o, unreachable(s))
		}
	}
	if loss.Copies > 0 {
		c.events.Losses = append(c.events.Losses, loss)
	}
}

func unreachable(s *store) error {
	return engine.Errorf(engine.KindUnavailable, "ask object store", string(s.id), "the node is gone")
}

// Report takes in what a store says. A report of a stream that has ended is refused with kind engine.KindFenced; nothing of one with a
// malformed copy is taken in.
func (c *Core) Report(now time.Time, id engine.NodeID, session uint64, report *enginev1.SyncObjectsRequest) error {
	s := c.stores[id]
	if s == nil || s.session != session {
		return engine.Errorf(engine.KindFenced, "report objects", string(id), "this stream was replaced")
	}
	changed := make([]engine.ObjectID, len(report.GetChanged()))
	owners := make([][]engine.ObjectOwner, len(report.GetChanged()))
	for i, wire := range report.GetChanged() {
		var err error
		if changed[i], err = rpc.ObjectIDFromProto(wire.GetObjectId()); err != nil {
			return engine.WrapError("report objects", string(id), err)
		}
		if owners[i], err = rpc.OwnersFromProto(wire.GetOwners()); err != nil {
			return engine.WrapError("report objects", string(id), err)
		}
		if state := stateOf(wire); state != engine.ObjectInMemory && state != engine.ObjectSpilled {
			return engine.Errorf(engine.KindInvalidArgument, "report objects", string(id), "object %s is said to be %s", changed[i], wire.GetState())
		}
	}
	gone, err := rpc.ObjectIDsFromProto(report.GetGone())
	if err != nil {
		return engine.WrapError("report objects", string(id), err)
	}
	s.heard = now
	if report.GetUsage() != nil {
		s.usage = report.GetUsage()
	}
	for _, result := range report.GetResults() {
		// What a checkpoint brought back is wanted, if nobody knew under which id it would come.
		if o := s.orders[result.GetNumber()]; o != nil && o.wire.GetRestore() != nil && len(o.ids) == 0 && result.GetError() == nil {
			if restored, err := rpc.ObjectIDFromProto(result.GetObject().GetObjectId()); err == nil {
				c.Revive(restored)
			}
		}
	}
	for i, wire := range report.GetChanged() {
		c.take(now, s, changed[i], wire, owners[i])
	}
	for _, id := range gone {
		if o := s.copies[id]; o != nil {
			c.drop(now, o, o.replica(s), false)
		}
	}
	if report.GetComplete() && !s.complete {
		s.complete = true
		for _, id := range sortedIDs(s.copies) {
			if o := s.copies[id]; o != nil && o.replica(s).session != session {
				c.drop(now, o, o.replica(s), false)
			}
		}
		c.settleAll(now)
		for _, other := range c.leavers {
			c.unstick(other.leaving) // This one may take it.
		}
	}
	for _, result := range report.GetResults() {
		c.finish(now, s, result)
	}
	if report.GetLeaving() && s.complete {
		c.leave(s)
	}
	return nil
}

// Revive makes ids usable again that were deleted: their objects are about to be made again. Copies that have not been heard of yet live
// on then, unless their stores are ordered to delete them already.
func (c *Core) Revive(ids ...engine.ObjectID) {
	for _, id := range ids {
		c.deleted.remove(id)
		c.freed.remove(id)
	}
}

// roomiest returns the store with the most free room among those that can take objects now, apart from some, or nil.
func (c *Core) roomiest(apart []engine.NodeID) *store {
	var best *store
	for _, s := range c.stores {
		if s.session == 0 || !s.complete || s.leaving != nil || slices.Contains(apart, s.id) {
			continue
		}
		if best == nil || s.free() > best.free() || s.free() == best.free() && s.id < best.id {
			best = s
		}
	}
	return best
}

// free is the room that is not taken by objects, those that wait for it, and those that it is to take from leaving stores.
func (s *store) free() int64 {
	return s.usage.GetCapacityBytes() - s.usage.GetObjectBytes() - s.usage.GetWaitingBytes() - s.coming
}

func stateOf(wire *enginev1.ObjectCopy) engine.ObjectState {
	return rpc.ObjectStateFromProto(wire.GetState())
}

func timeOf(wire *timestamppb.Timestamp) time.Time {
	if wire == nil {
		return time.Time{}
	}
	return wire.AsTime()
}

func compareOwners(a, b engine.ObjectOwner) int {
	if order := strings.Compare(string(a.Kind), string(b.Kind)); order != 0 {
		return order
	}
	return strings.Compare(a.ID, b.ID)
}
