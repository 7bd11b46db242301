package main

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/internal/rpc"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

type objectView struct {
	ObjectID   string       `json:"object_id"`
	SizeBytes  int64        `json:"size_bytes"`
	State      string       `json:"state"`
	Rows       int64        `json:"rows"`
	Batches    int64        `json:"batches"`
	Domain     string       `json:"domain"`
	Pins       int32        `json:"pins"`
	Owners     []ownerView  `json:"owners"`
	Holders    []holderView `json:"holders"`
	CreateTime *time.Time   `json:"create_time"`
	AccessTime *time.Time   `json:"access_time"`
	Checkpoint string       `json:"checkpoint"`
	CRC32C     *uint32      `json:"crc32c"`
}

type ownerView struct {
	Owner      string     `json:"owner"`
	ExpireTime *time.Time `json:"expire_time"`
}

type holderView struct {
	NodeID  string `json:"node_id"`
	State   string `json:"state"`
	Primary bool   `json:"primary"`
	Pins    int32  `json:"pins"`
	Spilled string `json:"spilled"`
	Flight  string `json:"flight"`
}

type objectListView struct {
	Objects    []objectView `json:"objects"`
	Total      int64        `json:"total"`
	TotalBytes int64        `json:"total_bytes"`
}

type ownerUsageView struct {
	Owner     string `json:"owner"`
	Objects   int64  `json:"objects"`
	SizeBytes int64  `json:"size_bytes"`
}

type storeView struct {
	NodeID        string           `json:"node_id"`
	Socket        string           `json:"socket"`
	Flight        string           `json:"flight"`
	CapacityBytes int64            `json:"capacity_bytes"`
	ArenaBytes    int64            `json:"arena_bytes"`
	UsedBytes     int64            `json:"used_bytes"`
	PinnedBytes   int64            `json:"pinned_bytes"`
	SpilledBytes  int64            `json:"spilled_bytes"`
	Objects       int64            `json:"objects"`
	Waiting       int64            `json:"waiting"`
	WaitingBytes  int64            `json:"waiting_bytes"`
	Spills        int64            `json:"spills"`
	Restores      int64            `json:"restores"`
	Evictions     int64            `json:"evictions"`
	Owners        []ownerUsageView `json:"owners"`
}

type memoryView struct {
	Stores     []storeView      `json:"stores"`
	Owners     []ownerUsageView `json:"owners"`
	Largest    []objectView     `json:"largest"`
	Objects    int64            `json:"objects"`
	TotalBytes int64            `json:"total_bytes"`
}

func viewObject(o *enginev1.ObjectInfo) objectView {
	v := objectView{
		ObjectID: hexID(o.GetObjectId()), SizeBytes: o.GetSizeBytes(), State: string(rpc.ObjectStateFromProto(o.GetState())), Rows: o.GetRows(),
		Batches: o.GetBatches(), Domain: o.GetDomain(), CreateTime: viewTime(o.GetCreateTime()), AccessTime: viewTime(o.GetAccessTime()),
		Checkpoint: o.GetCheckpoint(), CRC32C: o.Crc32C, Owners: []ownerView{}, Holders: []holderView{},
	}
	for _, owner := range o.GetOwners() {
		v.Owners = append(v.Owners, ownerView{ownerText(owner), viewTime(owner.GetExpireTime())})
	}
	for _, h := range o.GetHolders() {
		v.Pins += h.GetPins()
		v.Holders = append(v.Holders, holderView{
			NodeID: h.GetStore().GetNodeId(), State: string(rpc.ObjectStateFromProto(h.GetState())), Primary: h.GetPrimary(), Pins: h.GetPins(),
			Spilled: h.GetSpilled(), Flight: h.GetStore().GetFlight(),
		})
	}
	return v
}

func viewObjects(r *enginev1.ListObjectsResponse) objectListView {
	v := objectListView{Objects: make([]objectView, len(r.GetObjects())), Total: r.GetTotal(), TotalBytes: r.GetTotalBytes()}
	for i, o := range r.GetObjects() {
		v.Objects[i] = viewObject(o)
	}
	return v
}

