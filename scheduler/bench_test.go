package scheduler_test

import (
	"fmt"
	"math/rand/v2"
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

// BenchmarkPolicies does the same with ten queues of different weights, labels for half of the classes, and for a third the wish to be
// where their data is.
func BenchmarkPolicies(b *testing.B) {
	s := policySnapshot()
	placed := 0 // Nearly all: other classes take some of the room in the zones.
	for b.Loop() {
		placed += count(scheduler.Decide(s))
	}
	if placed < b.N*benchClasses*benchPending*95/100 {
		b.Fatalf("placed %d tasks in %d passes", placed, b.N)
	}
	b.ReportMetric(float64(placed)/b.Elapsed().Seconds(), "placements/s")
}

// BenchmarkBounded is a pass of it that stops after 10,000 placements.
func BenchmarkBounded(b *testing.B) {
	for name, s := range map[string]scheduler.Snapshot{"plain": benchSnapshot(benchClasses), "policies": policySnapshot()} {
		b.Run(name, func(b *testing.B) {
			s.MaxPlacements = 10_000
			for b.Loop() {
				if got := count(scheduler.Decide(s)); got != s.MaxPlacements {
					b.Fatalf("placed %d", got)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N)/1000, "ms/pass")
		})
	}
}

func policySnapshot() scheduler.Snapshot {
	s := benchSnapshot(benchClasses)
	for i := range s.Nodes {
		s.Nodes[i].Labels = map[string]string{"zone": fmt.Sprintf("z%d", i%10), "disk": fmt.Sprint(i % 2)}
	}
	for i := range 10 {
		s.Queues = append(s.Queues, scheduler.Queue{Name: fmt.Sprintf("q%d", i), Weight: float64(1 + i)})
	}
	for i := range s.Classes {
		c := &s.Classes[i]
		c.Queue = fmt.Sprintf("q%d", i%10)
		if i%2 == 0 {
			c.Selector = map[string]string{"zone": fmt.Sprintf("z%d", i/2%10)}
		}
		if i%3 == 0 {
			for k := range 4 {
				c.Prefer = append(c.Prefer, s.Nodes[(i*97+k*31)%len(s.Nodes)].ID)
			}
		}
	}
	return s
}

// BenchmarkSmall is the pass that a small cluster makes at every report: two classes and one node.
func BenchmarkSmall(b *testing.B) {
	s := scheduler.Snapshot{
		Nodes:  []scheduler.Node{{ID: "node-1", Total: engine.Resources{CPU: 2, MemoryBytes: 8 << 30}, Used: engine.Resources{CPU: 1}}},
		Queues: []scheduler.Queue{{Name: "default"}},
		Classes: []scheduler.Class{
			{ID: "a", Request: engine.Resources{CPU: 1}, Pending: 1000, Running: 1, Order: 1, LastPlaced: 1, Queue: "default", Operator: "noop"},
			{ID: "b", Request: engine.Resources{CPU: 1, MemoryBytes: 1 << 30}, Pending: 10, Order: 2, Queue: "default", Operator: "noop"},
		},
	}
	b.ReportAllocs()
	for b.Loop() {
		if got := count(scheduler.Decide(s)); got != 1 {
			b.Fatalf("placed %d, want 1", got)
		}
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
			b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N)/1000, "ms/pass")
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

// BenchmarkJobs decides for 10,000 waiting jobs on few nodes, nearly all busy. Their order is that of a map.
func BenchmarkJobs(b *testing.B) {
	for _, nodes := range []int{2, 100} {
		for _, overdue := range []bool{false, true} {
			b.Run(fmt.Sprintf("nodes=%d,overdue=%t", nodes, overdue), func(b *testing.B) {
				var s scheduler.Snapshot
				for i := range nodes {
					s.Nodes = append(s.Nodes, scheduler.Node{
						ID: engine.NodeID(fmt.Sprintf("node-%03d", i)), Total: engine.Resources{CPU: 16}, Used: engine.Resources{CPU: 15.5 - float64(i%2)},
					})
				}
				for i := range 10_000 {
					s.Classes = append(s.Classes, scheduler.Class{
						ID: fmt.Sprintf("job-%05d", i), Request: engine.Resources{CPU: 1}, Pending: 100, Running: i % 2, Order: int64(i), Overdue: overdue && i%2 == 0,
					})
				}
				rand.New(rand.NewPCG(1, 1)).Shuffle(len(s.Classes), func(i, j int) { s.Classes[i], s.Classes[j] = s.Classes[j], s.Classes[i] })
				for b.Loop() {
					if got := count(scheduler.Decide(s)); got != nodes/2 {
						b.Fatalf("placed %d, want %d", got, nodes/2)
					}
				}
				b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N)/1000, "ms/pass")
			})
		}
	}
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
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N)/1000, "ms/pass")
}

// BenchmarkGroups decides for 1,000 groups that are alike and wait on a full cluster.
func BenchmarkGroups(b *testing.B) {
	s := benchSnapshot(1)
	s.Nodes, s.Classes = s.Nodes[:100], nil
	for i := range s.Nodes {
		s.Nodes[i].Used = engine.Resources{CPU: 30}
	}
	for i := range 1000 {
		s.Groups = append(s.Groups, scheduler.Group{
			ID: fmt.Sprintf("group-%04d", i), Strategy: engine.PlaceSpread, Bundles: []engine.Resources{{CPU: 20}, {CPU: 5}, {CPU: 5}, {CPU: 5}},
		})
	}
	for b.Loop() {
		if got := len(scheduler.Decide(s).GroupsWaiting); got != len(s.Groups) {
			b.Fatalf("%d groups wait", got)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N)/1000, "ms/pass")
}
