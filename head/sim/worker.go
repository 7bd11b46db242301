package sim

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/internal/rpc"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// worker follows the protocol as package worker does, with attempts that take time and publish one part each.
type worker struct {
	actor
	id  engine.NodeID
	cpu float64
	// rate is how fast its clock runs.
	rate float64
	// mute and deaf say that what it sends, or what is sent to it, does not arrive.
	mute, deaf bool

	stream    *stream
	cluster   string
	leaseTime time.Duration
	sequence  uint64
	heard     uint64
	// sentAt has, by its own clock, when each report of this stream was sent.
	sentAt     map[uint64]time.Duration
	validUntil time.Duration
	leases     map[engine.TaskID]*lease
	results    map[engine.TaskID]*enginev1.TaskResult
	knows      map[string]bool
	reporting  bool
	draining   bool
	gone       bool
	// waiting are leases whose attempts have not begun; running is what those take that have, and the tasks of clients that run.
	waiting []*lease
	running float64

	tasks taskTable
}

// lease is a right to run an attempt.
type lease struct {
	task  engine.TaskID
	epoch uint64
	// begun says that its attempt runs, ended that it was taken away or has ended.
	begun, ended bool
	cpu          float64
	// notBefore is when it may be published at the earliest, because it had ended when the worker met a new head.
	notBefore time.Duration
	// lapsed says that it had ended when this stream began, and that this stream has not been answered.
	lapsed bool
}

// addWorker makes a worker and connects it.
func (w *world) addWorker() *worker {
	w.names++
	v := &worker{
		actor: actor{world: w, alive: true}, id: engine.NodeID(fmt.Sprintf("w%d", w.names)), cpu: float64(2 + w.random.IntN(3)),
		rate: 1 + (w.random.Float64()-0.5)/50, leaseTime: leaseTime,
		sentAt: map[uint64]time.Duration{}, leases: map[engine.TaskID]*lease{}, results: map[engine.TaskID]*enginev1.TaskResult{}, knows: map[string]bool{},
		tasks: newTaskTable(),
	}
	w.workers = append(w.workers, v)
	w.say("%s joins with %v cores", v.id, v.cpu)
	v.connect()
	v.beat()
	return v
}

// clock is the worker's own monotonic clock, which goes on while it is stopped.
func (v *worker) clock() time.Duration {
	return time.Duration(float64(v.world.now.Sub(epoch)) * v.rate)
}

// until returns how long the world takes until the worker's clock has advanced by d.
func (v *worker) until(d time.Duration) time.Duration {
	return time.Duration(float64(d)/v.rate) + time.Microsecond
}

// connect opens a stream to the head that leads, trying again until there is one.
func (v *worker) connect() {
	leader := v.world.leader()
	if leader == nil || leader.frozen || v.mute || v.deaf || v.gone {
		if !v.gone {
			v.later(v.world.between(50*time.Millisecond, 2*time.Second), v.connect)
		}
		return
	}
	v.stream = newStream(v, leader)
	v.sequence, v.heard, v.reporting = 0, 0, false
	clear(v.sentAt)
	held := map[string]bool{}
	for id := range v.leases {
		held[string(id.Job)] = true
	}
	maps.DeleteFunc(v.knows, func(job string, _ bool) bool { return !held[job] })
	v.tasks.reconnected()
	v.report(true)
}

func (v *worker) lostStream(s *stream) {
	if v.stream == s {
		v.stream = nil
		v.later(v.world.between(50*time.Millisecond, 2*time.Second), v.connect)
	}
}

// beat reports at least once an interval.
func (v *worker) beat() {
	v.later(v.until(reportInterval), func() {
		v.report(true)
		v.beat()
	})
}

// wake makes a report come soon.
func (v *worker) wake() {
	if v.reporting {
		return
	}
	v.reporting = true
	v.later(v.world.between(0, 2*time.Millisecond), func() {
		if v.reporting {
			v.report(false)
		}
	})
}

func byTask(a, b engine.TaskID) int {
	if a.Job != b.Job {
		if a.Job < b.Job {
			return -1
		}
		return 1
	}
	return a.Index - b.Index
}

