package tasks_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/head/tasks"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
	"github.com/f708428e/engine/scheduler"
)

// drain lets a worker run all that it has, each task for so long, and tell.
func (w *worker) drain(took time.Duration) (ran int) {
	for _, r := range w.tasks {
		if r.outcome == nil {
			w.end(r, took, nil)
			ran++
		}
	}
	w.report()
	return ran
}

func (s *client) flood(template uint32, from, n int) {
	s.Helper()
	request := &enginev1.RunTasksRequest{}
	for i := range n {
		request.Tasks = append(request.Tasks, submission(template, id(from+i)))
	}
	s.send(request)
}

// TestAhead looks at what a node is granted beyond what runs.
func TestAhead(t *testing.T) {
	for _, test := range []struct {
		name string
		took time.Duration
		want int
	}{
		{"as much as it is expected to finish in five milliseconds", time.Millisecond, 10},
		{"a thousand a core at most", time.Microsecond, 2_002},
		{"nothing if a task takes longer", 6 * time.Millisecond, 2},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := newCluster(t, tasks.Config{})
			w, s := c.worker("n1", engine.Resources{CPU: 2}), c.client(session)
			template := s.template(&enginev1.TaskTemplate{})
			s.flood(template, 1, 5_000)
			c.settle()
			if w.has() != 2 {
				t.Fatalf("it has %d tasks before one was measured, expected 2", w.has())
			}
			w.drain(test.took)
			c.settle()
			if w.has() != test.want {
				t.Fatalf("it has %d tasks, expected %d", w.has(), test.want)
			}
			node := scheduler.Node{ID: "n1"}
			if c.core.Occupy(&node); node.Used.CPU != 2 {
				t.Fatalf("they hold %v cores, expected 2", node.Used.CPU)
			}
		})
	}
	t.Run("tasks that come later join those that are there", func(t *testing.T) {
		c := newCluster(t, tasks.Config{})
		w, s := c.worker("n1", oneCore), c.client(session)
		template := s.template(&enginev1.TaskTemplate{})
		s.submit(template, 1)
		c.settle()
		w.drain(time.Millisecond)
		s.submit(template, 2)
		c.settle()
		s.flood(template, 3, 10)
		c.settle()
		if w.has() != 5 {
			t.Fatalf("it has %d tasks, expected 5", w.has())
		}
	})
	t.Run("none with a device", func(t *testing.T) {
		c := newCluster(t, tasks.Config{})
		w, s := c.worker("n1", engine.Resources{CPU: 4, GPU: 2}), c.client(session)
		template := s.template(&enginev1.TaskTemplate{Resources: &enginev1.Resources{Gpu: 0.5}})
		s.flood(template, 1, 10)
		for range 2 {
			c.settle()
			devices := map[int32]int{}
			for _, r := range w.tasks {
				if r.outcome == nil {
					devices[r.grant.GetGpuDevices()[0]]++
				}
			}
			if w.has() != 4 || devices[0] != 2 || devices[1] != 2 {
				t.Fatalf("it has %d tasks, by device %v, expected 4, 2 on each", w.has(), devices)
			}
			w.drain(time.Microsecond)
		}
		c.settle()
		if w.has() != 2 {
			t.Fatalf("it has %d tasks, expected the last 2", w.has())
		}
		w.drain(time.Microsecond)
		node := scheduler.Node{ID: "n1", GPUs: []scheduler.GPU{{Free: 1}, {Free: 1}}}
		if c.core.Occupy(&node); node.Used.GPU != 0 || node.GPUs[0].Free != 1 || node.GPUs[1].Free != 1 {
			t.Fatalf("devices are not given back: %+v", node)
		}
	})
	t.Run("what does not move is taken back, and runs elsewhere", func(t *testing.T) {
		c := newCluster(t, tasks.Config{})
		w, s := c.worker("n1", oneCore), c.client(session)
		template := s.template(&enginev1.TaskTemplate{})
		s.flood(template, 1, 5)
		c.settle()
		w.drain(time.Microsecond)
		c.settle()
		if w.has() != 4 {
			t.Fatalf("it has %d tasks, expected 4", w.has())
		}
		b := c.worker("n2", engine.Resources{CPU: 4})
		c.pastime(400 * time.Millisecond)
		w.report()
		c.wantRuns(b, "3 4 5")
		if got := w.runs(); got != "2" {
			t.Fatalf("the first node runs %q, expected 2", got)
		}
		for _, n := range []int{2, 3, 4, 5} {
			on := b
			if n == 2 {
				on = w
			}
			on.finish(id(n), time.Second, nil)
			s.wantEnded(id(n), "SUCCEEDED")
			if got := s.outcomes[id(n)].GetAttempts(); got != 1 {
				t.Fatalf("task %d took %d attempts, expected 1", n, got)
			}
		}
	})
	t.Run("a node that drains is not refilled", func(t *testing.T) {
		c := newCluster(t, tasks.Config{})
		w, s := c.worker("n1", oneCore), c.client(session)
		s.flood(s.template(&enginev1.TaskTemplate{}), 1, 5)
		c.settle()
		w.draining = true
		c.core.Cordon("n1", true)
		w.drain(time.Microsecond)
		c.settle()
		if w.has() != 0 {
			t.Fatalf("it has %d tasks, expected none", w.has())
		}
	})
}

