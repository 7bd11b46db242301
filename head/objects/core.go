// Package objects is the head's directory of objects: which stores there are, what each holds, who owns it, and what the stores are to
// do. The stores are the authority on their copies and tell what changes; the head is the authority on whether a client's session
// lives. Nothing here is durable: a new head learns it from the stores.
//
// Core is a state machine: reports, requests, and ticks go in with the time, orders and events come out; it has no clock, no goroutine,
// and does no I/O. Directory is the shell around it.
package objects

import (
	"maps"
	"slices"
	"time"

	"github.com/f708428e/engine"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// Config holds what does not change while a head runs.
type Config struct {
	// ClusterID and Term identify this head's run; both come from the durable state. Required. A head of the first term has nothing to
	// learn.
	ClusterID string
	Term      uint64
	// LeaseTime is how long a session lasts after its last message, and how long the copies of a store count after its stream broke.
	// Zero means 5 s.
	LeaseTime time.Duration
	// MaxDeparted bounds how many objects are remembered that have no copy any more; MaxDeleted how many deleted ids and ended owners.
	// The oldest are forgotten first. Zero means 10,000 and 100,000.
	MaxDeparted, MaxDeleted int
	// Memory is how long they, and stores that are gone, are remembered. Zero means an hour.
	Memory time.Duration
	// Known reports whether an owner that stores tell of is one that may still own objects; the references of others are ended. It must
	// not call the directory. Nil means that all may.
	Known func(owner engine.ObjectOwner) bool
	// Lost hears what became of the copies of a store that is gone; the directory calls it without a lock held. It may be nil.
	Lost func(Loss)
	// Remade says that outputs of tasks which are lost may be made again: who waits for one hears of the loss once GiveUp has said that it
	// is not.
	Remade bool
	// Remake is told of each lost object that somebody waits for or watches and that a job may be able to make again, once until Remade
	// answers; the directory calls it without a lock held, and it must not block. Nil means that jobs make nothing again.
	Remake func(Asked)
	// MaxSessions bounds the client sessions, MaxRequests the requests to one store that wait for its answer. More are refused. Zero means
	// 100,000 and 10,000.
	MaxSessions, MaxRequests int
	// MaxAwaited bounds the ids for which somebody waits, over all waits. More are refused. Zero means 5,000,000.
	MaxAwaited int
}

func (c Config) withDefaults() Config {
	setDefault(&c.LeaseTime, 5*time.Second)
	setDefault(&c.MaxDeparted, 10_000)
	setDefault(&c.MaxDeleted, 100_000)
	setDefault(&c.Memory, time.Hour)
	setDefault(&c.MaxSessions, 100_000)
	setDefault(&c.MaxRequests, 10_000)
	setDefault(&c.MaxAwaited, 5_000_000)
	return c
}

func setDefault[T int | time.Duration](value *T, standard T) {
	if *value == 0 {
		*value = standard
	}
}

// Core is the state machine. It is not safe for concurrent use.
type Core struct {
	config  Config
	started time.Time
	stores  map[engine.NodeID]*store
	// awake are the stores for which there may be orders.
	awake map[engine.NodeID]*store
	// leavers are the stores that are about to leave.
	leavers map[engine.NodeID]*store
	objects map[engine.ObjectID]*object
	// owned finds the objects of an owner, pins the object of a pin's name. The keys have no end.
	owned map[engine.ObjectOwner]map[engine.ObjectID]*object
	pins  map[string]engine.ObjectID
	// pinning holds the names that an order under way is to give to an object.
	pinning map[string]engine.ObjectID
	// unsettled holds the objects for which something is to be done once a store can do it.
	unsettled map[engine.ObjectID]*object
	sessions  map[string]*session
	// ended remembers owners that have ended, deleted ids that were deleted, and freed those whose last owner went. What a store still
	// says of them is answered with an order.
	ended   *recent[engine.ObjectOwner]
	deleted *recent[engine.ObjectID]
	freed   *recent[engine.ObjectID]
	// departed remembers the objects that have no copy any more.
	departed *recent[engine.ObjectID]
	waiters  map[uint64]*waiter
	awaited  map[engine.ObjectID]*awaited
	// watches are the objects that the subscriber waits for; learned says that the stores of an earlier head's time have been waited for.
	watches map[engine.ObjectID]*watch
	learned bool
	// waiting counts the ids of all waiters.
	waiting int
	// numbers counts orders, streams, and waiters.
	numbers uint64
	events  Events
}

// Events is what the shell must act on.
type Events struct {
	// Wake are the stores for which there are orders.
	Wake []engine.NodeID
	// Results are those of the requests that a caller of the core waits for.
	Results []Result
	// Answers are those to waiters, each once.
	Answers []Answer
	// Losses are what was lost with stores.
	Losses []Loss
	// News are for the subscriber.
	News News
	// Asked are lost objects that jobs may make again.
	Asked []Asked
}

// Result is how a request ended.
type Result struct {
	// Number is what the core returned for the request.
	Number uint64
	// Node is the store's.
	Node engine.NodeID
	// Reply is the store's answer, nil if there is none.
	Reply *enginev1.ObjectOrderResult
	// Err is why it failed, or nil.
	Err error
}

// Answer ends a wait.
type Answer struct {
	// Waiter is what Wait returned.
	Waiter uint64
	// Ready are the objects that can be read, in the order of the request.
	Ready []engine.ObjectID
	// Err says why there will never be enough of them, or nil.
	Err error
}

// Loss is what became of the copies of a store that is gone.
type Loss struct {
	// Node is the store's.
	Node engine.NodeID
	// Copies is how many there were. Of these Promoted have another copy that takes over, Checkpointed only a checkpoint, and Lost nothing.
	Copies, Promoted, Checkpointed, Lost int
}

// NewCore makes a directory that knows nothing.
func NewCore(now time.Time, config Config) *Core {
	config = config.withDefaults()
	c := &Core{
		config: config, started: now, numbers: config.Term << 32,
		stores: map[engine.NodeID]*store{}, awake: map[engine.NodeID]*store{}, leavers: map[engine.NodeID]*store{}, objects: map[engine.ObjectID]*object{},
		owned: map[engine.ObjectOwner]map[engine.ObjectID]*object{}, pins: map[string]engine.ObjectID{}, pinning: map[string]engine.ObjectID{},
		unsettled: map[engine.ObjectID]*object{}, sessions: map[string]*session{},
		ended: newRecent[engine.ObjectOwner](config.MaxDeleted), deleted: newRecent[engine.ObjectID](config.MaxDeleted),
		freed: newRecent[engine.ObjectID](config.MaxDeleted), departed: newRecent[engine.ObjectID](config.MaxDeparted),
		waiters: map[uint64]*waiter{}, awaited: map[engine.ObjectID]*awaited{},
		watches: map[engine.ObjectID]*watch{}, learned: config.Term <= 1,
	}
	c.departed.forget = c.forgetDeparted
	return c
}

// Learning reports whether stores of an earlier head's time may still be on their way to this one.
func (c *Core) Learning(now time.Time) bool {
	return c.config.Term > 1 && now.Before(c.started.Add(c.config.LeaseTime))
}

// Take returns the events since the last call.
func (c *Core) Take() Events {
	c.moveAll()
	for id, s := range c.awake {
		if s.session != 0 {
			c.events.Wake = append(c.events.Wake, id)
		}
	}
	clear(c.awake)
	slices.Sort(c.events.Wake)
	events := c.events
	c.events = Events{}
	return events
}

func (c *Core) wake(s *store) { c.awake[s.id] = s }

// Tick lets time pass: sessions and stores that were silent for a lease time end, memories fade.
func (c *Core) Tick(now time.Time) {
	for id, s := range c.sessions {
		if now.After(s.until) {
			c.endSession(now, id)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(c.stores)) {
		s := c.stores[id]
		switch silence := now.Sub(s.heard); {
		case s.session == 0 && !s.lost && silence > c.config.LeaseTime:
			c.lose(now, s)
		case s.lost && silence > c.config.Memory:
			delete(c.stores, id)
		}
	}
	old := now.Add(-c.config.Memory)
	c.ended.prune(old)
	c.deleted.prune(old)
	c.freed.prune(old)
	c.departed.prune(old)
	for _, id := range c.departed.keys() {
		if o := c.objects[id]; o != nil {
			c.expire(now, o)
		}
	}
	c.settleAll(now)
	c.endLearning(now)
}

// next numbers an order, stream, or waiter.
func (c *Core) next() uint64 {
	c.numbers++
	return c.numbers
}
