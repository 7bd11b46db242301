package sim

import (
	"fmt"
	"time"

	"github.com/f708428e/engine"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// jobClient submits jobs, stops and resumes some, and waits for them.
type jobClient struct {
	world *world
	jobs  []*clientJob
	ids   map[engine.JobID]*clientJob
}

// clientJob is a job as its client knows it.
type clientJob struct {
	id      engine.JobID
	tasks   int
	request engine.Resources
	spec    *enginev1.JobSpec
	// submitted is set when the client has begun to submit it, accepted when it has been told that it is.
	submitted, accepted bool
	// stop says that the client wants it stopped once.
	stop bool
}

func newJobClient(w *world) *jobClient {
	c := &jobClient{world: w, ids: map[engine.JobID]*clientJob{}}
	for i := range 1 + w.random.IntN(6) {
		job := &clientJob{
			id: engine.JobID(fmt.Sprintf("job%d", i)), tasks: 1 + w.random.IntN(12),
			request: engine.Resources{CPU: []float64{0.25, 0.5, 1, 1, 1, 2}[w.random.IntN(6)]},
			spec:    &enginev1.JobSpec{Queue: []string{"", "a", "b"}[w.random.IntN(3)], Priority: int32(w.random.IntN(2))}, //nolint:gosec // Small.
			stop:    w.chance(5),
		}
		c.jobs = append(c.jobs, job)
		c.ids[job.id] = job
		w.after(w.between(0, faultsFor), func() {
			job.submitted = true
			c.submit(job)
		})
	}
	return c
}

func (c *jobClient) byID(id engine.JobID) *clientJob { return c.ids[id] }

// submit asks the head that leads, again and again until it says that the job is accepted.
func (c *jobClient) submit(job *clientJob) {
	h := c.world.leader()
	again := func() { c.world.after(c.world.between(100*time.Millisecond, 3*time.Second), func() { c.submit(job) }) }
	if job.accepted {
		return
	}
	if h == nil {
		again()
		return
	}
	c.world.after(c.world.lag(), func() {
		h.run(func() {
			h.accept(job, func(err error) {
				if err == nil && !c.world.chance(8) { // An answer may be lost.
					c.accepted(job)
				}
			})
		})
	})
	if c.world.broken(AcknowledgeEarly) {
		c.accepted(job)
		return
	}
	again()
}

func (c *jobClient) accepted(job *clientJob) {
	if job.accepted {
		return
	}
	job.accepted = true
	c.world.say("%s is accepted", job.id)
	if job.stop {
		c.world.after(c.world.between(0, 5*time.Second), func() { c.stop(job) })
	}
}

// accept makes a job durable, or finds it.
func (h *head) accept(job *clientJob, answer func(error)) {
	if h.world.disk.state.Job(string(job.id)) != nil {
		answer(nil)
		return
	}
	if !h.leads {
		answer(engine.Errorf(engine.KindUnavailable, "submit", string(job.id), "another head leads"))
		return
	}
	entry := &enginev1.LogEntry{Fact: &enginev1.LogEntry_JobAccepted{JobAccepted: &enginev1.JobAccepted{JobId: string(job.id), Spec: job.spec}}}
	h.world.disk.propose(h, entry, func(err error) {
		answer(err)
		if err == nil {
			h.plan(job.id)
		}
	})
}

// stop stops a job that has not ended, and resumes it later.
func (c *jobClient) stop(job *clientJob) {
	known := c.world.disk.state.Job(string(job.id))
	h := c.world.leader()
	if h != nil && known != nil && known.Ended == nil && known.Plan != nil {
		h.run(func() { h.finish(job.id, enginev1.JobState_JOB_STATE_STOPPED) })
	}
	c.world.after(c.world.between(time.Second, 10*time.Second), func() { c.resume(job) })
}

func (c *jobClient) resume(job *clientJob) {
	known := c.world.disk.state.Job(string(job.id))
	if known == nil || known.Ended != nil && known.Ended.GetState() == enginev1.JobState_JOB_STATE_SUCCEEDED {
		return
	}
	c.world.after(c.world.between(time.Second, 5*time.Second), func() { c.resume(job) }) // Until it has succeeded.
	h := c.world.leader()
	if h == nil || known.Ended == nil {
		return
	}
	h.run(func() {
		entry := &enginev1.LogEntry{Fact: &enginev1.LogEntry_JobResumed{JobResumed: &enginev1.JobResumed{JobId: string(job.id)}}}
		c.world.disk.propose(h, entry, func(err error) {
			if err == nil {
				c.world.say("%s is resumed", job.id)
				h.add(c.world.disk.state.Job(string(job.id)), time.Time{})
				h.act()
			}
		})
	})
}

// settled reports whether every job has succeeded.
func (c *jobClient) settled() bool {
	for _, job := range c.jobs {
		if !job.submitted || !job.accepted && !c.world.broken(AcknowledgeEarly) {
			return false
		}
		known := c.world.disk.state.Job(string(job.id))
		if known == nil {
			if job.accepted {
				return true // It is lost, which the checks say.
			}
			return false
		}
		if known.Ended.GetState() != enginev1.JobState_JOB_STATE_SUCCEEDED {
			return false
		}
	}
	return true
}

func (c *jobClient) unfinished() string {
	text := ""
	for _, job := range c.jobs {
		known := c.world.disk.state.Job(string(job.id))
		switch {
		case known == nil:
			text += fmt.Sprintf("%s is not known; ", job.id)
		case known.Ended == nil:
			text += fmt.Sprintf("%s has %d of %d tasks; ", job.id, known.CommittedCount, job.tasks)
		}
	}
	return text
}
