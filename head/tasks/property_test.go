package tasks_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/head/tasks"
	"github.com/f708428e/engine/internal/testenv"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// world is a cluster in which anything may happen, and what has happened.
type world struct {
	*cluster
	random *rand.Rand
	// submitted are all tasks by session, with the submissions of those that have no outcome; acknowledged are those of which the core has
	// heard that their clients have the outcome.
	submitted    map[string][]engine.TaskUID
	submissions  map[engine.TaskUID]*enginev1.TaskSubmission
	acknowledged map[engine.TaskUID]bool
	recompute    map[engine.TaskUID]bool
	outcomes     map[engine.TaskUID]int
	// unacknowledged are the ids that a client has not acknowledged yet.
	unacknowledged map[string][]byte
	// objects are the nodes that have an object; made are all that there ever were.
	objects map[engine.ObjectID]map[engine.NodeID]bool
	made    map[engine.ObjectID]bool
	// leases are until when a worker that has not joined may go on.
	leases map[engine.NodeID]time.Time
	next   int
	nodes  int
	trace  []string
}

func (w *world) log(format string, args ...any) {
	w.trace = append(w.trace, fmt.Sprintf("%8.3f ", w.now.Sub(time.Unix(1_000_000, 0)).Seconds())+fmt.Sprintf(format, args...))
}

func (w *world) chance(percent int) bool { return w.random.IntN(100) < percent }

func newWorld(t testing.TB, seed uint64) *world {
	w := &world{
		random:    rand.New(rand.NewPCG(seed, 1)),
		submitted: map[string][]engine.TaskUID{}, submissions: map[engine.TaskUID]*enginev1.TaskSubmission{}, acknowledged: map[engine.TaskUID]bool{},
		recompute: map[engine.TaskUID]bool{}, outcomes: map[engine.TaskUID]int{}, unacknowledged: map[string][]byte{}, objects: map[engine.ObjectID]map[engine.NodeID]bool{},
		made: map[engine.ObjectID]bool{}, leases: map[engine.NodeID]time.Time{},
	}
	w.cluster = newCluster(t, tasks.Config{Retained: -1, MaxUnread: 6, LeaseTime: 5 * time.Second})
	t.Cleanup(func() {
		if t.Failed() {
			for _, line := range w.trace[max(0, len(w.trace)-200):] {
				t.Log(line)
			}
		}
	})
	for range 3 {
		w.addWorker()
	}
	for _, id := range []string{session, other} {
		w.addClient(id)
	}
	return w
}

func (w *world) addWorker() {
	w.nodes++
	w.worker(engine.NodeID(fmt.Sprintf("n%d", w.nodes)), engine.Resources{CPU: float64(1 + w.random.IntN(3)), GPU: float64(w.random.IntN(2))})
}

func groupOf(session string) []byte { return []byte(session[:16]) }

// group makes the placement group of a client, if it is not there.
func (w *world) group(s *client) {
	must(w, w.core.CreateGroup(w.now, &enginev1.CreatePlacementGroupRequest{
		PlacementGroupId: groupOf(s.id), SessionId: s.id, Bundles: []*enginev1.Resources{cores(1), cores(0.5)},
		Strategy: enginev1.PlacementStrategy_PLACEMENT_STRATEGY_SPREAD,
	}))
}

func (w *world) addClient(id string) {
	s := w.client(id)
	w.group(s)
	one, two := 1.0, 2.0
	for _, t := range []*enginev1.TaskTemplate{
		{}, {Recompute: true, Outputs: 2}, {Queue: "q", Priority: 3}, {Resources: &enginev1.Resources{Cpu: &two}, WaitForNodes: true, MaxAttempts: 2},
		{Resources: &enginev1.Resources{Gpu: 0.5, Cpu: &one}, WaitForNodes: true}, {Resources: &enginev1.Resources{Cpu: new(float64)}},
		{Placement: &enginev1.TaskPlacement{PlacementGroupId: groupOf(id), Bundle: -1}, WaitForNodes: true},
	} {
		t.MaxAttempts = max(t.GetMaxAttempts(), 1)
		if w.chance(50) {
			t.MaxAttempts = 20
		}
		s.template(t)
	}
}

