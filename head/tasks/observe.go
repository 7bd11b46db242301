package tasks

import (
	"cmp"
	"slices"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/internal/rpc"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// maxSummaries bounds the names that are counted apart; the others are counted together.
const (
	maxSummaries = 10_000
	otherNames   = "(other names)"
)

// summary counts the tasks of one name since the start.
type summary struct {
	name, operator string
	states         [enginev1.TaskState_TASK_STATE_CANCELLED + 1]int64
	succeeded      int64
	runNanos       float64
	lost           int64
}

func (c *Core) summaryOf(name, operator string) *summary {
	key := operator + "\x00" + name
	s := c.summaries[key]
	if s == nil && len(c.summaries) >= maxSummaries {
		name, operator = otherNames, ""
		key = otherNames
		s = c.summaries[key]
	}
	if s == nil {
		s = &summary{name: name, operator: operator}
		c.summaries[key] = s
	}
	return s
}

// Summaries counts the tasks by name since the start, in order of the names.
func (c *Core) Summaries() []*enginev1.TaskSummary {
	reasons := map[*summary]string{}
	for _, k := range c.active {
		if k.waiting.head != nil && k.reason != "" {
			reasons[k.waiting.head.template.summary] = k.reason
		}
	}
	found := make([]*enginev1.TaskSummary, 0, len(c.summaries))
	for _, s := range c.summaries {
		wire := &enginev1.TaskSummary{Name: s.name, Operator: s.operator, States: map[string]int64{}, AttemptsLost: s.lost, Reason: reasons[s]}
		for state, n := range s.states {
			if n != 0 {
				wire.States[string(rpc.TaskStateFromProto(enginev1.TaskState(state)))] = n //nolint:gosec // There are few states.
			}
		}
		if s.succeeded > 0 {
			wire.MeanRunNanos = int64(s.runNanos / float64(s.succeeded))
		}
		if len(wire.GetStates()) > 0 {
			found = append(found, wire)
		}
	}
	slices.SortFunc(found, func(a, b *enginev1.TaskSummary) int {
		return cmp.Or(cmp.Compare(a.GetName(), b.GetName()), cmp.Compare(a.GetOperator(), b.GetOperator()))
	})
	return found
}

// Get returns a task that has not ended or has ended a while ago. The error is of kind engine.KindNotFound.
func (c *Core) Get(id engine.TaskUID) (*enginev1.Task, error) {
	t := c.tasks[id]
	if t == nil {
		return nil, engine.Errorf(engine.KindNotFound, "get task", id.String(), "no task that has not ended, or has a while ago, has this id")
	}
	return c.view(t), nil
}

// List returns at most limit tasks that match, of the queues for which granted is true, the newest first, and how many there are.
func (c *Core) List(filter *enginev1.ListTasksRequest, granted func(queue string) bool, limit int) (found []*enginev1.Task, total int64) {
	var newest []*task
	visit := func(l *list) {
		taken := 0
		for t := l.tail; t != nil; t = t.all.prev {
			if !granted(t.template.queue.name) || !t.matches(filter) {
				continue
			}
			total++
			if taken < limit { // More than limit of one list are not among the newest of all.
				taken++
				newest = append(newest, t)
			}
		}
	}
	if filter.GetJobId() == "" {
		for _, s := range c.sessions {
			visit(&s.tasks)
			visit(&s.kept)
		}
		visit(&c.past)
	}
	slices.SortFunc(newest, func(a, b *task) int { return cmp.Compare(b.number, a.number) })
	for _, t := range newest[:min(limit, len(newest))] {
		found = append(found, c.view(t))
	}
	return found, total
}

func (t *task) matches(filter *enginev1.ListTasksRequest) bool {
	switch {
	case len(filter.GetStates()) > 0 && !slices.Contains(filter.GetStates(), t.seen()):
		return false
	case filter.GetName() != "" && filter.GetName() != t.template.name:
		return false
	case filter.GetNodeId() != "" && filter.GetNodeId() != t.on():
		return false
	}
	return true
}

// on is the node that has the task or had it last.
func (t *task) on() string {
	switch {
	case t.state == stateHeld:
		return string(t.node.id)
	case t.outcome != nil:
		return t.outcome.GetNodeId()
	}
	return ""
}

// view is a task as people see it.
func (c *Core) view(t *task) *enginev1.Task {
	view := &enginev1.Task{
		TaskId: t.id[:], Name: t.template.name, Operator: t.template.wire.GetOperator(), State: t.seen(), Queue: t.template.queue.name,
		Resources: rpc.ResourcesToProto(t.template.request), NodeId: t.on(), Attempts: int32(t.attempts),
		SubmitTime: timestamppb.New(time.Unix(0, t.submitted)), SessionId: t.session.id,
	}
	if o := t.outcome; o != nil && t.state == stateEnded {
		view.Error = o.GetError()
		if start := o.GetStartUnixNanos(); start != 0 {
			view.StartTime = timestamppb.New(time.Unix(0, start))
			view.EndTime = timestamppb.New(time.Unix(0, start+o.GetRunNanos()))
		}
	}
	if m := t.more; m != nil {
		if !m.parent.IsZero() {
			view.ParentTaskId = m.parent[:]
		}
		view.Hanging, view.Done, view.Total = m.hanging, m.done, m.total
		if !m.began.IsZero() && t.state == stateHeld {
			view.StartTime = timestamppb.New(m.began)
		}
	}
	view.Reason = c.reason(t)
	return view
}

// reason says why a task waits.
func (c *Core) reason(t *task) string {
	switch t.state {
	case stateArguments:
		for i := range t.more.waits {
			o := t.more.waits[i].object
			if o == nil {
				continue
			}
			reason := "waits for object " + o.id.String()
			if producer, _, ok := o.id.Producer(); ok {
				if p := c.tasks[producer]; p != nil {
					reason += ", an output of task " + p.template.name
				}
			}
			return reason
		}
	case stateDelayed:
		if t.attempts == 0 {
			return "waits for workers that may have it from before the head was restarted"
		}
		return "waits until " + t.more.until.UTC().Format(time.TimeOnly) + " for its next attempt"
	case stateWaiting:
		return t.class.reason
	case stateHeld, stateEnded:
	}
	return ""
}

// QueueUse is what tasks of clients have in a queue.
type QueueUse struct {
	// Pending counts the tasks that wait, Running those that hold resources.
	Pending, Running int64
	// Groups counts the placement groups, placed or not.
	Groups int64
	// Used is what these hold, bundles of placement groups included.
	Used engine.Resources
}

// Queues returns what is in each queue that has something.
func (c *Core) Queues() map[string]QueueUse {
	found := map[string]QueueUse{}
	for name, q := range c.queues {
		if q.pending > 0 {
			found[name] = QueueUse{Pending: q.pending}
		}
	}
	add := func(queue string, running int64, used engine.Resources) {
		use := found[queue]
		use.Running += running
		use.Used = use.Used.Add(used)
		found[queue] = use
	}
	for _, k := range c.active {
		used := engine.Resources{}
		if k.Group == "" { // Else its bundle counts.
			used = k.need.Times(int64(k.Running))
		}
		if k.Running > 0 {
			add(k.Queue, int64(k.Running), used)
		}
	}
	for _, g := range c.groups {
		use := found[g.Queue]
		use.Groups++
		found[g.Queue] = use
		for _, b := range g.placed {
			add(g.Queue, 0, b.total)
		}
	}
	return found
}
