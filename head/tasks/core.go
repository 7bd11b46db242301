// Package tasks keeps the tasks of clients: it takes in what clients submit, says to the scheduler what waits, gives workers what the
// scheduler places, and hands outcomes back. Core is a state machine: messages come in with the time, and what is to be sent is asked
// for; it has no clock, no goroutine, and does no I/O. dispatch.Core owns one and calls it under its lock.
package tasks

import (
	"time"

	"github.com/f708428e/engine"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
	"github.com/f708428e/engine/scheduler"
)

// Config holds what does not change while a head runs. Zero values mean the defaults.
type Config struct {
	// Term counts the starts of heads; it is the upper half of every epoch that is granted. In the first term no worker can have tasks of
	// an earlier head. Required.
	Term uint64
	// Started is when this head began to lead. Required.
	Started time.Time
	// LeaseTime is how long a worker keeps its tasks after its last report. Zero means 5 s.
	LeaseTime time.Duration
	// Window is how many tasks of a session may be there at a time, those included whose outcomes are not acknowledged. Zero means
	// 1,000,000.
	Window int64
	// MaxPending is how many tasks may wait in a queue that does not say so itself. Zero means 2,000,000.
	MaxPending int64
	// MaxBytes bounds the arguments of all tasks that have not ended. Zero means 512 MiB.
	MaxBytes int64
	// MaxUnread and MaxUnreadBytes bound the outcomes of a session that are not acknowledged, and the values in them, before nothing more
	// of it is granted. Zero means 50,000 and 64 MiB.
	MaxUnread      int
	MaxUnreadBytes int64
	// Retained is how many ended tasks are kept for people after their outcomes were acknowledged. Zero means 10,000, negative none.
	Retained int
	// MaxLineage and MaxLineageBytes bound the tasks that are kept to be run again when their outputs are lost. Zero means 100,000 and
	// 256 MiB; those that are there longest go first.
	MaxLineage      int
	MaxLineageBytes int64
}

// Events is what has happened since the last Take.
type Events struct {
	// Sessions have something for their streams: Respond. Nodes have something for theirs: Fill.
	Sessions []string
	Nodes    []engine.NodeID
	// Wanted are objects of which the directory shall tell, until it has said once where each is or Unwanted names it.
	Wanted, Unwanted []engine.ObjectID
	// Groups were placed.
	Groups []engine.PlacementGroupID
}

// Core is the state machine. It is not safe for concurrent use.
type Core struct{}

// New makes a core without tasks and workers.
func New(config Config) *Core { return &Core{} }

// OpenStream begins a stream of a session, which is made if need be; an earlier stream of it ends. The stream's number goes with what it
// carries. It returns how many tasks the session may have.
func (c *Core) OpenStream(now time.Time, session string) (stream uint64, window int64) { return 0, 0 }

// CloseStream ends a stream. The session's tasks go on.
func (c *Core) CloseStream(session string, stream uint64) {}

// EndSession cancels and forgets all that belongs to a session.
func (c *Core) EndSession(now time.Time, session string) {}

// Submit takes in a message of a client, which belongs to the core from then on. The error, of kind engine.KindFenced, says that the
// stream was replaced or its session has ended.
func (c *Core) Submit(now time.Time, session string, stream uint64, request *enginev1.RunTasksRequest) error {
	return nil
}

// Respond returns what a stream has not carried, with at most max outcomes; nil if there is nothing. If there is more, the session is
// among the next Events.Sessions again. The message and the outcomes in it must not be changed.
func (c *Core) Respond(session string, stream uint64, max int) *enginev1.RunTasksResponse { return nil }

// Cancel cancels tasks of any session and returns how many had not ended.
func (c *Core) Cancel(now time.Time, cancellations []*enginev1.TaskCancellation) int64 { return 0 }

// ObjectKnown says where an object is that was wanted.
func (c *Core) ObjectKnown(now time.Time, id engine.ObjectID, sizeBytes int64, nodes []engine.NodeID) {
}

// ObjectUnknown says that the directory does not know an object that was wanted. It may still come.
func (c *Core) ObjectUnknown(now time.Time, id engine.ObjectID) {}

// ObjectLost says that every copy of an object is gone. It reports whether the object is made again.
func (c *Core) ObjectLost(now time.Time, id engine.ObjectID) bool { return false }

// ObjectFreed says that nobody owns an object any more: it is never made again.
func (c *Core) ObjectFreed(id engine.ObjectID) {}

// Join takes in the first report of a worker's stream: what the worker holds and which outcomes it has. What it is to forget, Fill says.
func (c *Core) Join(now time.Time, node engine.NodeID, operators []string, report *enginev1.SyncRequest) {
}

