package tasks

import (
	"context"
	"math"
	"sync/atomic"
	"time"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/internal/rpc"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
	"github.com/f708428e/engine/runtime/operator"
)

// phase is where a granted task stands:
//
//	fetching ──> waiting ──> running ──> ended
//	    │           │           │          ^
//	    └───────────┴───────────┴──────────┘  revoked, given back
type phase uint8

const (
	// fetching waits for arguments that are on their way here.
	fetching phase = iota
	// waiting waits for resources.
	waiting
	// running has its resources.
	running
	// ended has an outcome, or was forgotten. A task that was forgotten, given back, or left alone may still run: it keeps its
	// resources until it returns, and what it returns counts for nothing.
	ended
)

// task is a task of a client that the head has granted. All fields but those of progress belong to Tasks.mu, or do not change once it
// runs.
type task struct {
	id      engine.TaskUID
	wireID  []byte
	epoch   uint64
	attempt int32
	devices []int32
	session string
	// template and shape are those of the grant; arguments are forgotten at the end.
	template  *template
	shape     *shape
	arguments []*enginev1.TaskArgument
	// order numbers the grants.
	order uint64
	phase phase
	// cancel ends the context of one that fetches or runs.
	cancel context.CancelCauseFunc
	// revoked says that its outcome is CANCELLED whatever it returns.
	revoked bool
	// began is when the attempt began.
	began time.Time
	// outcome is set when it has ended and the head has not released it.
	outcome *enginev1.TaskOutcome
	// before and after are its neighbours in the list of those that run.
	before, after *task

	progress progress
}

// runners is the list of what has a goroutine, in the order in which it began.
type runners struct {
	oldest, newest *task
	count          int
}

func (l *runners) add(t *task) {
	l.count++
	if t.before = l.newest; t.before != nil {
		t.before.after = t
	} else {
		l.oldest = t
	}
	l.newest = t
}

func (l *runners) remove(t *task) {
	l.count--
	if t.before != nil {
		t.before.after = t.after
	} else {
		l.oldest = t.after
	}
	if t.after != nil {
		t.after.before = t.before
	} else {
		l.newest = t.before
	}
	t.before, t.after = nil, nil
}

// progress is what a task says of itself while it runs.
type progress struct {
	// at is when, in nanoseconds since the attempt began; 0 is never.
	at          atomic.Int64
	done, total atomic.Uint64 // as math.Float64bits
}

func (p *progress) report(began time.Time, done, total float64) {
	p.done.Store(math.Float64bits(done))
	p.total.Store(math.Float64bits(total))
	p.at.Store(max(1, int64(time.Since(began))))
}

// held is what a report says of a task that has not ended.
func (t *task) held(now time.Time, complete bool) *enginev1.HeldTask {
	held := &enginev1.HeldTask{TaskId: t.wireID, Epoch: t.epoch, GpuDevices: t.devices, SessionId: t.session}
	if complete {
		held.Template = t.template.bare
	}
	if t.phase == running {
		held.RunNanos = max(1, int64(now.Sub(t.began)))
		if at := t.progress.at.Load(); at != 0 {
			held.QuietNanos = max(1, held.RunNanos-at)
			held.Done, held.Total = math.Float64frombits(t.progress.done.Load()), math.Float64frombits(t.progress.total.Load())
		}
	}
	return held
}

// template is a template of a stream, ready for use.
type template struct {
	wire *enginev1.TaskTemplate
	// bare is what of it a new head must know. A report speaks of all tasks at once, and must not carry the parameters of each.
	bare      *enginev1.TaskTemplate
	run       operator.Func
	resources engine.Resources
	shape     *shape
	timeout   time.Duration
	outputs   int
	inline    int64
	// err is why tasks of this template cannot run here.
	err error
}

// The bounds and defaults of a template.
const (
	defaultInlineBytes = 8 << 10
	maxInlineBytes     = engine.MaxInlineObjectBytes
)

// newTemplate reads a template. What is wrong with it becomes the outcome of its tasks.
func (t *Tasks) newTemplate(wire *enginev1.TaskTemplate) *template {
	made := &template{
		wire: wire, bare: &enginev1.TaskTemplate{Operator: wire.GetOperator(), Resources: wire.GetResources()},
		timeout: wire.GetTimeout().AsDuration(), outputs: int(max(1, wire.GetOutputs())), inline: int64(wire.GetInlineBytes()),
	}
	switch {
	case made.inline == 0:
		made.inline = defaultInlineBytes
	case made.inline > maxInlineBytes:
		made.inline = maxInlineBytes
	}
	var err error
	if made.resources, err = rpc.ResourcesFromProto(wire.GetResources()); err != nil {
		made.err = err
		made.resources = engine.Resources{}
	} else if wire.GetResources() == nil || wire.Resources.Cpu == nil {
		made.resources.CPU = 1
	}
	var possible bool
	made.shape, possible = t.admission.shapeOf(made.resources)
	if made.err == nil && !possible {
		made.err = engine.Errorf(engine.KindInvalidArgument, opRun, "", "it needs %s, node %s has %s", made.resources, t.config.Node, t.config.Total)
	}
	if made.run = t.config.Operators[wire.GetOperator()]; made.run == nil && made.err == nil {
		made.err = engine.Errorf(engine.KindNotFound, opRun, "", "node %s has no operator %q", t.config.Node, wire.GetOperator())
	}
	return made
}
