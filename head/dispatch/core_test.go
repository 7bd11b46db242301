package dispatch_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/head/dispatch"
	"github.com/f708428e/engine/internal/rpc"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

var start = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

const leaseTime = 5 * time.Second

// bench is a core with a clock and simple workers around it.
type bench struct {
	t       *testing.T
	core    *dispatch.Core
	now     time.Time
	events  dispatch.Events
	workers map[engine.NodeID]*fakeWorker
}

// fakeWorker holds what it was granted, as a real one does.
type fakeWorker struct {
	id           engine.NodeID
	cpu          float64
	cluster      string
	session      uint64
	sequence     uint64
	acknowledged uint64
	held         map[engine.TaskID]uint64
	results      map[engine.TaskID]*enginev1.TaskResult
}

func newBench(t *testing.T, term uint64) *bench {
	return &bench{
		t: t, now: start, workers: map[engine.NodeID]*fakeWorker{},
		core: dispatch.NewCore(dispatch.Config{ClusterID: "c1", Term: term, LeaseTime: leaseTime, RetryBackoff: time.Millisecond}),
	}
}

func (b *bench) take() {
	e := b.core.Take()
	b.events.Commits = append(b.events.Commits, e.Commits...)
	b.events.Finished = append(b.events.Finished, e.Finished...)
	b.events.Failed = append(b.events.Failed, e.Failed...)
	b.events.Started = append(b.events.Started, e.Started...)
	b.events.Lines = append(b.events.Lines, e.Lines...)
	b.events.Reruns = append(b.events.Reruns, e.Reruns...)
}

func (b *bench) addJob(id engine.JobID, tasks, maxAttempts int, done func(int) bool, assignAfter time.Time) {
	b.core.AddJob(b.now, jobOf(id, tasks, maxAttempts, done, assignAfter))
	b.take()
}

func jobOf(id engine.JobID, tasks, maxAttempts int, done func(int) bool, assignAfter time.Time) dispatch.Job {
	plan := &enginev1.Plan{}
	for i := range tasks {
		plan.Tasks = append(plan.Tasks, &enginev1.TaskPlan{Part: fmt.Sprintf("part-%d", i)})
	}
	return dispatch.Job{
		ID: id, Spec: &enginev1.JobSpec{}, Plan: plan, Request: engine.Resources{CPU: 1}, MaxAttempts: maxAttempts,
		Done: done, AssignAfter: assignAfter,
	}
}

func (b *bench) worker(id engine.NodeID, cpu float64) *fakeWorker {
	w := &fakeWorker{id: id, cpu: cpu, held: map[engine.TaskID]uint64{}, results: map[engine.TaskID]*enginev1.TaskResult{}}
	b.workers[id] = w
	b.connect(w)
	return w
}

func (b *bench) connect(w *fakeWorker) {
	session, err := b.core.Connect(b.now, b.hello(w))
	if err != nil {
		b.t.Fatalf("connect: %v", err)
	}
	w.session, w.sequence, w.acknowledged = session, 0, 0
	b.report(w)
}

func (b *bench) hello(w *fakeWorker) *enginev1.WorkerHello {
	return &enginev1.WorkerHello{
		ProtocolVersion: rpc.WorkerProtocolVersion, NodeId: string(w.id), Total: &enginev1.Resources{Cpu: &w.cpu}, ClusterId: w.cluster,
		Operators: []string{"noop"},
	}
}

func ref(id engine.TaskID, epoch uint64) *enginev1.LeaseRef {
	return &enginev1.LeaseRef{JobId: string(id.Job), Task: int32(id.Index), Epoch: epoch}
}

func byTask(a, b engine.TaskID) int {
	if a.Job != b.Job {
		return len(a.Job) - len(b.Job)
	}
	return a.Index - b.Index
}