// hexID writes an id as the user knows it, whatever its length: it comes from the head.
func hexID(id []byte) string {
	var o engine.ObjectID
	copy(o[:], id)
	return o.String()
}

func ownerText(o *enginev1.ObjectOwner) string { return o.GetKind() + "/" + o.GetId() }

func viewStore(s *enginev1.NodeObjectStore) storeView {
	u := s.GetUsage()
	return storeView{
		NodeID: s.GetStore().GetNodeId(), Socket: s.GetStore().GetSocket(), Flight: s.GetStore().GetFlight(), CapacityBytes: u.GetCapacityBytes(),
		ArenaBytes: u.GetArenaBytes(), UsedBytes: u.GetObjectBytes(), PinnedBytes: u.GetPinnedBytes(), SpilledBytes: u.GetSpilledBytes(),
		Objects: u.GetObjects(), Waiting: u.GetWaiting(), WaitingBytes: u.GetWaitingBytes(), Spills: u.GetSpills(), Restores: u.GetRestores(),
		Evictions: u.GetEvictions(), Owners: viewOwnerUsages(s.GetOwners()),
	}
}

func viewOwnerUsages(usages []*enginev1.OwnerUsage) []ownerUsageView {
	views := make([]ownerUsageView, len(usages))
	for i, u := range usages {
		views[i] = ownerUsageView{ownerText(u.GetOwner()), u.GetObjects(), u.GetSizeBytes()}
	}
	return views
}

// viewMemory puts the stores together: an owner may have objects in several.
func viewMemory(stores []*enginev1.NodeObjectStore, largest *enginev1.ListObjectsResponse) memoryView {
	list := viewObjects(largest)
	v := memoryView{Stores: make([]storeView, len(stores)), Owners: []ownerUsageView{}, Largest: list.Objects, Objects: list.Total, TotalBytes: list.TotalBytes}
	sums := map[string]ownerUsageView{}
	for i, s := range stores {
		v.Stores[i] = viewStore(s)
		for _, u := range v.Stores[i].Owners {
			sum := sums[u.Owner]
			sums[u.Owner] = ownerUsageView{u.Owner, sum.Objects + u.Objects, sum.SizeBytes + u.SizeBytes}
		}
	}
	for _, sum := range sums {
		v.Owners = append(v.Owners, sum)
	}
	slices.SortFunc(v.Owners, func(a, b ownerUsageView) int {
		return cmp.Or(cmp.Compare(b.SizeBytes, a.SizeBytes), strings.Compare(a.Owner, b.Owner))
	})
	return v
}

// shortOwner is an owner as it stands in a table: the first digits of a session's id tell sessions apart.
func shortOwner(owner string) string {
	const prefix, digits = "session/", 8
	if id, ok := strings.CutPrefix(owner, prefix); ok && len(id) > digits {
		return prefix + id[:digits]
	}
	return owner
}

// firstOf is the first of several names, and how many others there are.
func firstOf(names []string) string {
	switch len(names) {
	case 0:
		return ""
	case 1:
		return names[0]
	default:
		return names[0] + " +" + count(len(names)-1)
	}
}

// holderNames are the nodes of an object's copies, that of the primary copy first.
func (v objectView) holderNames() []string {
	var names []string
	for _, h := range v.Holders {
		if h.Primary {
			names = slices.Insert(names, 0, h.NodeID)
		} else {
			names = append(names, h.NodeID)
		}
	}
	return names
}

// ownerNames are an object's owners as they stand in a table, those that last longest first.
func (v objectView) ownerNames() []string {
	names := make([]string, len(v.Owners))
	for i, o := range v.Owners {
		names[i] = shortOwner(o.Owner)
		if o.Owner == string(engine.OwnerPin)+"/"+v.ObjectID {
			names[i] = string(engine.OwnerPin) // The name says nothing that is not in the row already.
		}
	}
	rank := func(name string) int {
		kind, _, _ := strings.Cut(name, "/")
		return slices.Index([]string{string(engine.OwnerPin), string(engine.OwnerJob), string(engine.OwnerTask), string(engine.OwnerSession)}, kind)
	}
	slices.SortStableFunc(names, func(a, b string) int { return cmp.Compare(rank(a), rank(b)) })
	return names
}
