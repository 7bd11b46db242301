package tasks

import (
	"time"

	"github.com/f708428e/engine"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// state is where a task stands:
//
//	                 ┌───────────── retried, taken back ─────────────┐
//	                 v                                               │
//	stateArguments ──> stateWaiting ──> stateHeld ──────────> stateEnded
//	        │             ^    │            │                     │  ^
//	        │             │    └── stateDelayed (backs off) <─────┘  │
//	        └─────────────┴── cancelled, refused, argument failed ───┘
//
// One whose outputs are lost goes back from stateEnded to the beginning.
type state uint8

const (
	// stateArguments waits for arguments that do not exist yet.
	stateArguments state = iota
	// stateDelayed waits for a time.
	stateDelayed
	// stateWaiting is in the queue of its class.
	stateWaiting
	// stateHeld is with a worker, or will be with the next answer to it.
	stateHeld
	// stateEnded has an outcome.
	stateEnded
)

// task is a task of a client. There may be millions.
type task struct {
	id       engine.TaskUID
	session  *session
	template *template
	class    *class // nil once it has ended
	// submission is the wire form, with the head's number of the template. Nil once it has ended, unless it may run again.
	submission *enginev1.TaskSubmission
	// outcome is set once it has ended. The values in it go once it is acknowledged.
	outcome *enginev1.TaskOutcome
	// place is where it is held. node is the node that holds it or keeps its outcome; nil if none does.
	place *place
	node  *node
	// home is the list of tasks that it is in.
	home *list
	// queue links it into the queue of its class or the list of its place, ends into the outcomes of its session, all into its tasks.
	queue, ends, all links
	// number orders the tasks as they were submitted, submitted is when, in nanoseconds since 1970.
	number    uint64
	submitted int64
	epoch     uint64
	more      *more
	// bytes are those of its arguments, expected how long it will run, in nanoseconds, as far as anybody knows.
	bytes, expected uint32
	// missing counts the arguments that do not exist yet.
	missing  uint16
	attempts uint16
	state    state
	recalled recall
	// sent says that the worker's stream has carried the grant, cancelling that it was told to end the task.
	sent, cancelling bool
	// unread says that the outcome is not acknowledged, retained that the task is kept for people.
	unread, retained bool
	// awaited says that tasks wait for its outputs, lineage that it is kept to be run again, rerunning that it is being so.
	awaited, lineage, rerunning bool
}

// more is what few tasks have.
type more struct {
	// parent is the task that has submitted it.
	parent engine.TaskUID
	// devices are those of its grant.
	devices []int32
	// sites are the bytes of its arguments by node.
	sites []site
	// began is when its last attempt was heard of to run, and the rest what it says of its progress.
	began             time.Time
	quiet             time.Duration
	done, total       float64
	hanging, progress bool
	// reruns counts how often it was run again for outputs that were lost, depth how many tasks down the chain wait for that.
	reruns, depth int
	// suspect says that its outputs may be lost whatever its outcome says; gone is why they cannot be had.
	suspect bool
	gone    error
	// freed are the outputs that nobody owns any more; nil if none.
	freed map[int]struct{}
	// until is when a delay ends.
	until time.Time
	// waits are those for arguments that do not exist. There is room for all, since others point to them.
	waits []wait
}

// rare returns the part that few tasks have.
func (t *task) rare() *more {
	if t.more == nil {
		t.more = &more{}
	}
	return t.more
}

func (t *task) devices() []int32 {
	if t.more == nil {
		return nil
	}
	return t.more.devices
}

// links are a task's neighbours in a list.
type links struct{ prev, next *task }

// list is a list of tasks, linked through one of their fields.
type list struct {
	head, tail *task
	count      int
	field      func(*task) *links
}

func queueLinks(t *task) *links { return &t.queue }
func endsLinks(t *task) *links  { return &t.ends }
func allLinks(t *task) *links   { return &t.all }

func (l *list) pushBack(t *task) {
	at := l.field(t)
	at.prev, at.next = l.tail, nil
	if l.tail == nil {
		l.head = t
	} else {
		l.field(l.tail).next = t
	}
	l.tail = t
	l.count++
}

// maxSteps bounds how far insert looks.
const maxSteps = 1_000

// insert puts a task that was there before in front, behind those that were submitted earlier.
func (l *list) insert(t *task) {
	after := (*task)(nil)
	before := l.head
	for steps := 0; before != nil && before.number < t.number && steps < maxSteps; steps++ {
		after, before = before, l.field(before).next
	}
	*l.field(t) = links{after, before}
	if after == nil {
		l.head = t
	} else {
		l.field(after).next = t
	}
	if before == nil {
		l.tail = t
	} else {
		l.field(before).prev = t
	}
	l.count++
}

func (l *list) remove(t *task) {
	at := l.field(t)
	if at.prev == nil {
		l.head = at.next
	} else {
		l.field(at.prev).next = at.next
	}
	if at.next == nil {
		l.tail = at.prev
	} else {
		l.field(at.next).prev = at.prev
	}
	*at = links{}
	l.count--
}

// The tasks are allocated some at a time.
const slab = 64

func (c *Core) newTask() *task {
	if len(c.slab) == 0 {
		c.slab = make([]task, slab)
	}
	t := &c.slab[0]
	c.slab = c.slab[1:]
	return t
}
