package dispatch

import (
	"time"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/head/objects"
	"github.com/f708428e/engine/head/tasks"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
	"github.com/f708428e/engine/scheduler"
)

// What concerns tasks of clients alone goes to head/tasks; what is here makes sure that a pass follows where one is due.

// OpenTasks begins a stream of a client's session; see tasks.Core.OpenStream.
func (c *Core) OpenTasks(now time.Time, session string) (stream uint64, window int64) {
	c.clock = now
	return c.tasks.OpenStream(now, session)
}

// CloseTasks ends a stream of a session, whose tasks go on.
func (c *Core) CloseTasks(session string, stream uint64) { c.tasks.CloseStream(session, stream) }

// SubmitTasks takes in a client's message, which belongs to the core from then on. The error is of kind engine.KindFenced or
// engine.KindExhausted; see tasks.Core.Submit.
func (c *Core) SubmitTasks(now time.Time, session string, stream uint64, request *enginev1.RunTasksRequest) error {
	c.clock = now
	err := c.tasks.Submit(now, session, stream, request)
	c.follow(now)
	return err
}

// RespondTasks returns what a stream has not carried, with at most so many outcomes, or nil.
func (c *Core) RespondTasks(session string, stream uint64, most int) *enginev1.RunTasksResponse {
	return c.tasks.Respond(session, stream, most)
}

// CancelTasks cancels tasks of any session and returns how many had not ended.
func (c *Core) CancelTasks(now time.Time, cancellations []*enginev1.TaskCancellation) int64 {
	c.clock = now
	n := c.tasks.Cancel(now, cancellations)
	c.follow(now)
	return n
}

// HearObjects takes in news of the directory of objects.
func (c *Core) HearObjects(now time.Time, news objects.News) {
	c.clock = now
	for _, at := range news.Known {
		c.tasks.ObjectKnown(now, at.ID, at.SizeBytes, at.Nodes)
	}
	for _, id := range news.Unknown {
		c.tasks.ObjectUnknown(now, id)
	}
	for _, id := range news.Lost {
		if cause := news.Causes[id]; cause != nil {
			c.tasks.ObjectNever(now, id, cause)
		} else if !c.tasks.ObjectLost(now, id) {
			c.events.Given = append(c.events.Given, id)
		}
	}
	for _, id := range news.Freed {
		c.tasks.ObjectFreed(id)
	}
	for _, session := range news.EndedSessions {
		c.tasks.EndSession(now, session)
	}
	c.follow(now)
}

// CreateGroup takes in a placement group. The error is of kind engine.KindInvalidArgument, engine.KindConflict, or
// engine.KindExhausted; see tasks.Core.CreateGroup.
func (c *Core) CreateGroup(now time.Time, request *enginev1.CreatePlacementGroupRequest) error {
	c.clock = now
	err := c.tasks.CreateGroup(now, request)
	c.follow(now)
	return err
}

// RemoveGroup gives a group's bundles back and cancels the tasks that use them. The error is of kind engine.KindNotFound.
func (c *Core) RemoveGroup(now time.Time, id engine.PlacementGroupID) error {
	c.clock = now
	err := c.tasks.RemoveGroup(now, id)
	c.follow(now)
	return err
}

// Group returns a placement group and whether it is placed. The error is of kind engine.KindNotFound.
func (c *Core) Group(id engine.PlacementGroupID) (*enginev1.PlacementGroup, bool, error) {
	return c.tasks.Group(id)
}

// Groups returns all placement groups in order of creation.
func (c *Core) Groups() []*enginev1.PlacementGroup { return c.tasks.ListGroups() }

// follow makes a pass if what has just happened to tasks of clients lets one place something.
func (c *Core) follow(now time.Time) {
	if c.stale || c.tasks.Stale() {
		c.schedule(now)
	}
}

// hearTasks takes in what a report says of tasks of clients. Those of another cluster are not wanted; their worker drops them.
func (c *Core) hearTasks(now time.Time, w *worker, report *enginev1.SyncRequest, first, foreign bool) {
	switch {
	case first && foreign:
		c.tasks.Join(now, w.id, w.operators(), &enginev1.SyncRequest{})
	case first:
		c.tasks.Join(now, w.id, w.operators(), report)
	default:
		c.tasks.Report(now, w.id, report)
	}
	if first {
		c.cordon(w)
	}
}

// cordon keeps clients' tasks from a node that is to be granted nothing new.
func (c *Core) cordon(w *worker) { c.tasks.Cordon(w.id, c.takesNothing(w)) }

// operators are the names that tasks may use on a node: an empty list means none, to the scheduler nil would mean all.
func (w *worker) operators() []string {
	if names := w.hello.GetOperators(); names != nil {
		return names
	}
	return noOperators
}

var noOperators = []string{}

// act does what a decision says of tasks of clients, and returns how many it placed.
func (c *Core) act(now time.Time, plan *scheduler.Plan) (placed int) {
	for _, g := range plan.Groups {
		c.tasks.PlaceGroup(now, g)
		placed += len(g.Nodes)
	}
	for _, p := range plan.Placements {
		if tasks.IsClass(p.Class) {
			c.tasks.Place(now, p)
			placed += p.Count
		}
	}
	for _, p := range plan.Preemptions {
		if tasks.IsClass(p.Class) {
			c.tasks.Preempt(now, p)
		}
	}
	for _, w := range plan.GroupsWaiting {
		c.tasks.ExplainGroup(now, w)
	}
	jobsWait := false
	for _, w := range plan.Waiting {
		if tasks.IsClass(w.Class) {
			c.tasks.Explain(now, w)
		} else {
			jobsWait = jobsWait || !w.Infeasible
		}
	}
	c.tasks.Contended(jobsWait)
	return placed
}

// tell passes on what has happened to tasks of clients.
func (c *Core) tell() {
	happened := c.tasks.Take()
	for _, node := range happened.Nodes {
		if w := c.workers[node]; w != nil {
			c.touch(w)
		}
	}
	c.events.Sessions, c.events.Groups = happened.Sessions, happened.Groups
	c.events.Given = append(c.events.Given, happened.Given...)
	c.events.Attempts = append(c.events.Attempts, happened.Attempts...)
	c.events.Wanted, c.events.Unwanted = happened.Wanted, happened.Unwanted
}
