package scheduler

import (
	"time"

	"github.com/f708428e/engine"
)

// Snapshot is everything that a decision depends on. Decide reads it and keeps nothing of it. The order of Nodes and
// Classes has no influence on the plan.
type Snapshot struct {
	// Nodes are the connected workers; their ids are unique.
	Nodes []Node
	// Classes are the groups of tasks that wait or run; their ids are unique. A class that only runs must be listed if its queue has
	// a quota or a weight, since what it holds counts there. Thousands of them cost least in order of Order, then ID.
	Classes []Class
	// Queues are the shares of the cluster. A class of a queue that is not listed belongs to one of its name, of weight 1 and without quota.
	Queues []Queue
	// Groups are the placement groups that wait, in the order in which they were asked for. Those that are placed are not listed: what
	// their bundles hold is in Node.Used and Node.Bundles.
	Groups []Group
	// Now is the time, with which Class.Since is compared; nothing else depends on it. Zero means unknown.
	Now time.Time
	// MaxPlacements bounds the tasks that one decision places; a group counts as one. Zero means no bound.
	MaxPlacements int
}

// Queue is a share of the cluster.
type Queue struct {
	// Name is unique in the snapshot.
	Name string
	// Weight is its share beside those of the other queues that have work. Zero means 1.
	Weight float64
	// Priority puts a queue before all of a lower one, whatever their shares.
	Priority int
	// Quota bounds what its classes hold at a time; what is zero is not bounded.
	Quota engine.Resources
}

// Group is a placement group: bundles that are reserved all or none.
type Group struct {
	// ID is unique in the snapshot.
	ID string
	// Queue is the queue that it counts towards.
	Queue string
	// Bundles are the requests.
	Bundles []engine.Resources
	// Strategy says how they lie. Empty means engine.PlacePack.
	Strategy engine.PlacementStrategy
	// Selector is as in Class.
	Selector map[string]string
	// Overdue is as in Class. The nodes that an overdue group needs are kept for it, however many.
	Overdue bool
}

// Bundle is what a placed bundle of a group has on a node.
type Bundle struct {
	// Group and Index name the bundle.
	Group string
	Index int
	// Queue is the queue that Total counts towards, rather than what the tasks hold that run in it. Empty means "default".
	Queue string
	// Total is what it holds of the node, Used what the tasks hold that run in it.
	Total, Used engine.Resources
	// Devices are the node's GPUs that it holds, by index, and what each has free for its tasks.
	Devices []int
	GPUs    []GPU
}

// Weights is a model that a task's node loads once, however many tasks use it.
type Weights struct {
	// Digest identifies it.
	Digest string
	// Bytes is host memory, GPUBytes device memory.
	Bytes, GPUBytes int64
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
	// Labels describe the node; selectors of classes and groups are compared with them.
	Labels map[string]string
	// Bundles are the bundles of placement groups on the node. What they hold is in Used.
	Bundles []Bundle
	// Models are the digests of the weights that are loaded there, or will be by what it holds. Their memory is in Used.
	Models []string
	// Operators are the names that tasks may use there; nil means that all are known.
	Operators []string
	// Unschedulable is set while the node drains, or is suspected to be gone: it gets nothing new, and what it holds still counts.
	Unschedulable bool
	// Silent makes reasons call an unschedulable node silent, not draining.
	Silent bool
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
	// Queue is the name of its queue. Empty means "default".
	Queue string
	// Priority orders the classes of one queue: the larger first.
	Priority int
	// Operator is a name that the node must know; empty means none.
	Operator string
	// Selector are labels that a node must have; "" as a value means that the label exists, "!" before one that it differs or is missing,
	// and "!" alone that it is missing.
	Selector map[string]string
	// Node is where its tasks must run, or should if Soft is set. Empty means anywhere.
	Node engine.NodeID
	Soft bool
	// Prefer are the nodes that hold most of the bytes of its arguments, the most first: a wish, as long as one of them has room.
	Prefer []engine.NodeID
	// Spread spreads its tasks over the nodes instead of filling one after the other.
	Spread bool
	// Group is the placement group in whose bundles its tasks run; Bundle is which one, or -1 for any. Empty means none.
	Group  string
	Bundle int
	// Weights is the model that its tasks use: its memory is taken once a node. The zero value means none.
	Weights Weights
	// Preemptible says that its running tasks may be taken back for a queue that is below its share, since they can run again.
	Preemptible bool
	// RunningOn counts its running tasks by node, but for those that are being taken back. It is needed of preemptible classes, and makes
	// those with Spread spread over more than one decision.
	RunningOn map[engine.NodeID]int
	// Leaving counts, by node, its running tasks that were taken back and still hold their request: nothing more is taken back for who
	// will fit once they have gone. They count as running.
	Leaving map[engine.NodeID]int
	// Since is when the oldest of its pending tasks arrived: nothing is taken back for it in the first two seconds. Zero means unknown,
	// and long enough.
	Since time.Time
}

// Plan is what to lease now, and why the rest waits.
type Plan struct {
	// Placements are sorted by class (Order, then ID) and node, one entry for each pair.
	Placements []Placement
	// Waiting has one entry, in the same order, for each class that has tasks left.
	Waiting []Waiting
	// Groups are the placement groups that were placed, in the order of the snapshot; GroupsWaiting says why the others were not, with
	// the group's id as Class and the number of its bundles as Count.
	Groups        []GroupPlacement
	GroupsWaiting []Waiting
	// Preemptions are running tasks to take back, because a queue waits that is due their place. What becomes free is placed by a later
	// decision.
	Preemptions []Preemption
	// More is set when MaxPlacements has ended the decision.
	More bool
}

// GroupPlacement is where the bundles of a group go.
type GroupPlacement struct {
	// Group is the id.
	Group string
	// Nodes has the node of each bundle, Devices the GPUs that it takes there.
	Nodes   []engine.NodeID
	Devices [][]int
}

// Preemption is a number of tasks of one class to take back from one node.
type Preemption struct {
	// Class and Node are the ids; For is the class that waits.
	Class string
	Node  engine.NodeID
	For   string
	// Count is at least 1.
	Count int
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
	// Bundle is the bundle of the class's placement group in which they run; -1 for a class without one.
	Bundle int
}

// Waiting says why tasks of a class were not placed.
type Waiting struct {
	// Class is the id.
	Class string
	// Count is at least 1.
	Count int
	// Infeasible is set when there are nodes and none of them could run such a task even if it were idle.
	Infeasible bool
	// OverShare is set when its queue holds more than its share while another queue waits: who refills the places of ended tasks by
	// himself must not refill those of this class.
	OverShare bool
	// KeptNode is the node that takes no work of others until this class fits there. Empty unless the class is overdue.
	KeptNode engine.NodeID
	// Reason is for people: "needs gpu: 1, no node has it", "all nodes are busy".
	Reason string
}

// Decide computes what to lease where. It is a pure function: equal snapshots give equal plans. It is safe for concurrent
// use and does not block. Amounts that engine.Resources.Validate refuses make a class infeasible; in a node they
// count as zero.
func Decide(s Snapshot) Plan {
	p := newPass(&s)
	p.run()
	p.noteWaiting()
	plan := p.plan()
	plan.Preemptions = p.preempt() // Last, since it counts as gone what is still there.
	return plan
}
