package sim

import (
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/head/objects"
	"github.com/f708428e/engine/internal/rpc"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// taskClient submits tasks over a stream, cancels some, acknowledges outcomes, loses its stream, and perhaps vanishes.
type taskClient struct {
	world  *world
	id     string
	stream *taskStream
	// pending are the tasks without an outcome, ended those that have one; acknowledged those that the client has said so of.
	pending      map[engine.TaskUID]*submittedTask
	ended        map[engine.TaskUID]enginev1.TaskState
	acknowledged map[engine.TaskUID]bool
	// recompute are the tasks that may run again for their outputs.
	recompute  map[engine.TaskUID]bool
	order      []engine.TaskUID
	toSay      []byte
	submitting bool
	// working says that it will speak again by itself.
	working bool
	// vanished says that the client is dead, gone that the head knows.
	vanished, gone bool
	count          int
}

// submittedTask is a task that has no outcome.
type submittedTask struct {
	id        engine.TaskUID
	template  uint32
	arguments []engine.ObjectID
	cancelled bool
}

// taskStream is a connection between a client and a head.
type taskStream struct {
	client   *taskClient
	head     *head
	number   uint64
	broken   bool
	up, down pipe
}

func newTaskClient(w *world, n int) *taskClient {
	c := &taskClient{
		world: w, id: fmt.Sprintf("%032x", n+1), pending: map[engine.TaskUID]*submittedTask{}, ended: map[engine.TaskUID]enginev1.TaskState{},
		acknowledged: map[engine.TaskUID]bool{}, recompute: map[engine.TaskUID]bool{}, submitting: true,
	}
	c.connect()
	c.work()
	if w.chance(6) {
		w.after(w.between(0, faultsFor), c.vanish)
	}
	w.after(faultsFor, func() { c.submitting = false })
	return c
}

// templates are what the tasks of all clients have in common.
func taskTemplates() []*enginev1.TaskTemplate {
	var templates []*enginev1.TaskTemplate
	for i, cpu := range []float64{0, 0.5, 1, 2} {
		templates = append(templates, &enginev1.TaskTemplate{
			Number: uint32(i + 1), Operator: operatorName, Resources: &enginev1.Resources{Cpu: &cpu}, MaxAttempts: 1_000, //nolint:gosec // Small.
			Queue: []string{"", "a"}[i%2], Recompute: i%2 == 0,
		})
	}
	return templates
}

// connect opens a stream to the head that leads and submits again what has no outcome.
func (c *taskClient) connect() {
	if c.vanished {
		return
	}
	h := c.world.leader()
	if h == nil || h.frozen {
		c.world.after(c.world.between(50*time.Millisecond, time.Second), c.connect)
		return
	}
	s := &taskStream{client: c, head: h}
	c.stream = s
	open := func() bool { return !s.broken && h.alive }
	never := func() bool { return false }
	giveUp := func(string) { s.breakOff() }
	s.up = pipe{world: c.world, open: open, cut: never, giveUp: giveUp}
	s.down = pipe{world: c.world, open: open, cut: never, giveUp: giveUp}
	first := &enginev1.RunTasksRequest{SessionId: c.id, Templates: taskTemplates()}
	for _, id := range c.order {
		if t := c.pending[id]; t != nil {
			first.Tasks = append(first.Tasks, t.wire(true))
			if t.cancelled {
				first.Cancellations = append(first.Cancellations, &enginev1.TaskCancellation{TaskId: slices.Clone(id[:])})
			}
		} else if c.acknowledged[id] && c.world.broken(RunAcknowledged) {
			first.Tasks = append(first.Tasks, (&submittedTask{id: id, template: 1}).wire(true))
		}
	}
	s.send(first)
	c.world.after(c.world.between(5*time.Second, 2*faultsFor), func() {
		if !c.world.calm {
			s.breakOff()
		}
	})
}

func (t *submittedTask) wire(again bool) *enginev1.TaskSubmission {
	wire := &enginev1.TaskSubmission{TaskId: slices.Clone(t.id[:]), Template: t.template, Again: again}
	for _, id := range t.arguments {
		wire.Arguments = append(wire.Arguments, &enginev1.TaskArgument{ObjectId: slices.Clone(id[:])})
	}
	return wire
}

// send carries a message to the head.
func (s *taskStream) send(request *enginev1.RunTasksRequest) {
	s.up.carry(func() {
		s.head.run(func() {
			h := s.head
			if request.GetSessionId() != "" {
				s.number, _ = h.core.OpenTasks(h.world.now, s.client.id)
				h.sessions[s.client.id] = s
			}
			if err := h.core.SubmitTasks(h.world.now, s.client.id, s.number, request); err != nil {
				s.breakOff()
			}
			h.act()
		})
	})
}

// breakOff ends the stream; the client opens another one.
func (s *taskStream) breakOff() {
	if s.broken {
		return
	}
	s.broken = true
	h, c := s.head, s.client
	h.later(c.world.between(0, 50*time.Millisecond), func() {
		h.core.CloseTasks(c.id, s.number)
		if h.sessions[c.id] == s {
			delete(h.sessions, c.id)
		}
		h.act()
	})
	c.world.after(c.world.between(0, time.Second), func() {
		if c.stream == s {
			c.connect()
		}
	})
}

// wakeSessions sends what there is for streams.
func (h *head) wakeSessions(sessions []string) {
	for _, id := range sessions {
		s := h.sessions[id]
		if s == nil || s.broken {
			continue
		}
		h.later(h.world.between(0, time.Millisecond), func() {
			if s.broken || h.sessions[id] != s {
				return
			}
			response := h.core.RespondTasks(id, s.number, 1+h.world.random.IntN(100))
			if response != nil {
				s.down.carry(func() { s.client.take(s, response) })
			}
			h.act()
		})
	}
}

// work submits, cancels, and acknowledges now and then.
func (c *taskClient) work() {
	c.working = true
	c.world.after(c.world.between(10*time.Millisecond, 3*time.Second), func() {
		c.working = false
		if c.vanished {
			return
		}
		c.speak()
		if c.submitting || len(c.toSay) > 0 || len(c.pending) > 0 {
			c.work()
		}
	})
}

func (c *taskClient) speak() {
	request := &enginev1.RunTasksRequest{}
	if c.submitting {
		for range c.world.random.IntN(6) {
			request.Tasks = append(request.Tasks, c.newTask().wire(false))
		}
	}
	if len(c.pending) > 0 && c.world.chance(10) {
		ids := slices.SortedFunc(maps.Keys(c.pending), byUID)
		id := ids[c.world.random.IntN(len(ids))]
		c.pending[id].cancelled = true
		request.Cancellations = append(request.Cancellations, &enginev1.TaskCancellation{
			TaskId: slices.Clone(id[:]), Children: c.world.chance(2), Force: c.world.chance(2),
		})
	}
	request.Acknowledged, c.toSay = c.toSay, nil
	if c.stream != nil && !c.stream.broken {
		c.stream.send(request)
	}
}

// newTask makes a task, with outputs of earlier ones as its arguments now and then.
func (c *taskClient) newTask() *submittedTask {
	c.count++
	var id engine.TaskUID
	copy(id[:], c.id[24:])
	binary.BigEndian.PutUint32(id[8:], uint32(c.count))                       //nolint:gosec // Small.
	t := &submittedTask{id: id, template: uint32(1 + c.world.random.IntN(4))} //nolint:gosec // Small.
	for range c.world.random.IntN(3) {
		if len(c.order) == 0 {
			break
		}
		before := c.order[max(0, len(c.order)-1-c.world.random.IntN(8))]
		t.arguments = append(t.arguments, before.Output(0))
	}
	c.pending[id] = t
	c.recompute[id] = taskTemplates()[t.template-1].GetRecompute()
	c.order = append(c.order, id)
	return t
}

// take acts on a response.
func (c *taskClient) take(s *taskStream, response *enginev1.RunTasksResponse) {
	if c.stream != s || c.vanished {
		return
	}
	for _, outcome := range response.GetOutcomes() {
		id := engine.TaskUID(outcome.GetTaskId())
		t := c.pending[id]
		if t == nil {
			if _, ended := c.ended[id]; !ended {
				c.world.fail("client %s hears of task %s, which it has not submitted", c.id, id)
			}
			c.acknowledge(id)
			continue
		}
		c.world.say("client %s hears that %s is %s", c.id[28:], t.id, outcome.GetState())
		c.judge(t, outcome)
		delete(c.pending, id)
		c.ended[id] = outcome.GetState()
		c.acknowledge(id)
		c.world.stats.Tasks++
	}
	for _, refusal := range response.GetRefusals() {
		c.world.fail("task %s is refused: %v", engine.TaskUID(refusal.GetTaskId()), refusal.GetError())
	}
}

// judge checks that an outcome is one that the task may have.
func (c *taskClient) judge(t *submittedTask, outcome *enginev1.TaskOutcome) {
	kind := engine.ParseKind(outcome.GetError().GetKind())
	switch {
	case outcome.GetState() == enginev1.TaskState_TASK_STATE_SUCCEEDED:
	case t.cancelled: // It may fail for the last time instead.
	// What an argument's task came to, its dependants come to; what was lost with its worker may not come back.
	case len(t.arguments) > 0 && slices.Contains([]engine.Kind{engine.KindUnavailable, engine.KindNotFound, engine.KindCanceled}, kind):
	default:
		c.world.fail("task %s ends %s: %v", t.id, outcome.GetState(), rpc.FromProto(outcome.GetError()))
	}
}

// acknowledge says at the next opportunity that an outcome is taken in.
func (c *taskClient) acknowledge(id engine.TaskUID) {
	c.acknowledged[id] = true
	c.toSay = append(c.toSay, id[:]...)
	if !c.working {
		c.work() // It had nothing to say any more, and heard of an outcome once more.
	}
}

// vanish is the client's death; the directory notices some time later, and says so to the head that leads then.
func (c *taskClient) vanish() {
	c.world.say("client %s vanishes", c.id)
	c.vanished = true
	if c.stream != nil {
		c.stream.breakOff()
	}
	c.world.after(c.world.between(0, 10*time.Second), func() {
		c.world.endSession(c)
	})
}

// endSession says that a session has ended, again and again until the head that leads has heard it.
func (w *world) endSession(c *taskClient) {
	if h := w.leader(); h != nil {
		h.run(func() {
			h.core.HearObjects(h.world.now, objects.News{EndedSessions: []string{c.id}})
			h.act()
			c.gone = c.gone || h.leads
		})
	}
	w.after(time.Second, func() {
		if !c.gone {
			w.endSession(c)
		}
	})
}

// settled reports whether every task has its outcome.
func (c *taskClient) settled() bool {
	return c.gone || !c.vanished && !c.submitting && len(c.pending) == 0 && len(c.toSay) == 0
}

func (c *taskClient) unfinished() string {
	if c.vanished {
		return ""
	}
	return fmt.Sprintf("client %s waits for %d tasks; ", c.id, len(c.pending))
}

// finally holds when all is done.
func (c *taskClient) finally() {
	if h := c.world.leader(); h != nil {
		if waiting, running := h.core.Tasks(); waiting != 0 {
			c.world.fail("all is done, and %s says that %d tasks wait and %d run", h.name, waiting, running)
		}
	}
}
