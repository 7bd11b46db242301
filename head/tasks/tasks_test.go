package tasks_test

import (
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/head/tasks"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

var oneCore = engine.Resources{CPU: 1}

func cores(n float64) *enginev1.Resources { return &enginev1.Resources{Cpu: &n} }

func infrastructure(text string) error {
	return engine.Errorf(engine.KindUnavailable, "run task", "", "%s", text)
}

// TestRules has one case for each rule of a task's way.
func TestRules(t *testing.T) {
	for name, scenario := range map[string]func(c *cluster){
		"a task runs, and is forgotten once its outcome is acknowledged": func(c *cluster) {
			w, s := c.worker("n1", oneCore), c.client(session)
			task := s.submit(s.template(&enginev1.TaskTemplate{}), 1)
			c.wantRuns(w, "1")
			w.finish(task, time.Millisecond, nil)
			s.wantEnded(task, "SUCCEEDED")
			c.settle()
			if len(w.tasks) > 0 {
				c.Fatal("the worker still keeps the outcome")
			}
		},
		"tasks of a class run in order": func(c *cluster) {
			w, s := c.worker("n1", engine.Resources{CPU: 2}), c.client(session)
			template := s.template(&enginev1.TaskTemplate{})
			for n := 1; n <= 3; n++ {
				s.submit(template, n)
			}
			c.wantRuns(w, "1 2")
			w.finish(id(2), time.Hour, nil)
			c.wantRuns(w, "1 3")
		},
		"a larger priority comes first": func(c *cluster) {
			w, s := c.worker("n1", oneCore), c.client(session)
			low, high := s.template(&enginev1.TaskTemplate{}), s.template(&enginev1.TaskTemplate{Priority: 5})
			s.submit(low, 1)
			c.wantRuns(w, "1")
			s.submit(low, 2)
			s.submit(high, 3)
			c.settle()
			w.finish(id(1), time.Hour, nil)
			c.wantRuns(w, "3")
			w.finish(id(3), time.Hour, nil)
			c.wantRuns(w, "2")
		},
		"a failure of the infrastructure is tried again after a pause, a user's fault is not": func(c *cluster) {
			w, s := c.worker("n1", oneCore), c.client(session)
			template := s.template(&enginev1.TaskTemplate{MaxAttempts: 2})
			s.submit(template, 1)
			c.settle()
			w.finish(id(1), 1, infrastructure("no room"))
			c.wantRuns(w, "")
			s.wantOpen(id(1))
			c.wantReason(id(1), "next attempt")
			c.pastime(100 * time.Millisecond)
			c.wantRuns(w, "1")
			w.finish(id(1), 1, infrastructure("no room"))
			s.wantEnded(id(1), "FAILED: unavailable", "attempt 2 of 2", "no room")
			s.submit(template, 2)
			c.settle()
			w.finish(id(2), 1, engine.Errorf(engine.KindData, "operator noop", "", "bad row"))
			s.wantEnded(id(2), "FAILED: data", "bad row")
		},
		"a timeout is not tried again": func(c *cluster) {
			w, s := c.worker("n1", oneCore), c.client(session)
			s.submit(s.template(&enginev1.TaskTemplate{Timeout: durationpb.New(time.Second)}), 1)
			c.settle()
			w.finish(id(1), time.Second, engine.Errorf(engine.KindDeadline, "run task", "", "it took too long"))
			s.wantEnded(id(1), "FAILED: deadline")
		},
		"a chained task starts when its argument exists, on the node that has it": func(c *cluster) {
			a, b := c.worker("n1", oneCore), c.worker("n2", oneCore)
			s := c.client(session)
			template := s.template(&enginev1.TaskTemplate{})
			s.submit(template, 1)
			s.submit(template, 2)
			s.submit(template, 3, id(2).Output(0))
			c.wantRuns(a, "1")
			c.wantRuns(b, "2")
			c.wantReason(id(3), "an output of task noop")
			a.finish(id(1), 1, nil)
			c.wantRuns(a, "")
			b.finish(id(2), 1, nil, 2<<20)
			c.wantRuns(b, "3")
		},
		"a chain of failures names the first": func(c *cluster) {
			w, s := c.worker("n1", oneCore), c.client(session)
			template := s.template(&enginev1.TaskTemplate{Name: "step"})
			s.submit(template, 1)
			s.submit(template, 2, id(1).Output(0))
			s.submit(template, 3, id(2).Output(0), id(2).Output(0))
			c.settle()
			w.finish(id(1), 1, engine.Errorf(engine.KindModel, "operator noop", "", "no such layer"))
			s.wantEnded(id(2), "FAILED: model", "argument 1", "task step", "no such layer")
			s.wantEnded(id(3), "FAILED: model", id(2).String(), id(1).String(), "no such layer")
		},
		"an argument that is the output of a cancelled task": func(c *cluster) {
			w, s := c.worker("n1", oneCore), c.client(session)
			template := s.template(&enginev1.TaskTemplate{})
			s.submit(template, 1)
			s.submit(template, 2)
			s.submit(template, 3, id(2).Output(0))
			c.wantRuns(w, "1")
			s.send(&enginev1.RunTasksRequest{Cancellations: []*enginev1.TaskCancellation{{TaskId: bytesOf(id(2))}}})
			s.wantEnded(id(2), "CANCELLED")
			s.wantEnded(id(3), "FAILED: canceled", "was cancelled")
		},
		"an output that the task has not": func(c *cluster) {
			w, s := c.worker("n1", oneCore), c.client(session)
			template := s.template(&enginev1.TaskTemplate{Outputs: 2})
			s.submit(template, 1)
			s.submit(template, 2, id(1).Output(2))
			s.wantEnded(id(2), "FAILED: not_found", "has 2 outputs")
			s.submit(template, 3, id(1).Output(1))
			c.settle()
			w.finish(id(1), 1, nil, 100)
			s.wantEnded(id(3), "FAILED: not_found", "has made no output 2")
		},
		"cycles are refused": func(c *cluster) {
			c.worker("n1", oneCore)
			s := c.client(session)
			template := s.template(&enginev1.TaskTemplate{})
			s.submit(template, 1, id(1).Output(0))
			s.wantEnded(id(1), "FAILED: invalid_argument", "itself")
			s.submit(template, 2, id(3).Output(0))
			s.submit(template, 4, id(2).Output(0))
			s.submit(template, 3, id(4).Output(0))
			s.wantEnded(id(3), "FAILED: invalid_argument", "its own output")
			s.wantEnded(id(2), "FAILED: invalid_argument")
			s.wantEnded(id(4), "FAILED: invalid_argument")
		},
		"an unknown argument fails after a pause, unless it comes": func(c *cluster) {
			w, s := c.worker("n1", engine.Resources{CPU: 3}), c.client(session)
			template := s.template(&enginev1.TaskTemplate{})
			one, two, three := engine.NewObjectID(), engine.NewObjectID(), id(9).Output(0)
			s.submit(template, 1, one)
			s.submit(template, 2, two)
			s.submit(template, 3, three)
			c.settle()
			if len(c.wanted) != 3 {
				c.Fatalf("%d objects are wanted, expected 3", len(c.wanted))
			}
			for _, object := range []engine.ObjectID{one, two, three} {
				c.core.ObjectUnknown(c.now, object)
			}
			c.pastime(900 * time.Millisecond)
			c.core.ObjectKnown(c.now, two, 10, []engine.NodeID{"n1"})
			s.submit(template, 9)
			c.pastime(time.Second)
			s.wantEnded(id(1), "FAILED: not_found", "no such object")
			c.wantRuns(w, "2 9")
			w.finish(id(9), 1, nil, 10)
			c.wantRuns(w, "2 3")
			if len(c.wanted) != 1 { // The one that came; it is not watched any more.
				c.Fatalf("%d objects are wanted, expected 1", len(c.wanted))
			}
		},
		"a lost argument": func(c *cluster) {
			c.worker("n1", oneCore)
			s := c.client(session)
			object := engine.NewObjectID()
			s.submit(s.template(&enginev1.TaskTemplate{}), 1, object)
			c.settle()
			if c.core.ObjectLost(c.now, object) {
				c.Fatal("an object that a client has put is made again")
			}
			s.wantEnded(id(1), "FAILED: unavailable", "every copy of it is lost")
		},
		"a request that no node can meet": func(c *cluster) {
			c.worker("n1", oneCore)
			s := c.client(session)
			s.submit(s.template(&enginev1.TaskTemplate{Resources: &enginev1.Resources{Gpu: 1}}), 1)
			s.wantEnded(id(1), "FAILED: invalid_argument", "gpu")
			s.submit(s.template(&enginev1.TaskTemplate{Resources: &enginev1.Resources{Gpu: 1}, WaitForNodes: true}), 2)
			s.wantOpen(id(2))
			c.wantReason(id(2), "gpu")
			g := c.worker("n2", engine.Resources{CPU: 1, GPU: 1})
			c.wantRuns(g, "2")
		},
		"an operator that no node has": func(c *cluster) {
			s := c.client(session)
			s.submit(s.template(&enginev1.TaskTemplate{Operator: "resze"}), 1)
			c.pastime(time.Minute)
			s.wantOpen(id(1))
			c.worker("n1", oneCore, "resize")
			s.wantOpen(id(1))
			c.wantReason(id(1), `no node has operator "resze"`)
			c.pastime(6 * time.Second)
			s.wantEnded(id(1), "FAILED: not_found", `no node has operator "resze"`, "resize")
		},
		"what is wrong with a template fails its tasks": func(c *cluster) {
			c.worker("n1", oneCore)
			s := c.client(session)
			for n, template := range []*enginev1.TaskTemplate{
				{Resources: cores(-1)}, {Resources: cores(1e9)}, {Queue: "a b"}, {Outputs: 2_000}, {MaxAttempts: -1}, {Priority: 1 << 30},
				{Params: make([]byte, engine.MaxTaskParamsBytes+1)}, {Timeout: durationpb.New(-1)}, {InlineBytes: 1 << 30},
				{Resources: &enginev1.Resources{Memory: "much"}}, {Placement: &enginev1.TaskPlacement{Soft: true}},
				{Placement: &enginev1.TaskPlacement{PlacementGroupId: []byte("short")}},
			} {
				s.submit(s.template(template), n+1)
				s.wantEnded(id(n+1), "FAILED: invalid_argument")
			}
		},
		"what is wrong with a submission fails it": func(c *cluster) {
			c.worker("n1", oneCore)
			s := c.client(session)
			template := s.template(&enginev1.TaskTemplate{})
			object := engine.NewObjectID()
			for n, wire := range []*enginev1.TaskSubmission{
				{Template: 77},
				{Template: template, Arguments: []*enginev1.TaskArgument{{}}},
				{Template: template, Arguments: []*enginev1.TaskArgument{{ObjectId: []byte("short")}}},
				{Template: template, Arguments: []*enginev1.TaskArgument{{ObjectId: object[:], Value: []byte("x")}}},
				{Template: template, Arguments: []*enginev1.TaskArgument{{Value: make([]byte, engine.MaxInlineObjectBytes+1)}}},
				{Template: template, Arguments: make([]*enginev1.TaskArgument, engine.MaxTaskArguments+1)},
				{Template: template, ParentTaskId: []byte("short")},
			} {
				wire.TaskId = bytesOf(id(n + 1))
				s.send(&enginev1.RunTasksRequest{Tasks: []*enginev1.TaskSubmission{wire}})
				s.wantEnded(id(n+1), "FAILED: invalid_argument")
			}
			bad := object
			bad[15] = 1
			s.acknowledges = false
			s.send(&enginev1.RunTasksRequest{Tasks: []*enginev1.TaskSubmission{{TaskId: bad[:], Template: template}}})
			s.wantEnded(engine.TaskUID(bad), "FAILED: invalid_argument", "no task id")
		},
		"a submission again is the same task, another under its id is refused": func(c *cluster) {
			w, s := c.worker("n1", oneCore), c.client(session)
			template, second := s.template(&enginev1.TaskTemplate{}), s.template(&enginev1.TaskTemplate{Name: "b"})
			s.submit(template, 1)
			s.submit(template, 1)
			c.wantRuns(w, "1")
			w.finish(id(1), 1, nil)
			s.wantEnded(id(1), "SUCCEEDED")
			delete(s.outcomes, id(1))
			s.submit(template, 1)
			c.wantRuns(w, "")
			s.wantEnded(id(1), "SUCCEEDED")
			s.submit(second, 1)
			s.wantEnded(id(1), "FAILED: conflict")
			s2 := c.client(other)
			s2.submit(s2.template(&enginev1.TaskTemplate{}), 1)
			s2.wantEnded(id(1), "FAILED: conflict", "another session")
		},
		"cancelling a task that waits, one that runs, and one that was not sent": func(c *cluster) {
			w, s := c.worker("n1", oneCore), c.client(session)
			template := s.template(&enginev1.TaskTemplate{})
			s.submit(template, 1)
			c.settle()
			s.submit(template, 2)
			cancel := func(n int) int64 {
				return c.core.Cancel(c.now, []*enginev1.TaskCancellation{{TaskId: bytesOf(id(n))}})
			}
			if cancel(2) != 1 || cancel(1) != 1 {
				c.Fatal("they had not ended")
			}
			s.wantEnded(id(2), "CANCELLED: canceled")
			s.wantOpen(id(1))
			w.report()
			s.wantEnded(id(1), "CANCELLED")
			s.submit(template, 3)
			c.pass() // It is granted, but its worker has not heard of that.
			if cancel(3) != 1 || cancel(3) != 0 {
				c.Fatal("it had not ended, and then it had")
			}
			s.wantEnded(id(3), "CANCELLED")
			if len(w.tasks) > 0 {
				c.Fatal("the worker has heard of it")
			}
		},
		"cancelling by force does not wait": func(c *cluster) {
			w, s := c.worker("n1", oneCore), c.client(session)
			s.submit(s.template(&enginev1.TaskTemplate{}), 1)
			c.settle()
			s.send(&enginev1.RunTasksRequest{Cancellations: []*enginev1.TaskCancellation{{TaskId: bytesOf(id(1)), Force: true}}})
			s.wantEnded(id(1), "CANCELLED")
			if len(w.tasks) > 0 {
				c.Fatal("the worker has not heard that it shall forget the task")
			}
		},
		"cancelling with children": func(c *cluster) {
			w, s := c.worker("n1", oneCore), c.client(session)
			template := s.template(&enginev1.TaskTemplate{})
			child := func(n, parent int) {
				wire := submission(template, id(n))
				wire.ParentTaskId = bytesOf(id(parent))
				s.send(&enginev1.RunTasksRequest{Tasks: []*enginev1.TaskSubmission{wire}})
			}
			s.submit(template, 1)
			c.settle()
			child(2, 1)
			child(3, 1)
			w.finish(id(1), time.Hour, nil)
			c.wantRuns(w, "2")
			child(4, 2)
			w.finish(id(2), time.Hour, nil) // It has ended, and its child has not.
			c.wantRuns(w, "3")
			if n := c.core.Cancel(c.now, []*enginev1.TaskCancellation{{TaskId: bytesOf(id(1)), Children: true}}); n != 2 {
				c.Fatalf("%d had not ended, expected 2", n)
			}
			s.wantEnded(id(4), "CANCELLED")
			w.report()
			s.wantEnded(id(3), "CANCELLED")
		},
		"tasks are refused beyond a queue's limit, and the session's": func(c *cluster) {
			s := c.client(session)
			c.core.SetQueues([]*enginev1.Queue{{Name: "small", MaxPending: 2}})
			template := s.template(&enginev1.TaskTemplate{Queue: "small"})
			for n := 1; n <= 4; n++ {
				s.submit(template, n)
			}
			c.settle()
			if len(s.refusals) != 2 || s.refusals[0].GetRetryAfterMillis() <= 0 || s.refusals[0].GetError().GetKind() != "exhausted" {
				c.Fatalf("refusals: %v, expected two of kind exhausted, with a pause", s.refusals)
			}
			wide := s.template(&enginev1.TaskTemplate{})
			for n := 5; n <= 12; n++ {
				s.submit(wide, n)
			}
			c.settle()
			if got := len(s.refusals); got != 4 { // 2 + 8 of a window of 8.
				c.Fatalf("%d refusals, expected 4", got)
			}
		},
		"an argument whose task was refused is waited for": func(c *cluster) {
			s := c.client(session)
			c.core.SetQueues([]*enginev1.Queue{{Name: "small", MaxPending: 1}})
			small, wide := s.template(&enginev1.TaskTemplate{Queue: "small"}), s.template(&enginev1.TaskTemplate{})
			s.submit(small, 1)
			s.submit(small, 2)
			s.submit(wide, 3, id(2).Output(0))
			c.settle()
			c.core.ObjectUnknown(c.now, id(2).Output(0))
			c.pastime(time.Minute)
			s.wantOpen(id(3))
			w := c.worker("n1", engine.Resources{CPU: 2})
			c.wantRuns(w, "1")
			s.submit(small, 2)
			c.wantRuns(w, "1 2")
			w.finish(id(2), 1, nil, 10)
			c.wantRuns(w, "1 3")
		},
		"an argument whose task was refused and then cancelled never comes": func(c *cluster) {
			s := c.client(session)
			c.core.SetQueues([]*enginev1.Queue{{Name: "small", MaxPending: 1}})
			small, wide := s.template(&enginev1.TaskTemplate{Queue: "small"}), s.template(&enginev1.TaskTemplate{})
			for n := 1; n <= 3; n++ {
				s.submit(small, n)
			}
			s.submit(wide, 4, id(2).Output(0))
			s.submit(wide, 5, id(3).Output(0))
			s.submit(wide, 6, id(5).Output(0))
			c.settle()
			c.core.ObjectUnknown(c.now, id(2).Output(0))
			c.core.ObjectUnknown(c.now, id(3).Output(0))
			c.pastime(time.Minute)
			s.wantOpen(id(4))
			s.send(&enginev1.RunTasksRequest{Cancellations: []*enginev1.TaskCancellation{{TaskId: bytesOf(id(2))}}})
			s.wantEnded(id(4), "FAILED: canceled", "argument 1", number(id(2)), "before it was accepted")
			s.wantOpen(id(5))
			cancelOther := []*enginev1.TaskCancellation{{TaskId: bytesOf(id(3))}}
			if n := c.core.Cancel(c.now, cancelOther); n != 1 {
				c.Fatalf("%d had not ended, expected 1", n)
			}
			s.wantEnded(id(6), "FAILED: canceled", "before it was accepted")
			if n := c.core.Cancel(c.now, cancelOther); n != 0 {
				c.Fatalf("%d had not ended the second time, expected 0", n)
			}
			if len(c.wanted) > 0 {
				c.Fatalf("%d objects are still wanted", len(c.wanted))
			}
		},
		"a client that does not acknowledge gets nothing more, and holds up no other": func(c *cluster) {
			w, s, s2 := c.worker("n1", oneCore), c.client(session), c.client(other)
			s.acknowledges = false
			template := s.template(&enginev1.TaskTemplate{})
			for n := 1; n <= 8; n++ {
				s.submit(template, n)
			}
			for n := 1; n <= 4; n++ {
				c.wantRuns(w, number(id(n)))
				w.finish(id(n), time.Hour, nil)
			}
			c.wantRuns(w, "")
			c.decide()
			c.wantReason(id(5), "has not taken in")
			s2.submit(s2.template(&enginev1.TaskTemplate{}), 20)
			c.wantRuns(w, "20")
			w.finish(id(20), time.Hour, nil)
			s.send(&enginev1.RunTasksRequest{Acknowledged: bytesOf(id(1))})
			c.wantRuns(w, "5")
		},
		"the end of a session takes everything along": func(c *cluster) {
			w, s := c.worker("n1", oneCore), c.client(session)
			s.acknowledges = false
			template := s.template(&enginev1.TaskTemplate{})
			for n := 1; n <= 3; n++ {
				s.submit(template, n)
			}
			s.submit(template, 4, id(3).Output(0))
			c.settle()
			w.finish(id(1), time.Hour, nil)
			c.wantRuns(w, "2")
			c.core.EndSession(c.now, session)
			c.settle()
			if len(w.tasks) > 0 {
				c.Fatalf("the worker still has %d tasks", len(w.tasks))
			}
			if err := c.core.Submit(c.now, session, s.stream, &enginev1.RunTasksRequest{}); engine.KindOf(err) != engine.KindFenced {
				c.Fatalf("submit: %v, expected an error of kind fenced", err)
			}
		},
		"what is not acknowledged comes again on the next stream": func(c *cluster) {
			w, s := c.worker("n1", oneCore), c.client(session)
			s.acknowledges = false
			template := s.template(&enginev1.TaskTemplate{})
			s.submit(template, 1)
			c.settle()
			w.finish(id(1), 1, nil)
			s.wantEnded(id(1), "SUCCEEDED")
			old := s.stream
			clear(s.outcomes)
			s.open()
			if c.core.Respond(session, old, 10) != nil {
				c.Fatal("a stream that was replaced still hears")
			}
			s.wantEnded(id(1), "SUCCEEDED")
			if len(w.tasks) != 1 {
				c.Fatal("the worker was told to forget an outcome that is not acknowledged")
			}
		},
		"the tasks of a lost worker run elsewhere, and its late outcome is refused": func(c *cluster) {
			a, s := c.worker("n1", oneCore), c.client(session)
			s.submit(s.template(&enginev1.TaskTemplate{}), 1)
			c.wantRuns(a, "1")
			a.lose()
			b := c.worker("n2", oneCore)
			c.pastime(time.Second)
			c.wantRuns(b, "1")
			a.end(a.find(id(1)), 1, nil)
			a.join()
			s.wantOpen(id(1))
			if len(a.tasks) > 0 {
				c.Fatal("the worker keeps an outcome that was refused")
			}
			b.finish(id(1), 1, nil)
			s.wantEnded(id(1), "SUCCEEDED")
			if s.outcomes[id(1)].GetAttempts() != 2 {
				c.Fatalf("%d attempts, expected 2", s.outcomes[id(1)].GetAttempts())
			}
		},
		"a worker that comes back goes on with what nobody else was granted": func(c *cluster) {
			w, s := c.worker("n1", engine.Resources{CPU: 2}), c.client(session)
			template := s.template(&enginev1.TaskTemplate{})
			s.submit(template, 1)
			s.submit(template, 2)
			c.wantRuns(w, "1 2")
			w.lose()
			w.end(w.find(id(1)), 1, nil)
			w.join()
			s.wantEnded(id(1), "SUCCEEDED")
			c.wantRuns(w, "2")
			c.pastime(time.Minute)
			c.wantRuns(w, "2")
			w.finish(id(2), 1, nil)
			s.wantEnded(id(2), "SUCCEEDED")
		},
		"a grant that was lost with the stream costs no attempt": func(c *cluster) {
			w, s := c.worker("n1", oneCore), c.client(session)
			s.submit(s.template(&enginev1.TaskTemplate{MaxAttempts: 1}), 1)
			c.pass()
			c.core.Fill("n1", &enginev1.SyncResponse{})
			w.join()
			c.wantRuns(w, "1")
			w.finish(id(1), 1, nil)
			s.wantEnded(id(1), "SUCCEEDED")
		},
		"a grant that was lost with the stream is none, although the worker still keeps the outcome of the attempt before": func(c *cluster) {
			w, s := c.worker("n1", oneCore), c.client(session)
			s.submit(s.template(&enginev1.TaskTemplate{}), 1)
			c.wantRuns(w, "1")
			w.finish(id(1), 1, infrastructure("no memory"))
			c.now = c.now.Add(time.Second)
			c.core.Tick(c.now)
			c.pass()
			answer := &enginev1.SyncResponse{}
			if c.core.Fill("n1", answer); len(answer.GetTaskGrants()) != 1 || len(answer.GetReleasedTasks()) == 0 {
				c.Fatalf("the answer that gets lost is %v, expected a grant and a release", answer)
			}
			w.join()
			c.wantRuns(w, "1")
			w.finish(id(1), 1, nil)
			s.wantEnded(id(1), "SUCCEEDED")
		},
		"a grant that was lost with the stream is none, although the worker still runs the task under an earlier lease": func(c *cluster) {
			a, s := c.worker("n1", oneCore), c.client(session)
			s.submit(s.template(&enginev1.TaskTemplate{}), 1)
			c.wantRuns(a, "1")
			a.lose()
			b := c.worker("n2", oneCore)
			c.pastime(time.Second)
			c.wantRuns(b, "1")
			a.join()
			b.lose()
			c.now = c.now.Add(time.Second)
			c.core.Tick(c.now)
			c.pass()
			answer := &enginev1.SyncResponse{}
			if c.core.Fill("n1", answer); len(answer.GetTaskGrants()) != 1 || len(answer.GetTaskRevocations()) != 1 {
				c.Fatalf("the answer that gets lost is %v, expected a grant and a revocation", answer)
			}
			a.join()
			c.wantRuns(a, "1")
			a.finish(id(1), 1, nil)
			s.wantEnded(id(1), "SUCCEEDED")
		},
		"the last attempt is lost with its worker": func(c *cluster) {
			w, s := c.worker("n1", oneCore), c.client(session)
			s.submit(s.template(&enginev1.TaskTemplate{MaxAttempts: 1}), 1)
			c.settle()
			w.lose()
			s.wantEnded(id(1), "FAILED: unavailable", "worker was lost")
			s.submit(s.template(&enginev1.TaskTemplate{MaxAttempts: 1}), 2)
			w.tasks = nil
			w.join()
			c.wantRuns(w, "2")
			w.connected = false
			c.core.Leave(c.now, "n1", true) // It stopped, and gave it back.
			s.wantOpen(id(2))
			w.tasks = nil
			w.join()
			c.wantRuns(w, "2")
		},
	} {
		t.Run(name, func(t *testing.T) {
			scenario(newCluster(t, tasks.Config{Window: 8, MaxUnread: 4}))
		})
	}
}

func bytesOf(id engine.TaskUID) []byte { return id[:] }
