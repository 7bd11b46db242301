package scheduler

import (
	"math/rand/v2"
	"testing"
)

// TestTreeFindsTheBest compares the tree with a look at every node, while what is free shrinks.
func TestTreeFindsTheBest(t *testing.T) {
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 2))
		nodes, width := 1+r.IntN(40), 1+r.IntN(4)
		tree := newTree(nodes, width)
		scores := []float64{0, 0, 0, 0.5, 0.5, 0.75, 1, never}
		for i := range nodes {
			for d := range width {
				tree.leaf(i)[d] = int64(r.IntN(6))
			}
			tree.least[tree.size+i] = scores[r.IntN(len(scores))]
		}
		tree.build()
		refused := map[int]bool{}
		for step := range 60 {
			walk := search{tree: tree, fits: func(i int) bool { return !refused[i] }}
			for d := range width {
				if v := int64(r.IntN(5)); v > 0 {
					walk.amounts = append(walk.amounts, amount{d, v})
				}
			}
			want, least := -1, never
			for i := range nodes {
				if score := tree.least[tree.size+i]; score < least && !refused[i] && walk.covers(tree.size+i) {
					want, least = i, score
				}
			}
			got, score := walk.best(never)
			if got != want || score != least {
				t.Fatalf("seed %d, step %d: found node %d with %v, want %d with %v", seed, step, got, score, want, least)
			}
			i := r.IntN(nodes)
			for d := range width {
				tree.leaf(i)[d] = int64(r.IntN(int(tree.leaf(i)[d]) + 1))
			}
			tree.update(i, max(tree.least[tree.size+i], scores[r.IntN(len(scores))]))
			refused[r.IntN(nodes)] = r.IntN(3) == 0
		}
	}
}