// tell sends a report and leaves the answer unread.
func (b *bench) tell(w *fakeWorker) error {
	w.sequence++
	report := &enginev1.SyncRequest{Sequence: w.sequence, AcknowledgedSequence: w.acknowledged}
	if w.sequence == 1 {
		report.Hello = b.hello(w)
	}
	for _, id := range slices.SortedFunc(maps.Keys(w.held), byTask) {
		report.Held = append(report.Held, &enginev1.HeldLease{Lease: ref(id, w.held[id])})
	}
	for _, id := range slices.SortedFunc(maps.Keys(w.results), byTask) {
		report.Results = append(report.Results, w.results[id])
	}
	err := b.core.Report(b.now, w.id, w.session, report)
	b.take()
	return err
}

// report is one exchange: report, then take the answer in.
func (b *bench) report(w *fakeWorker) *enginev1.SyncResponse {
	if err := b.tell(w); err != nil {
		b.t.Fatalf("report of %s: %v", w.id, err)
	}
	return b.hear(w)
}

func (b *bench) hear(w *fakeWorker) *enginev1.SyncResponse {
	answer := b.core.Answer(b.now, w.id, w.session)
	if answer == nil {
		b.t.Fatalf("no answer for %s", w.id)
	}
	w.acknowledged = answer.GetSequence()
	if answer.GetWelcome() != nil {
		w.cluster = answer.GetWelcome().GetClusterId()
	}
	for _, r := range answer.GetRevocations() {
		if id := taskOf(r); w.held[id] == r.GetEpoch() {
			delete(w.held, id)
		}
	}
	for _, r := range answer.GetSettled() {
		if id := taskOf(r); w.results[id].GetLease().GetEpoch() == r.GetEpoch() {
			delete(w.results, id)
		}
	}
	for _, g := range answer.GetGrants() {
		w.held[taskOf(g.GetLease())] = g.GetLease().GetEpoch()
	}
	return answer
}

func taskOf(r *enginev1.LeaseRef) engine.TaskID {
	return engine.TaskID{Job: engine.JobID(r.GetJobId()), Index: int(r.GetTask())}
}

// finish turns a lease that w holds into a result.
func (w *fakeWorker) finish(id engine.TaskID, failure error) {
	w.results[id] = &enginev1.TaskResult{Lease: ref(id, w.held[id]), Counts: &enginev1.TaskCounts{RowsWritten: 10}, Error: rpc.ToProto(failure)}
	delete(w.held, id)
}

// commitAll makes what waits durable.
func (b *bench) commitAll() {
	commits := b.events.Commits
	b.events.Commits = nil
	for _, c := range commits {
		b.core.Committed(b.now, c.Task, c.Epoch)
	}
	b.take()
}

func (b *bench) pass(d time.Duration) {
	b.now = b.now.Add(d)
	b.core.Tick(b.now)
	b.take()
}

func task(index int) engine.TaskID { return engine.TaskID{Job: "j", Index: index} }

func TestJobRunsToItsEnd(t *testing.T) {
	b := newBench(t, 1)
	b.addJob("j", 3, 3, nil, time.Time{})
	w := b.worker("w", 2)
	if len(w.held) != 2 {
		t.Fatalf("worker with 2 cores holds %d tasks of 1 core, want 2", len(w.held))
	}
	if !slices.Equal(b.events.Started, []engine.JobID{"j"}) {
		t.Fatalf("started %v, want the job once", b.events.Started)
	}
	for len(w.held) > 0 {
		for id := range w.held {
			w.finish(id, nil)
		}
		b.report(w)
		if len(w.results) == 0 {
			t.Fatal("result was settled before it was durable")
		}
		b.commitAll()
		b.hear(w)
		if len(w.results) != 0 {
			t.Fatal("durable result was not settled")
		}
		b.report(w)
	}
	if !slices.Equal(b.events.Finished, []dispatch.Run{{Job: "j"}}) {
		t.Fatalf("finished %v, want the job once", b.events.Finished)
	}
}

