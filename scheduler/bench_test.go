package scheduler_test

import (
	"fmt"
	"testing"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/scheduler"
)

// The size that the project promises to handle: 10,000 nodes, 1,000,000 queued tasks in 100 classes of different shapes.
const (
	benchNodes   = 10_000
	benchClasses = 100
	benchPending = 10_000
)

// benchSnapshot has room for every task: 400,000 cores and tasks of 0.1 to 0.6.
func benchSnapshot(shapes int) scheduler.Snapshot {
	var s scheduler.Snapshot
	for i := range benchNodes {
		s.Nodes = append(s.Nodes, scheduler.Node{
			ID:    engine.NodeID(fmt.Sprintf("node-%05d", i)),
			Total: engine.Resources{CPU: 40, MemoryBytes: 256 << 30},
		})
	}
	for i := range benchClasses {
		s.Classes = append(s.Classes, scheduler.Class{
			ID:      fmt.Sprintf("class-%03d", i),
			Request: engine.Resources{CPU: 0.1 + 0.005*float64(i%shapes), MemoryBytes: int64(64+i%shapes) << 20},
			Pending: benchPending, Order: int64(i),
		})
	}
	return s
}

// BenchmarkFill places all of a million tasks on an idle cluster in one pass.
func BenchmarkFill(b *testing.B) {
	for _, shapes := range []int{1, 10, 100} {
		b.Run(fmt.Sprintf("shapes=%d", shapes), func(b *testing.B) {
			s := benchSnapshot(shapes)
			placed := 0
			for b.Loop() {
				placed += count(scheduler.Decide(s))
			}
			if placed < b.N*benchClasses*benchPending {
				b.Fatalf("placed %d tasks in %d passes", placed, b.N)
			}
			b.ReportMetric(float64(placed)/b.Elapsed().Seconds(), "placements/s")
		})
	}
}

// BenchmarkPass decides for a cluster that is full but for a few tasks that have just ended, which is what a pass mostly is.
func BenchmarkPass(b *testing.B) {
	for _, freed := range []int{0, 100, 1000} {
		b.Run(fmt.Sprintf("freed=%d", freed), func(b *testing.B) {
			s := benchSnapshot(benchClasses)
			for i := range s.Nodes {
				n := &s.Nodes[i]
				n.Used = n.Total
				if freed > 0 && i%(benchNodes/freed) == 0 {
					n.Used.CPU -= 0.6
					n.Used.MemoryBytes -= 256 << 20
				}
			}
			for i := range s.Classes {
				s.Classes[i].Running = 5000
			}
			for b.Loop() {
				if got := count(scheduler.Decide(s)); got < freed {
					b.Fatalf("placed %d, want at least %d", got, freed)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Milliseconds())/float64(b.N), "ms/pass")
		})
	}
}

// BenchmarkSpread fills a cluster that is half full, so that each task goes to the least used of all nodes.
func BenchmarkSpread(b *testing.B) {
	s := benchSnapshot(benchClasses)
	for i := range s.Nodes {
		s.Nodes[i].Used = engine.Resources{CPU: 20 + float64(i%7)/10}
	}
	placed := 0
	for b.Loop() {
		placed += count(scheduler.Decide(s))
	}
	b.ReportMetric(float64(placed)/b.Elapsed().Seconds(), "placements/s")
}

func count(p scheduler.Plan) (n int) {
	for _, x := range p.Placements {
		n += x.Count
	}
	return n
}

// BenchmarkJobs decides for 10,000 waiting jobs on 100 nodes, nearly all busy.
func BenchmarkJobs(b *testing.B) {
	var s scheduler.Snapshot
	for i := range 100 {
		s.Nodes = append(s.Nodes, scheduler.Node{
			ID: engine.NodeID(fmt.Sprintf("node-%03d", i)), Total: engine.Resources{CPU: 16}, Used: engine.Resources{CPU: 15.5 - float64(i%2)},
		})
	}
	for i := range 10_000 {
		s.Classes = append(s.Classes, scheduler.Class{
			ID: fmt.Sprintf("job-%05d", i), Request: engine.Resources{CPU: 1}, Pending: 100, Running: i % 2, Order: int64(i),
		})
	}
	for b.Loop() {
		if got := count(scheduler.Decide(s)); got != 50 {
			b.Fatalf("placed %d, want 50", got)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Milliseconds())/float64(b.N), "ms/pass")
}

// BenchmarkMismatched is the tree's worst case: neighbours lack different things, so that no subtree looks full.
func BenchmarkMismatched(b *testing.B) {
	s := benchSnapshot(benchClasses)
	for i := range s.Nodes {
		n := &s.Nodes[i]
		if i%2 == 0 {
			n.Used.CPU = n.Total.CPU
		} else {
			n.Used.MemoryBytes = n.Total.MemoryBytes
		}
	}
	for b.Loop() {
		if got := count(scheduler.Decide(s)); got != 0 {
			b.Fatalf("placed %d", got)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Milliseconds())/float64(b.N), "ms/pass")
}