// TestFairness floods one queue, or class, and expects the tasks of another to be done as if they had their share.
func TestFairness(t *testing.T) {
	for name, second := range map[string]*enginev1.TaskTemplate{
		"of another queue":     {Queue: "b"},
		"of the same queue":    {Priority: 0, Name: "b", Operator: "b"},
		"of the same template": {},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t, tasks.Config{})
			w := c.worker("n1", engine.Resources{CPU: 2}, "b")
			a, b := c.client(session), c.client(other)
			a.flood(a.template(&enginev1.TaskTemplate{}), 1, 20_000)
			c.settle()
			for range 3 {
				w.drain(100 * time.Microsecond)
				c.settle()
			}
			b.flood(b.template(second), 30_000, 10)
			rounds := 0
			for ; len(b.outcomes) < 10; rounds++ {
				if rounds == 5 {
					t.Fatalf("%d of 10 tasks have run, while %d of the others have", len(b.outcomes), len(a.outcomes))
				}
				c.settle()
				w.drain(100 * time.Microsecond)
				c.settle()
			}
			if len(a.outcomes) < 100 {
				t.Fatalf("only %d of the others have run", len(a.outcomes))
			}
		})
	}
	t.Run("jobs wait", func(t *testing.T) {
		c := newCluster(t, tasks.Config{})
		w, s := c.worker("n1", oneCore), c.client(session)
		s.flood(s.template(&enginev1.TaskTemplate{}), 1, 10)
		c.jobs = true
		c.settle()
		w.drain(time.Microsecond)
		node := scheduler.Node{ID: "n1"}
		if c.core.Occupy(&node); node.Used.CPU != 0 || !c.core.Stale() {
			t.Fatalf("%v cores are held although a job waits, expected that the scheduler is asked", node.Used.CPU)
		}
	})
	t.Run("others wait for a node that can meet their request", func(t *testing.T) {
		c := newCluster(t, tasks.Config{})
		w, g, s := c.worker("n1", oneCore), c.worker("n2", engine.Resources{CPU: 1, GPU: 1}), c.client(session)
		gpu := s.template(&enginev1.TaskTemplate{Resources: &enginev1.Resources{Gpu: 1}, WaitForNodes: true})
		s.flood(gpu, 101, 2)
		c.wantRuns(g, "101")
		g.lose()
		c.pastime(time.Second)
		c.wantReason(id(102), "gpu")
		s.flood(s.template(&enginev1.TaskTemplate{}), 1, 10)
		c.settle()
		w.drain(time.Microsecond)
		node := scheduler.Node{ID: "n1"}
		if c.core.Occupy(&node); node.Used.CPU != 1 {
			t.Fatalf("%v cores are held, expected that the next task of the class has the slot", node.Used.CPU)
		}
		c.wantReason(id(102), "gpu")
	})
	t.Run("preemption", func(t *testing.T) {
		c := newCluster(t, tasks.Config{})
		w, s := c.worker("n1", engine.Resources{CPU: 4}), c.client(session)
		s.flood(s.template(&enginev1.TaskTemplate{}), 1, 6)
		c.wantRuns(w, "1 2 3 4")
		class := c.core.Classes(c.now, nil)[0]
		c.core.Preempt(c.now, scheduler.Preemption{Class: class.ID, Node: "n1", Count: 2})
		class = c.core.Classes(c.now, nil)[0]
		if class.Running != 4 || class.RunningOn["n1"] != 2 || class.Leaving["n1"] != 2 {
			t.Fatalf("running %d, on the node %d, leaving %d; expected 4, 2, 2", class.Running, class.RunningOn["n1"], class.Leaving["n1"])
		}
		c.queues = []scheduler.Queue{{Name: "default", Quota: engine.Resources{CPU: 2}}}
		c.settle()
		w.report()
		c.wantRuns(w, "1 2")
		class = c.core.Classes(c.now, nil)[0]
		if class.Running != 2 || class.Leaving["n1"] != 0 || class.Pending != 4 {
			t.Fatalf("running %d, leaving %d, pending %d; expected 2, 0, 4", class.Running, class.Leaving["n1"], class.Pending)
		}
		c.queues = nil
		c.decide()
		c.wantRuns(w, "1 2 3 4")
		w.drain(time.Hour)
		c.settle()
		s.wantEnded(id(3), "SUCCEEDED")
		if got := s.outcomes[id(3)].GetAttempts(); got != 1 {
			t.Fatalf("%d attempts, expected 1", got)
		}
	})
}

