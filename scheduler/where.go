package scheduler

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"github.com/f708428e/engine"
)

// whereKey is equal for classes whose tasks may run on the same nodes.
type whereKey struct {
	selector, operator string
	node               engine.NodeID
	group              string
	bundle             int
}

// where is a set of nodes, or of bundles, on which tasks may run.
type where struct {
	whereKey
	terms []term
	// count is how many there are; drained or kept ones count as well.
	count int
	// pools are the nodes by group. Bundles are all in the first.
	pools [groups]*pool
	// loaded are the same once more, but for the nodes that have not loaded a model.
	loaded []loadedPools
}

type loadedPools struct {
	model *model
	pools [groups]*pool
}

// term is one condition of a selector.
type term struct{ key, value string }

// matches compares the condition with a node's labels.
func (t term) matches(labels map[string]string) bool {
	got, exists := labels[t.key]
	unwanted, differs := strings.CutPrefix(t.value, "!")
	switch {
	case t.value == "":
		return exists
	case !differs:
		return exists && got == t.value
	case unwanted == "":
		return !exists
	default:
		return !exists || got != unwanted
	}
}

func (t term) String() string {
	if t.value == "" {
		return t.key
	}
	return t.key + "=" + t.value
}

func termsOf(selector map[string]string) []term {
	terms := make([]term, 0, len(selector))
	for _, key := range slices.Sorted(maps.Keys(selector)) {
		terms = append(terms, term{key, selector[key]})
	}
	return terms
}

func selectorKey(selector map[string]string) string {
	var text strings.Builder
	for _, t := range termsOf(selector) {
		text.WriteString(t.key)
		text.WriteByte(0)
		text.WriteString(t.value)
		text.WriteByte(0)
	}
	return text.String()
}

// whereOf returns the place of a key; the selector is the map from which the key was made.
func (p *pass) whereOf(key whereKey, selector map[string]string) *where {
	if key == (whereKey{}) {
		return &p.everywhere
	}
	if w := p.findWhere(key); w != nil {
		return w
	}
	w := &where{whereKey: key, terms: termsOf(selector)}
	var list []int32
	switch {
	case key.group != "":
		for i := p.nodes; i < len(p.members); i++ {
			if b := p.members[i].bundle; b.Group == key.group && (key.bundle < 0 || b.Index == key.bundle) && p.allows(w, i) {
				list = append(list, int32(i))
			}
		}
		slices.SortStableFunc(list, func(a, b int32) int { return cmp.Compare(p.members[a].bundle.Index, p.members[b].bundle.Index) })
		w.pools[groupPlain] = &pool{members: list}
	case key.node != "":
		if i := p.locate(key.node); i >= 0 && p.allows(w, i) {
			list = append(list, int32(i))
		}
		w.split(p, list)
	default:
		list = p.matching(w)
		w.split(p, list)
	}
	w.count = len(list)
	if p.wheres = append(p.wheres, w); p.whereByKey != nil {
		p.whereByKey[key] = w
	}
	return w
}

func (p *pass) findWhere(key whereKey) *where {
	if p.whereByKey == nil {
		for _, w := range p.wheres {
			if w.whereKey == key {
				return w
			}
		}
		if len(p.wheres) < few {
			return nil
		}
		p.whereByKey = make(map[whereKey]*where, 4*few)
		for _, w := range p.wheres {
			p.whereByKey[w.whereKey] = w
		}
	}
	return p.whereByKey[key]
}

// split makes the pools of nodes in the order of the members. If all are in it, the pools are those of everywhere, with their trees.
func (w *where) split(p *pass, list []int32) {
	if len(list) == p.nodes {
		w.pools = p.everywhere.pools
		return
	}
	border, _ := slices.BinarySearch(list, int32(p.first[groupGPU]))
	w.pools[groupPlain], w.pools[groupGPU] = &pool{members: list[:border]}, &pool{members: list[border:]}
}

