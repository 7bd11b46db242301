// Package tasks runs the tasks of clients on a worker: it takes the grants that the head sends, starts what fits in the order of the
// grants, and keeps each outcome until the head releases it. tasks.go keeps the table of tasks and says what the head is told,
// admission.go decides what may start, run.go runs one task, arguments.go and outputs.go are its ends.
//
// Nothing here speaks with the head: the worker's stream hands over the head's answers (Take) and asks for what a report is to say
// (Report). Tasks run on while there is no stream, and everything that is not released is told on the next one.
package tasks

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/dataset/object"
	"github.com/f708428e/engine/internal/lifecycle"
	"github.com/f708428e/engine/objectstore"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
	"github.com/f708428e/engine/runtime/operator"
)

const opRun = "run task"

// The bounds of what is kept.
const (
	// maxOutcomes bounds the outcomes that the head has not released: above it no task starts.
	maxOutcomes = 100_000
	// maxRunning bounds the tasks that run at a time, whatever they take: each has a goroutine.
	maxRunning = 10_000
	// maxFetches bounds the tasks whose arguments are brought here at a time.
	maxFetches = 8
)

// Config is what Tasks are made of.
type Config struct {
	// Node is the worker's id, for outcomes.
	Node engine.NodeID
	// Operators are those that tasks may name.
	Operators map[string]operator.Func
	// Total is what the node offers.
	Total engine.Resources
	// Store and Fetch are those of worker.Config.
	Store func(context.Context) (*objectstore.Store, error)
	Fetch func(context.Context, engine.ObjectID) error
	// Wake is called when there is something to tell that a report should not wait for. It must not block.
	Wake func()
	// Logger is required.
	Logger *slog.Logger
}

// Tasks are the tasks that a worker has. It is safe for concurrent use.
type Tasks struct {
	config Config
	group  *lifecycle.Group
	open   object.Opener
	// opened is the store once it is open.
	opened atomic.Pointer[objectstore.Store]

	mu        sync.Mutex
	admission *admission
	cluster   string
	// interval is how often the head wants reports: those that are due by it speak of the tasks that have run for longer.
	interval time.Duration
	tasks    map[engine.TaskUID]*task
	// templates are those of the stream.
	templates map[uint32]*template
	// order counts the grants, active the tasks of the table that have not ended.
	order   uint64
	active  int
	running runners
	// holds are the leases of jobs that wait for room.
	holds []hold
	// toFetch are the tasks whose arguments are to be brought here, in order; fetchers counts who does that.
	toFetch  []*task
	fetchers int
	telling  telling
	// leaving takes no grants.
	leaving bool
	// changed is closed, and another one made, when what Idle says may have changed and somebody waits for it.
	changed chan struct{}
	awaited bool
}

// New returns an empty table. Stop ends it.
func New(config Config) *Tasks {
	t := &Tasks{
		config: config, group: lifecycle.NewGroup(context.Background(), "client tasks"), admission: newAdmission(config.Total),
		interval: time.Second, tasks: map[engine.TaskUID]*task{}, templates: map[uint32]*template{}, changed: make(chan struct{}),
	}
	t.open = object.FromStore(t.store, t.fetch)
	return t
}

// Take acts on an answer of the head.
func (t *Tasks) Take(answer *enginev1.SyncResponse) {
	welcome := answer.GetWelcome()
	quiet := len(answer.GetTemplates()) == 0 && len(answer.GetTaskGrants()) == 0 && len(answer.GetTaskRevocations()) == 0 &&
		len(answer.GetReleasedTasks()) == 0 && len(answer.GetRetiredTemplates()) == 0
	t.mu.Lock()
	t.telling.acknowledge(answer.GetAcknowledgedSequence())
	if quiet && welcome == nil {
		t.sayChangedLocked()
		t.mu.Unlock()
		return
	}
	if welcome != nil {
		if t.cluster != "" && t.cluster != welcome.GetClusterId() {
			t.forgetAllLocked()
		}
		t.cluster = welcome.GetClusterId()
		if interval := welcome.GetReportInterval().AsDuration(); interval > 0 {
			t.interval = interval
		}
	}
	for _, wire := range answer.GetTemplates() {
		t.templates[wire.GetNumber()] = t.newTemplate(wire)
	}
	released := answer.GetReleasedTasks()
	for ; len(released) >= len(engine.TaskUID{}); released = released[len(engine.TaskUID{}):] {
		t.releaseLocked(engine.TaskUID(released[:len(engine.TaskUID{})]))
	}
	// A revocation in the same message as a grant is either of an earlier lease or of that grant.
	later := t.revokeLocked(answer.GetTaskRevocations())
	for _, grant := range answer.GetTaskGrants() {
		t.grantLocked(grant)
	}
	t.revokeLocked(later)
	for _, number := range answer.GetRetiredTemplates() {
		delete(t.templates, number)
	}
	started := t.admitLocked(nil)
	t.sayChangedLocked()
	t.mu.Unlock()
	t.start(started)
}