func TestRepeatedResultIsCommittedOnce(t *testing.T) {
	b := newBench(t, 1)
	b.addJob("j", 1, 3, nil, time.Time{})
	w := b.worker("w", 1)
	w.finish(task(0), nil)
	b.report(w)
	b.report(w)
	b.report(w)
	if len(b.events.Commits) != 1 {
		t.Fatalf("%d commits, want 1", len(b.events.Commits))
	}
}

func TestLostWorkerLosesItsTasks(t *testing.T) {
	b := newBench(t, 1)
	b.addJob("j", 1, 3, nil, time.Time{})
	lost := b.worker("lost", 1)
	b.pass(leaseTime / 2)
	other := b.worker("other", 1)
	b.pass(leaseTime/2 + time.Second)
	b.pass(time.Second)
	b.report(other)
	if _, ok := other.held[task(0)]; !ok {
		t.Fatalf("task was not given to the other worker after the lease had ended")
	}
	// The lost one comes back with a finished result under its old epoch.
	lost.finish(task(0), nil)
	if err := b.tell(lost); engine.KindOf(err) != engine.KindFenced {
		t.Fatalf("report of a session that has ended: %v, want kind fenced", err)
	}
	b.connect(lost)
	if len(b.events.Commits) != 0 {
		t.Fatal("late result was accepted although the task has another holder")
	}
	if len(lost.results) != 0 {
		t.Fatal("worker was not told to forget its late result")
	}
	if _, ok := other.held[task(0)]; !ok {
		t.Fatal("late result took the task from its holder")
	}
}

func TestSilentWorkerIsAdoptedAgain(t *testing.T) {
	b := newBench(t, 1)
	b.addJob("j", 1, 3, nil, time.Time{})
	w := b.worker("w", 1)
	epoch := w.held[task(0)]
	b.pass(leaseTime + time.Second) // Nobody else is there to take the task.
	b.connect(w)
	if w.held[task(0)] != epoch {
		t.Fatalf("lease has epoch %d after the worker came back, want %d kept", w.held[task(0)], epoch)
	}
	w.finish(task(0), nil)
	b.report(w)
	if len(b.events.Commits) != 1 {
		t.Fatal("result of the adopted lease was not taken")
	}
}

func TestNewHeadAdoptsAndWaits(t *testing.T) {
	old := newBench(t, 1)
	old.addJob("j", 3, 3, nil, time.Time{})
	w := old.worker("w", 1)
	epoch := w.held[task(0)]

	b := newBench(t, 2)
	b.addJob("j", 3, 3, func(i int) bool { return i == 1 }, b.now.Add(leaseTime))
	fresh := b.worker("fresh", 1)
	if len(fresh.held) != 0 {
		t.Fatal("a task was granted while a worker of the earlier term may hold it")
	}
	b.workers[w.id] = w
	b.connect(w)
	if w.held[task(0)] != epoch {
		t.Fatalf("lease of the earlier term was not adopted")
	}
	b.pass(leaseTime / 2)
	b.report(fresh)
	b.report(w)
	b.pass(leaseTime / 2)
	b.report(fresh)
	if _, ok := fresh.held[task(2)]; !ok || len(fresh.held) != 1 {
		t.Fatalf("after one lease time the fresh worker holds %v, want task 2 alone", fresh.held)
	}
	if fresh.held[task(2)] <= epoch {
		t.Fatalf("epoch %d of term 2 is not above epoch %d of term 1", fresh.held[task(2)], epoch)
	}
}

func TestGrantThatWasLostWithItsStreamIsMadeAgain(t *testing.T) {
	b := newBench(t, 1)
	w := b.worker("w", 1)
	b.addJob("j", 1, 3, nil, time.Time{})
	if answer := b.core.Answer(b.now, w.id, w.session); len(answer.GetGrants()) != 1 {
		t.Fatal("no grant")
	}
	// The answer is lost with the stream; the worker comes back with nothing.
	b.core.Disconnect(w.id, w.session)
	b.connect(w)
	b.pass(time.Second)
	b.report(w)
	if _, ok := w.held[task(0)]; !ok {
		t.Fatal("task was not granted again")
	}
}

