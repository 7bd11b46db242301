// Package sim runs the decisions of a whole cluster in virtual time: the head's durable state and its dispatcher, as they are, among
// modelled workers, clients, disks, and a network that lose, delay, repeat, freeze, and die as a seed says. The same seed gives the same
// run, so that a failure can be looked at as often as need be. What must hold at every moment is checked at every moment; what must hold
// in the end, after the faults have ceased.
package sim

import (
	"container/heap"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/f708428e/engine"
)

// Options says what is simulated.
type Options struct {
	// Seed determines everything.
	Seed uint64
	// Break switches one safeguard off, to show that the simulation finds out. Empty means none.
	Break Fault
}

// Fault names a safeguard that is switched off.
type Fault string

// The safeguards that can be switched off.
const (
	// PublishWithoutRight makes workers publish whatever their clocks say of their leases.
	PublishWithoutRight Fault = "publish without right"
	// NoAdoptionWait makes a new head grant at once what workers may still hold.
	NoAdoptionWait Fault = "no adoption wait"
	// LongLeases tells workers that their leases last three times as long as the head counts.
	LongLeases Fault = "long leases"
	// RenewOnAnswer makes workers count their leases from the answer, not from the report.
	RenewOnAnswer Fault = "renew on answer"
	// AcknowledgeEarly tells clients that a job is accepted before it is durable.
	AcknowledgeEarly Fault = "acknowledge early"
	// OverwriteParts lets the last part win.
	OverwriteParts Fault = "overwrite parts"
	// IgnoreRevocations makes workers keep what is taken back.
	IgnoreRevocations Fault = "ignore revocations"
	// OverlappingHeads lets a head that has lost its place go on as long as it likes.
	OverlappingHeads Fault = "overlapping heads"
	// RunAcknowledged makes clients submit tasks again whose outcomes they have acknowledged.
	RunAcknowledged Fault = "run acknowledged"
	// IgnoreAdmission makes workers start tasks of clients whatever runs there.
	IgnoreAdmission Fault = "ignore admission"
)

// The times of the simulated cluster.
const (
	leaseTime      = 5 * time.Second
	reportInterval = leaseTime / 10
	tickInterval   = 20 * time.Millisecond
	// faultsFor is how long faults come; then everything has calmFor to come to its end.
	faultsFor = 60 * time.Second
	calmFor   = 10 * time.Minute
)

// Failure is a broken promise.
type Failure struct {
	// Seed repeats the run.
	Seed uint64
	// What was promised, and how it was broken.
	What string
	// Trace are the last events before it.
	Trace []string
}

// Error implements error.
func (f *Failure) Error() string {
	return fmt.Sprintf("seed %d: %s\n%s", f.Seed, f.What, strings.Join(f.Trace, "\n"))
}

// Stats says what a run was made of.
type Stats struct {
	// Events counts what happened, Heads the heads that led, Lost the workers that died.
	Events, Heads, Lost int
	// Jobs and Tasks count what came to its end, Attempts what workers began.
	Jobs, Tasks, Attempts int
	// Suspicions counts the nodes that a head was told to suspect.
	Suspicions int
	// Elapsed is the virtual time.
	Elapsed time.Duration
}

// Add adds what another run was made of.
func (s *Stats) Add(other Stats) {
	s.Events += other.Events
	s.Heads += other.Heads
	s.Lost += other.Lost
	s.Jobs += other.Jobs
	s.Tasks += other.Tasks
	s.Attempts += other.Attempts
	s.Suspicions += other.Suspicions
	s.Elapsed += other.Elapsed
}

// Run simulates one seed. The error is a *Failure.
func Run(options Options) (stats Stats, err error) {
	w := newWorld(options)
	defer func() {
		stats = w.stats
		stats.Elapsed = w.now.Sub(epoch)
		p := recover()
		if failure, ok := p.(*Failure); ok {
			err = failure
		} else if p != nil {
			panic(p)
		}
	}()
	w.begin()
	for w.step() {
	}
	w.end()
	return stats, nil
}

