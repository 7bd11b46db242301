package sim

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/head/dispatch"
	"github.com/f708428e/engine/head/state"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// verifiedFor is how long a head that leads may be without having heard that it still does before it tells workers nothing more. A new
// head waits that much longer than a lease before it grants what workers may hold.
const verifiedFor = time.Second

// head is one head while it leads, and until it has noticed that it does not any more.
type head struct {
	actor
	name  string
	leads bool
	term  uint64
	core  *dispatch.Core
	// verified is when it last heard that it leads.
	verified time.Time
	// skew is how wrong its wall clock is.
	skew    time.Duration
	streams []*stream
	// answering are the streams for which an answer is about to be made.
	answering map[*stream]bool
	// ending are the jobs whose end is on its way to the disk.
	ending map[engine.JobID]bool
	// sessions has the stream of each session of tasks.
	sessions map[string]*taskStream
}

// startHead makes a head lead.
func (w *world) startHead() *head {
	w.stats.Heads++
	h := &head{
		actor: actor{world: w, alive: true}, name: fmt.Sprintf("head %d", w.stats.Heads), leads: true, term: w.disk.state.Term + 1, verified: w.now,
		answering: map[*stream]bool{}, ending: map[engine.JobID]bool{}, sessions: map[string]*taskStream{},
	}
	started := &enginev1.HeadStarted{Term: h.term}
	if h.term == 1 {
		started.ClusterId = "simulated"
	}
	if err := w.disk.append(h, &enginev1.LogEntry{Fact: &enginev1.LogEntry_HeadStarted{HeadStarted: started}}); err != nil {
		w.fail("%s cannot begin its term: %v", h.name, err)
	}
	w.heads = append(w.heads, h)
	w.say("%s leads in term %d", h.name, h.term)
	var assignAfter time.Time
	if h.term > 1 && !w.broken(NoAdoptionWait) {
		assignAfter = w.now.Add(leaseTime + verifiedFor)
	}
	h.core = dispatch.NewCore(dispatch.Config{
		ClusterID: "simulated", Term: h.term, LeaseTime: leaseTime, RetryBackoff: 50 * time.Millisecond, Started: w.now, AssignAfter: assignAfter,
	})
	for _, job := range w.disk.state.Jobs() {
		switch {
		case job.Ended != nil:
		case job.Plan == nil:
			h.plan(job.ID)
		default:
			h.add(job, assignAfter)
		}
	}
	h.act()
	h.tick()
	h.verify()
	return h
}

func (h *head) tick() {
	h.later(tickInterval, func() {
		h.core.Tick(h.world.now)
		h.act()
		h.tick()
	})
}

// verify asks the other heads again and again whether this one leads.
func (h *head) verify() {
	h.later(verifiedFor/4, func() {
		if h.leads {
			h.verified = h.world.now
			h.verify()
		}
	})
}

// plan cuts a job into tasks.
func (h *head) plan(id engine.JobID) {
	job := h.world.jobs.byID(id)
	plan := &enginev1.Plan{}
	for i := range job.tasks {
		plan.Tasks = append(plan.Tasks, &enginev1.TaskPlan{Part: fmt.Sprintf("part-%s-%d", id, i)})
	}
	entry := &enginev1.LogEntry{Fact: &enginev1.LogEntry_JobPlanned{JobPlanned: &enginev1.JobPlanned{JobId: string(id), Plan: plan}}}
	h.world.disk.propose(h, entry, func(err error) {
		if err != nil {
			h.later(time.Second, func() {
				if h.leads {
					h.plan(id)
				}
			})
			return
		}
		h.add(h.world.disk.state.Job(string(id)), time.Time{})
		h.act()
	})
}

// add lets the tasks of a job run.
func (h *head) add(job *state.Job, assignAfter time.Time) {
	spec := h.world.jobs.byID(job.ID)
	done := make([]bool, len(job.Committed))
	for i, committed := range job.Committed {
		done[i] = committed != nil
	}
	h.core.AddJob(h.world.now, dispatch.Job{
		ID: job.ID, Run: job.Resumptions, Spec: job.Spec, Plan: job.Plan, Request: spec.request, MaxAttempts: 1_000_000,
		Done: func(task int) bool { return done[task] }, AssignAfter: assignAfter,
	})
}

// hear takes in a report.
func (h *head) hear(s *stream, report *enginev1.SyncRequest) {
	if report.GetHello() != nil {
		session, err := h.core.Connect(h.world.now, report.GetHello())
		if err != nil {
			h.world.fail("%s refuses %s: %v", h.name, s.worker.id, err)
		}
		s.session = session
		h.world.say("%s meets %s, which holds %d tasks", h.name, s.worker.id, len(report.GetHeld()))
		h.streams = append(h.streams, s)
	}
	if err := h.core.Report(h.world.now, s.worker.id, s.session, report); err != nil {
		s.breakOff(err.Error())
		return
	}
	h.act()
}

// lostStream is called when a stream has broken.
func (h *head) lostStream(s *stream) {
	if i := slices.Index(h.streams, s); i >= 0 {
		h.streams = slices.Delete(h.streams, i, i+1)
		h.core.Disconnect(s.worker.id, s.session)
		h.act()
	}
}

