// Package tasks keeps the tasks of clients: it takes in what clients submit, says to the scheduler what waits, gives workers what the
// scheduler places, and hands outcomes back. Core is a state machine: messages come in with the time, and what is to be sent is asked
// for; it has no clock, no goroutine, and does no I/O. dispatch.Core owns one and calls it under its lock.
//
// session.go has the streams of clients and node.go those of workers; submit.go, arguments.go, grant.go, report.go, and outcome.go are the
// way of a task; class.go is what the scheduler sees. join.go matches what a worker has with what is known here, after a loss of the
// stream or a restart of the head; lineage.go makes again what is lost; group.go has placement groups.
package tasks

import (
	"cmp"
	"container/heap"
	"slices"
	"time"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/head/timeline"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
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
	// MaxBytes bounds the memory of all tasks that have not ended, their arguments above all, and of all templates, those included that only
	// streams or ended tasks use. Zero means 1 GiB.
	MaxBytes int64
	// MaxUnread and MaxUnreadBytes bound the outcomes of a session that are not acknowledged, and the values in them, before nothing more
	// of it is granted. Zero means 50,000 and 64 MiB.
	MaxUnread      int
	MaxUnreadBytes int64
	// Retained is how many ended tasks are kept for people after their outcomes were acknowledged, but for those with templates of more than
	// 8 KiB. Zero means 10,000, negative none.
	Retained int
	// MaxLineage and MaxLineageBytes bound the tasks that are kept to be run again when their outputs are lost, with their arguments and
	// templates. Zero means 100,000 and 256 MiB; those that are there longest go first.
	MaxLineage      int
	MaxLineageBytes int64
	// Timeline remembers the attempts that have ended. Nil means that nobody does.
	Timeline *timeline.Ring
}

func (c Config) withDefaults() Config {
	c.LeaseTime = cmp.Or(c.LeaseTime, 5*time.Second)
	c.Window = cmp.Or(c.Window, 1_000_000)
	c.MaxPending = cmp.Or(c.MaxPending, 2_000_000)
	c.MaxBytes = cmp.Or(c.MaxBytes, 1<<30)
	c.MaxUnread = cmp.Or(c.MaxUnread, 50_000)
	c.MaxUnreadBytes = cmp.Or(c.MaxUnreadBytes, 64<<20)
	c.Retained = cmp.Or(c.Retained, 10_000)
	c.MaxLineage = cmp.Or(c.MaxLineage, 100_000)
	c.MaxLineageBytes = cmp.Or(c.MaxLineageBytes, 256<<20)
	return c
}

const (
	// orphansFor is how long a new head keeps what workers have of sessions that it does not know.
	orphansFor = time.Minute
	// lookEvery is how often Tick looks at what has no time of its own.
	lookEvery = 100 * time.Millisecond
)

// Core is the state machine. It is not safe for concurrent use. What it is given belongs to it; messages that it hands out share memory
// with it that does not change any more.
type Core struct {
	config Config
	// settled is until when a new head waits for workers of the last one.
	settled   time.Time
	sessions  map[string]*session
	tasks     map[engine.TaskUID]*task
	templates map[string]*template
	classes   map[classKey]*class
	byID      map[string]*class
	// active are the classes that wait or run.
	active []*class
	queues map[string]*queue
	nodes  map[engine.NodeID]*node
	// operators counts the nodes that have an operator.
	operators map[string]int
	groups    map[string]*group
	// families are the tasks that have submitted others, by id.
	families map[engine.TaskUID]*family
	// objects are the arguments that tasks wait for; producers has the same by the task whose output each would be.
	objects   map[engine.ObjectID]*object
	producers map[engine.TaskUID][]*object
	// known are places of objects that the directory has told of, in a ring.
	known      map[engine.ObjectID]location
	knownOrder []engine.ObjectID
	knownNext  int
	// orphans are the tasks that workers have and nobody has submitted to this head.
	orphans map[engine.TaskUID]*orphan
	// past are the ended tasks that are kept for people alone; retained is the ring of all that are kept for them.
	past         list
	retained     []*task
	retainedNext int
	// lineage are the tasks that may run again, the oldest first, among some that may not any more.
	lineage      []*task
	lineageCount int
	lineageBytes int64
	summaries    map[string]*summary
	timers       timers
	lookAt       time.Time
	bytes        int64
	// touched are the places and classes that may be granted more.
	touched        []*place
	touchedClasses []*class
	toTell         []*task
	telling        bool
	slab           []task
	// fence is the lower half of the next epoch: it grows when a lease ends otherwise than by its task's outcome.
	fence                           uint64
	streams, number, templateNumber uint64
	orders, lastStamp               int64
	// stale is what Stale says, contended what Contended was told, blocked counts the classes that the last decision left waiting.
	stale, contended bool
	blocked          int
	events           Events
}

