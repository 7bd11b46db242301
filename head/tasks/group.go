package tasks

import (
	"cmp"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/head/usage"
	"github.com/f708428e/engine/internal/rpc"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
	"github.com/f708428e/engine/scheduler"
)

const (
	opGroup    = "create placement group"
	maxBundles = 1_000
	// maxGroups bounds the groups of all sessions together.
	maxGroups = 10_000
)

// group is a placement group: bundles that are reserved all or none.
type group struct {
	scheduler.Group
	id    engine.PlacementGroupID
	wire  *enginev1.CreatePlacementGroupRequest
	order int64
	since time.Time
	// nodes and placed are set while it is placed.
	nodes  []engine.NodeID
	placed []*bundle
	reason string
}

// bundle is a part of a placed group.
type bundle struct {
	group   *group
	index   int
	node    *node
	total   engine.Resources
	need    usage.Amounts
	devices []int32
	used    usage.Sum
	// gone says that the bundle was given back.
	gone bool
}

// CreateGroup takes in a placement group. The same one again changes nothing. The error is of kind engine.KindInvalidArgument,
// engine.KindConflict if another group has the id, or engine.KindExhausted.
func (c *Core) CreateGroup(now time.Time, request *enginev1.CreatePlacementGroupRequest) error {
	if len(request.GetPlacementGroupId()) != len(engine.PlacementGroupID{}) {
		return engine.Errorf(engine.KindInvalidArgument, opGroup, "", "an id has %d bytes, found %d", len(engine.PlacementGroupID{}), len(request.GetPlacementGroupId()))
	}
	id := engine.PlacementGroupID(request.GetPlacementGroupId())
	invalid := func(format string, args ...any) error {
		return engine.Errorf(engine.KindInvalidArgument, opGroup, id.String(), format, args...)
	}
	strategy, known := strategies[request.GetStrategy()]
	switch {
	case len(request.GetBundles()) == 0 || len(request.GetBundles()) > maxBundles:
		return invalid("%d bundles, from 1 to %d are allowed", len(request.GetBundles()), maxBundles)
	case !known:
		return invalid("unknown strategy %d", request.GetStrategy())
	case request.GetSessionId() == "":
		return invalid("a session is required")
	case len(request.GetName()) > maxNameBytes:
		return invalid("name: %d bytes, at most %d are allowed", len(request.GetName()), maxNameBytes)
	case request.GetQueue() != "" && engine.CheckSubmissionID(request.GetQueue()) != nil:
		return invalid("queue: %q is no name of a queue", abridge(request.GetQueue()))
	case len(request.GetNodeLabels()) > maxLabels:
		return invalid("node_labels: %d labels, at most %d are allowed", len(request.GetNodeLabels()), maxLabels)
	}
	g := &group{id: id, wire: request, since: now, Group: scheduler.Group{
		ID: id.String(), Queue: cmp.Or(request.GetQueue(), defaultQueue), Strategy: strategy, Selector: request.GetNodeLabels(),
	}}
	for i, wire := range request.GetBundles() {
		r, err := rpc.ResourcesFromProto(wire)
		if err != nil {
			return engine.WrapError(opGroup, id.String(), engine.WrapError("", "bundle "+strconv.Itoa(i+1), err))
		}
		g.Bundles = append(g.Bundles, r)
	}
	if old := c.groups[g.ID]; old != nil {
		if old.wire.GetSessionId() != request.GetSessionId() || len(old.Bundles) != len(g.Bundles) {
			return engine.Errorf(engine.KindConflict, opGroup, id.String(), "another placement group has this id")
		}
		return nil
	}
	if len(c.groups) >= maxGroups {
		return engine.Errorf(engine.KindExhausted, opGroup, id.String(), "there are %d placement groups, as many as there may be", len(c.groups))
	}
	c.orders++
	g.order = c.orders
	c.groups[g.ID] = g
	c.stale = true
	return nil
}