// epoch is when every simulation begins.
var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// world is everything that is simulated.
type world struct {
	options Options
	random  *rand.Rand
	now     time.Time
	agenda  agenda
	order   uint64
	trace   []string
	stats   Stats
	// calm is set when faults have ceased, done when nothing is left to do.
	calm bool

	disk    *disk
	heads   []*head
	workers []*worker
	jobs    *jobClient
	clients []*taskClient
	// objects says which worker has made an object last.
	objects map[engine.ObjectID]*worker
	checks  *checks
	gossip  *gossip
	names   int
}

// traceLength is how many events a failure shows.
const traceLength = 120

func newWorld(options Options) *world {
	w := &world{options: options, random: rand.New(rand.NewPCG(options.Seed, 0x5eed)), now: epoch} //nolint:gosec // A simulation must be repeatable.
	w.disk = newDisk(w)
	w.checks = newChecks(w)
	return w
}

func (w *world) broken(f Fault) bool { return w.options.Break == f }

// fail ends the run.
func (w *world) fail(format string, args ...any) {
	panic(&Failure{Seed: w.options.Seed, What: fmt.Sprintf(format, args...), Trace: w.trace})
}

func (w *world) say(format string, args ...any) {
	if len(w.trace) >= traceLength {
		w.trace = slices.Delete(w.trace, 0, traceLength/4)
	}
	w.trace = append(w.trace, fmt.Sprintf("%9.3fs  ", w.now.Sub(epoch).Seconds())+fmt.Sprintf(format, args...))
}

// after makes something happen later.
func (w *world) after(d time.Duration, act func()) {
	w.order++
	heap.Push(&w.agenda, event{w.now.Add(max(0, d)), w.order, act})
}

// between returns a random duration.
func (w *world) between(least, most time.Duration) time.Duration {
	return least + time.Duration(w.random.Int64N(int64(most-least)+1))
}

// chance is true once in n times.
func (w *world) chance(n int) bool { return w.random.IntN(n) == 0 }

// step lets the next thing happen. It reports false when all is done.
func (w *world) step() bool {
	if w.calm && w.settled() {
		return false
	}
	if len(w.agenda) == 0 {
		w.fail("nothing happens any more, and not all is done: %s", w.unfinished())
	}
	next := heap.Pop(&w.agenda).(event) //nolint:forcetypeassert // Nothing else is in it.
	if next.at.Sub(epoch) > faultsFor+calmFor {
		w.fail("not done %s after the faults have ceased: %s", calmFor, w.unfinished())
	}
	w.now = next.at
	w.stats.Events++
	next.act()
	w.checks.always()
	w.gossip.check()
	return true
}

// event is something that will happen.
type event struct {
	at    time.Time
	order uint64
	act   func()
}

// agenda is a heap of events by time, and by order within it.
type agenda []event

func (a agenda) Len() int { return len(a) }
func (a agenda) Less(i, j int) bool {
	if a[i].at.Equal(a[j].at) {
		return a[i].order < a[j].order
	}
	return a[i].at.Before(a[j].at)
}
func (a agenda) Swap(i, j int) { a[i], a[j] = a[j], a[i] }

// Push implements heap.Interface.
func (a *agenda) Push(x any) { *a = append(*a, x.(event)) } //nolint:forcetypeassert // Nothing else is pushed.

// Pop implements heap.Interface.
func (a *agenda) Pop() any {
	last := len(*a) - 1
	e := (*a)[last]
	(*a)[last] = event{}
	*a = (*a)[:last]
	return e
}

// begin sets the scene.
func (w *world) begin() {
	w.startHead()
	for range 1 + w.random.IntN(4) {
		w.addWorker()
	}
	w.jobs = newJobClient(w)
	for range w.random.IntN(3) {
		w.clients = append(w.clients, newTaskClient(w, len(w.clients)))
	}
	w.gossip = newGossip(w)
	w.plague()
	w.after(faultsFor, func() {
		w.say("the faults cease")
		w.calm = true
		w.heal()
	})
}

// settled reports whether everything that was begun has come to its end.
func (w *world) settled() bool {
	return w.jobs.settled() && !slices.ContainsFunc(w.clients, func(c *taskClient) bool { return !c.settled() })
}

func (w *world) unfinished() string {
	text := w.jobs.unfinished()
	for _, c := range w.clients {
		text += c.unfinished()
	}
	return text
}

// end checks what must hold when all is done.
func (w *world) end() {
	w.checks.finally()
}