// submit lets a client submit some tasks, whose arguments are outputs of others, of which some will never be.
func (w *world) submit(s *client) {
	request := &enginev1.RunTasksRequest{}
	for range 1 + w.random.IntN(6) {
		w.next++
		task := id(w.next)
		template := uint32(1 + w.random.IntN(len(s.templates)))
		wire := submission(template, task)
		for range w.random.IntN(3) {
			if w.chance(40) {
				argument := id(max(1, w.next-3+w.random.IntN(5))).Output(w.random.IntN(2))
				wire.Arguments = append(wire.Arguments, &enginev1.TaskArgument{ObjectId: argument[:]})
			}
		}
		if w.chance(20) && w.next > 1 {
			parent := id(1 + w.random.IntN(w.next-1))
			wire.ParentTaskId = parent[:]
		}
		w.recompute[task] = s.templates[template-1].GetRecompute()
		w.submitted[s.id] = append(w.submitted[s.id], task)
		w.submissions[task] = wire
		request.Tasks = append(request.Tasks, copySubmission(wire, false))
	}
	w.log("%s submits up to %d", s.id[:2], w.next)
	s.send(request)
}

func copySubmission(wire *enginev1.TaskSubmission, again bool) *enginev1.TaskSubmission {
	return &enginev1.TaskSubmission{
		TaskId: wire.GetTaskId(), Template: wire.GetTemplate(), Arguments: wire.GetArguments(), ParentTaskId: wire.GetParentTaskId(), Again: again,
	}
}

// reopen opens a stream, submits everything again that has no outcome, and maybe cancels.
func (w *world) reopen(s *client) {
	w.log("%s opens a stream", s.id[:2])
	w.group(s)
	s.open()
	request := &enginev1.RunTasksRequest{}
	for _, task := range w.submitted[s.id] {
		if wire := w.submissions[task]; wire != nil {
			request.Tasks = append(request.Tasks, copySubmission(wire, true))
		}
	}
	s.send(request)
}

// listen lets a client take outcomes in, and acknowledge some.
func (w *world) listen(s *client) {
	if s.stream == 0 {
		return
	}
	for {
		response := w.core.Respond(s.id, s.stream, 1+w.random.IntN(10))
		if response == nil {
			break
		}
		if len(response.GetRefusals()) > 0 {
			w.Fatal("a submission was refused")
		}
		var acknowledged []byte
		for _, outcome := range response.GetOutcomes() {
			task := engine.TaskUID(outcome.GetTaskId())
			if w.acknowledged[task] {
				w.Fatalf("task %s has another outcome after the first one was acknowledged", number(task))
			}
			w.outcomes[task]++
			delete(w.submissions, task)
			w.log("%s hears of %s: %v %s", s.id[:2], number(task), outcome.GetState(), outcome.GetError().GetMessage())
			acknowledged = append(acknowledged, task[:]...)
		}
		w.unacknowledged[s.id] = append(w.unacknowledged[s.id], acknowledged...)
	}
	if len(w.unacknowledged[s.id]) > 0 && w.chance(80) {
		acknowledged := w.unacknowledged[s.id]
		delete(w.unacknowledged, s.id)
		s.send(&enginev1.RunTasksRequest{Acknowledged: acknowledged})
		for ; len(acknowledged) > 0; acknowledged = acknowledged[16:] {
			w.acknowledged[engine.TaskUID(acknowledged)] = true
		}
	}
}

// tell lets a worker hear, and looks at what it was granted.
func (w *world) tell(to *worker) {
	if !to.connected {
		return
	}
	had := map[engine.TaskUID]uint64{}
	for _, r := range to.tasks {
		had[r.id] = r.grant.GetEpoch()
	}
	to.hear()
	for _, r := range to.tasks {
		if had[r.id] == r.grant.GetEpoch() {
			continue
		}
		w.log("%s is granted %s under %x", to.id, number(r.id), r.grant.GetEpoch())
		if w.acknowledged[r.id] && !w.recompute[r.id] {
			w.Fatalf("task %s runs again, whose outcome was acknowledged", number(r.id))
		}
		for _, o := range w.workers {
			if at := o.find(r.id); o != to && at != nil && at.outcome == nil && (o.joined && o.connected || w.now.Before(w.leases[o.id])) {
				w.Fatalf("task %s was granted to %s under %x, while %s has it under %x", number(r.id), to.id, r.grant.GetEpoch(), o.id, at.grant.GetEpoch())
			}
		}
	}
}

