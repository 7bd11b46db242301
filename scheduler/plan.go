package scheduler

import "github.com/f708428e/engine"

// plan puts the grants in order, joins those of the same class and node, and explains the rest.
func (p *pass) plan() Plan {
	var plan Plan
	if len(p.granted) > 0 {
		plan.Placements = p.placements()
	}
	for i := range p.claims {
		if c := &p.claims[i]; c.pending > 0 {
			if plan.Waiting == nil {
				plan.Waiting = make([]Waiting, 0, len(p.claims)-i)
			}
			plan.Waiting = append(plan.Waiting, p.explain(c))
		}
	}
	for i := range p.placings {
		g := &p.placings[i]
		if g.claim.pending > 0 {
			plan.GroupsWaiting = append(plan.GroupsWaiting, p.explainGroup(g))
			continue
		}
		placed := GroupPlacement{Group: g.ID, Nodes: make([]engine.NodeID, len(g.nodes)), Devices: g.devices}
		for b, i := range g.nodes {
			placed.Nodes[b] = p.members[i].ID
		}
		plan.Groups = append(plan.Groups, placed)
	}
	plan.More = p.more
	return plan
}

func (p *pass) placements() []Placement {
	order := p.order()
	pairs := 0
	for n, i := range order {
		if n == 0 || !p.granted[i].joins(p.granted[order[n-1]]) {
			pairs++
		}
	}
	list := make([]Placement, 0, pairs)
	for n, i := range order {
		g := p.granted[i]
		if n == 0 || !g.joins(p.granted[order[n-1]]) {
			m := &p.members[g.member]
			placed := Placement{Class: p.claims[g.claim].ID, Node: m.ID, Bundle: -1}
			if m.bundle != nil {
				placed.Bundle = m.bundle.Index
			}
			list = append(list, placed)
		}
		last := &list[len(list)-1]
		last.Count += g.count
		if p.devices != nil {
			last.Devices = append(last.Devices, p.devices[int(i)]...)
		}
	}
	return list
}

// order returns the indexes of the grants by class, then by node, then as they were made: two stable counting sorts, since
// there may be a million of them.
func (p *pass) order() []int32 {
	if len(p.granted) == 1 {
		return []int32{0}
	}
	ranks := 0
	for i := range p.members {
		ranks = max(ranks, p.members[i].rank+1)
	}
	byNode := make([]int32, len(p.granted))
	byClass := make([]int32, len(p.granted))
	starts := make([]int32, max(ranks, len(p.claims))+1)
	for _, g := range p.granted {
		starts[p.members[g.member].rank+1]++
	}
	accumulate(starts)
	for i, g := range p.granted {
		next := &starts[p.members[g.member].rank]
		byNode[*next] = int32(i)
		*next++
	}
	clear(starts)
	for _, g := range p.granted {
		starts[g.claim+1]++
	}
	accumulate(starts)
	for _, i := range byNode {
		next := &starts[p.granted[i].claim]
		byClass[*next] = i
		*next++
	}
	return byClass
}

func accumulate(counts []int32) {
	for i := 1; i < len(counts); i++ {
		counts[i] += counts[i-1]
	}
}