// TestGroups places groups, and tasks in their bundles.
func TestGroups(t *testing.T) {
	group := engine.PlacementGroupID{1, 2, 3}
	create := func(strategy enginev1.PlacementStrategy, bundles ...*enginev1.Resources) *enginev1.CreatePlacementGroupRequest {
		return &enginev1.CreatePlacementGroupRequest{PlacementGroupId: group[:], SessionId: session, Strategy: strategy, Bundles: bundles}
	}
	in := func(bundle int32) *enginev1.TaskTemplate {
		return &enginev1.TaskTemplate{Placement: &enginev1.TaskPlacement{PlacementGroupId: group[:], Bundle: bundle}}
	}
	spread := enginev1.PlacementStrategy_PLACEMENT_STRATEGY_STRICT_SPREAD
	t.Run("tasks run in their bundles", func(t *testing.T) {
		c := newCluster(t, tasks.Config{})
		a, s := c.worker("n1", engine.Resources{CPU: 2}), c.client(session)
		must(t, c.core.CreateGroup(c.now, create(spread, cores(2), cores(1))))
		must(t, c.core.CreateGroup(c.now, create(spread, cores(2), cores(1))))
		s.submit(s.template(in(1)), 1)
		s.wantOpen(id(1))
		c.wantReason(id(1), "placement group is not placed")
		b := c.worker("n2", engine.Resources{CPU: 2})
		c.settle()
		view, placed, err := c.core.Group(group)
		must(t, err)
		if !placed || fmt.Sprint(view.GetNodes()) != "[n1 n2]" {
			t.Fatalf("group %v, expected it on n1 and n2", view)
		}
		c.wantRuns(b, "1")
		s.submit(s.template(&enginev1.TaskTemplate{}), 2)
		c.wantRuns(b, "1 2") // The other half of the node.
		s.submit(s.template(in(-1)), 3)
		c.wantRuns(a, "3")
		must(t, c.core.RemoveGroup(c.now, group))
		c.settle()
		a.report()
		b.report()
		s.wantEnded(id(1), "CANCELLED")
		s.wantEnded(id(3), "CANCELLED")
		s.wantOpen(id(2))
		if engine.KindOf(c.core.RemoveGroup(c.now, group)) != engine.KindNotFound {
			t.Fatal("a group can be removed twice")
		}
		s.submit(s.template(in(1)), 4)
		s.wantEnded(id(4), "FAILED: not_found", "placement group")
		for _, w := range []engine.NodeID{"n1", "n2"} {
			node := scheduler.Node{ID: w}
			c.core.Occupy(&node)
			want := map[engine.NodeID]float64{"n1": 0, "n2": 1}[w]
			if node.Used.CPU != want || len(node.Bundles) != 0 {
				t.Fatalf("node %s still holds %v", w, node)
			}
		}
	})
	t.Run("a group that loses a node is reserved anew", func(t *testing.T) {
		c := newCluster(t, tasks.Config{})
		a, b, s := c.worker("n1", oneCore), c.worker("n2", oneCore), c.client(session)
		must(t, c.core.CreateGroup(c.now, create(spread, cores(1), cores(1))))
		s.submit(s.template(in(0)), 1)
		s.submit(s.template(in(1)), 2)
		c.wantRuns(a, "1")
		c.wantRuns(b, "2")
		b.lose()
		c.settle()
		a.report()
		if _, placed, _ := c.core.Group(group); placed {
			t.Fatal("it is placed on a node that is lost")
		}
		c.wantRuns(a, "")
		d := c.worker("n3", oneCore)
		c.pastime(time.Second)
		c.wantRuns(a, "1")
		c.wantRuns(d, "2")
	})
	t.Run("a group of a session without tasks ends with it", func(t *testing.T) {
		c := newCluster(t, tasks.Config{})
		must(t, c.core.CreateGroup(c.now, create(0, cores(1))))
		c.core.EndSession(c.now, session)
		if len(c.core.ListGroups()) != 0 {
			t.Fatal("it outlives its session")
		}
	})
	t.Run("bad requests", func(t *testing.T) {
		c := newCluster(t, tasks.Config{})
		for _, request := range []*enginev1.CreatePlacementGroupRequest{
			{PlacementGroupId: []byte("short"), SessionId: session, Bundles: []*enginev1.Resources{cores(1)}},
			{PlacementGroupId: group[:], SessionId: session},
			{PlacementGroupId: group[:], Bundles: []*enginev1.Resources{cores(1)}},
			create(99, cores(1)), create(0, cores(-1)),
			{PlacementGroupId: group[:], SessionId: session, Queue: "a b", Bundles: []*enginev1.Resources{cores(1)}},
		} {
			if err := c.core.CreateGroup(c.now, request); engine.KindOf(err) != engine.KindInvalidArgument {
				t.Fatalf("%v: %v, expected an error of kind invalid_argument", request, err)
			}
		}
		must(t, c.core.CreateGroup(c.now, create(0, cores(1))))
		if err := c.core.CreateGroup(c.now, create(0, cores(1), cores(1))); engine.KindOf(err) != engine.KindConflict {
			t.Fatalf("another group under the same id: %v, expected an error of kind conflict", err)
		}
		s := c.client(session)
		s.submit(s.template(in(5)), 1)
		s.wantEnded(id(1), "FAILED: invalid_argument", "1 bundles")
		c.core.Take()
		c.core.EndSession(c.now, session)
		if len(c.core.ListGroups()) != 0 {
			t.Fatal("a group outlives its session")
		}
		if told := c.core.Take().Groups; !slices.Equal(told, []engine.PlacementGroupID{group}) {
			t.Fatalf("told of are %v, expected the group that has gone with its session", told)
		}
	})
}

