package tasks

import (
	"github.com/f708428e/engine"
	"github.com/f708428e/engine/head/usage"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// node is a worker that has joined and not left.
type node struct {
	id engine.NodeID
	// connected says that a stream is open, cordoned that it takes nothing new, gone that it has left.
	connected, cordoned, gone bool
	operators                 []string
	places                    map[placeKey]*place
	// used is what the slots outside of bundles hold, tasks counts what it has.
	used    usage.Sum
	tasks   int
	bundles []*bundle
	// What the stream has not been told.
	outbox      []*task
	revocations []*enginev1.TaskRevocation
	released    []byte
	retired     []uint32
	// knows has the numbers of the templates that the stream has carried.
	knows map[uint32]struct{}
	woken bool
}

func (c *Core) wakeNode(n *node) {
	if !n.woken && n.connected {
		n.woken = true
		c.events.Nodes = append(c.events.Nodes, n.id)
	}
}

// release tells a node that nobody needs the outcome of a task any more.
func (c *Core) release(n *node, id engine.TaskUID) {
	if n == nil || n.gone || !n.connected {
		return // The next stream begins with all outcomes.
	}
	n.released = append(n.released, id[:]...)
	c.wakeNode(n)
}

// revoke takes a task back from a node. A worker that is not connected is asked when it is again.
func (c *Core) revoke(n *node, r *enginev1.TaskRevocation) {
	if n.connected {
		n.revocations = append(n.revocations, r)
		c.wakeNode(n)
	}
}

// Disconnect says that a worker's stream has ended. The worker keeps its tasks until Leave or the next Join.
func (c *Core) Disconnect(id engine.NodeID) {
	if n := c.nodes[id]; n != nil {
		n.connected = false
		n.revocations, n.released, n.retired, n.knows = nil, nil, nil, nil
	}
}

// Cordon says whether a node takes nothing new, as while it drains.
func (c *Core) Cordon(id engine.NodeID, on bool) {
	if n := c.nodes[id]; n != nil {
		c.stale = c.stale || n.cordoned && !on
		n.cordoned = on
	}
}

// Running counts the tasks that a node has, those included that were granted ahead.
func (c *Core) Running(id engine.NodeID) int {
	if n := c.nodes[id]; n != nil {
		return n.tasks
	}
	return 0
}

// The bounds of one answer.
const (
	maxGrants      = 10_000
	maxAnswerBytes = 8 << 20
)

// Fill adds to an answer what its worker's stream has not been told. If there is more, the node is among the next Events.Nodes again.
func (c *Core) Fill(id engine.NodeID, answer *enginev1.SyncResponse) {
	n := c.nodes[id]
	if n == nil || !n.connected {
		return
	}
	n.woken = false
	answer.TaskRevocations, answer.ReleasedTasks, answer.RetiredTemplates = n.revocations, n.released, n.retired
	n.revocations, n.released, n.retired = nil, nil, nil
	if len(n.outbox) == 0 {
		return
	}
	// One allocation for all grants.
	grants := make([]enginev1.TaskGrant, min(len(n.outbox), maxGrants))
	answer.TaskGrants = make([]*enginev1.TaskGrant, 0, len(grants))
	var last *template
	taken, bytes := 0, 0
	for _, t := range n.outbox {
		if len(answer.TaskGrants) == len(grants) || bytes > maxAnswerBytes {
			break
		}
		taken++
		if t.sent || t.state != stateHeld || t.place.node != n {
			continue // It was taken back before it was sent.
		}
		t.sent = true
		if t.template != last {
			last = t.template
			if _, knows := n.knows[last.wire.GetNumber()]; !knows {
				n.knows[last.wire.GetNumber()] = struct{}{}
				answer.Templates = append(answer.Templates, last.wire)
				bytes += len(last.key)
			}
		}
		bytes += int(t.bytes)
		grant := &grants[len(answer.TaskGrants)]
		grant.Task, grant.Epoch, grant.Attempt, grant.GpuDevices, grant.SessionId = t.submission, t.epoch, int32(t.attempts), t.devices(), t.session.id
		answer.TaskGrants = append(answer.TaskGrants, grant)
	}
	if taken == len(n.outbox) {
		clear(n.outbox)
		n.outbox = n.outbox[:0]
		return
	}
	rest := copy(n.outbox, n.outbox[taken:])
	clear(n.outbox[rest:])
	n.outbox = n.outbox[:rest]
	c.wakeNode(n)
}
