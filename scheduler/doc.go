// Package scheduler decides which node runs what. It is pure: Decide takes a Snapshot of the cluster and returns a Plan,
// without a clock, a goroutine, a log, or memory between two calls, so that every decision can be repeated and tested from a file.
//
// The caller (the head) turns a Plan into leases and puts what it granted into the next Snapshot. Tasks of equal shape
// are one Class, so a million queued tasks cost a count.
//
// # Who is next
//
//   - Queues first: the one of the highest priority, and among equals the one with the smallest dominant share for its weight: the
//     largest fraction of any one resource of the cluster that it holds (dominant resource fairness, Ghodsi et al., NSDI 2011). A queue
//     is entitled to its weight's part of the weights of all that hold something or wait for what could be; while nobody else waits, it
//     may hold all. Between queues that always wait, shares are exact to one task.
//   - A queue at its quota gets nothing more.
//   - Within a queue, placement groups come first, then the class of the highest priority, then the one with the smallest dominant
//     share. A class that floods a queue gets no more than the others.
//   - Tasks that request nothing hold no share and are dealt out at once; of a decision that is bounded they take half at most, as long
//     as others wait.
//   - No starvation of large requests. The first overdue class or group of each queue comes before all others, if it fits. If not, the
//     node that lacks least is kept for it (for a group, the nodes), and counts as held by its queue meanwhile, so that the other queues
//     lose nothing by it. This holds for queues up to their share, and never against a higher priority: who is over his share waits, and so
//     does a low priority. At most one node in ten is kept, and never more than 16, since what is kept works less; one group may
//     have as many as it needs.
//   - Preemption. For a class that has waited for two seconds, running tasks of preemptible classes are taken back, the youngest class
//     first, if the class can start then: from another queue, which keeps its share, for one that stays within its share with the task, or
//     for one of a higher priority; within a queue, for a higher priority of class if the queue is the next. Never for
//     less than a whole task, never from equals in one queue, never for more than the quota of the queue lets place, and of those that would
//     do, none that is not needed. Nothing is taken back for placement groups or for tasks in bundles, nor are these taken back.
//
// # Where
//
//   - Only nodes that are not draining, have the labels of the selector, and know the operator. Tasks of a placed group run in its bundles.
//   - First the wishes: the node of a soft affinity, then those that hold most of the bytes. A wish never lets work wait.
//   - Nodes that have loaded the class's model, then the others, where the first task takes room for the weights as well. They are counted
//     once a node, on the devices of that first task; which models are given up to make room is the caller's to decide.
//   - Nodes without GPUs come first for work that needs none.
//   - Pack, then spread (Ray's hybrid policy). A task goes to the first node, in order of id, whose most used resource is
//     used by less than half; when there is none, to the node whose most used resource is used least. A class with Spread goes to the node
//     that has fewest of its tasks, then to the one that is used least.
//   - Groups are laid out all or none. STRICT_PACK and STRICT_SPREAD find a way if there is one, but for parts of GPUs, of which the
//     larger ones are placed first; PACK takes the node that has room for most bundles, again and again, and SPREAD the one with fewest, so
//     that these two may miss a way on a cluster that is nearly full.
//
// # Arithmetic
//
// Amounts are integers of 1/10,000, bytes are exact, requests round up and offers down, so that no rounding ever
// oversubscribes a node, and ten requests of 0.1 fill exactly one unit.
//
// A request for less than one GPU shares one device; a request for more takes whole devices. GPU memory belongs to the
// device: a request on several devices takes an equal part of each.
package scheduler
