package scheduler

import "github.com/f708428e/engine"

// Snapshot is everything that a decision depends on. Decide reads it and keeps nothing of it. The order of Nodes and
// Classes has no influence on the plan.
type Snapshot struct {
	// Nodes are the connected workers; their ids are unique.
	Nodes []Node
	// Classes are the groups of tasks that wait or run; their ids are unique. A class that only runs need not be listed.
	Classes []Class
}

// Node is one worker.
type Node struct {
	// ID is unique in the snapshot. Nodes are filled in order of their ids.
	ID engine.NodeID
	// Total is what the node offers, Used what the leases on it hold. More used than offered, as after a node
	// came back smaller, is nothing free.
	Total, Used engine.Resources
	// GPUs has one entry for each whole device of Total.GPU, by device index. It may be nil where no request for a part
	// of a device is running: the devices are then taken to be filled from the first, as Used says. With parts running,
	// the sum in Used does not say which device has room, so only GPUs makes sure that none is oversubscribed.
	GPUs []GPU
	// Labels describe the node. Decide does not read them yet.
	Labels map[string]string
	// Unschedulable is set while the node drains: it gets nothing new, and what it holds still counts.
	Unschedulable bool
}

// GPU is what one device has free.
type GPU struct {
	// Free is the part of the device that no lease holds, from 0 to 1.
	Free float64
	// FreeMemoryBytes is the device memory that no lease holds.
	FreeMemoryBytes int64
}

// Class is a group of tasks that are alike to the scheduler: one owner, one request.
type Class struct {
	// ID is unique in the snapshot, such as a job's id.
	ID string
	// Request is what each task takes while it runs. A request for nothing always fits, and such tasks are
	// dealt out evenly over the nodes.
	Request engine.Resources
	// Pending is how many tasks wait, Running how many hold their request now. Negative is zero.
	Pending, Running int
	// LastPlaced is when the class got its last placement or, before its first, when it arrived: by any counter or clock of
	// the caller that grows. Among classes with equal shares the one that has waited longest comes first. A caller that
	// leaves it zero lets Order decide each time, so that of two classes which can only run in turn one may starve.
	LastPlaced int64
	// Overdue is set by the caller, which has the clock, once the class has had tasks pending and none running for too long. If it
	// fits nowhere, a node is then kept for it. Unset, small tasks of others may take every gap for as long as they come.
	Overdue bool
	// Order decides among equals: the smaller one, the older, comes first; after that, ID does.
	Order int64
}

// Plan is what to lease now, and why the rest waits.
type Plan struct {
	// Placements are sorted by class (Order, then ID) and node, one entry for each pair.
	Placements []Placement
	// Waiting has one entry, in the same order, for each class that has tasks left.
	Waiting []Waiting
}

// Placement is a number of tasks of one class for one node.
type Placement struct {
	// Class and Node are the ids.
	Class string
	Node  engine.NodeID
	// Count is at least 1.
	Count int
	// Devices has, for each of the Count tasks, the indexes of the GPUs that it takes. It is nil for a request without
	// GPU. The caller gives these very devices to the tasks and reports what is left of them in Node.GPUs.
	Devices [][]int
}

// Waiting says why tasks of a class were not placed.
type Waiting struct {
	// Class is the id.
	Class string
	// Count is at least 1.
	Count int
	// Infeasible is set when there are nodes and none of them could run such a task even if it were idle.
	Infeasible bool
	// KeptNode is the node that takes no work of others until this class fits there. Empty unless the class is overdue.
	KeptNode engine.NodeID
	// Reason is for people: "needs gpu: 1, no node has it", "all nodes are busy".
	Reason string
}

// Decide computes what to lease where. It is a pure function: equal snapshots give equal plans. It is safe for concurrent
// use and does not block. Amounts that engine.Resources.Validate refuses make a class infeasible; in a node they
// count as zero.
func Decide(s Snapshot) Plan {
	p := newPass(s)
	p.deal()
	for len(p.queue) > 0 {
		c := p.queue[0]
		node := p.choose(c.shape)
		if node < 0 {
			p.queue.drop()
			p.keep(c)
			continue
		}
		p.place(c, node)
		if c.pending == 0 {
			p.queue.drop()
		} else {
			p.queue.fix()
		}
	}
	return p.plan()
}