// run lets a worker end some tasks.
func (w *world) run(on *worker) {
	for _, r := range slices.Clone(on.tasks) {
		if !r.begun || r.outcome != nil || !w.chance(50) {
			continue
		}
		took := []time.Duration{time.Microsecond, time.Millisecond, time.Second}[w.random.IntN(3)]
		lacking, kind := w.lacking(r)
		switch {
		case kind != 0:
			on.end(r, took, &engine.Error{Kind: kind, Op: "get argument", ID: lacking.String(), Err: fmt.Errorf("it is gone")})
		case w.chance(10):
			on.end(r, took, infrastructure("flaky"))
		case w.chance(5):
			on.end(r, took, engine.Errorf(engine.KindData, "operator noop", "", "bad row"))
		default:
			var sizes []int64
			for n := range w.random.IntN(3) {
				sizes = append(sizes, int64(w.random.IntN(3))<<20)
				if sizes[n] > 0 && n < int(max(1, r.template.GetOutputs())) {
					w.make(r.id.Output(n), on.id)
				}
			}
			on.end(r, took, nil, sizes...)
		}
		w.log("%s ends %s: %v", on.id, number(r.id), r.outcome.GetState())
	}
	if w.chance(80) {
		on.report()
	}
}

// lacking names an argument of which no node has a copy.
func (w *world) lacking(r *running) (engine.ObjectID, engine.Kind) {
	for _, a := range r.grant.GetTask().GetArguments() {
		object := engine.ObjectID(a.GetObjectId())
		if len(w.objects[object]) == 0 {
			return object, engine.KindUnavailable
		}
	}
	return engine.ObjectID{}, 0
}

func (w *world) make(object engine.ObjectID, node engine.NodeID) {
	if w.objects[object] == nil {
		w.objects[object] = map[engine.NodeID]bool{}
	}
	w.objects[object][node] = true
	w.made[object] = true
}

// die ends a worker with all that it has.
func (w *world) die(on *worker) {
	w.log("%s dies", on.id)
	on.lose()
	w.workers = slices.DeleteFunc(w.workers, func(o *worker) bool { return o == on })
	var lost []engine.ObjectID
	for object, nodes := range w.objects {
		if nodes[on.id] {
			delete(nodes, on.id)
			if len(nodes) == 0 {
				lost = append(lost, object)
			}
		}
	}
	slices.SortFunc(lost, func(a, b engine.ObjectID) int { return slices.Compare(a[:], b[:]) })
	for _, object := range lost {
		if w.chance(70) { // The directory may not have known it.
			w.core.ObjectLost(w.now, object)
		}
	}
	w.addWorker()
}

// answer lets the directory answer.
func (w *world) answer(percent int) {
	w.events()
	wanted := make([]engine.ObjectID, 0, len(w.wanted))
	for object := range w.wanted {
		wanted = append(wanted, object)
	}
	slices.SortFunc(wanted, func(a, b engine.ObjectID) int { return slices.Compare(a[:], b[:]) })
	for _, object := range wanted {
		if _, still := w.wanted[object]; !still || !w.chance(percent) {
			continue
		}
		switch {
		case len(w.objects[object]) > 0:
			var nodes []engine.NodeID
			for node := range w.objects[object] {
				nodes = append(nodes, node)
			}
			slices.Sort(nodes)
			delete(w.wanted, object)
			w.core.ObjectKnown(w.now, object, 2<<20, nodes)
		case w.made[object]:
			w.core.ObjectLost(w.now, object)
		default:
			w.core.ObjectUnknown(w.now, object)
		}
		w.events()
	}
}