// grantLocked takes one grant.
func (t *Tasks) grantLocked(grant *enginev1.TaskGrant) {
	wireID := grant.GetTask().GetTaskId()
	if t.leaving || len(wireID) != len(engine.TaskUID{}) {
		return // The next stream's first report says that it is not held.
	}
	id := engine.TaskUID(wireID)
	if old := t.tasks[id]; old != nil {
		switch {
		case grant.GetEpoch() <= old.epoch:
			return
		case old.phase != ended && !old.revoked:
			// What runs already is as good as what would begin now.
			old.epoch, old.attempt = grant.GetEpoch(), grant.GetAttempt()
			return
		default:
			t.forgetLocked(old)
		}
	}
	template := t.templates[grant.GetTask().GetTemplate()]
	r := &task{
		id: id, wireID: wireID, epoch: grant.GetEpoch(), attempt: grant.GetAttempt(), devices: grant.GetGpuDevices(), session: grant.GetSessionId(),
		template: template, arguments: grant.GetTask().GetArguments(), order: t.order, phase: waiting,
	}
	t.order++
	t.tasks[id] = r
	t.active++
	switch {
	case template == nil:
		t.endLocked(r, t.failure(r, engine.Errorf(engine.KindInternal, opRun, id.String(), "the head has not sent template %d", grant.GetTask().GetTemplate())))
		return
	case template.err != nil:
		t.endLocked(r, t.failure(r, template.err))
		return
	case slices.ContainsFunc(r.devices, func(d int32) bool { return !t.admission.has(d) }):
		t.endLocked(r, t.failure(r, engine.Errorf(engine.KindInternal, opRun, id.String(), "the head grants the devices %v, node %s has %d", r.devices, t.config.Node, len(t.admission.devices))))
		return
	}
	r.shape = template.shape
	if t.isHere(r.arguments) {
		t.admission.add(r)
		return
	}
	r.phase = fetching
	t.toFetch = append(t.toFetch, r)
}

// revokeLocked takes tasks back, and returns the revocations of those that it does not know.
func (t *Tasks) revokeLocked(revocations []*enginev1.TaskRevocation) (unknown []*enginev1.TaskRevocation) {
	for _, revocation := range revocations {
		if len(revocation.GetTaskId()) != len(engine.TaskUID{}) {
			continue
		}
		r := t.tasks[engine.TaskUID(revocation.GetTaskId())]
		switch {
		case r == nil || revocation.GetEpoch() != 0 && revocation.GetEpoch() != r.epoch:
			unknown = append(unknown, revocation)
		case revocation.GetUnlessBegun() && (r.phase == running || r.phase == ended):
		case revocation.GetForget():
			t.forgetLocked(r)
		case r.phase == running:
			r.revoked = true
			t.cancelLocked(r, errRevoked)
		case r.phase != ended:
			t.cancelLocked(r, errRevoked)
			t.endLocked(r, t.cancelled(r))
		}
	}
	return unknown
}

var (
	errRevoked = engine.Errorf(engine.KindCanceled, opRun, "", "it was cancelled")
	errDropped = engine.Errorf(engine.KindFenced, opRun, "", "the worker no longer has it")
)

// cancelLocked ends the context of a task that has one, or will end it as soon as it does.
func (t *Tasks) cancelLocked(r *task, cause error) {
	if r.cancel != nil {
		r.cancel(cause)
	}
}

// forgetLocked removes a task, without an outcome. One that runs is cancelled.
func (t *Tasks) forgetLocked(r *task) {
	delete(t.tasks, r.id)
	if r.phase == ended {
		t.telling.forget(r)
		return
	}
	t.closeLocked(r)
	r.revoked = true
	t.cancelLocked(r, errDropped)
}

func (t *Tasks) forgetAllLocked() {
	for _, r := range t.tasks {
		t.forgetLocked(r)
	}
	clear(t.templates)
	t.telling = telling{}
}

// closeLocked is what every end of a task has in common. The arguments of one that has no goroutine go at once: a list may still have
// the task in it.
func (t *Tasks) closeLocked(r *task) {
	if r.cancel == nil && r.phase != running {
		r.arguments = nil
	}
	r.phase = ended
	t.active--
}

// endLocked gives a task its outcome.
func (t *Tasks) endLocked(r *task, outcome *enginev1.TaskOutcome) {
	t.closeLocked(r)
	outcome.Epoch, outcome.Attempts = r.epoch, r.attempt
	r.outcome = outcome
	t.telling.add(r)
	t.config.Wake()
}

// releaseLocked forgets the outcome of a task that has ended.
func (t *Tasks) releaseLocked(id engine.TaskUID) {
	if r := t.tasks[id]; r != nil && r.phase == ended {
		delete(t.tasks, id)
		t.telling.forget(r)
	}
}

// admitLocked returns the tasks that are to run now, each in a goroutine that the caller starts. The first goes to mine, if the caller
// has a goroutine already.
func (t *Tasks) admitLocked(mine **task) (started []*task) {
	for range min(len(t.toFetch), maxFetches-t.fetchers) {
		if !t.group.Go("fetch", t.fetchArguments) {
			break
		}
		t.fetchers++
	}
	var now time.Time
	for t.running.count < maxRunning && t.telling.kept < maxOutcomes {
		r := t.admission.next()
		if r == nil {
			break
		}
		if now.IsZero() {
			now = time.Now()
		}
		r.phase = running
		r.began = now
		t.running.add(r)
		if mine != nil && *mine == nil {
			*mine = r
		} else {
			started = append(started, r)
		}
	}
	return started
}

