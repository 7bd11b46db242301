package objects

import (
	"cmp"
	"container/heap"
	"maps"
	"slices"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/internal/rpc"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// Filter chooses objects. An empty field allows all.
type Filter struct {
	OwnerKind engine.OwnerKind
	OwnerID   string
	Node      engine.NodeID
	// Granted says of which security domains objects are shown. Nil means of all.
	Granted func(domain string) bool
}

// Describe returns what is known of an object, or false.
func (c *Core) Describe(id engine.ObjectID) (*enginev1.ObjectInfo, bool) {
	o := c.objects[id]
	if o == nil {
		return nil, false
	}
	info := &enginev1.ObjectInfo{
		ObjectId: o.id[:], SizeBytes: o.sizeBytes, Rows: o.rows, Batches: o.batches, State: rpc.ObjectStateToProto(o.state()), Domain: o.domain,
		Owners: rpc.OwnersToProto(o.owners), Checkpoint: o.checkpoint,
	}
	if o.checked {
		sum := o.crc32c
		info.Crc32C = &sum
	}
	var created, accessed time.Time
	for _, r := range o.replicas {
		info.Holders = append(info.Holders, &enginev1.ObjectHolder{
			Store: r.store.address, State: rpc.ObjectStateToProto(r.state), Primary: r.primary, Pins: r.pins, Spilled: r.spilled,
		})
		if created.IsZero() || r.created.Before(created) {
			created = r.created
		}
		if r.accessed.After(accessed) {
			accessed = r.accessed
		}
	}
	info.CreateTime, info.AccessTime = wireTime(created), wireTime(accessed)
	return info, true
}

// List returns up to limit objects by size, the largest first, and how many there are of which size in all.
func (c *Core) List(filter Filter, limit int) (found []*enginev1.ObjectInfo, total, totalBytes int64) {
	smallest := &bySize{}
	visit := func(o *object) {
		total++
		totalBytes += o.sizeBytes
		if heap.Push(smallest, o); smallest.Len() > limit {
			heap.Pop(smallest)
		}
	}
	if filter.OwnerKind != "" && filter.OwnerID != "" {
		for _, o := range c.owned[engine.ObjectOwner{Kind: filter.OwnerKind, ID: filter.OwnerID}] {
			if filter.allows(o) {
				visit(o)
			}
		}
	} else {
		for _, o := range c.objects {
			if filter.allows(o) {
				visit(o)
			}
		}
	}
	slices.SortFunc(*smallest, func(a, b *object) int { return -compareSizes(a, b) })
	for _, o := range *smallest {
		info, _ := c.Describe(o.id)
		found = append(found, info)
	}
	return found, total, totalBytes
}

func (f Filter) allows(o *object) bool {
	if f.Granted != nil && !f.Granted(o.domain) {
		return false
	}
	if f.Node != "" && !slices.ContainsFunc(o.replicas, func(r *replica) bool { return r.store.id == f.Node }) {
		return false
	}
	return f.OwnerKind == "" && f.OwnerID == "" || slices.ContainsFunc(o.owners, func(owner engine.ObjectOwner) bool {
		return (f.OwnerKind == "" || owner.Kind == f.OwnerKind) && (f.OwnerID == "" || owner.ID == f.OwnerID)
	})
}

// bySize is a heap whose first is the smallest.
type bySize []*object

func (h bySize) Len() int           { return len(h) }
func (h bySize) Less(i, j int) bool { return compareSizes(h[i], h[j]) < 0 }
func (h bySize) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }

// Push implements heap.Interface: it appends x, which is an *object.
func (h *bySize) Push(x any) { *h = append(*h, x.(*object)) } //nolint:forcetypeassert // Only objects are pushed.

// Pop implements heap.Interface: it takes the last *object off.
func (h *bySize) Pop() any {
	last := len(*h) - 1
	o := (*h)[last]
	*h = (*h)[:last]
	return o
}

func compareSizes(a, b *object) int {
	if order := cmp.Compare(a.sizeBytes, b.sizeBytes); order != 0 {
		return order
	}
	return slices.Compare(b.id[:], a.id[:])
}

// Stores returns how the connected stores are reached, in order of their node ids.
func (c *Core) Stores() (found []*enginev1.ObjectStoreAddress) {
	for _, id := range slices.Sorted(maps.Keys(c.stores)) {
		if s := c.stores[id]; s.session != 0 {
			found = append(found, s.address)
		}
	}
	return found
}

// Full reports whether objects wait for room in a node's store.
func (c *Core) Full(node engine.NodeID) bool {
	s := c.stores[node]
	return s != nil && !s.lost && s.usage.GetWaiting() > 0
}

// maxOwnersShown is how many owners of a store are told.
const maxOwnersShown = 10

// Usage returns what each store that is not lost holds, in order of their node ids, with those who own most of it.
func (c *Core) Usage() (found []*enginev1.NodeObjectStore) {
	for _, id := range slices.Sorted(maps.Keys(c.stores)) {
		s := c.stores[id]
		if s.lost {
			continue
		}
		by := map[engine.ObjectOwner]*enginev1.OwnerUsage{}
		for _, o := range s.copies {
			r := o.replica(s)
			if r.state != engine.ObjectInMemory {
				continue
			}
			for _, owner := range r.owners {
				usage := by[bare(owner)]
				if usage == nil {
					usage = &enginev1.OwnerUsage{Owner: rpc.OwnerToProto(bare(owner))}
					by[bare(owner)] = usage
				}
				usage.Objects++
				usage.SizeBytes += o.sizeBytes
			}
		}
		owners := slices.SortedFunc(maps.Values(by), func(a, b *enginev1.OwnerUsage) int {
			return cmp.Or(cmp.Compare(b.GetSizeBytes(), a.GetSizeBytes()), cmp.Compare(a.GetOwner().GetKind(), b.GetOwner().GetKind()),
				cmp.Compare(a.GetOwner().GetId(), b.GetOwner().GetId()))
		})
		found = append(found, &enginev1.NodeObjectStore{Store: s.address, Usage: s.usage, Owners: owners[:min(len(owners), maxOwnersShown)]})
	}
	return found
}

func wireTime(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}
