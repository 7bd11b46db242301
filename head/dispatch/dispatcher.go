package dispatch

import (
	"context"
	"sync"
	"time"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/head/tasks"
	"github.com/f708428e/engine/internal/telemetry"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// Hooks act on what the core decides. They are called without a lock held, may call the dispatcher, and must not block for
// long.
type Hooks struct {
	// Commit makes a result durable and then calls Committed or CommitFailed.
	Commit func(Commit)
	// Started, Finished, and Failed tell how jobs go.
	Started  func(engine.JobID)
	Finished func(Run)
	Failed   func(Failure)
	// Line adds a line to a job's log.
	Line func(Line)
	// Attempt hears of attempts that belong to a trace and have ended. It may be nil.
	Attempt func(tasks.Attempt)
	// Drained tells that a node has left which was to. It may be nil.
	Drained func(engine.NodeID)
	// Watch asks the directory to tell of objects, by Dispatcher.HearObjects, and Unwatch not to any more. They are called one after the
	// other. Nil means that there is no directory.
	Watch, Unwatch func([]engine.ObjectID)
	// Leads reports whether the head is sure to lead: otherwise workers hear nothing from it, since that would renew their leases. It must
	// not call the dispatcher. Nil means that it always is.
	Leads func() bool
	// Rerun tells of the end of a task that was to run again. Nil means that nobody has any do so.
	Rerun func(Rerun)
	// GiveUp tells the directory of lost objects that are not made again. It is called in order with the two.
	GiveUp func([]engine.ObjectID)
}

// Dispatcher is the shell around Core: it gives it the time, guards it with one lock, and passes on what it decides. It is safe for
// concurrent use.
type Dispatcher struct {
	hooks Hooks
	now   func() time.Time

	mu   sync.Mutex
	core *Core
	// passes are how long the steps with a decision of the scheduler took.
	passes telemetry.Durations
	// wakes has one channel for each open session, drains one for each node whose hearing of its drain somebody waits for.
	wakes  map[engine.NodeID]wake
	drains map[engine.NodeID]chan struct{}
	// streams has one channel for each open stream of a client's tasks, groups one for each placement group that somebody waits for.
	streams map[string]wake
	groups  map[engine.PlacementGroupID]chan struct{}
	// watches are what the directory is to be told, in order; watching says that somebody is telling it.
	watches  []watchOrder
	watching bool
	// due is when Run is to look again before its next tick; it has been told if that is not zero.
	due  time.Time
	soon chan struct{}
}

type watchOrder struct{ wanted, unwanted, given []engine.ObjectID }

type wake struct {
	session uint64
	signal  chan struct{}
}

// NewDispatcher makes a dispatcher whose time is that of now; nil means time.Now.
func NewDispatcher(config Config, hooks Hooks, now func() time.Time) *Dispatcher {
	if now == nil {
		now = time.Now
	}
	if config.Started.IsZero() {
		config.Started = now()
	}
	return &Dispatcher{hooks: hooks, now: now, core: NewCore(config), wakes: map[engine.NodeID]wake{},
		drains: map[engine.NodeID]chan struct{}{}, streams: map[string]wake{}, groups: map[engine.PlacementGroupID]chan struct{}{}, soon: make(chan struct{}, 1)}
}

// Run lets time pass until ctx ends.
func (d *Dispatcher) Run(ctx context.Context) error {
	ticker := time.NewTicker(min(20*time.Millisecond, d.core.config.LeaseTime/10))
	defer ticker.Stop()
	early := time.NewTimer(time.Hour)
	defer early.Stop()
	for {
		select {
		case <-ticker.C:
		case <-early.C:
		case <-d.soon:
			d.mu.Lock()
			due := d.due
			d.mu.Unlock()
			early.Reset(max(0, due.Sub(d.now())))
			continue
		case <-ctx.Done():
			return nil
		}
		d.do(func(core *Core, now time.Time) { core.Tick(now) })
	}
}

// do runs one step of the core and acts on its events.
func (d *Dispatcher) do(step func(core *Core, now time.Time)) {
	d.mu.Lock()
	begun, passes := d.now(), d.core.counts.Passes
	step(d.core, begun)
	events := d.core.Take()
	if d.core.counts.Passes != passes {
		d.passes.Observe(d.now().Sub(begun))
	}
	for _, id := range events.Wake {
		select {
		case d.wakes[id].signal <- struct{}{}:
		default: // It is awake already, or has no session.
		}
	}
	for _, node := range events.DrainsKnown {
		if heard := d.drains[node]; heard != nil {
			close(heard)
			delete(d.drains, node)
		}
	}
	for _, session := range events.Sessions {
		select {
		case d.streams[session].signal <- struct{}{}:
		default: // It is awake already, or has no stream.
		}
	}
	for _, id := range events.Groups {
		d.tellGroup(id)
	}
	watch := len(events.Wanted)+len(events.Unwanted)+len(events.Given) > 0 && d.hooks.Watch != nil
	if watch {
		d.watches = append(d.watches, watchOrder{events.Wanted, events.Unwanted, events.Given})
	}
	if due := d.core.Due(); !due.Equal(d.due) {
		if d.due = due; !due.IsZero() {
			select {
			case d.soon <- struct{}{}:
			default: // Run has yet to hear of an earlier one, and will see this one.
			}
		}
	}
	d.mu.Unlock()
	if watch {
		d.tellDirectory()
	}
	for _, node := range events.Drained {
		if d.hooks.Drained != nil {
			d.hooks.Drained(node)
		}
	}
	if d.hooks.Attempt != nil {
		for i := range events.Attempts {
			d.hooks.Attempt(events.Attempts[i])
		}
	}
	for _, line := range events.Lines {
		d.hooks.Line(line)
	}
	for _, id := range events.Started {
		d.hooks.Started(id)
	}
	for _, commit := range events.Commits {
		d.hooks.Commit(commit)
	}
	for _, failure := range events.Failed {
		d.hooks.Failed(failure)
	}
	for _, rerun := range events.Reruns {
		if d.hooks.Rerun != nil {
			d.hooks.Rerun(rerun)
		}
	}
	for _, run := range events.Finished {
		d.hooks.Finished(run)
	}
}

// AddJob makes a job's tasks run.
func (d *Dispatcher) AddJob(job Job) {
	d.do(func(core *Core, now time.Time) { core.AddJob(now, job) })
}

// RemoveJob takes a job's tasks away from the workers and returns what was last known of it.
func (d *Dispatcher) RemoveJob(id engine.JobID) (view JobView) {
	d.do(func(core *Core, now time.Time) {
		view, _ = core.Job(id)
		core.RemoveJob(now, id)
	})
	return view
}

// Committed says that a result is durable.
func (d *Dispatcher) Committed(commit Commit) {
	d.do(func(core *Core, now time.Time) { core.Committed(now, commit.Task, commit.Epoch) })
}

// CommitFailed says that the log refused a result.
func (d *Dispatcher) CommitFailed(commit Commit) {
	d.do(func(core *Core, now time.Time) { core.CommitFailed(now, commit) })
}

// Connect begins a session with a worker from the first report of its stream. The channel signals that Answer has something to
// say; Disconnect ends the session.
func (d *Dispatcher) Connect(report *enginev1.SyncRequest) (node engine.NodeID, session uint64, answers <-chan struct{}, err error) {
	hello := report.GetHello()
	if hello == nil {
		return "", 0, nil, engine.Errorf(engine.KindInvalidArgument, "join cluster", "", "the first report of a stream carries no hello")
	}
	node = engine.NodeID(hello.GetNodeId())
	signal := make(chan struct{}, 1)
	d.do(func(core *Core, now time.Time) {
		if session, err = core.Connect(now, hello); err != nil {
			return
		}
		d.wakes[node] = wake{session: session, signal: signal}
		err = core.Report(now, node, session, report)
	})
	return node, session, signal, err
}

// Report takes in a further report of a session.
func (d *Dispatcher) Report(node engine.NodeID, session uint64, report *enginev1.SyncRequest) (err error) {
	d.do(func(core *Core, now time.Time) { err = core.Report(now, node, session, report) })
	return err
}

// AcknowledgeLogs says that a worker's log lines are kept.
func (d *Dispatcher) AcknowledgeLogs(node engine.NodeID, session, sequence uint64) {
	d.do(func(core *Core, _ time.Time) { core.AcknowledgeLogs(node, session, sequence) })
}

// Answer returns what to tell a worker, or nil if the session has ended, or the head is not sure to lead.
func (d *Dispatcher) Answer(node engine.NodeID, session uint64) (answer *enginev1.SyncResponse) {
	if d.hooks.Leads != nil && !d.hooks.Leads() {
		return nil
	}
	// There may be more than one answer carries: the events say so.
	d.do(func(core *Core, now time.Time) { answer = core.Answer(now, node, session) })
	return answer
}

// Disconnect ends a session.
func (d *Dispatcher) Disconnect(node engine.NodeID, session uint64) {
	d.do(func(core *Core, _ time.Time) {
		core.Disconnect(node, session)
		if d.wakes[node].session == session {
			delete(d.wakes, node)
		}
	})
}

// Drain orders a node to finish what it has and leave; see Core.Drain. The channel is closed when the node knows, or is gone.
func (d *Dispatcher) Drain(node engine.NodeID, deadline time.Time, reason string) (known <-chan struct{}) {
	d.do(func(core *Core, now time.Time) {
		core.Drain(now, node, deadline, reason)
		if d.drains[node] == nil {
			d.drains[node] = make(chan struct{})
		}
		known = d.drains[node]
	})
	return known
}

// SetQueues tells what the queues are from now on. Those that are not given have weight 1 and no quota.
func (d *Dispatcher) SetQueues(queues []*enginev1.Queue) error {
	var err error
	d.do(func(core *Core, now time.Time) { err = core.SetQueues(now, queues) })
	return err
}

// Queues returns the queues that are set or have work, in order of their names.
func (d *Dispatcher) Queues() []QueueView {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.core.Queues()
}

// Job returns what the dispatcher knows of a job, or false if it has no tasks to run.
func (d *Dispatcher) Job(id engine.JobID) (JobView, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.core.Job(id)
}

// Nodes returns the nodes in order of their ids.
func (d *Dispatcher) Nodes() []NodeView {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.core.Nodes()
}

// Tasks returns how many tasks wait for a worker and how many workers hold.
func (d *Dispatcher) Tasks() (waiting, running int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.core.Tasks()
}
