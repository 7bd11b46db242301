package scheduler

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/f708428e/engine"
)

// verdict is what can be said of a shape whatever is running.
type verdict struct {
	infeasible bool
	// reason is empty when an open node is large enough.
	reason string
}

// judged returns the verdict on the shape of a class.
func (p *pass) judged(c *claim) verdict {
	if s := c.shape; !s.judged {
		s.judged = true
		if c.group != nil {
			s.verdict = p.judgeGroup(c.group)
		} else {
			s.verdict = p.judge(c)
		}
	}
	return c.shape.verdict
}

// feasible reports whether a class, or a group, would fit on nodes that are open now if they were idle.
func (p *pass) feasible(c *claim) bool { return p.judged(c).reason == "" }

// noteWaiting finds out which queues have something that only lacks room.
func (p *pass) noteWaiting() {
	if len(p.shares) == 1 {
		return // Nobody is there who could be kept back for it.
	}
	note := func(c *claim) {
		if c.pending > 0 && !c.shape.queue.waits && !c.shape.capped && p.feasible(c) {
			c.shape.queue.waits = true
		}
	}
	for i := range p.claims {
		note(&p.claims[i])
	}
	for i := range p.placings {
		note(&p.placings[i].claim)
	}
}

// contended returns what keeps a queue back: another one waits, and it holds more than its share or has the lower priority.
func (p *pass) contended(q *share) (overShare bool, reason string) {
	for _, other := range p.shares {
		if other == q || !other.waits {
			continue
		}
		if other.priority > q.priority {
			return true, "queue " + q.name + " waits for queues of a higher priority"
		}
		if other.priority == q.priority && q.share > q.fair+slack {
			overShare = true
			reason = fmt.Sprintf("queue %s is over its share (%s of %s)", q.name, percent(q.share), percent(q.fair))
		}
	}
	return overShare, reason
}

// percent is exact enough to tell a share from one that is larger.
func percent(part float64) string {
	return strconv.FormatFloat(math.Round(part*1000)/10, 'f', -1, 64) + "%"
}

// explain says why tasks of a class are left.
func (p *pass) explain(c *claim) Waiting {
	s := c.shape
	w := Waiting{Class: c.ID, Count: c.pending}
	v := p.judged(c)
	if v.reason != "" {
		w.Infeasible, w.Reason = v.infeasible, v.reason
		return w
	}
	if s.reason == "" {
		s.reason, s.overShare = p.whyBusy(c)
	}
	w.Reason, w.OverShare = s.reason, s.overShare
	if c.kept >= 0 {
		w.KeptNode = p.members[c.kept].ID
		w.Reason += "; node " + string(w.KeptNode) + " is kept for it"
		return w
	}
	if !s.keptKnown && !s.inBundle {
		s.keptKnown = true
		for _, k := range p.keeps {
			if p.allows(s.where, k.member) && p.roomOn(k.member, s) {
				s.keptNote = fmt.Sprintf("; node %s is kept for %s, which holds nothing", p.members[k.member].ID, k.by.id())
				break
			}
		}
	}
	w.Reason += s.keptNote
	return w
}

// whyBusy says why nothing more of a shape is placed although it would fit on an idle node.
func (p *pass) whyBusy(c *claim) (reason string, overShare bool) {
	s := c.shape
	if dim := s.queue.lacks(&s.need); dim >= 0 && !s.inBundle {
		limit := p.writeHold(dim, s.queue.limits[dim])
		for _, a := range s.holds {
			if a.dim == dim && a.value > s.queue.limits[dim] {
				return "needs " + p.writeHold(dim, a.value) + ", the quota of queue " + s.queue.name + " is " + limit, false
			}
		}
		return "queue " + s.queue.name + " is at its quota of " + limit, false
	}
	overShare, first := p.contended(s.queue)
	if !s.dead && p.more {
		return "this decision has placed as many tasks as it may, the next one goes on", overShare
	}
	reason = s.where.nodes(!covers(p.least, s.needAlone())) + s.where.verb() + "busy"
	if first != "" {
		reason = first + "; " + reason
	}
	return reason, overShare
}