// TestLineage loses outputs.
func TestLineage(t *testing.T) {
	recompute := &enginev1.TaskTemplate{Recompute: true, Name: "make"}
	t.Run("a lost output is made again, and what made its arguments before", func(t *testing.T) {
		c := newCluster(t, tasks.Config{})
		w, s := c.worker("n1", oneCore), c.client(session)
		template := s.template(recompute)
		s.submit(template, 1)
		s.submit(template, 2, id(1).Output(0))
		c.settle()
		w.finish(id(1), time.Hour, nil, 100)
		c.settle()
		w.finish(id(2), time.Hour, nil, 100)
		s.wantEnded(id(2), "SUCCEEDED")
		w.lose()
		w.tasks = nil
		b := c.worker("n2", oneCore)
		if !c.core.ObjectLost(c.now, id(2).Output(0)) {
			t.Fatal("it is not made again")
		}
		c.settle()
		if _, wanted := c.wanted[id(1).Output(0)]; !wanted {
			t.Fatal("nobody asks for its argument")
		}
		if !c.core.ObjectLost(c.now, id(1).Output(0)) {
			t.Fatal("its argument is not made again")
		}
		c.wantRuns(b, "1")
		s.submit(template, 3, id(2).Output(0))
		b.finish(id(1), time.Hour, nil, 100)
		c.wantRuns(b, "2")
		b.finish(id(2), time.Hour, nil, 100)
		c.wantRuns(b, "3")
		if len(s.order) != 2 {
			t.Fatalf("the client has heard of %d outcomes, expected 2", len(s.order))
		}
		b.finish(id(3), time.Hour, nil)
		s.wantEnded(id(3), "SUCCEEDED")
	})
	t.Run("an argument that a worker cannot get is looked for, and made again", func(t *testing.T) {
		c := newCluster(t, tasks.Config{})
		w, s := c.worker("n1", oneCore), c.client(session)
		template := s.template(recompute)
		s.submit(template, 1)
		s.submit(template, 2, id(1).Output(0))
		c.settle()
		w.finish(id(1), time.Hour, nil, 100)
		c.wantRuns(w, "2")
		object := id(1).Output(0)
		w.finish(id(2), 1, &engine.Error{Kind: engine.KindUnavailable, Op: "get argument", ID: object.String(), Err: fmt.Errorf("gone")})
		c.pastime(time.Second)
		if _, wanted := c.wanted[object]; !wanted {
			t.Fatal("nobody asks for the argument")
		}
		if !c.core.ObjectLost(c.now, object) {
			t.Fatal("it is not made again")
		}
		c.wantRuns(w, "1")
		w.finish(id(1), time.Hour, nil, 100)
		c.wantRuns(w, "2")
	})
	t.Run("what is not kept, or freed, is not made again", func(t *testing.T) {
		c := newCluster(t, tasks.Config{})
		w, s := c.worker("n1", oneCore), c.client(session)
		s.submit(s.template(&enginev1.TaskTemplate{Name: "once"}), 1)
		c.settle()
		w.finish(id(1), time.Hour, nil, 100)
		template := s.template(recompute)
		s.submit(template, 2)
		c.settle()
		w.finish(id(2), time.Hour, nil, 100)
		c.settle()
		w.lose()
		c.core.ObjectFreed(id(2).Output(0))
		for n, want := range []string{"task once", "not kept"} {
			n++
			s.submit(template, 10+n, id(n).Output(0))
			c.settle()
			if c.core.ObjectLost(c.now, id(n).Output(0)) {
				t.Fatal("it is made again")
			}
			s.wantEnded(id(10+n), "FAILED: unavailable", "every copy", want)
		}
	})
	t.Run("three times at most, and then with an error", func(t *testing.T) {
		c := newCluster(t, tasks.Config{})
		w, s := c.worker("n1", oneCore), c.client(session)
		template := s.template(recompute)
		s.submit(template, 1)
		c.settle()
		w.finish(id(1), time.Hour, nil, 100)
		for range 3 {
			c.settle()
			if !c.core.ObjectLost(c.now, id(1).Output(0)) {
				t.Fatal("it is not made again")
			}
			c.wantRuns(w, "1")
			w.finish(id(1), time.Hour, nil, 100)
		}
		c.settle()
		if c.core.ObjectLost(c.now, id(1).Output(0)) {
			t.Fatal("it is made again a fourth time")
		}
		s.submit(template, 2, id(1).Output(0))
		s.wantEnded(id(2), "FAILED: unavailable", "3 times")
	})
	t.Run("one that cannot be made again", func(t *testing.T) {
		c := newCluster(t, tasks.Config{})
		w, s := c.worker("n1", oneCore), c.client(session)
		template := s.template(recompute)
		s.submit(template, 1)
		c.settle()
		w.finish(id(1), time.Hour, nil, 100)
		c.settle()
		c.core.ObjectLost(c.now, id(1).Output(0))
		s.submit(template, 2, id(1).Output(0))
		c.wantRuns(w, "1")
		w.finish(id(1), 1, engine.Errorf(engine.KindData, "", "", "the file is gone"))
		s.wantEnded(id(2), "FAILED: data", "could not make them again", "the file is gone")
		if len(c.given) != 1 || c.given[0] != id(1).Output(0) {
			t.Fatalf("given up: %v, expected its output", c.given)
		}
	})
	t.Run("the oldest goes when there are too many", func(t *testing.T) {
		c := newCluster(t, tasks.Config{MaxLineage: 2})
		w, s := c.worker("n1", oneCore), c.client(session)
		template := s.template(recompute)
		for n := 1; n <= 3; n++ {
			s.submit(template, n)
			c.settle()
			w.finish(id(n), time.Hour, nil, 100)
			c.settle()
		}
		if c.core.ObjectLost(c.now, id(1).Output(0)) || !c.core.ObjectLost(c.now, id(2).Output(0)) {
			t.Fatal("the first is kept, or the second is not")
		}
	})
}