// start gives tasks that were admitted a goroutine each.
func (t *Tasks) start(admitted []*task) {
	for _, r := range admitted {
		if !t.group.Go("task", func(ctx context.Context) error { t.lane(ctx, r); return nil }) {
			t.finish(r, result{dropped: true})
		}
	}
}

// lane runs a task, and then whatever it makes room for.
func (t *Tasks) lane(ctx context.Context, r *task) {
	defer func() {
		if r != nil { // The operator has called runtime.Goexit: the goroutine ends, but neither its task nor those that wait for it.
			failed := t.failure(r, engine.Errorf(engine.KindInternal, "operator "+r.template.wire.GetOperator(), "", "it has ended its goroutine"))
			if next := t.finish(r, result{outcome: failed}); next != nil {
				t.start([]*task{next})
			}
		}
	}()
	for r != nil {
		r = t.finish(r, t.attempt(ctx, r))
	}
}

// finish gives back what a task took, keeps its outcome, and returns what the goroutine runs next, or nil.
func (t *Tasks) finish(r *task, res result) (next *task) {
	t.mu.Lock()
	t.running.remove(r)
	t.admission.take(r, -1)
	t.freeLocked()
	r.cancel, r.arguments = nil, nil
	var unwanted []engine.ObjectID
	switch {
	case r.phase == ended: // It was forgotten, or has its outcome already.
		unwanted = res.made
	case r.revoked:
		unwanted = res.made
		t.endLocked(r, t.cancelled(r))
	case res.dropped:
		t.forgetLocked(r)
	default:
		t.endLocked(r, res.outcome)
	}
	started := t.admitLocked(&next)
	if t.active == 0 {
		t.sayChangedLocked()
	}
	t.mu.Unlock()
	if store := t.opened.Load(); store != nil && len(unwanted) > 0 {
		store.Delete(unwanted...)
	}
	t.start(started)
	return next
}

// Hold takes resources for a job's lease, whether or not they are free. The channel is closed when no task of a client runs in them any
// more: what was granted ahead of its time may. giveBack gives them back.
func (t *Tasks) Hold(resources engine.Resources, devices []int32) (free <-chan struct{}, giveBack func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	held, _ := t.admission.shapeOf(resources)
	t.admission.takeShape(held, devices, 1)
	ready := make(chan struct{})
	t.holds = append(t.holds, hold{held, devices, ready})
	t.freeLocked()
	return ready, sync.OnceFunc(func() {
		t.mu.Lock()
		t.admission.takeShape(held, devices, -1)
		t.freeLocked()
		started := t.admitLocked(nil)
		t.mu.Unlock()
		t.start(started)
	})
}

// hold is a job's lease that waits for tasks of clients to end.
type hold struct {
	shape   *shape
	devices []int32
	ready   chan struct{}
}

// freeLocked tells the leases of jobs for which there is room, or that wait for each other alone.
func (t *Tasks) freeLocked() {
	t.holds = slices.DeleteFunc(t.holds, func(h hold) bool {
		if t.running.count > 0 && t.admission.lacks(h.shape, h.devices) {
			return false
		}
		close(h.ready)
		return true
	})
}

// Idle reports whether every task has ended and the head has heard of every outcome, and a channel that is closed when that may have
// changed.
func (t *Tasks) Idle() (bool, <-chan struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.awaited = true
	return t.active == 0 && t.telling.heard(), t.changed
}

func (t *Tasks) sayChangedLocked() {
	if t.awaited {
		t.awaited = false
		close(t.changed)
		t.changed = make(chan struct{})
	}
}

// GiveBack ends all tasks that have not ended, with an outcome of kind engine.KindUnavailable: the head lets them run elsewhere. Those
// that run are cancelled, and not waited for.
func (t *Tasks) GiveBack() {
	t.mu.Lock()
	var open []*task
	for _, r := range t.tasks {
		if r.phase != ended {
			open = append(open, r)
		}
	}
	slices.SortFunc(open, func(a, b *task) int { return int(a.order) - int(b.order) }) //nolint:gosec // Few are open at a time.
	for _, r := range open {
		t.cancelLocked(r, errDropped)
		t.endLocked(r, t.failure(r, engine.Errorf(engine.KindUnavailable, opRun, r.id.String(), "node %s was drained before it had ended", t.config.Node)))
	}
	t.sayChangedLocked()
	t.mu.Unlock()
}

// Drop forgets all tasks, cancels those that run, and takes no new ones.
func (t *Tasks) Drop() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.leaving = true
	t.forgetAllLocked()
	t.sayChangedLocked()
}

// Stop ends all tasks, and waits until they have returned or ctx ends.
func (t *Tasks) Stop(ctx context.Context) error {
	t.Drop()
	return t.group.Stop(ctx)
}