// Report takes in a later report of a worker's stream. Its outcomes belong to the core from then on.
func (c *Core) Report(now time.Time, node engine.NodeID, report *enginev1.SyncRequest) {}

// Disconnect says that a worker's stream has ended. The worker keeps its tasks until Leave or the next Join.
func (c *Core) Disconnect(node engine.NodeID) {}

// Leave takes everything back from a worker that is lost or has stopped. What one gives back gracefully costs no attempt.
func (c *Core) Leave(now time.Time, node engine.NodeID, graceful bool) {}

// SetQueues says which queues were set, for their limits.
func (c *Core) SetQueues(queues []*enginev1.Queue) {}

// IsClass reports whether a class of a plan is one of the core's.
func IsClass(id string) bool { return false }

// Stale reports whether a decision of the scheduler might place something since the last one.
func (c *Core) Stale() bool { return false }

// Classes begins a decision: it appends the classes that wait or run. What the scheduler says of them goes to Place, Preempt, and Explain
// before anything else happens.
func (c *Core) Classes(now time.Time, into []scheduler.Class) []scheduler.Class { return into }

// Groups appends the placement groups that wait.
func (c *Core) Groups(now time.Time, into []scheduler.Group) []scheduler.Group { return into }

// Occupy adds to a node's Used, GPUs, and Bundles what the core's tasks and groups hold there. GPUs has an entry for each device.
func (c *Core) Occupy(node *scheduler.Node) {}

// Running counts the tasks that a node has.
func (c *Core) Running(node engine.NodeID) int { return 0 }

// Place grants tasks of a class to a node.
func (c *Core) Place(now time.Time, p scheduler.Placement) {}

// Preempt takes tasks of a class back from a node. It costs them no attempt.
func (c *Core) Preempt(now time.Time, p scheduler.Preemption) {}

// Explain says why a class waits.
func (c *Core) Explain(now time.Time, w scheduler.Waiting) {}

// PlaceGroup says where the bundles of a placement group lie.
func (c *Core) PlaceGroup(now time.Time, p scheduler.GroupPlacement) {}

// ExplainGroup says why a placement group waits.
func (c *Core) ExplainGroup(now time.Time, w scheduler.Waiting) {}

// Contended says whether others wait, such as tasks of jobs: places of tasks that end are then left to the next decision.
func (c *Core) Contended(others bool) {}

// Fill adds to an answer what its worker's stream has not been told. If there is more, the node is among the next Events.Nodes again.
func (c *Core) Fill(node engine.NodeID, answer *enginev1.SyncResponse) {}

// Take returns the events since the last call.
func (c *Core) Take() Events { return Events{} }

// Tick lets time pass.
func (c *Core) Tick(now time.Time) {}

// Due returns when Tick has something to do; zero if nothing waits for time to pass.
func (c *Core) Due() time.Time { return time.Time{} }

// CreateGroup takes in a placement group. The error is of kind engine.KindInvalidArgument, or engine.KindConflict if another group has the id.
func (c *Core) CreateGroup(now time.Time, request *enginev1.CreatePlacementGroupRequest) error {
	return nil
}

// RemoveGroup gives a group's bundles back and cancels the tasks that use them. The error is of kind engine.KindNotFound.
func (c *Core) RemoveGroup(now time.Time, id engine.PlacementGroupID) error { return nil }

// Group returns a group and whether it is placed. The error is of kind engine.KindNotFound.
func (c *Core) Group(id engine.PlacementGroupID) (group *enginev1.PlacementGroup, placed bool, err error) {
	return nil, false, nil
}

// ListGroups returns all groups in order of creation.
func (c *Core) ListGroups() []*enginev1.PlacementGroup { return nil }

// Get returns a task that has not ended or has ended a while ago. The error is of kind engine.KindNotFound.
func (c *Core) Get(id engine.TaskUID) (*enginev1.Task, error) { return nil, nil }

// List returns at most limit tasks that match, the newest first, and how many there are.
func (c *Core) List(filter *enginev1.ListTasksRequest, limit int) (found []*enginev1.Task, total int64) {
	return nil, 0
}

// Summaries counts the tasks by name since the start, in order of the names.
func (c *Core) Summaries() []*enginev1.TaskSummary { return nil }

// QueueUse is what tasks of clients have in a queue.
type QueueUse struct {
	Pending, Running int64
	Used             engine.Resources
}

// Queues returns what is in each queue that has something.
func (c *Core) Queues() map[string]QueueUse { return nil }