// report says what the worker holds.
func (v *worker) report(due bool) {
	v.reporting = false
	if v.stream == nil || v.stream.broken {
		return
	}
	v.sequence++
	report := &enginev1.SyncRequest{Sequence: v.sequence, AcknowledgedSequence: v.heard, Draining: v.draining, Goodbye: v.gone}
	if v.sequence == 1 {
		report.Hello = &enginev1.WorkerHello{
			ProtocolVersion: rpc.WorkerProtocolVersion, NodeId: string(v.id), Total: &enginev1.Resources{Cpu: &v.cpu}, ClusterId: v.cluster,
			Operators: []string{operatorName},
		}
	}
	v.sentAt[v.sequence] = v.clock()
	for _, id := range slices.SortedFunc(maps.Keys(v.leases), byTask) {
		l := v.leases[id]
		if v.sequence == 1 {
			l.lapsed = v.validUntil <= v.clock() || l.notBefore > v.clock()
		}
		report.Held = append(report.Held, &enginev1.HeldLease{Lease: ref(id, l.epoch), Lapsed: l.lapsed})
	}
	for _, id := range slices.SortedFunc(maps.Keys(v.results), byTask) {
		report.Results = append(report.Results, v.results[id])
	}
	v.reportTasks(report, due)
	v.stream.toHead(report)
}

func ref(id engine.TaskID, epoch uint64) *enginev1.LeaseRef {
	return &enginev1.LeaseRef{JobId: string(id.Job), Task: int32(id.Index), Epoch: epoch} //nolint:gosec // Small.
}

func taskOf(r *enginev1.LeaseRef) engine.TaskID {
	return engine.TaskID{Job: engine.JobID(r.GetJobId()), Index: int(r.GetTask())}
}

// take acts on an answer.
func (v *worker) take(s *stream, answer *enginev1.SyncResponse) {
	if v.stream != s {
		return
	}
	v.heard = answer.GetSequence()
	if welcome := answer.GetWelcome(); welcome != nil {
		for _, l := range v.leases {
			if l.lapsed {
				l.lapsed, l.notBefore = false, max(l.notBefore, v.clock()+welcome.GetAdoptionWait().AsDuration())
			}
		}
		v.cluster, v.leaseTime = welcome.GetClusterId(), welcome.GetLeaseTime().AsDuration()
	}
	if sent, ok := v.sentAt[answer.GetAcknowledgedSequence()]; ok {
		if v.world.broken(RenewOnAnswer) {
			sent = v.clock()
		}
		maps.DeleteFunc(v.sentAt, func(n uint64, _ time.Duration) bool { return n <= answer.GetAcknowledgedSequence() })
		v.validUntil = max(v.validUntil, sent+v.leaseTime)
	}
	for _, r := range answer.GetRevocations() {
		id := taskOf(r)
		if l := v.leases[id]; l != nil && l.epoch == r.GetEpoch() && !v.world.broken(IgnoreRevocations) {
			v.drop(l)
		}
		if result := v.results[id]; result.GetLease().GetEpoch() == r.GetEpoch() {
			delete(v.results, id)
		}
	}
	for _, r := range answer.GetSettled() {
		if id := taskOf(r); v.results[id].GetLease().GetEpoch() == r.GetEpoch() {
			delete(v.results, id)
		}
	}
	for _, id := range answer.GetEndedJobs() {
		delete(v.knows, id)
	}
	for _, job := range answer.GetJobs() {
		v.knows[job.GetJobId()] = true
	}
	for _, grant := range answer.GetGrants() {
		id, granted := taskOf(grant.GetLease()), grant.GetLease().GetEpoch()
		switch held := v.leases[id]; {
		case !v.knows[grant.GetLease().GetJobId()]:
			v.world.fail("%s is granted %s of a job that its stream has not told", v.id, id)
		case v.draining && v.gone, held != nil && held.epoch >= granted:
			continue
		case held != nil:
			v.drop(held)
		}
		v.start(id, granted)
	}
	if answer.GetDrain() != nil && !v.draining {
		v.leave()
	}
	v.takeTasks(answer)
	if v.gone && answer.GetAcknowledgedSequence() == v.sequence && v.sequence > 0 {
		v.world.say("%s has said goodbye", v.id)
		v.alive = false
	}
}

// drop ends a lease that was taken away.
func (v *worker) drop(l *lease) {
	l.ended = true
	if l.begun {
		v.running -= l.cpu
	}
	delete(v.leases, l.task)
	v.world.say("%s drops %s under %x", v.id, l.task, l.epoch)
	v.wake()
	v.admit()
}