// matching lists the nodes that have the labels and the operator. An index by label spares it the look at most of them.
func (p *pass) matching(w *where) []int32 {
	candidates := p.everyone
	for _, t := range w.terms {
		if p.nodes > linear && t.value != "" && t.value[0] != '!' {
			candidates = p.labelled(t)
			break
		}
	}
	var list []int32
	for _, i := range candidates {
		if p.allows(w, int(i)) {
			list = append(list, i)
		}
	}
	return list
}

// labelled lists the nodes that have a label.
func (p *pass) labelled(t term) []int32 {
	index := p.labels[t.key]
	if index == nil {
		index = map[string][]int32{}
		for _, i := range p.everyone {
			if value, ok := p.members[i].Labels[t.key]; ok {
				index[value] = append(index[value], i)
			}
		}
		if p.labels == nil {
			p.labels = map[string]map[string][]int32{}
		}
		p.labels[t.key] = index
	}
	return index[t.value]
}

// allows reports whether the place includes a member, whatever is free there.
func (p *pass) allows(w *where, i int) bool {
	m := &p.members[i]
	for _, t := range w.terms {
		if !t.matches(m.Labels) {
			return false
		}
	}
	return (w.operator == "" || p.knows(m.Node, w.operator)) && (w.node == "" || m.ID == w.node)
}

// knows reports whether a node has an operator. Nodes mostly share one list, so the last answer mostly does.
func (p *pass) knows(n *Node, operator string) bool {
	if n.Operators == nil {
		return true
	}
	if len(n.Operators) == 0 {
		return false
	}
	k := &p.known
	if k.first != &n.Operators[0] || k.count != len(n.Operators) || k.operator != operator {
		*k = known{&n.Operators[0], len(n.Operators), operator, slices.Contains(n.Operators, operator)}
	}
	return k.answer
}

// known is the last answer of knows.
type known struct {
	first    *string
	count    int
	operator string
	answer   bool
}

// locate returns the member of a node, or -1.
func (p *pass) locate(id engine.NodeID) int {
	for g := range groups {
		from, to := p.first[g], p.nodes
		if g == groupPlain {
			to = p.first[groupGPU]
		}
		at, ok := slices.BinarySearchFunc(p.members[from:to], id, func(m member, id engine.NodeID) int { return cmp.Compare(m.ID, id) })
		if ok {
			return from + at
		}
	}
	return -1
}

// model is one set of weights.
type model struct {
	digest string
	// bytes is the host memory that a bundle's node must have for it.
	bytes int64
	// on says, by member, where it is loaded or will be.
	on []bool
	// pools are those of nodes that have it.
	pools []*pool
}

func (p *pass) modelOf(w Weights) *model {
	for _, m := range p.models {
		if m.digest == w.Digest {
			return m
		}
	}
	m := &model{digest: w.Digest, bytes: bytesOf(w.Bytes), on: make([]bool, p.nodes)}
	for i := range p.nodes {
		m.on[i] = slices.Contains(p.members[i].Models, w.Digest)
	}
	p.models = append(p.models, m)
	return m
}

// loadedOf returns the nodes of a place, of which those count that have loaded the model.
func (p *pass) loadedOf(w *where, m *model) *[groups]*pool {
	for i := range w.loaded {
		if w.loaded[i].model == m {
			return &w.loaded[i].pools
		}
	}
	l := loadedPools{model: m}
	for g := range l.pools {
		l.pools[g] = &pool{members: w.pools[g].members, model: m}
		m.pools = append(m.pools, l.pools[g])
	}
	w.loaded = append(w.loaded, l)
	return &w.loaded[len(w.loaded)-1].pools
}

// load notes that a node has the model from now on.
func (p *pass) load(m *model, node int) {
	m.on[node] = true
	for _, pl := range m.pools {
		if pl.tree == nil {
			continue
		}
		if leaf, ok := slices.BinarySearch(pl.members, int32(node)); ok {
			p.refresh(pl, leaf)
		}
	}
}