// needAlone is what a task takes on an idle node.
func (s *shape) needAlone() *need {
	if s.first != nil {
		return s.first
	}
	return &s.need
}

// nodes is what reasons call the nodes of a place, or those that are large enough.
func (w *where) nodes(large bool) string {
	switch {
	case w.group != "" && w.bundle >= 0:
		return "bundle " + strconv.Itoa(w.bundle) + " of placement group " + w.group
	case w.group != "":
		return "all bundles of placement group " + w.group
	case w.node != "":
		return "node " + string(w.node)
	case large:
		return "all nodes" + w.with() + " that are large enough"
	default:
		return "all nodes" + w.with()
	}
}

// single reports whether there is one node or bundle at most.
func (w *where) single() bool { return w.node != "" || w.group != "" && w.bundle >= 0 }

func (w *where) verb() string {
	if w.single() {
		return " is "
	}
	return " are "
}

// largest is what reasons call the one that has most.
func (w *where) largest() string {
	switch {
	case w.single():
		return w.nodes(false)
	case w.group != "":
		return "the largest bundle of placement group " + w.group
	default:
		return "the largest node" + w.with()
	}
}

// none says that no node of the place has something.
func (w *where) none() string {
	switch {
	case w.single():
		return w.nodes(false) + " does not have it"
	case w.group != "":
		return "no bundle of placement group " + w.group + " has it"
	default:
		return "no node" + w.with() + " has it"
	}
}

// with describes the nodes of a place: " with operator tokenize and label zone=a".
func (w *where) with() string {
	var parts []string
	if w.operator != "" {
		parts = append(parts, "operator "+w.operator)
	}
	for _, t := range w.terms {
		parts = append(parts, t.wanted())
	}
	if len(parts) == 0 {
		return ""
	}
	return " with " + strings.Join(parts, " and ")
}

// wanted is the condition in words.
func (t term) wanted() string {
	if unwanted, differs := strings.CutPrefix(t.value, "!"); differs {
		return "no label " + term{t.key, unwanted}.String()
	}
	return "label " + t.String()
}

// judge finds out whether any node is large enough.
func (p *pass) judge(c *claim) verdict {
	s := c.shape
	if s.bad != "" {
		return verdict{infeasible: true, reason: s.bad}
	}
	if p.nodes == 0 {
		return verdict{reason: "no node is connected"}
	}
	if s.where.count == 0 {
		return p.judgeWhere(s.where)
	}
	var closed closedNodes
	for i := range s.where.members() {
		if p.fitsIdle(i, s) {
			if !p.members[i].Unschedulable {
				return verdict{}
			}
			closed.add(p.members[i].Node)
		}
	}
	switch closed.count {
	case 0:
	case s.where.count:
		return verdict{reason: s.where.nodes(false) + s.where.verb() + closed.state()}
	default:
		return verdict{reason: s.where.nodes(true) + s.where.verb() + closed.state()}
	}
	n := s.needAlone()
	for _, a := range n.amounts {
		var most int64
		for i := range s.where.members() {
			most = max(most, p.idleOf(i)[a.dim])
		}
		asked := "needs " + p.write(a, &c.Request)
		if s.model != nil && n.amounts != nil && (a.dim == dimMemory || p.gpu && a.dim == dimDeviceMemory) {
			asked += " with its model"
		}
		switch {
		case most >= a.value:
		case most == 0:
			return verdict{true, asked + ", " + s.where.none()}
		case a.dim == dimDeviceMemory && p.gpu:
			return verdict{true, asked + " on one device, the largest device has " + p.write(amount{a.dim, most}, nil)}
		default:
			return verdict{true, asked + ", " + s.where.largest() + " has " + p.write(amount{a.dim, most}, nil)}
		}
	}
	return verdict{true, "needs " + c.Request.String() + " on one node, no node" + s.where.with() + " has all of it"}
}

// closedNodes counts unschedulable nodes.
type closedNodes struct{ count, silent int }

func (n *closedNodes) add(node *Node) {
	n.count++
	if node.Silent {
		n.silent++
	}
}