var strategies = map[enginev1.PlacementStrategy]engine.PlacementStrategy{
	enginev1.PlacementStrategy_PLACEMENT_STRATEGY_UNSPECIFIED:   engine.PlacePack,
	enginev1.PlacementStrategy_PLACEMENT_STRATEGY_PACK:          engine.PlacePack,
	enginev1.PlacementStrategy_PLACEMENT_STRATEGY_SPREAD:        engine.PlaceSpread,
	enginev1.PlacementStrategy_PLACEMENT_STRATEGY_STRICT_PACK:   engine.PlaceStrictPack,
	enginev1.PlacementStrategy_PLACEMENT_STRATEGY_STRICT_SPREAD: engine.PlaceStrictSpread,
}

// checkGroup says why a task can never have its bundle.
func (c *Core) checkGroup(t *task) error {
	if t.template.group == "" {
		return nil
	}
	g := c.groups[t.template.group]
	switch {
	case g == nil:
		return engine.Errorf(engine.KindNotFound, opRun, t.id.String(), "there is no placement group %s", t.template.group)
	case t.template.bundle >= len(g.Bundles):
		return refuse("placement.bundle: placement group %s has %d bundles", t.template.group, len(g.Bundles))
	}
	return nil
}

// Groups appends the placement groups that wait, in the order in which they were asked for.
func (c *Core) Groups(now time.Time, into []scheduler.Group) []scheduler.Group {
	for _, g := range c.sortedGroups() {
		if g.nodes == nil {
			g.Overdue = now.Sub(g.since) > overdueAfter
			into = append(into, g.Group)
		}
	}
	return into
}

func (c *Core) sortedGroups() []*group {
	if len(c.groups) == 0 {
		return nil
	}
	return slices.SortedFunc(maps.Values(c.groups), func(a, b *group) int { return cmp.Compare(a.order, b.order) })
}

// PlaceGroup says where the bundles of a placement group lie.
func (c *Core) PlaceGroup(_ time.Time, p scheduler.GroupPlacement) {
	g := c.groups[p.Group]
	if g == nil || g.nodes != nil || len(p.Nodes) != len(g.Bundles) {
		return
	}
	placed := make([]*bundle, len(g.Bundles))
	for i, id := range p.Nodes {
		n := c.nodes[id]
		if n == nil {
			return
		}
		placed[i] = &bundle{group: g, index: i, node: n, total: g.Bundles[i], need: usage.Of(g.Bundles[i])}
		if i < len(p.Devices) {
			for _, d := range p.Devices[i] {
				placed[i].devices = append(placed[i].devices, int32(d)) //nolint:gosec // A node has few.
			}
		}
	}
	for _, b := range placed {
		b.node.bundles = append(b.node.bundles, b)
		b.node.used.Add(&b.need, b.devices, 1)
	}
	g.nodes, g.placed, g.reason = p.Nodes, placed, ""
	c.events.Groups = append(c.events.Groups, g.id)
	c.stale = true
}

// ExplainGroup says why a placement group waits.
func (c *Core) ExplainGroup(_ time.Time, w scheduler.Waiting) {
	if g := c.groups[w.Class]; g != nil {
		g.reason = w.Reason
	}
}

// bundleOf returns a bundle of a placed group; nil if there is none.
func (c *Core) bundleOf(group string, index int) *bundle {
	g := c.groups[group]
	if g == nil || index < 0 || index >= len(g.placed) {
		return nil
	}
	return g.placed[index]
}

// unplace gives the bundles of a group back. What runs in them elsewhere is asked back.
func (c *Core) unplace(now time.Time, g *group) {
	for _, b := range g.placed {
		b.gone = true
		b.node.used.Add(&b.need, b.devices, -1)
		b.node.bundles = slices.DeleteFunc(b.node.bundles, func(other *bundle) bool { return other == b })
		for _, t := range b.node.held() {
			if t.place.bundle == b {
				c.takeBack(now, t, recallFirm)
			}
		}
	}
	g.nodes, g.placed, g.since = nil, nil, now
	c.stale = true
}