// start begins an attempt.
func (v *worker) start(id engine.TaskID, granted uint64) {
	job := v.world.jobs.byID(id.Job)
	l := &lease{task: id, epoch: granted, cpu: job.request.CPU}
	v.leases[id] = l
	v.waiting = append(v.waiting, l)
	v.admit()
}

// room reports whether something fits beside what runs.
func (v *worker) room(cpu float64) bool {
	return v.running+cpu <= v.cpu+rounding
}

// admit starts what has room: leases of jobs first, which wait for tasks of clients alone, and then those.
func (v *worker) admit() {
	for len(v.waiting) > 0 {
		l := v.waiting[0]
		if !l.ended && len(v.tasks.running) > 0 && !v.room(l.cpu) {
			return
		}
		v.waiting = v.waiting[1:]
		if !l.ended {
			v.begin(l)
		}
	}
	v.admitTasks()
}

// begin runs the attempt of a lease.
func (v *worker) begin(l *lease) {
	l.begun = true
	v.running += l.cpu
	id, granted := l.task, l.epoch
	v.world.stats.Attempts++
	v.world.say("%s starts %s under %x", v.id, id, granted)
	v.world.checks.started(v)
	work := v.world.between(time.Millisecond, 3*time.Second)
	if v.world.chance(20) {
		work = v.world.between(3*time.Second, 20*time.Second)
	}
	v.later(work, func() {
		if l.ended {
			return
		}
		if v.world.chance(15) {
			v.world.say("%s fails at %s under %x", v.id, id, granted)
			v.finish(l, &enginev1.TaskResult{Lease: ref(id, granted), Error: rpc.ToProto(engine.Errorf(engine.KindUnavailable, "run task", id.String(), "a device went away"))})
			return
		}
		v.publish(l)
	})
}

// publish puts the part in its place when the lease lasts long enough, and waits for that.
func (v *worker) publish(l *lease) {
	if l.ended {
		return
	}
	if (v.validUntil-v.clock() <= v.leaseTime/5 || v.clock() < l.notBefore) && !v.world.broken(PublishWithoutRight) {
		v.later(v.until(20*time.Millisecond), func() { v.publish(l) })
		return
	}
	if !v.frozen {
		v.world.checks.publishes(v, l)
	}
	// Between the look at the clock and the write there is a moment; the process may be stopped in it.
	v.later(v.world.between(0, 50*time.Millisecond), func() {
		if l.ended {
			return
		}
		rows := int64(100 + v.world.random.IntN(100))
		there := v.world.disk.publish(l.task, &part{worker: v.id, epoch: l.epoch, rows: rows})
		v.world.say("%s publishes %s under %x (there: %s %x)", v.id, l.task, l.epoch, there.worker, there.epoch)
		v.finish(l, &enginev1.TaskResult{Lease: ref(l.task, l.epoch), Counts: &enginev1.TaskCounts{RowsWritten: there.rows}, PublishedEpoch: there.epoch})
	})
}

// finish replaces a lease by its result.
func (v *worker) finish(l *lease, result *enginev1.TaskResult) {
	v.running -= l.cpu
	if v.leases[l.task] == l {
		delete(v.leases, l.task)
		v.results[l.task] = result
	}
	l.ended = true
	v.wake()
	v.admit()
	v.depart()
}

// freeze stops the process for a while.
func (v *worker) freeze(d time.Duration) { v.stop(d, string(v.id)) }

// die is the death of the process.
func (v *worker) die() {
	if !v.alive {
		return
	}
	v.world.say("%s dies", v.id)
	v.world.stats.Lost++
	v.alive = false
	v.deferred = nil
	if v.stream != nil {
		v.stream.breakOff("its worker is gone")
	}
	v.world.forgetDead()
}

// forgetDead drops the workers that are dead from the list.
func (w *world) forgetDead() {
	w.workers = slices.DeleteFunc(w.workers, func(v *worker) bool { return !v.alive })
}

// leave makes the worker finish what it has and go.
func (v *worker) leave() {
	v.world.say("%s drains", v.id)
	v.draining = true
	v.wake()
	v.depart()
}

// depart says goodbye once nothing is left.
func (v *worker) depart() {
	if v.draining && !v.gone && len(v.leases)+len(v.results) == 0 && v.running == 0 && v.tasks.idle() {
		v.gone = true
		v.wake()
		v.later(time.Minute, func() { v.alive = false }) // The head is away.
	}
}