// state is what they are, in words.
func (n *closedNodes) state() string {
	switch n.silent {
	case 0:
		return "draining"
	case n.count:
		return "silent"
	default:
		return "draining or silent"
	}
}

// judgeWhere says why there is no node at all for a class.
func (p *pass) judgeWhere(w *where) verdict {
	exists := func(f func(i int) bool) bool {
		return slices.ContainsFunc(p.everyone, func(i int32) bool { return f(int(i)) })
	}
	if w.group != "" {
		placed, found := false, false
		for i := p.nodes; i < len(p.members); i++ {
			if b := p.members[i].bundle; b.Group == w.group {
				placed, found = true, found || w.bundle < 0 || b.Index == w.bundle
			}
		}
		switch {
		case !placed:
			return verdict{reason: "placement group " + w.group + " is not placed"}
		case !found:
			return verdict{reason: fmt.Sprintf("bundle %d of placement group %s is not placed", w.bundle, w.group)}
		case w.bundle >= 0:
			return verdict{true, fmt.Sprintf("bundle %d of placement group %s is not on a node%s", w.bundle, w.group, w.with())}
		}
		return verdict{true, "no bundle of placement group " + w.group + " is on a node" + w.with()}
	}
	if w.node != "" && p.locate(w.node) < 0 {
		return verdict{true, "node " + string(w.node) + " is not connected"}
	}
	if w.operator != "" && !exists(func(i int) bool { return p.knows(p.members[i].Node, w.operator) }) {
		return verdict{true, "no node has operator " + w.operator}
	}
	for _, t := range w.terms {
		if exists(func(i int) bool { return t.matches(p.members[i].Labels) }) {
			continue
		}
		if unwanted, differs := strings.CutPrefix(t.value, "!"); differs {
			return verdict{true, "every node has label " + term{t.key, unwanted}.String()}
		}
		return verdict{true, "no node has label " + t.String()}
	}
	if w.node != "" {
		return verdict{true, "node " + string(w.node) + " is not one" + w.with()}
	}
	return verdict{true, "there is no node" + w.with()}
}

// members returns the indexes of the nodes, or bundles, of a place.
func (w *where) members() func(yield func(int) bool) {
	return func(yield func(int) bool) {
		for _, pl := range w.pools {
			if pl == nil {
				continue
			}
			for _, i := range pl.members {
				if !yield(int(i)) {
					return
				}
			}
		}
	}
}

// write names an amount as the user wrote it; the request, where there is one, supplies what rounding would hide.
func (p *pass) write(a amount, asked *engine.Resources) string {
	switch {
	case a.dim == dimCPU:
		return p.writeHold(holdCPU, a.value)
	case a.dim == dimMemory:
		return p.writeHold(holdMemory, a.value)
	case p.gpu && a.dim == dimPart:
		return p.writeHold(holdGPU, a.value)
	case p.gpu && a.dim == dimDevices:
		return "gpu: " + strconv.FormatInt(a.value, 10)
	case p.gpu && a.dim == dimDeviceMemory:
		return p.writeHold(holdGPUMemory, a.value)
	}
	name := p.custom[a.dim-p.firstCustom]
	if asked != nil {
		return name + ": " + strconv.FormatFloat(asked.Custom[name], 'f', -1, 64)
	}
	return name + ": " + number(a.value)
}

// writeHold names an amount of what a queue holds.
func (p *pass) writeHold(dim int, value int64) string {
	switch dim {
	case holdCPU:
		return "cpu: " + number(value)
	case holdMemory:
		return "memory: " + size(value)
	case holdGPU:
		return "gpu: " + number(value)
	case holdGPUMemory:
		return "gpu_memory: " + size(value)
	}
	return p.custom[dim-holdsPlain] + ": " + number(value)
}

// size writes bytes so that two different amounts never look alike.
func size(bytes int64) string {
	text := engine.FormatSize(bytes)
	if exact, err := engine.ParseSize(text); err == nil && exact == bytes {
		return text
	}
	return strings.TrimSpace(fmt.Sprintf("%s (%d bytes)", text, bytes))
}