func TestGrantOnItsWayIsNotLost(t *testing.T) {
	b := newBench(t, 1)
	w := b.worker("w", 1)
	b.addJob("j", 1, 3, nil, time.Time{})
	answer := b.core.Answer(b.now, w.id, w.session) // Sent, not yet received.
	if err := b.tell(w); err != nil {               // Crosses it.
		t.Fatal(err)
	}
	if view, _ := b.core.Job("j"); view.Lost != 0 || view.Running != 1 {
		t.Fatalf("%+v: a report that crossed the grant lost it", view)
	}
	w.acknowledged = answer.GetSequence()
	if err := b.tell(w); err != nil { // Has seen it and does not hold it.
		t.Fatal(err)
	}
	if view, _ := b.core.Job("j"); view.Lost != 1 {
		t.Fatalf("%+v: a grant that the worker has seen and dropped was not taken back", view)
	}
}

func TestFailures(t *testing.T) {
	for _, test := range []struct {
		name     string
		failure  error
		attempts int
		fails    int // The attempt whose failure ends the job.
	}{
		{"user's fault", engine.Errorf(engine.KindData, "read csv", "a.csv:3", "bad"), 3, 1},
		{"infrastructure", engine.Errorf(engine.KindUnavailable, "read", "", "gone"), 3, 3},
		{"infrastructure, one attempt", engine.Errorf(engine.KindUnavailable, "read", "", "gone"), 1, 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			b := newBench(t, 1)
			b.addJob("j", 1, test.attempts, nil, time.Time{})
			w := b.worker("w", 1)
			for attempt := 1; attempt <= test.fails; attempt++ {
				if len(b.events.Failed) != 0 {
					t.Fatalf("failed before attempt %d", attempt)
				}
				if _, ok := w.held[task(0)]; !ok {
					t.Fatalf("attempt %d was not granted", attempt)
				}
				w.finish(task(0), test.failure)
				b.report(w)
				b.pass(time.Second)
				b.report(w)
			}
			if len(b.events.Failed) != 1 {
				t.Fatalf("%d failures, want 1", len(b.events.Failed))
			}
			if got := engine.KindOf(b.events.Failed[0].Err); got != engine.KindOf(test.failure) {
				t.Fatalf("job failed with kind %s, want %s", got, engine.KindOf(test.failure))
			}
			if len(w.held) != 0 {
				t.Fatal("a failed job's task was granted again")
			}
		})
	}
}

func TestRemovedJobIsRevoked(t *testing.T) {
	b := newBench(t, 1)
	b.addJob("j", 4, 3, nil, time.Time{})
	w := b.worker("w", 2)
	b.core.RemoveJob(b.now, "j")
	answer := b.hear(w)
	if len(w.held) != 0 || len(answer.GetEndedJobs()) != 1 {
		t.Fatalf("worker holds %v after the job was removed; ended jobs %v", w.held, answer.GetEndedJobs())
	}
}

func TestGoodbyeGivesTasksBackAtOnce(t *testing.T) {
	b := newBench(t, 1)
	b.addJob("j", 1, 3, nil, time.Time{})
	w := b.worker("w", 1)
	other := b.worker("other", 1)
	w.sequence++
	if err := b.core.Report(b.now, w.id, w.session, &enginev1.SyncRequest{Sequence: w.sequence, AcknowledgedSequence: w.acknowledged, Goodbye: true}); err != nil {
		t.Fatal(err)
	}
	b.pass(time.Second)
	b.report(other)
	if _, ok := other.held[task(0)]; !ok {
		t.Fatal("task of the worker that left was not given on")
	}
}

