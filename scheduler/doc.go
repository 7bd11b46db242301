// Package scheduler decides which node runs what. It is pure: Decide takes a Snapshot of the cluster and returns a Plan,
// without a clock, a goroutine, a log, or memory between two calls, so that every decision can be repeated and tested from a file.
//
// The caller (the head) turns a Plan into leases and puts what it granted into the next Snapshot. Tasks of equal shape
// are one Class, so a million queued tasks cost a count.
//
// # Policy
//
//   - Fair share. The next placement goes to the class with the smallest dominant share: the largest fraction of any one
//     resource of the cluster that its running and newly placed tasks hold (dominant resource fairness, Ghodsi et al.,
//     NSDI 2011). A class that floods the queue gets no more than the others.
//   - Pack, then spread (Ray's hybrid policy). A task goes to the first node, in order of id, whose most used resource is
//     used by less than half; when there is none, to the node whose most used resource is used least.
//   - Nodes without GPUs come first for work that needs none.
//   - No starvation of large requests. An overdue class, which fits nowhere now, has one node kept free for it until
//     enough tasks there have ended; otherwise small tasks of other classes would take every gap for ever. At most one
//     node in ten is kept, and never more than 16, since what is kept works less.
//
// # Arithmetic
//
// Amounts are integers of 1/10,000, bytes are exact, requests round up and offers down, so that no rounding ever
// oversubscribes a node, and ten requests of 0.1 fill exactly one unit.
//
// A request for less than one GPU shares one device; a request for more takes whole devices. GPU memory belongs to the
// device: a request on several devices takes an equal part of each.
package scheduler