// step does one thing.
func (w *world) step() {
	clients := []*client{w.clients[session], w.clients[other]}
	s, on := clients[w.random.IntN(2)], w.workers[w.random.IntN(len(w.workers))]
	switch what := w.random.IntN(100); {
	case what < 20:
		if s.stream != 0 && len(w.submissions) < 40 {
			w.submit(s)
		}
	case what < 40:
		w.run(on)
	case what < 55:
		w.tell(on)
	case what < 70:
		w.listen(s)
	case what < 80:
		w.now = w.now.Add(time.Duration(w.random.IntN(2_000)) * time.Millisecond)
		w.core.Tick(w.now)
	case what < 85:
		w.answer(50)
	case what < 88:
		if s.stream != 0 && w.next > 0 {
			task := id(1 + w.random.IntN(w.next))
			w.log("%s cancels %s", s.id[:2], number(task))
			s.send(&enginev1.RunTasksRequest{Cancellations: []*enginev1.TaskCancellation{{TaskId: task[:], Children: w.chance(50), Force: w.chance(30)}}})
		}
	case what < 89:
		w.reopen(s)
	case what < 90:
		w.log("%s removes its placement group", s.id[:2])
		if err := w.core.RemoveGroup(w.now, engine.PlacementGroupID(groupOf(s.id))); err != nil && engine.KindOf(err) != engine.KindNotFound {
			w.Fatal(err)
		}
	case what < 92: // The stream breaks, and comes again.
		if on.connected {
			w.log("%s opens a stream", on.id)
			on.join()
			w.tell(on)
		}
	case what < 94: // It is cut off for longer than its lease.
		if on.connected {
			w.log("%s is cut off", on.id)
			on.lose()
			delete(w.leases, on.id)
		}
	case what < 97:
		if !on.connected {
			w.log("%s comes back", on.id)
			on.join()
			w.tell(on)
		}
	case what < 98:
		w.die(on)
	case what < 99:
		w.log("the head is lost")
		for _, o := range w.workers {
			if o.connected {
				w.leases[o.id] = w.now.Add(w.config.LeaseTime)
			}
		}
		w.restart()
	default:
		w.log("%s ends its session", s.id[:2])
		w.core.EndSession(w.now, s.id)
		for _, task := range w.submitted[s.id] {
			delete(w.submissions, task)
		}
		w.submitted[s.id] = nil
		delete(w.unacknowledged, s.id)
		w.addClient(s.id)
	}
	if w.chance(80) {
		w.pass()
	}
}

// calm lets everything come back and end.
func (w *world) calm() {
	for _, s := range w.clients {
		w.reopen(s)
	}
	for _, on := range w.workers {
		if !on.connected {
			on.join()
			w.tell(on)
		}
	}
	w.worker("last", engine.Resources{CPU: 8, GPU: 1}) // There is room beside the groups.
	for rounds := 0; len(w.submissions) > 0; rounds++ {
		if rounds == 400 {
			for task := range w.submissions {
				view, err := w.core.Get(task)
				w.Log(number(task), view, err)
			}
			w.Fatalf("%d tasks have no outcome", len(w.submissions))
		}
		w.now = w.now.Add(500 * time.Millisecond)
		w.core.Tick(w.now)
		w.pass()
		w.answer(100)
		for _, on := range w.workers {
			w.tell(on)
			w.run(on)
		}
		for _, s := range []*client{w.clients[session], w.clients[other]} {
			w.listen(s)
		}
	}
}

// TestProperty lets random things happen, and looks at what must be so whatever happens: every task has one outcome, unless its session
// has ended; what was acknowledged does not run again; no two workers may run a task at a time; no node holds more than it has; and
// nothing is left when all have gone.
func TestProperty(t *testing.T) {
	if *replay != 0 {
		property(t, *replay, steps)
		return
	}
	properties(t, 100)
}

// TestPropertyLong is the same for many more seeds.
func TestPropertyLong(t *testing.T) {
	testenv.Full(t)
	properties(t, 5_000)
}

var replay = flag.Uint64("seed", 0, "the seed of a property test that has failed")

const steps = 400

func properties(t *testing.T, seeds int) {
	first := uint64(time.Now().UnixNano()) //nolint:gosec // It is a seed.
	for i := range seeds {
		seed := first + uint64(i) //nolint:gosec // As above.
		if !t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) { property(t, seed, steps) }) {
			return
		}
	}
}

func property(t *testing.T, seed uint64, steps int) {
	w := newWorld(t, seed)
	for range steps {
		w.step()
	}
	w.calm()
	for id := range w.clients {
		w.core.EndSession(w.now, id)
	}
	w.pass()
	for _, on := range w.workers {
		on.hear()
	}
	w.now = w.now.Add(2 * time.Minute)
	w.core.Tick(w.now)
	w.pass()
	for _, on := range w.workers {
		on.hear()
		if len(on.tasks) > 0 {
			r := on.tasks[0]
			t.Fatalf("node %s still has %d tasks, such as %s under %x: begun %v, outcome %v, told %v, acknowledged %v", on.id, len(on.tasks),
				number(r.id), r.grant.GetEpoch(), r.begun, r.outcome, r.told, w.acknowledged[r.id])
		}
	}
	if left := w.core.Leftovers(); left != "" {
		t.Fatalf("what is left: %s", left)
	}
}