func TestGrantThatNobodyHeardOfCostsNoAttempt(t *testing.T) {
	b := newBench(t, 1)
	w := b.worker("w", 1)
	b.addJob("j", 1, 2, nil, time.Time{})
	for range 5 { // More than the job has attempts.
		b.core.Disconnect(w.id, w.session)
		b.connect(w)
		b.pass(time.Second)
	}
	if len(b.events.Failed) != 0 || len(b.events.Lines) != 0 {
		t.Fatalf("failures %v, lines %v", b.events.Failed, b.events.Lines)
	}
	b.report(w)
	if _, ok := w.held[task(0)]; !ok {
		t.Fatal("task was not granted")
	}
}

func TestResultThatTheLogRefusesIsOfferedAgain(t *testing.T) {
	b := newBench(t, 1)
	b.addJob("j", 4, 3, nil, time.Time{})
	w := b.worker("w", 1)
	w.finish(task(0), nil)
	b.report(w)
	commit := b.events.Commits[0]
	b.events.Commits = nil
	b.core.CommitFailed(b.now, commit)
	for range 4 {
		b.pass(time.Second)
		b.report(w)
	}
	if len(b.events.Commits) != 0 || len(w.results) != 1 {
		t.Fatalf("%d commits during the pause, the worker has %d results", len(b.events.Commits), len(w.results))
	}
	held := len(w.held)
	b.pass(2 * time.Second)
	if len(b.events.Commits) != 1 {
		t.Fatalf("%d commits after the pause, want 1", len(b.events.Commits))
	}
	b.commitAll()
	b.report(w)
	if len(w.results) != 0 || len(w.held) < held {
		t.Fatalf("results %v after the commit", w.results)
	}
}

func TestWorkerHearsOfTheEndOfJobsFromEarlierSessions(t *testing.T) {
	b := newBench(t, 1)
	b.addJob("j", 2, 3, nil, time.Time{})
	w := b.worker("w", 1)
	b.core.Disconnect(w.id, w.session)
	b.connect(w)
	b.core.RemoveJob(b.now, "j")
	if answer := b.hear(w); len(answer.GetEndedJobs()) != 1 {
		t.Fatalf("ended jobs %v, want the one that the worker still held a lease of", answer.GetEndedJobs())
	}
}

func TestConnectRefuses(t *testing.T) {
	b := newBench(t, 1)
	cpu := -1.0
	for _, test := range []struct {
		hello *enginev1.WorkerHello
		kind  engine.Kind
	}{
		{&enginev1.WorkerHello{NodeId: "w", ProtocolVersion: rpc.WorkerProtocolVersion + 1}, engine.KindVersion},
		{&enginev1.WorkerHello{ProtocolVersion: rpc.WorkerProtocolVersion}, engine.KindInvalidArgument},
		{&enginev1.WorkerHello{NodeId: "w", ProtocolVersion: rpc.WorkerProtocolVersion, Total: &enginev1.Resources{Cpu: &cpu}}, engine.KindInvalidArgument},
	} {
		if _, err := b.core.Connect(b.now, test.hello); engine.KindOf(err) != test.kind {
			t.Errorf("connect %v: %v, want kind %s", test.hello, err, test.kind)
		}
	}
}

// TestRandomHistories lets workers come, go, stall, finish, and fail at random, over several heads, and checks after every step that
// no two workers hold a valid lease of one task, that nothing runs beyond its node's cores, and that in the end every task was
// committed exactly once. Some that are committed run again meanwhile, and end.
func TestRandomHistories(t *testing.T) {
	for seed := range uint64(300) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) { runHistory(t, seed) })
	}
}

