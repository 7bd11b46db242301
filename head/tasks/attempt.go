package tasks

import (
	"time"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/internal/rpc"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// Attempt is what a trace tells of one attempt at a task.
type Attempt struct {
	// Parent is the span that it goes under, as a W3C traceparent.
	Parent string
	// Name is the task's, or its job's.
	Name string
	// Job and Index name a job's task, ID that of a client; the other is zero.
	Job   engine.JobID
	Index int
	ID    engine.TaskUID
	// Node is where it ran, Number counts the attempts at the task.
	Node   engine.NodeID
	Number int
	// Queued is when the task came, Granted when it was given to the node, Ended when the head heard how it ended, Committed when that was
	// durable. For a client's task, Granted is when it began, by the node's clock, and Committed is zero.
	Queued, Granted, Ended, Committed time.Time
	// Err is how it failed, nil if it did not.
	Err error
}

// trace tells of an attempt that has ended, if its task belongs to a trace.
func (c *Core) trace(now time.Time, t *task, outcome *enginev1.TaskOutcome, n *node) {
	parent := t.template.wire.GetTraceParent()
	if parent == "" {
		return
	}
	a := Attempt{
		Parent: parent, Name: t.template.name, ID: t.id, Node: n.id, Number: int(t.attempts), Queued: time.Unix(0, t.submitted), Granted: now, Ended: now,
	}
	if begin := outcome.GetStartUnixNanos(); begin > 0 {
		a.Granted = time.Unix(0, begin)
	}
	if err := rpc.FromProto(outcome.GetError()); err != nil {
		a.Err = err
	}
	c.events.Attempts = append(c.events.Attempts, a)
}