// Events is what has happened since the last Take.
type Events struct {
	// Sessions have something for their streams: Respond. Nodes have something for theirs: Fill.
	Sessions []string
	Nodes    []engine.NodeID
	// Wanted are objects of which the directory shall tell: once where each is, and before that if it is unknown or lost. Unwanted ends
	// that; no object is in both.
	Wanted, Unwanted []engine.ObjectID
	// Given are lost objects of which ObjectLost has said that they are made again, and are not.
	Given []engine.ObjectID
	// Groups were placed or removed.
	Groups []engine.PlacementGroupID
	// Hanging are tasks that have begun to hang.
	Hanging []engine.TaskUID
	// Attempts are those that belong to a trace.
	Attempts []Attempt
}

// New makes a core without tasks and workers.
func New(config Config) *Core {
	config = config.withDefaults()
	c := &Core{
		config: config, settled: config.Started.Add(config.LeaseTime), sessions: map[string]*session{}, tasks: map[engine.TaskUID]*task{},
		templates: map[string]*template{}, classes: map[classKey]*class{}, byID: map[string]*class{}, queues: map[string]*queue{},
		nodes: map[engine.NodeID]*node{}, operators: map[string]int{}, groups: map[string]*group{}, families: map[engine.TaskUID]*family{},
		objects: map[engine.ObjectID]*object{}, producers: map[engine.TaskUID][]*object{}, known: map[engine.ObjectID]location{},
		orphans: map[engine.TaskUID]*orphan{}, summaries: map[string]*summary{}, fence: 1,
	}
	c.past.field = allLinks
	return c
}

// Take returns the events since the last call.
func (c *Core) Take() Events {
	events := c.events
	c.events = Events{}
	if len(events.Unwanted) > 0 {
		// What was wanted last counts.
		isWanted := func(id engine.ObjectID) bool { o := c.objects[id]; return o != nil && o.watched }
		events.Wanted = slices.DeleteFunc(events.Wanted, func(id engine.ObjectID) bool { return !isWanted(id) })
		events.Unwanted = slices.DeleteFunc(events.Unwanted, isWanted)
	}
	slices.Sort(events.Sessions)
	slices.Sort(events.Nodes)
	return events
}

// SetQueues says which queues were set, for their limits.
func (c *Core) SetQueues(queues []*enginev1.Queue) {
	for name, q := range c.queues {
		if q.max, q.set, q.limited = 0, false, false; q.users == 0 {
			delete(c.queues, name)
		}
	}
	for _, wire := range queues {
		q := c.queueOf(wire.GetName())
		q.max, q.set, q.limited = wire.GetMaxPending(), true, wire.GetQuota() != nil
	}
	c.stale = true
}

// timer is something that happens at a time: a task's delay ends, or an object is given up.
type timer struct {
	at     time.Time
	task   *task
	object *object
}

// timers is a heap: the first is the next.
type timers []timer

func (h timers) Len() int           { return len(h) }
func (h timers) Less(i, j int) bool { return h[i].at.Before(h[j].at) }
func (h timers) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }

// Push implements heap.Interface: it appends x, which is a timer.
func (h *timers) Push(x any) { *h = append(*h, x.(timer)) } //nolint:forcetypeassert // Only timers are pushed.

// Pop implements heap.Interface: it takes the last timer off.
func (h *timers) Pop() any {
	last := len(*h) - 1
	t := (*h)[last]
	(*h)[last] = timer{}
	*h = (*h)[:last]
	return t
}

func (c *Core) at(when time.Time, t timer) {
	t.at = when
	heap.Push(&c.timers, t)
}

// delay makes a task wait for a time before it may run.
func (c *Core) delay(t *task, until time.Time) {
	c.setState(t, stateDelayed)
	t.rare().until = until
	c.at(until, timer{task: t})
}

// Due returns when Tick has something to do; zero if nothing waits for time to pass.
func (c *Core) Due() time.Time {
	var due time.Time
	if len(c.active)+len(c.orphans) > 0 {
		due = c.lookAt
	}
	if len(c.timers) > 0 && (due.IsZero() || c.timers[0].at.Before(due)) {
		due = c.timers[0].at
	}
	return due
}

// Tick lets time pass.
func (c *Core) Tick(now time.Time) {
	for len(c.timers) > 0 && !now.Before(c.timers[0].at) {
		switch due := heap.Pop(&c.timers).(timer); { //nolint:forcetypeassert // Only timers are pushed.
		case due.object != nil:
			c.giveUp(now, due.object)
		case due.task.state == stateDelayed && due.task.more.until.Equal(due.at):
			c.prepare(now, due.task, true)
		}
	}
	if !now.Before(c.lookAt) {
		c.lookAt = now.Add(lookEvery)
		c.look(now)
	}
	c.refill(now)
}

// look does what is due about now.
func (c *Core) look(now time.Time) {
	if len(c.orphans) > 0 && !now.Before(c.config.Started.Add(orphansFor)) {
		c.endOrphans()
	}
	for i := len(c.active) - 1; i >= 0; i-- {
		if i >= len(c.active) {
			continue
		}
		k := c.active[i]
		c.missOperator(now, k)
		for _, p := range k.places {
			c.recallAhead(now, p)
		}
	}
}
