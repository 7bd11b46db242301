package dispatch_test

import (
	"slices"
	"testing"
	"time"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/head/dispatch"
	"github.com/f708428e/engine/internal/rpc"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// suspects has what may wait for a node: tasks of a job, tasks of a client, and a placement group.
type suspects struct {
	*bench
	w      *fakeWorker
	stream uint64
	group  engine.PlacementGroupID
}

const suspectsSession = "0123456789abcdef0123456789abcdef"

func newSuspects(t *testing.T) *suspects {
	s := &suspects{bench: newBench(t, 1), group: engine.NewPlacementGroupID()}
	s.w = s.worker("w", 8)
	s.add("held", &enginev1.JobSpec{}, oneCore, 2)
	s.report(s.w)
	if n := len(s.w.held); n != 2 {
		t.Fatalf("the worker holds %d tasks, expected 2", n)
	}
	s.stream, _ = s.core.OpenTasks(s.now, suspectsSession)
	return s
}

// ask asks for one of each.
func (s *suspects) ask() {
	cpu, id := 1.0, engine.NewTaskUID()
	s.add("new", &enginev1.JobSpec{}, oneCore, 1)
	check(s.t, s.core.SubmitTasks(s.now, suspectsSession, s.stream, &enginev1.RunTasksRequest{
		Templates: []*enginev1.TaskTemplate{{Number: 1, Operator: "noop", Resources: &enginev1.Resources{Cpu: &cpu}}},
		Tasks:     []*enginev1.TaskSubmission{{TaskId: id[:], Template: 1}},
	}))
	check(s.t, s.core.CreateGroup(s.now, &enginev1.CreatePlacementGroupRequest{
		PlacementGroupId: s.group[:], SessionId: suspectsSession, Bundles: []*enginev1.Resources{{Cpu: &cpu}},
	}))
	s.take()
}

// granted reports whether the worker was granted what was asked for: everything, or nothing.
func (s *suspects) granted() bool {
	s.t.Helper()
	_, group, err := s.core.Group(s.group)
	check(s.t, err)
	node := s.core.Nodes()[0]
	switch {
	case node.Running == 2 && !group:
		return false
	case node.Running == 4 && group:
		return true
	}
	s.t.Fatalf("the node has %d tasks, and the group is placed: %v", node.Running, group)
	return false
}

// TestSuspectGetsNothingNew marks a node and lets different things happen.
func TestSuspectGetsNothingNew(t *testing.T) {
	for _, c := range []struct {
		name    string
		happens func(*suspects)
		suspect bool
	}{
		{"nothing", func(*suspects) {}, true},
		{"time passes within its lease", func(s *suspects) { s.pass(leaseTime - time.Second) }, true},
		{"it is said again", func(s *suspects) { s.core.Suspect(s.now, "w", true) }, true},
		{"another node is there", func(s *suspects) { s.core.Suspect(s.now, "other", false) }, true},
		{"the node is there after all", func(s *suspects) { s.core.Suspect(s.now, "w", false) }, false},
		{"it reports", func(s *suspects) { check(s.t, s.tell(s.w)) }, false},
		{"it connects anew", func(s *suspects) { s.connect(s.w) }, false},
		{"it is to drain, and reports", func(s *suspects) {
			s.core.Drain(s.now, "w", time.Time{}, "")
			check(s.t, s.tell(s.w))
			if node := s.core.Nodes()[0]; node.Suspect || node.State != enginev1.NodeState_NODE_STATE_DRAINING {
				s.t.Fatalf("the node is %v, suspect %v", node.State, node.Suspect)
			}
			s.core.Suspect(s.now, "w", true) // So that the case ends as the others.
		}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSuspects(t)
			s.core.Suspect(s.now, "w", true)
			s.ask()
			c.happens(s)
			s.pass(20 * time.Millisecond)
			if node := s.core.Nodes()[0]; node.Suspect != c.suspect {
				t.Errorf("suspect %v, expected %v", node.Suspect, c.suspect)
			}
			if granted := s.granted(); granted == c.suspect {
				t.Errorf("granted %v although suspect is %v", granted, c.suspect)
			}
			if view, _ := s.core.Job("held"); view.Running != 2 || view.Lost != 0 {
				t.Errorf("of what it held %d run, %d are lost", view.Running, view.Lost)
			}
		})
	}
}

