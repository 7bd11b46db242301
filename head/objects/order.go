package objects

import (
	"bytes"
	"cmp"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/internal/rpc"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// order is what a store is to do, until it says that it has.
type order struct {
	number uint64
	wire   *enginev1.ObjectOrder
	// ids are the objects concerned.
	ids []engine.ObjectID
	// wanted says that somebody waits for the result, keep that the order is of use to a store that comes back after it was lost.
	wanted, keep bool
	// sent says that the store's present stream has carried it, carried that some stream has.
	sent, carried bool
	// pin is the name that it gives.
	pin string
	// sizeBytes is the size of an object that is to be moved.
	sizeBytes int64
}

// Bounds of one message of orders, of the orders under way in one store, and of the ids in one order.
const (
	maxMessageBytes  = 4 << 20
	maxUnderWay      = 1_000
	maxIDsInAnOrder  = 1_000
	maxOrdersMessage = 1_000
)

// give adds an order to what a store is to do.
func (c *Core) give(s *store, o *order) uint64 {
	o.number = c.next()
	o.wire.Number = o.number
	s.orders[o.number] = o
	s.waiting = append(s.waiting, o)
	for _, id := range o.ids {
		s.queues[id] = append(s.queues[id], o.number)
	}
	if o.wanted {
		s.requests++
	}
	c.wake(s)
	return o.number
}

// ask is give for a request whose result somebody waits for.
func (c *Core) ask(s *store, o *order) (uint64, error) {
	if s.requests >= c.config.MaxRequests {
		return 0, engine.Errorf(engine.KindExhausted, "ask object store", string(s.id), "%d requests wait for it already", s.requests)
	}
	o.wanted = true
	return c.give(s, o), nil
}

// deletes reports whether the store is ordered already to delete its copy of an object.
func (s *store) deletes(id engine.ObjectID) bool {
	return slices.ContainsFunc(s.queues[id], func(number uint64) bool { return s.orders[number].wire.GetDelete() != nil })
}

// deleteCopies orders a store to delete its copy of an object.
func (c *Core) deleteCopies(s *store, id engine.ObjectID) {
	if s.lost {
		return // If it comes back, it tells what it has.
	}
	if n := len(s.waiting); n > 0 && len(s.queues[id]) == 0 {
		last := s.waiting[n-1]
		if list := last.wire.GetDelete(); list != nil && !last.wanted && !last.carried && len(last.ids) < maxIDsInAnOrder {
			last.ids = append(last.ids, id)
			list.ObjectIds = append(list.ObjectIds, id[:])
			s.queues[id] = append(s.queues[id], last.number)
			return
		}
	}
	c.give(s, deleteOrder(id))
}

func deleteOrder(ids ...engine.ObjectID) *order {
	return &order{ids: ids, keep: true, wire: &enginev1.ObjectOrder{Order: &enginev1.ObjectOrder_Delete{
		Delete: &enginev1.DeleteObjectsOrder{ObjectIds: rpc.ObjectIDsToProto(ids)},
	}}}
}

func ownOrder(id engine.ObjectID, add, remove []engine.ObjectOwner) *order {
	return &order{ids: []engine.ObjectID{id}, keep: len(add) == 0, wire: &enginev1.ObjectOrder{Order: &enginev1.ObjectOrder_Own{
		Own: &enginev1.OwnObjectOrder{ObjectId: id[:], Add: rpc.OwnersToProto(add), Remove: rpc.OwnersToProto(remove)},
	}}}
}

func promoteOrder(id engine.ObjectID, owners []engine.ObjectOwner, checkpoint string) *order {
	return &order{ids: []engine.ObjectID{id}, wire: &enginev1.ObjectOrder{Order: &enginev1.ObjectOrder_Promote{
		Promote: &enginev1.PromoteObjectOrder{ObjectId: id[:], Owners: rpc.OwnersToProto(owners), Checkpoint: checkpoint},
	}}}
}

func restoreOrder(id engine.ObjectID, uri, domain string, owners []engine.ObjectOwner) *order {
	o := &order{wire: &enginev1.ObjectOrder{Order: &enginev1.ObjectOrder_Restore{
		Restore: &enginev1.RestoreObjectOrder{Uri: uri, Owners: rpc.OwnersToProto(owners), Domain: domain},
	}}}
	if id != (engine.ObjectID{}) {
		o.ids = []engine.ObjectID{id}
	}
	return o
}

// Answer returns what a store is to do, as far as its stream has not carried it, or nil if the stream has ended.
func (c *Core) Answer(id engine.NodeID, session uint64) *enginev1.SyncObjectsResponse {
	s := c.stores[id]
	if s == nil || s.session != session {
		return nil
	}
	answer := &enginev1.SyncObjectsResponse{}
	if !s.welcomed {
		s.welcomed = true
		answer.ClusterId = c.config.ClusterID
	}
	room, size := maxUnderWay-(len(s.orders)-len(s.waiting)), 0
	waiting := s.waiting[:0]
	for _, o := range s.waiting {
		if len(answer.Orders) >= min(room, maxOrdersMessage) || size > maxMessageBytes || !s.first(o) {
			waiting = append(waiting, o)
			continue
		}
		o.sent, o.carried = true, true
		size += proto.Size(o.wire)
		answer.Orders = append(answer.Orders, o.wire)
	}
	clear(s.waiting[len(waiting):])
	s.waiting = waiting
	answer.Evacuation = s.evacuation()
	if size > maxMessageBytes || len(answer.Orders) == maxOrdersMessage {
		c.wake(s)
	}
	return answer
}

// first reports whether no earlier order concerns an object of this one.
func (s *store) first(o *order) bool {
	for _, id := range o.ids {
		if s.queues[id][0] != o.number {
			return false
		}
	}
	return true
}

// finish takes in how an order ended. What it changed was taken in before.
func (c *Core) finish(now time.Time, s *store, result *enginev1.ObjectOrderResult) {
	o := s.orders[result.GetNumber()]
	if o == nil || !o.carried {
		return // It was heard before.
	}
	var err error
	if wire := result.GetError(); wire != nil {
		err = rpc.FromProto(wire)
	}
	if o.wanted {
		s.requests--
		c.events.Results = append(c.events.Results, Result{Number: o.number, Node: s.id, Reply: result, Err: err})
	}
	c.remove(now, s, o, err)
	if len(s.waiting) > 0 {
		c.wake(s)
	}
}

// remove ends an order, and goes on with what waited for its end.
func (c *Core) remove(now time.Time, s *store, o *order, err error) {
	delete(s.orders, o.number)
	if !o.sent {
		s.waiting = slices.DeleteFunc(s.waiting, func(other *order) bool { return other == o })
	}
	for _, id := range o.ids {
		s.queues[id] = slices.DeleteFunc(s.queues[id], func(number uint64) bool { return number == o.number })
		if len(s.queues[id]) == 0 {
			delete(s.queues, id)
		}
	}
	if end := o.wire.GetEndOwner(); end != nil {
		if owner, parseErr := rpc.OwnerFromProto(end.GetOwner()); parseErr == nil {
			delete(s.ending, bare(owner))
			if err == nil {
				c.endAgain(s, bare(owner))
			}
		}
	}
	if o.pin != "" {
		delete(c.pinning, o.pin)
	}
	c.moved(s, o, err)
	for _, id := range o.ids {
		object := c.objects[id]
		if object == nil {
			continue
		}
		if object.promoting == o.number {
			object.promoting = 0
			if r := object.replica(s); err != nil && r != nil && !r.primary {
				c.drop(now, object, r, false) // It has gone, or is of no use.
			}
		}
		if r := object.restoration; r != nil && r.order == o.number {
			r.order = 0
			c.restored(object, err)
		}
		c.settle(now, object)
	}
}

func sortedIDs[V any](m map[engine.ObjectID]V) []engine.ObjectID {
	return slices.SortedFunc(maps.Keys(m), func(a, b engine.ObjectID) int { return bytes.Compare(a[:], b[:]) })
}

func sortedNumbers[V any](m map[uint64]V) []uint64 { return slices.Sorted(maps.Keys(m)) }

func compareNumbers(a, b uint64) int { return cmp.Compare(a, b) }

// idInURI returns the id that a checkpoint's name says, or zero.
func idInURI(uri string) engine.ObjectID {
	name, _ := strings.CutSuffix(path.Base(uri), ".arrows")
	id, err := engine.ParseObjectID(name)
	if err != nil {
		return engine.ObjectID{}
	}
	return id
}

// objectIn returns the id of the object that a result is about.
func objectIn(result Result) (engine.ObjectID, error) {
	id, err := rpc.ObjectIDFromProto(result.Reply.GetObject().GetObjectId())
	return id, engine.WrapError("ask object store", string(result.Node), err)
}