// TestHanging finds tasks that report progress and stop to.
func TestHanging(t *testing.T) {
	c := newCluster(t, tasks.Config{})
	w, s := c.worker("n1", oneCore), c.client(session)
	s.submit(s.template(&enginev1.TaskTemplate{HangAfter: durationpb.New(10 * time.Second)}), 1)
	c.settle()
	report := func(quiet time.Duration) (hanging bool, told int) {
		c.core.Report(c.now, "n1", &enginev1.SyncRequest{HeldTasks: []*enginev1.HeldTask{{
			TaskId: bytesOf(id(1)), Epoch: w.tasks[0].grant.GetEpoch(), RunNanos: int64(time.Hour), QuietNanos: int64(quiet), Done: 3, Total: 4,
		}}})
		view, err := c.core.Get(id(1))
		must(t, err)
		if view.GetDone() != 3 || view.GetTotal() != 4 {
			t.Fatalf("progress %v of %v, expected 3 of 4", view.GetDone(), view.GetTotal())
		}
		return view.GetHanging(), len(c.core.Take().Hanging)
	}
	for _, test := range []struct {
		quiet   time.Duration
		hanging bool
		told    int
	}{{0, false, 0}, {9 * time.Second, false, 0}, {11 * time.Second, true, 1}, {12 * time.Second, true, 0}, {time.Second, false, 0}, {time.Minute, true, 1}} {
		if hanging, told := report(test.quiet); hanging != test.hanging || told != test.told {
			t.Fatalf("quiet for %v: hanging %v, told %d times; expected %v, %d", test.quiet, hanging, told, test.hanging, test.told)
		}
	}
}