// act does what the core asks for.
func (h *head) act() {
	events := h.core.Take()
	for _, commit := range events.Commits {
		entry := &enginev1.LogEntry{Fact: &enginev1.LogEntry_TaskCommitted{TaskCommitted: commit.Committed}}
		h.world.disk.propose(h, entry, func(err error) {
			if err != nil {
				h.core.CommitFailed(h.world.now, commit)
			} else {
				h.world.say("%s commits %s", h.name, commit.Task)
				h.core.Committed(h.world.now, commit.Task, commit.Epoch)
			}
			h.act()
		})
	}
	for _, line := range events.Lines {
		h.world.say("%s: %s %s %s: %s", h.name, line.Job, line.Attributes["task"], line.Attributes["worker"], line.Message)
	}
	for _, failure := range events.Failed {
		h.world.fail("%s lets job %s fail: %v", h.name, failure.Run.Job, failure.Err)
	}
	for _, run := range events.Finished {
		h.finish(run.Job, enginev1.JobState_JOB_STATE_SUCCEEDED)
	}
	for _, s := range h.streams {
		for _, node := range events.Wake {
			if s.worker.id == node && !s.broken {
				h.answer(s)
			}
		}
	}
	h.wakeSessions(events.Sessions)
	h.lookFor(events.Wanted)
}

// answer tells a worker what it has not heard, in a moment.
func (h *head) answer(s *stream) {
	if h.answering[s] {
		return
	}
	h.answering[s] = true
	h.later(h.world.between(0, time.Millisecond), func() {
		delete(h.answering, s)
		if s.broken {
			return
		}
		if h.world.now.Sub(h.verified) > verifiedFor && !h.world.broken(OverlappingHeads) {
			// It may have lost its place without knowing: what it said now would renew leases that another head does not know of.
			h.later(verifiedFor/8, func() { h.answer(s) })
			return
		}
		answer := h.core.Answer(h.world.now, s.worker.id, s.session)
		if answer == nil {
			return
		}
		if h.world.broken(LongLeases) && answer.GetWelcome() != nil {
			answer.Welcome.LeaseTime.Seconds *= 3
		}
		h.world.checkGrants(answer)
		s.toWorker(answer)
	})
}

// finish ends a job.
func (h *head) finish(id engine.JobID, how enginev1.JobState) {
	if h.ending[id] {
		return
	}
	h.ending[id] = true
	entry := &enginev1.LogEntry{Fact: &enginev1.LogEntry_JobEnded{JobEnded: &enginev1.JobEnded{JobId: string(id), State: how}}}
	h.world.disk.propose(h, entry, func(err error) {
		delete(h.ending, id)
		if err != nil {
			if h.leads && engine.KindOf(err) != engine.KindCorrupt {
				h.later(time.Second, func() { h.finish(id, how) })
			}
			return
		}
		h.world.say("job %s ends: %s", id, how)
		h.core.RemoveJob(h.world.now, id)
		h.act()
	})
}

// die is the death of the process; another one takes over.
func (h *head) die() {
	if !h.alive {
		return
	}
	h.world.say("%s dies", h.name)
	h.fall()
	h.succeed(h.world.between(100*time.Millisecond, 4*time.Second))
}

// fall ends the process.
func (h *head) fall() {
	h.alive = false
	h.deferred = nil
	for _, s := range h.streams {
		s.breakOff("its head is gone")
	}
	for _, id := range slices.Sorted(maps.Keys(h.sessions)) {
		h.sessions[id].breakOff()
	}
}

// succeed makes another head lead after a while.
func (h *head) succeed(after time.Duration) {
	h.world.after(after, func() {
		h.leads = false
		h.world.startHead()
	})
}

// freeze stops the process. If that lasts for longer than an election, another head leads, and this one finds out when it goes on.
func (h *head) freeze(d time.Duration) {
	if h.frozen {
		return
	}
	h.stop(d, h.name)
	election := h.world.between(time.Second, 3*time.Second)
	if d < election {
		return
	}
	h.world.after(election, func() {
		if h.alive && h.leads {
			h.leads = false
			h.world.startHead()
		}
	})
	h.world.after(d, func() { h.notice() })
}

// depose makes another head lead while this one is well, as when it has lost touch with the others.
func (h *head) depose() {
	if h.frozen {
		return
	}
	h.world.say("%s is cut off from the other heads", h.name)
	h.leads = false // From now on it hears of nobody that it leads.
	h.world.after(h.world.between(200*time.Millisecond, 2*time.Second), func() { h.world.startHead() })
	h.notice()
}

// notice makes a head find out in a while that it leads no more.
func (h *head) notice() {
	most := 3 * time.Second
	if h.world.broken(OverlappingHeads) {
		most = time.Minute
	}
	h.world.after(h.world.between(0, most), func() {
		if h.alive && !h.leads {
			h.world.say("%s notices that it leads no more", h.name)
			h.fall()
		}
	})
}
