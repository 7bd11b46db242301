package embedding

// callShare is what a call of the model costs beside its tokens, as a part of the budget: 1/callShare of the tokens. It decides when
// a smaller call is worth the padding that it saves.
const callShare = 32

// plan is the memory of Embedder.plan.
type plan struct {
	costs []int
	runs  []int32 // where the texts of other length begin
	sizes []int32
}

// plan cuts texts, sorted by length with the longest first, into calls within the budget, so that padding and the number of calls
// cost little together. The first element of the result is how many texts the first call has, the one at that place how many the
// second has, and so on.
//
// From the end to the beginning, the best first call of each rest is found, among those that are full or end where the length changes.
// Other ends are seldom better, and never by much.
func (e *Embedder) plan(b *Batch, order []int32) []int32 {
	p, n := &e.plans, len(order)
	budget := e.share(b, order)
	p.costs, p.runs, p.sizes = grow(p.costs, n+1), grow(p.runs, n+1), grow(p.sizes, n+1)
	p.costs[n] = 0
	call := max(1, budget/callShare)
	next := -1 // length of the text after i
	for i := n - 1; i >= 0; i-- {
		length := b.tokens(order[i])
		if p.runs[i] = int32(i + 1); length == next { //nolint:gosec // A record batch has fewer rows.
			p.runs[i] = p.runs[i+1]
		}
		next = length
		most := max(1, min(budget/length, n-i))
		if e.config.BatchRows > 0 {
			most = min(most, e.config.BatchRows)
		}
		size, cost := most, length*most+call+p.costs[i+most]
		for end := int(p.runs[i]); end < i+most; end = int(p.runs[end]) {
			if c := length*(end-i) + call + p.costs[end]; c < cost {
				size, cost = end-i, c
			}
		}
		p.costs[i], p.sizes[i] = cost, int32(size) //nolint:gosec // See above.
	}
	return p.sizes[:n]
}

// share is the budget with which calls that run beside each other end together, also where a batch is small.
func (e *Embedder) share(b *Batch, order []int32) int {
	if len(e.lanes) == 1 || len(order) == 0 {
		return e.budget
	}
	total := 0
	for _, text := range order {
		total += b.tokens(text)
	}
	calls := len(e.lanes) * max(1, ceil(total, e.budget*len(e.lanes)))
	// Calls hold whole texts: without some more room the last of them would make one call more.
	return min(e.budget, ceil(total, calls)+b.tokens(order[0])-1)
}

func ceil(x, by int) int { return (x + by - 1) / by }