// TestSuspectIsNotInfeasible keeps a wrong hint from failing what only the suspected node can run.
func TestSuspectIsNotInfeasible(t *testing.T) {
	b := newBench(t, 1)
	b.core = dispatch.NewCore(dispatch.Config{ClusterID: "c1", Term: 1, LeaseTime: leaseTime, Started: start, FailInfeasible: true})
	b.worker("small", 1)
	b.worker("large", 4)
	b.core.Suspect(b.now, "large", true)
	b.add("j", &enginev1.JobSpec{}, engine.Resources{CPU: 4}, 1)
	b.pass(20 * time.Millisecond)
	if view, _ := b.core.Job("j"); view.Running != 0 || view.Reason != "all nodes that are large enough are silent" || len(b.events.Failed) > 0 {
		t.Fatalf("%d run, reason %q, failed %v", view.Running, view.Reason, b.events.Failed)
	}
	b.core.Suspect(b.now, "large", false)
	b.take()
	if view, _ := b.core.Job("j"); view.Running != 1 {
		t.Fatalf("%d run of the node that is there after all, reason %q", view.Running, view.Reason)
	}
}

// TestSuspectLosesItsLeaseInTime takes a hint when the lease has ended already, and later, as if there had been none.
func TestSuspectLosesItsLeaseInTime(t *testing.T) {
	for name, hint := range map[string]time.Duration{"long before": time.Second, "a moment before": leaseTime, "after": leaseTime + time.Millisecond} {
		t.Run(name, func(t *testing.T) {
			s := newSuspects(t)
			s.now = s.now.Add(hint)
			s.core.Suspect(s.now, "w", true) // Without a tick.
			s.take()
			lost := hint > leaseTime
			if view, _ := s.core.Job("held"); (view.Lost > 0) != lost {
				t.Fatalf("%d attempts are lost after %v", view.Lost, hint)
			}
			s.pass(leaseTime + time.Millisecond - hint)
			if node := s.core.Nodes()[0]; node.State != enginev1.NodeState_NODE_STATE_DEAD || node.Suspect {
				t.Fatalf("the node is %v, suspect %v", node.State, node.Suspect)
			}
			s.core.Suspect(s.now, "w", true) // It is dead: nobody needs to suspect it.
			if s.core.Nodes()[0].Suspect {
				t.Fatal("a dead node is suspected")
			}
		})
	}
}

// TestDispatcherWakesForAHint gives a task at once to the node that is there after all: without Run there are no ticks.
func TestDispatcherWakesForAHint(t *testing.T) {
	d := dispatch.NewDispatcher(dispatch.Config{ClusterID: "c1", Term: 1, LeaseTime: leaseTime}, dispatch.Hooks{
		Started: func(engine.JobID) {}, Line: func(dispatch.Line) {},
	}, nil)
	cpu := 1.0
	node, session, answers, err := d.Connect(&enginev1.SyncRequest{Sequence: 1, Hello: &enginev1.WorkerHello{
		ProtocolVersion: rpc.WorkerProtocolVersion, NodeId: "w", Total: &enginev1.Resources{Cpu: &cpu},
	}})
	check(t, err)
	<-answers
	d.Answer(node, session)
	d.Suspect(node, true)
	d.AddJob(dispatch.Job{ID: "j", Plan: &enginev1.Plan{Tasks: []*enginev1.TaskPlan{{}}}, Request: oneCore, MaxAttempts: 1})
	select {
	case <-answers:
		t.Fatal("there is an answer for a suspected node")
	default:
	}
	d.Suspect(node, false)
	select {
	case <-answers:
	default:
		t.Fatal("nobody was woken")
	}
	if got := d.Answer(node, session).GetGrants(); len(got) != 1 {
		t.Fatalf("granted %v", got)
	}
	if nodes := d.Nodes(); slices.ContainsFunc(nodes, func(n dispatch.NodeView) bool { return n.Suspect }) {
		t.Fatalf("nodes %+v", nodes)
	}
}