func runHistory(t *testing.T, seed uint64) {
	random := rand.New(rand.NewPCG(seed, 1))
	const tasks = 12
	committed := map[int]int{}
	b := newBench(t, 1)
	term := uint64(1)
	add := func(assignAfter time.Time) {
		b.addJob("j", tasks, 1000, func(i int) bool { return committed[i] > 0 }, assignAfter)
	}
	add(time.Time{})
	names := []engine.NodeID{"a", "b", "c"}
	for _, name := range names {
		b.worker(name, 2)
	}
	reported := map[engine.NodeID]time.Time{}
	again := map[int]bool{}
	heardOf := func() {
		for _, end := range b.events.Reruns {
			if !again[end.Task.Index] {
				t.Fatalf("task %d ends a second time to run again", end.Task.Index)
			}
			delete(again, end.Task.Index)
		}
		b.events.Reruns = nil
	}
	commitAll := func() {
		for _, c := range b.events.Commits {
			committed[c.Task.Index]++
			b.core.Committed(b.now, c.Task, c.Epoch)
		}
		b.events.Commits = nil
		b.take()
	}
	for step := 0; step < 400 && len(committed) < tasks; step++ {
		w := b.workers[names[random.IntN(len(names))]]
		switch action := random.IntN(20); {
		case action < 8: // An exchange, or a reconnection if the session has ended.
			if err := b.tell(w); err != nil {
				b.connect(w)
			} else {
				b.hear(w)
			}
			reported[w.id] = b.now
		case action < 11 && len(w.held) > 0:
			ids := slices.SortedFunc(maps.Keys(w.held), byTask)
			id := ids[random.IntN(len(ids))]
			// As a real worker: it publishes and reports only while its lease is valid.
			if b.now.Sub(reported[w.id]) < leaseTime {
				w.finish(id, nil)
			}
		case action < 12 && len(w.held) > 0:
			ids := slices.SortedFunc(maps.Keys(w.held), byTask)
			w.finish(ids[random.IntN(len(ids))], engine.Errorf(engine.KindUnavailable, "x", "", "gone"))
		case action < 13: // The worker is killed and another one takes its name's place.
			b.workers[w.id] = &fakeWorker{}
			fresh := engine.NodeID(fmt.Sprintf("%s-%d", w.id[:1], step))
			names[slices.Index(names, w.id)] = fresh
			delete(b.workers, w.id)
			b.worker(fresh, 2)
			reported[fresh] = b.now
		case action < 14: // The stream breaks; an answer may be lost with it.
			b.core.Answer(b.now, w.id, w.session)
			b.core.Disconnect(w.id, w.session)
			b.connect(w)
			reported[w.id] = b.now
		case action < 15 && random.IntN(10) == 0: // The head is killed and started again.
			term++
			old := b
			b = newBench(t, term)
			b.now, b.workers = old.now, old.workers
			clear(again) // Nobody who has asked for them is there any more.
			add(b.now.Add(leaseTime))
		case action < 17:
			commitAll()
		case action < 18 && len(committed) > 0:
			index := slices.Sorted(maps.Keys(committed))[random.IntN(len(committed))]
			again[index] = true
			b.core.Rerun(b.now, jobOf("j", tasks, 1000, nil, time.Time{}), index)
			b.take()
		default:
			b.pass(time.Duration(random.IntN(1500)) * time.Millisecond)
		}
		heardOf()
		for _, node := range b.core.Nodes() {
			// An adoption may exceed what is free: the work is there already. Grants never do.
			if term == 1 && node.Used.CPU > node.Total.CPU && b.events.Lines == nil {
				t.Fatalf("step %d: %s uses %v of %v cores", step, node.ID, node.Used.CPU, node.Total.CPU)
			}
		}
	}
	// Then all is calm, and what is left gets done.
	const calmRounds = 60
	for range calmRounds {
		for _, name := range names {
			w := b.workers[name]
			if err := b.tell(w); err != nil {
				b.connect(w)
			} else {
				b.hear(w)
			}
			for _, id := range slices.SortedFunc(maps.Keys(w.held), byTask) {
				w.finish(id, nil)
			}
		}
		commitAll()
		b.pass(time.Second)
	}
	if heardOf(); len(again) > 0 {
		t.Fatalf("tasks %v still run again", again)
	}
	if len(committed) < tasks {
		t.Fatalf("%d of %d tasks are committed after %d calm rounds", len(committed), tasks, calmRounds)
	}
	for i, n := range committed {
		if n != 1 {
			t.Fatalf("task %d was committed %d times", i, n)
		}
	}
}
