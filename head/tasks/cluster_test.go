package tasks_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/head/tasks"
	"github.com/f708428e/engine/internal/rpc"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
	"github.com/f708428e/engine/scheduler"
)

const (
	session = "0123456789abcdef0123456789abcdef"
	other   = "fedcba9876543210fedcba9876543210"

	succeeded = enginev1.TaskState_TASK_STATE_SUCCEEDED
	failed    = enginev1.TaskState_TASK_STATE_FAILED
	cancelled = enginev1.TaskState_TASK_STATE_CANCELLED
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// cluster is a core with workers and clients that are as simple as can be, a clock that a test turns, and the scheduler.
type cluster struct {
	testing.TB
	config  tasks.Config
	core    *tasks.Core
	now     time.Time
	workers []*worker
	clients map[string]*client
	// queues are those that somebody set, jobs says that jobs wait.
	queues []scheduler.Queue
	jobs   bool
	// wanted are the objects that the core asks for; given those that are not made again.
	wanted map[engine.ObjectID]struct{}
	// rejoined says that a worker has come back with tasks: those that it has begun may hold what others were granted meanwhile, until
	// these have ended.
	rejoined bool
	given    []engine.ObjectID
}

func newCluster(t testing.TB, config tasks.Config) *cluster {
	c := &cluster{TB: t, config: config, now: time.Unix(1_000_000, 0), clients: map[string]*client{}, wanted: map[engine.ObjectID]struct{}{}}
	if c.config.Term == 0 {
		c.config.Term = 1
	}
	c.start()
	return c
}

// start begins with a core that knows nothing.
func (c *cluster) start() {
	c.config.Started = c.now
	c.core = tasks.New(c.config)
	clear(c.wanted)
}

// restart is the loss of the head. Workers and clients come back when a test says so.
func (c *cluster) restart() {
	c.config.Term++
	c.start()
	for _, w := range c.workers {
		w.connected = false
	}
	for _, s := range c.clients {
		s.stream = 0
	}
}

// pass lets the scheduler decide, as long as there is something to decide.
func (c *cluster) pass() {
	for n := 0; c.core.Stale() && n < 100; n++ {
		c.decide()
	}
}

func (c *cluster) decide() scheduler.Plan {
	s := scheduler.Snapshot{Queues: c.queues, Now: c.now, Classes: c.core.Classes(c.now, nil), Groups: c.core.Groups(c.now, nil)}
	for _, w := range c.workers {
		if !w.connected || !w.joined {
			continue
		}
		node := scheduler.Node{ID: w.id, Total: w.total, Labels: w.labels, Operators: w.operators, Unschedulable: w.draining}
		for range int(w.total.GPU) {
			node.GPUs = append(node.GPUs, scheduler.GPU{Free: 1, FreeMemoryBytes: w.total.GPUMemoryBytes / int64(w.total.GPU)})
		}
		c.core.Occupy(&node)
		if over := exceeds(node.Used, w.total); over != "" && !c.rejoined {
			c.Fatalf("node %s holds more than it has: %s", w.id, over)
		}
		s.Nodes = append(s.Nodes, node)
	}
	plan := scheduler.Decide(s)
	for _, g := range plan.Groups {
		c.core.PlaceGroup(c.now, g)
	}
	for _, p := range plan.Placements {
		c.core.Place(c.now, p)
	}
	for _, p := range plan.Preemptions {
		c.core.Preempt(c.now, p)
	}
	for _, w := range plan.Waiting {
		c.core.Explain(c.now, w)
	}
	for _, w := range plan.GroupsWaiting {
		c.core.ExplainGroup(c.now, w)
	}
	c.core.Contended(c.jobs)
	return plan
}

func exceeds(used, total engine.Resources) string {
	const slack = 1e-9
	switch {
	case used.CPU > total.CPU+slack:
		return fmt.Sprintf("cpu %v of %v", used.CPU, total.CPU)
	case used.GPU > total.GPU+slack:
		return fmt.Sprintf("gpu %v of %v", used.GPU, total.GPU)
	case used.MemoryBytes > total.MemoryBytes && total.MemoryBytes > 0:
		return fmt.Sprintf("memory %v of %v", used.MemoryBytes, total.MemoryBytes)
	}
	return ""
}

// settle lets the scheduler decide, workers and clients hear all there is, and workers begin what fits.
func (c *cluster) settle() {
	c.pass()
	for _, w := range c.workers {
		w.hear()
	}
	c.events()
	for _, s := range c.clients {
		s.hear()
	}
}

// events takes in what the core wants.
func (c *cluster) events() {
	e := c.core.Take()
	for _, id := range e.Wanted {
		c.wanted[id] = struct{}{}
	}
	for _, id := range e.Unwanted {
		delete(c.wanted, id)
	}
	c.given = append(c.given, e.Given...)
}

// pastime lets time pass in steps, as the core says when it wants to be called.
func (c *cluster) pastime(d time.Duration) {
	for end := c.now.Add(d); c.now.Before(end); {
		next := end
		if due := c.core.Due(); !due.IsZero() && due.Before(end) && due.After(c.now) {
			next = due
		}
		c.now = next
		c.core.Tick(c.now)
		c.settle()
	}
}

// worker runs what it is granted, in order, as it fits.
type worker struct {
	*cluster
	id        engine.NodeID
	total     engine.Resources
	labels    map[string]string
	operators []string
	// connected says that a stream is open, joined that it has reported on it.
	connected, joined, draining bool
	templates                   map[uint32]*enginev1.TaskTemplate
	tasks                       []*running
}

// running is a task that a worker has.
type running struct {
	grant    *enginev1.TaskGrant
	template *enginev1.TaskTemplate
	id       engine.TaskUID
	begun    bool
	began    time.Time
	outcome  *enginev1.TaskOutcome
	told     bool
}

func (c *cluster) worker(id engine.NodeID, total engine.Resources, operators ...string) *worker {
	w := &worker{cluster: c, id: id, total: total, operators: append([]string{"noop"}, operators...)}
	c.workers = append(c.workers, w)
	w.join()
	return w
}

// join opens a stream and tells everything.
func (w *worker) join() {
	w.core.Disconnect(w.id)
	w.connected, w.joined, w.templates = true, true, map[uint32]*enginev1.TaskTemplate{}
	report := &enginev1.SyncRequest{Sequence: 1}
	w.rejoined = w.rejoined || len(w.tasks) > 0
	for _, r := range w.tasks {
		if r.outcome != nil {
			r.told = true
			report.Outcomes = append(report.Outcomes, clone(r.outcome))
			report.OutcomeSessions = append(report.OutcomeSessions, r.grant.GetSessionId())
			continue
		}
		held := &enginev1.HeldTask{
			TaskId: r.id[:], Epoch: r.grant.GetEpoch(), GpuDevices: r.grant.GetGpuDevices(), SessionId: r.grant.GetSessionId(), Template: r.template,
		}
		if r.begun {
			held.RunNanos = max(1, int64(w.now.Sub(r.began)))
		}
		report.HeldTasks = append(report.HeldTasks, held)
	}
	w.core.Join(w.now, w.id, w.operators, report)
}

// lose ends the worker without a word, and its lease.
func (w *worker) lose() {
	w.connected = false
	w.core.Disconnect(w.id)
	w.core.Leave(w.now, w.id, false)
}

func clone(outcome *enginev1.TaskOutcome) *enginev1.TaskOutcome {
	return &enginev1.TaskOutcome{
		TaskId: outcome.GetTaskId(), State: outcome.GetState(), Error: outcome.GetError(), Outputs: outcome.GetOutputs(), NodeId: outcome.GetNodeId(),
		RunNanos: outcome.GetRunNanos(), StartUnixNanos: outcome.GetStartUnixNanos(), Epoch: outcome.GetEpoch(),
	}
}

// hear takes in what the head says, and begins what fits.
func (w *worker) hear() {
	if !w.connected || !w.joined {
		return
	}
	answer := &enginev1.SyncResponse{}
	w.core.Fill(w.id, answer)
	for _, template := range answer.GetTemplates() {
		if w.templates[template.GetNumber()] != nil {
			w.Fatalf("node %s has heard of template %d already", w.id, template.GetNumber())
		}
		w.templates[template.GetNumber()] = template
	}
	for ids := answer.GetReleasedTasks(); len(ids) > 0; ids = ids[16:] {
		if r := w.find(engine.TaskUID(ids[:16])); r != nil && r.outcome != nil {
			w.drop(r)
		}
	}
	for _, revocation := range answer.GetTaskRevocations() {
		w.revoke(revocation)
	}
	for _, grant := range answer.GetTaskGrants() {
		w.grant(grant)
	}
	for _, number := range answer.GetRetiredTemplates() {
		delete(w.templates, number)
	}
	w.admit()
}

func (w *worker) grant(grant *enginev1.TaskGrant) {
	template := w.templates[grant.GetTask().GetTemplate()]
	if template == nil {
		w.Fatalf("node %s was granted a task of a template of which it has not heard", w.id)
	}
	id := engine.TaskUID(grant.GetTask().GetTaskId())
	if r := w.find(id); r != nil {
		switch {
		case grant.GetEpoch() <= r.grant.GetEpoch():
			w.Fatalf("node %s was granted task %s under epoch %x, and has it under %x", w.id, id, grant.GetEpoch(), r.grant.GetEpoch())
		case r.outcome == nil:
			r.grant = grant
			return
		}
		w.drop(r)
	}
	w.tasks = append(w.tasks, &running{grant: grant, template: template, id: id})
}

func (w *worker) revoke(revocation *enginev1.TaskRevocation) {
	r := w.find(engine.TaskUID(revocation.GetTaskId()))
	switch {
	case r == nil || revocation.GetEpoch() != 0 && revocation.GetEpoch() != r.grant.GetEpoch():
	case revocation.GetForget():
		w.drop(r)
	case r.outcome != nil || r.begun && revocation.GetUnlessBegun():
	default:
		r.outcome = &enginev1.TaskOutcome{
			TaskId: r.id[:], State: cancelled, Epoch: r.grant.GetEpoch(), NodeId: string(w.id),
			Error: rpc.ToProto(engine.Errorf(engine.KindCanceled, "run task", "", "it was cancelled")),
		}
	}
}

func (w *worker) find(id engine.TaskUID) *running {
	for _, r := range w.tasks {
		if r.id == id {
			return r
		}
	}
	return nil
}

func (w *worker) drop(r *running) {
	w.tasks = slices.DeleteFunc(w.tasks, func(other *running) bool { return other == r })
}

// admit begins tasks in order, as long as they fit.
func (w *worker) admit() {
	used := engine.Resources{}
	for _, r := range w.tasks {
		if r.outcome == nil && r.begun {
			used = plus(used, r.template)
		}
	}
	for _, r := range w.tasks {
		if r.outcome != nil || r.begun {
			continue
		}
		if used = plus(used, r.template); exceeds(used, w.total) != "" {
			return
		}
		r.begun, r.began = true, w.now
	}
}

func plus(used engine.Resources, template *enginev1.TaskTemplate) engine.Resources {
	r, err := rpc.ResourcesFromProto(template.GetResources())
	if err != nil {
		panic(err)
	}
	if template.GetResources() == nil {
		r.CPU = 1
	}
	used.CPU += r.CPU
	used.GPU += r.GPU
	used.MemoryBytes += r.MemoryBytes
	return used
}

// report tells outcomes that were not told.
func (w *worker) report() {
	if !w.connected || !w.joined {
		return
	}
	report := &enginev1.SyncRequest{}
	for _, r := range w.tasks {
		if r.outcome != nil && !r.told {
			r.told = true
			report.Outcomes = append(report.Outcomes, clone(r.outcome))
		}
	}
	w.core.Report(w.now, w.id, report)
}

// finish ends a task that runs and reports that. The outputs have these sizes; an error makes it fail.
func (w *worker) finish(id engine.TaskUID, took time.Duration, err error, outputs ...int64) {
	w.Helper()
	r := w.find(id)
	if r == nil || !r.begun || r.outcome != nil {
		w.Fatalf("task %s does not run on node %s", id, w.id)
	}
	w.end(r, took, err, outputs...)
	w.report()
}

func (w *worker) end(r *running, took time.Duration, err error, outputs ...int64) {
	r.outcome = &enginev1.TaskOutcome{
		TaskId: r.id[:], State: succeeded, Epoch: r.grant.GetEpoch(), NodeId: string(w.id), RunNanos: max(1, int64(took)),
		StartUnixNanos: w.now.Add(-took).UnixNano(),
	}
	if err != nil {
		r.outcome.State, r.outcome.Error = failed, rpc.ToProto(err)
		return
	}
	for _, size := range outputs {
		r.outcome.Outputs = append(r.outcome.Outputs, &enginev1.TaskOutput{SizeBytes: size, Rows: 1})
	}
}

// runs says which tasks run, in order, by their last bytes.
func (w *worker) runs() string {
	var names []string
	for _, r := range w.tasks {
		if r.begun && r.outcome == nil {
			names = append(names, number(r.id))
		}
	}
	return strings.Join(names, " ")
}

// has counts what is not ended.
func (w *worker) has() (n int) {
	for _, r := range w.tasks {
		if r.outcome == nil {
			n++
		}
	}
	return n
}

// client submits tasks and takes their outcomes in.
type client struct {
	*cluster
	id        string
	stream    uint64
	templates []*enginev1.TaskTemplate
	outcomes  map[engine.TaskUID]*enginev1.TaskOutcome
	order     []engine.TaskUID
	refusals  []*enginev1.TaskRefusal
	// acknowledges makes it acknowledge what it hears.
	acknowledges bool
}

func (c *cluster) client(id string) *client {
	s := &client{cluster: c, id: id, outcomes: map[engine.TaskUID]*enginev1.TaskOutcome{}, acknowledges: true}
	c.clients[id] = s
	s.open()
	return s
}

// open opens a stream and sends all templates again.
func (s *client) open() {
	s.stream, _ = s.core.OpenStream(s.now, s.id)
	request := &enginev1.RunTasksRequest{}
	for i, t := range s.templates {
		t.Number = uint32(i + 1)
		request.Templates = append(request.Templates, copyTemplate(t))
	}
	s.send(request)
}

func copyTemplate(t *enginev1.TaskTemplate) *enginev1.TaskTemplate {
	return &enginev1.TaskTemplate{
		Number: t.GetNumber(), Operator: t.GetOperator(), Params: t.GetParams(), Name: t.GetName(), Resources: t.GetResources(), Queue: t.GetQueue(),
		Priority: t.GetPriority(), MaxAttempts: t.GetMaxAttempts(), Timeout: t.GetTimeout(), HangAfter: t.GetHangAfter(), Placement: t.GetPlacement(),
		Outputs: t.GetOutputs(), Recompute: t.GetRecompute(), WaitForNodes: t.GetWaitForNodes(), InlineBytes: t.GetInlineBytes(), Checkpoint: t.GetCheckpoint(),
	}
}

func (s *client) send(request *enginev1.RunTasksRequest) {
	s.Helper()
	must(s, s.core.Submit(s.now, s.id, s.stream, request))
}

// template makes a template known; its place is its number.
func (s *client) template(t *enginev1.TaskTemplate) uint32 {
	if t.GetOperator() == "" {
		t.Operator = "noop"
	}
	s.templates = append(s.templates, t)
	t.Number = uint32(len(s.templates))
	s.send(&enginev1.RunTasksRequest{Templates: []*enginev1.TaskTemplate{copyTemplate(t)}})
	return t.GetNumber()
}

// id makes a task id that ends in a number.
func id(n int) engine.TaskUID {
	var id engine.TaskUID
	id[0], id[12], id[13] = 7, byte(n>>8), byte(n)
	return id
}

// number is the number that an id ends in.
func number(id engine.TaskUID) string { return fmt.Sprint(int(id[12])<<8 | int(id[13])) }

// submit submits a task with objects as arguments.
func (s *client) submit(template uint32, n int, arguments ...engine.ObjectID) engine.TaskUID {
	s.Helper()
	task := id(n)
	s.send(&enginev1.RunTasksRequest{Tasks: []*enginev1.TaskSubmission{submission(template, task, arguments...)}})
	return task
}

func submission(template uint32, task engine.TaskUID, arguments ...engine.ObjectID) *enginev1.TaskSubmission {
	wire := &enginev1.TaskSubmission{TaskId: task[:], Template: template}
	for _, a := range arguments {
		wire.Arguments = append(wire.Arguments, &enginev1.TaskArgument{ObjectId: a[:]})
	}
	return wire
}

// hear takes outcomes in.
func (s *client) hear() {
	if s.stream == 0 {
		return
	}
	for {
		response := s.core.Respond(s.id, s.stream, 3)
		if response == nil {
			return
		}
		s.refusals = append(s.refusals, response.GetRefusals()...)
		var acknowledged []byte
		for _, outcome := range response.GetOutcomes() {
			task := engine.TaskUID(outcome.GetTaskId())
			if s.outcomes[task] == nil {
				s.order = append(s.order, task)
			}
			s.outcomes[task] = outcome
			acknowledged = append(acknowledged, task[:]...)
		}
		if s.acknowledges && len(acknowledged) > 0 {
			s.send(&enginev1.RunTasksRequest{Acknowledged: acknowledged})
		}
	}
}

// ended is the outcome of a task as a text: its state, and its error.
func (s *client) ended(task engine.TaskUID) string {
	outcome := s.outcomes[task]
	if outcome == nil {
		return "not ended"
	}
	text := string(rpc.TaskStateFromProto(outcome.GetState()))
	if err := rpc.FromProto(outcome.GetError()); err != nil {
		text += ": " + err.Kind.String() + ": " + err.Error()
	}
	return text
}

func (s *client) wantEnded(task engine.TaskUID, parts ...string) {
	s.Helper()
	s.settle()
	text := s.ended(task)
	for _, part := range parts {
		if !strings.Contains(text, part) {
			s.Fatalf("task %s: %q, expected %q in it", number(task), text, part)
		}
	}
}

func (s *client) wantOpen(task engine.TaskUID) {
	s.Helper()
	s.settle()
	if outcome := s.outcomes[task]; outcome != nil {
		s.Fatalf("task %s has ended: %s", number(task), s.ended(task))
	}
}

func (c *cluster) wantRuns(w *worker, want string) {
	c.Helper()
	c.settle()
	if got := w.runs(); got != want {
		c.Fatalf("node %s runs %q, expected %q", w.id, got, want)
	}
}

// wantReason compares why a task waits.
func (c *cluster) wantReason(task engine.TaskUID, part string) {
	c.Helper()
	view, err := c.core.Get(task)
	must(c, err)
	if !strings.Contains(view.GetReason(), part) {
		c.Fatalf("task %s waits because %q, expected %q in it", number(task), view.GetReason(), part)
	}
}