// unplaceGroups gives back the bundles of all groups that have one on a node that is gone: they are reserved anew, all or none.
func (c *Core) unplaceGroups(now time.Time, n *node) {
	for _, b := range slices.Clone(n.bundles) {
		if !b.gone {
			c.unplace(now, b.group)
		}
	}
}

// RemoveGroup gives a group's bundles back and cancels the tasks that use them. The error is of kind engine.KindNotFound.
func (c *Core) RemoveGroup(now time.Time, id engine.PlacementGroupID) error {
	g := c.groups[id.String()]
	if g == nil {
		return engine.Errorf(engine.KindNotFound, "remove placement group", id.String(), "there is no such placement group")
	}
	c.removeGroup(now, g)
	c.refill(now)
	return nil
}

func (c *Core) removeGroup(now time.Time, g *group) {
	for _, s := range c.sortedSessions() {
		for t := s.tasks.head; t != nil; {
			next := t.all.next
			if t.template.group == g.ID && !t.rerunning {
				c.cancel(now, t, false)
			}
			t = next
		}
	}
	c.unplace(now, g)
	delete(c.groups, g.ID)
	c.events.Groups = append(c.events.Groups, g.id)
}

func (c *Core) removeGroupsOf(now time.Time, session string) {
	for _, g := range c.sortedGroups() {
		if g.wire.GetSessionId() == session {
			c.removeGroup(now, g)
		}
	}
}

func (c *Core) sortedSessions() []*session {
	return slices.SortedFunc(maps.Values(c.sessions), func(a, b *session) int { return cmp.Compare(a.id, b.id) })
}

// Group returns a group and whether it is placed. The error is of kind engine.KindNotFound.
func (c *Core) Group(id engine.PlacementGroupID) (group *enginev1.PlacementGroup, placed bool, err error) {
	g := c.groups[id.String()]
	if g == nil {
		return nil, false, engine.Errorf(engine.KindNotFound, "get placement group", id.String(), "there is no such placement group")
	}
	return g.view(), g.nodes != nil, nil
}

// ListGroups returns all groups in order of creation.
func (c *Core) ListGroups() (found []*enginev1.PlacementGroup) {
	for _, g := range c.sortedGroups() {
		found = append(found, g.view())
	}
	return found
}

func (g *group) view() *enginev1.PlacementGroup {
	view := &enginev1.PlacementGroup{
		PlacementGroupId: g.id[:], Name: g.wire.GetName(), Bundles: g.wire.GetBundles(), Strategy: g.wire.GetStrategy(), Reason: g.reason,
		SessionId: g.wire.GetSessionId(), Queue: g.Queue,
	}
	for _, n := range g.nodes {
		view.Nodes = append(view.Nodes, string(n))
	}
	return view
}

// Occupy adds to a node's Used, GPUs, and Bundles what the core's tasks and groups hold there. GPUs has an entry for each device, or is nil.
func (c *Core) Occupy(into *scheduler.Node) {
	n := c.nodes[into.ID]
	if n == nil {
		return
	}
	n.used.Occupy(into)
	for _, b := range n.bundles {
		described := scheduler.Bundle{Group: b.group.ID, Index: b.index, Queue: b.group.Queue, Total: b.total, Used: b.used.Resources()}
		part, memory := b.need.PerDevice(len(b.devices))
		for _, d := range b.devices {
			usedPart, usedMemory := b.used.Device(int(d))
			described.Devices = append(described.Devices, int(d))
			described.GPUs = append(described.GPUs, scheduler.GPU{Free: part - usedPart, FreeMemoryBytes: memory - usedMemory})
		}
		into.Bundles = append(into.Bundles, described)
	}
}