// TestRestart loses the head.
func TestRestart(t *testing.T) {
	c := newCluster(t, tasks.Config{Retained: -1})
	w, s := c.worker("n1", engine.Resources{CPU: 3}), c.client(session)
	s.acknowledges = false
	template := s.template(&enginev1.TaskTemplate{})
	for n := 1; n <= 5; n++ {
		s.submit(template, n)
	}
	c.wantRuns(w, "1 2 3")
	w.finish(id(1), time.Hour, nil)
	c.settle()
	s.send(&enginev1.RunTasksRequest{Acknowledged: bytesOf(id(1))})
	c.settle()
	w.finish(id(2), time.Hour, nil, 10)
	c.wantRuns(w, "3 4 5")

	c.restart()
	again := func(n int) {
		wire := submission(template, id(n))
		wire.Again = true
		s.send(&enginev1.RunTasksRequest{Tasks: []*enginev1.TaskSubmission{wire}})
	}
	clear(s.outcomes)
	s.open()
	again(3) // The client is there before the worker.
	c.settle()
	c.wantReason(id(3), "before the head was restarted")
	w.join()
	node := scheduler.Node{ID: "n1"}
	if c.core.Occupy(&node); node.Used.CPU != 3 {
		t.Fatalf("%v cores are held, expected 3: what nobody has asked for yet counts too", node.Used.CPU)
	}
	again(2)
	again(4)
	s.wantEnded(id(2), "SUCCEEDED")
	c.wantRuns(w, "3 4 5")
	if got := c.core.Running("n1"); got != 2 {
		t.Fatalf("the node has %d tasks that are known, expected 2", got)
	}
	if w.find(id(1)) != nil {
		t.Fatal("an outcome that was acknowledged is still kept")
	}
	c.pastime(2 * time.Minute) // The client does not ask for 5 again.
	c.wantRuns(w, "3 4")
	w.finish(id(3), time.Hour, nil)
	w.finish(id(4), time.Hour, nil)
	s.wantEnded(id(3), "SUCCEEDED")
	s.wantEnded(id(4), "SUCCEEDED")

	// A task that no worker has runs after a lease time, one that is new at once.
	c.restart()
	w.tasks = nil
	s.open()
	w.join()
	again(6)
	s.submit(template, 7)
	c.wantRuns(w, "7")
	c.pastime(5 * time.Second)
	c.wantRuns(w, "7 6")
}

