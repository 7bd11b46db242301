package sim

import (
	"maps"
	"slices"
	"time"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/head/objects"
	"github.com/f708428e/engine/internal/rpc"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// operatorName is the operator that workers have.
const operatorName = "noop"

// taskTable is what a worker has of the tasks of clients, as worker/tasks keeps it.
type taskTable struct {
	templates map[uint32]*enginev1.TaskTemplate
	// queued wait for room in the order of their grants; running have it.
	queued   []*grantedTask
	running  map[engine.TaskUID]*grantedTask
	outcomes []*keptOutcome
}

// grantedTask is a task that has not ended.
type grantedTask struct {
	id       engine.TaskUID
	epoch    uint64
	session  string
	template *enginev1.TaskTemplate
	began    time.Time
	ended    bool
}

// keptOutcome is an outcome that is not released.
type keptOutcome struct {
	id      engine.TaskUID
	session string
	wire    *enginev1.TaskOutcome
	told    bool
}

func newTaskTable() taskTable {
	return taskTable{templates: map[uint32]*enginev1.TaskTemplate{}, running: map[engine.TaskUID]*grantedTask{}}
}

// reconnected forgets what belongs to a stream.
func (t *taskTable) reconnected() {
	clear(t.templates)
	for _, o := range t.outcomes {
		o.told = false
	}
}

// idle reports whether nothing is left to do or to tell.
func (t *taskTable) idle() bool {
	return len(t.queued)+len(t.running) == 0 && !slices.ContainsFunc(t.outcomes, func(o *keptOutcome) bool { return !o.told })
}

func cpuOf(template *enginev1.TaskTemplate) float64 { return template.GetResources().GetCpu() }

func byUID(a, b engine.TaskUID) int { return slices.Compare(a[:], b[:]) }

// reportTasks says what the worker has.
func (v *worker) reportTasks(report *enginev1.SyncRequest, due bool) {
	t := &v.tasks
	first := report.GetSequence() == 1
	if first || due {
		held := slices.Clone(t.queued)
		for _, id := range slices.SortedFunc(maps.Keys(t.running), byUID) {
			held = append(held, t.running[id])
		}
		for _, g := range held {
			if !first && (g.began.IsZero() || v.world.now.Sub(g.began) < reportInterval) {
				continue
			}
			wire := &enginev1.HeldTask{TaskId: g.id[:], Epoch: g.epoch, SessionId: g.session, Template: g.template}
			if !g.began.IsZero() {
				wire.RunNanos = int64(v.world.now.Sub(g.began))
			}
			report.HeldTasks = append(report.HeldTasks, wire)
		}
	}
	for _, o := range t.outcomes {
		if o.told {
			continue
		}
		o.told = true
		report.Outcomes = append(report.Outcomes, o.wire)
		if first {
			report.OutcomeSessions = append(report.OutcomeSessions, o.session)
		}
	}
}

// takeTasks acts on an answer.
func (v *worker) takeTasks(answer *enginev1.SyncResponse) {
	t := &v.tasks
	for _, template := range answer.GetTemplates() {
		t.templates[template.GetNumber()] = template
	}
	// One in the same message as a grant is either of an earlier lease or of that grant.
	later := slices.DeleteFunc(slices.Clone(answer.GetTaskRevocations()), v.revokeTask)
	for ids := answer.GetReleasedTasks(); len(ids) >= 16; ids = ids[16:] {
		id := engine.TaskUID(ids)
		t.outcomes = slices.DeleteFunc(t.outcomes, func(o *keptOutcome) bool { return o.id == id })
	}
	for _, grant := range answer.GetTaskGrants() {
		if v.gone {
			break
		}
		id := engine.TaskUID(grant.GetTask().GetTaskId())
		template := t.templates[grant.GetTask().GetTemplate()]
		if template == nil {
			v.world.fail("%s is granted task %s of template %d, which its stream has not told", v.id, id, grant.GetTask().GetTemplate())
		}
		if held := v.findTask(id); held != nil {
			held.epoch = max(held.epoch, grant.GetEpoch())
			continue
		}
		t.outcomes = slices.DeleteFunc(t.outcomes, func(o *keptOutcome) bool { return o.id == id })
		t.queued = append(t.queued, &grantedTask{id: id, epoch: grant.GetEpoch(), session: grant.GetSessionId(), template: template})
	}
	for _, revocation := range later {
		v.revokeTask(revocation)
	}
	for _, number := range answer.GetRetiredTemplates() {
		delete(t.templates, number)
	}
	v.admit()
}

func (v *worker) findTask(id engine.TaskUID) *grantedTask {
	if running := v.tasks.running[id]; running != nil {
		return running
	}
	if i := slices.IndexFunc(v.tasks.queued, func(g *grantedTask) bool { return g.id == id }); i >= 0 {
		return v.tasks.queued[i]
	}
	return nil
}

// revokeTask takes a task away. It reports false if the worker has no such lease.
func (v *worker) revokeTask(r *enginev1.TaskRevocation) bool {
	t := &v.tasks
	id := engine.TaskUID(r.GetTaskId())
	if r.GetForget() {
		t.outcomes = slices.DeleteFunc(t.outcomes, func(o *keptOutcome) bool {
			return o.id == id && (r.GetEpoch() == 0 || o.wire.GetEpoch() == r.GetEpoch())
		})
	}
	g := v.findTask(id)
	switch {
	case g == nil || r.GetEpoch() != 0 && r.GetEpoch() != g.epoch:
		return false
	case r.GetUnlessBegun() && !g.began.IsZero():
		return true
	}
	g.ended = true
	t.queued = slices.DeleteFunc(t.queued, func(other *grantedTask) bool { return other == g })
	if t.running[id] == g {
		delete(t.running, id)
		v.running -= cpuOf(g.template)
	}
	if !r.GetForget() {
		t.outcomes = append(t.outcomes, &keptOutcome{id: id, session: g.session, wire: &enginev1.TaskOutcome{
			TaskId: id[:], State: enginev1.TaskState_TASK_STATE_CANCELLED, NodeId: string(v.id), Epoch: g.epoch,
			Error: rpc.ToProto(engine.Errorf(engine.KindCanceled, "run task", id.String(), "it was taken back")),
		}})
		v.wake()
	}
	v.depart()
	return true
}

// admitTasks starts the tasks of clients that have room.
func (v *worker) admitTasks() {
	t := &v.tasks
	for len(t.queued) > 0 {
		g := t.queued[0]
		if !v.room(cpuOf(g.template)) && !v.world.broken(IgnoreAdmission) {
			return
		}
		t.queued = t.queued[1:]
		t.running[g.id] = g
		v.world.say("%s starts task %s under %x", v.id, g.id, g.epoch)
		g.began = v.world.now
		v.running += cpuOf(g.template)
		v.world.checks.started(v)
		v.later(v.world.between(0, 800*time.Millisecond), func() { v.endTask(g) })
	}
}

// endTask makes the outcome of a task.
func (v *worker) endTask(g *grantedTask) {
	if g.ended {
		return
	}
	g.ended = true
	v.world.say("%s ends task %s under %x", v.id, g.id, g.epoch)
	delete(v.tasks.running, g.id)
	v.running -= cpuOf(g.template)
	wire := &enginev1.TaskOutcome{TaskId: g.id[:], State: enginev1.TaskState_TASK_STATE_SUCCEEDED, NodeId: string(v.id), Epoch: g.epoch, RunNanos: 1}
	if v.world.chance(20) {
		wire.State = enginev1.TaskState_TASK_STATE_FAILED
		wire.Error = rpc.ToProto(engine.Errorf(engine.KindUnavailable, "run task", g.id.String(), "a device went away"))
	} else {
		wire.Outputs = []*enginev1.TaskOutput{{SizeBytes: 100, Rows: 1}}
		v.world.made(g.id.Output(0), v)
	}
	v.tasks.outcomes = append(v.tasks.outcomes, &keptOutcome{id: g.id, session: g.session, wire: wire})
	v.wake()
	v.admit()
	v.depart()
}

// made records where an object is.
func (w *world) made(id engine.ObjectID, v *worker) {
	if w.objects == nil {
		w.objects = map[engine.ObjectID]*worker{}
	}
	w.objects[id] = v
}

// lookFor is the directory of objects: it says where those are that are wanted.
func (h *head) lookFor(wanted []engine.ObjectID) {
	if len(wanted) == 0 {
		return
	}
	h.later(h.world.between(0, 5*time.Millisecond), func() {
		var news objects.News
		for _, id := range wanted {
			switch at := h.world.objects[id]; {
			case at == nil:
				news.Unknown = append(news.Unknown, id)
			case at.alive:
				news.Known = append(news.Known, objects.Location{ID: id, SizeBytes: 100, Nodes: []engine.NodeID{at.id}})
			default:
				news.Lost = append(news.Lost, id)
			}
		}
		h.core.HearObjects(h.world.now, news)
		h.act()
	})
}

// checkGrants makes sure that nothing runs again whose outcome its client has acknowledged, but for what may be computed anew.
func (w *world) checkGrants(answer *enginev1.SyncResponse) {
	for _, grant := range answer.GetTaskGrants() {
		id := engine.TaskUID(grant.GetTask().GetTaskId())
		for _, c := range w.clients {
			if c.id != grant.GetSessionId() || !c.acknowledged[id] {
				continue
			}
			if !c.recompute[id] {
				w.fail("task %s is granted again after its client has acknowledged it", id)
			}
		}
	}
}