// TestViews looks at what people see.
func TestViews(t *testing.T) {
	c := newCluster(t, tasks.Config{Retained: 2})
	w, s := c.worker("n1", engine.Resources{CPU: 2}), c.client(session)
	a, b := s.template(&enginev1.TaskTemplate{Name: "a"}), s.template(&enginev1.TaskTemplate{Name: "b", Queue: "q"})
	for n := 1; n <= 4; n++ {
		s.submit(a, n)
	}
	s.submit(b, 5, id(4).Output(0))
	c.settle()
	for n := 1; n <= 3; n++ {
		w.finish(id(n), time.Hour, nil)
		c.settle()
	}
	w.finish(id(4), time.Hour, engine.Errorf(engine.KindData, "", "", "bad"))
	c.settle()
	for _, test := range []struct {
		filter *enginev1.ListTasksRequest
		limit  int
		want   string
		total  int64
	}{
		{&enginev1.ListTasksRequest{}, 10, "5 4", 2},
		{&enginev1.ListTasksRequest{}, 1, "5", 2},
		{&enginev1.ListTasksRequest{Name: "a"}, 10, "4", 1},
		{&enginev1.ListTasksRequest{NodeId: "n1"}, 10, "4", 1},
		{&enginev1.ListTasksRequest{States: []enginev1.TaskState{succeeded}}, 10, "", 0},
		{&enginev1.ListTasksRequest{JobId: "x"}, 10, "", 0},
	} {
		found, total := c.core.List(test.filter, func(string) bool { return true }, test.limit)
		got := ""
		for i, f := range found {
			if i > 0 {
				got += " "
			}
			got += number(engine.TaskUID(f.GetTaskId()))
		}
		if got != test.want || total != test.total {
			t.Errorf("%v: %q of %d, expected %q of %d", test.filter, got, total, test.want, test.total)
		}
	}
	text := ""
	for _, summary := range c.core.Summaries() {
		text += fmt.Sprint(summary.GetName(), summary.GetStates(), time.Duration(summary.GetMeanRunNanos()), "; ")
	}
	if want := "amap[FAILED:1 SUCCEEDED:3] 1h0m0s; bmap[FAILED:1] 0s; "; text != want {
		t.Errorf("summaries %q, expected %q", text, want)
	}
	if _, err := c.core.Get(id(1)); engine.KindOf(err) != engine.KindNotFound {
		t.Errorf("get: %v, expected an error of kind not_found", err)
	}
	s.submit(b, 6)
	s.submit(b, 7)
	s.submit(b, 8)
	c.settle()
	if use := c.core.Queues()["q"]; use.Pending != 1 || use.Running != 2 || use.Used.CPU != 2 {
		t.Errorf("queue q: %+v, expected 1 pending, 2 running, 2 cores", use)
	}
}
