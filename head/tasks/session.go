package tasks

import (
	"maps"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/f708428e/engine"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// session is a client that has tasks here, or a stream.
type session struct {
	id string
	// stream is the number of the open stream; 0 while there is none.
	stream uint64
	// bindings are the templates of the stream by their numbers on it, last the one that was used last.
	bindings   map[uint32]*binding
	lastNumber uint32
	last       *binding
	// tasks are those that have not ended or whose outcomes are not acknowledged, kept the others that may run again.
	tasks, kept list
	// ends are the outcomes that are not acknowledged, in order, unread counts the bytes of their values; cursor is the first one that the
	// stream has not carried.
	ends        list
	unreadBytes int64
	cursor      *task
	// strays are outcomes that belong to no task, refusals the submissions that were not accepted: the stream carries them once. refused
	// has the ids of the latter, which will come again.
	strays   []*enginev1.TaskOutcome
	refusals []*enginev1.TaskRefusal
	refused  map[engine.TaskUID]struct{}
	// full says that the client has not acknowledged so many outcomes that nothing more is granted.
	full, woken bool
}

// binding is what a number on a stream means.
type binding struct {
	template *template
	class    *class
}

// The bounds of what is kept for a client that does not read.
const (
	maxUnsent  = 100_000
	maxRefused = 100_000
)

const (
	// maxRefusals bounds the refusals of one answer.
	maxRefusals = 10_000
	// outcomeOverhead, outputOverhead, and refusalOverhead are about what these take in a message beside their texts and values.
	outcomeOverhead, outputOverhead, refusalOverhead = 100, 30, 150
)

func (c *Core) sessionOf(id string) *session {
	s := c.sessions[id]
	if s == nil {
		s = &session{id: id, bindings: map[uint32]*binding{}}
		s.tasks.field, s.kept.field, s.ends.field = allLinks, allLinks, endsLinks
		c.sessions[id] = s
	}
	return s
}

// OpenStream begins a stream of a session, which is made if need be; an earlier stream of it ends. The stream's number goes with what it
// carries. It returns how many tasks the session may have.
func (c *Core) OpenStream(_ time.Time, id string) (stream uint64, window int64) {
	s := c.sessionOf(id)
	c.unbindAll(s)
	c.streams++
	s.stream = c.streams
	s.cursor = s.ends.head
	s.strays, s.refusals, s.woken = nil, nil, false
	if s.cursor != nil {
		c.wakeSession(s)
	}
	return s.stream, c.config.Window
}

// CloseStream ends a stream. The session's tasks go on.
func (c *Core) CloseStream(id string, stream uint64) {
	if s := c.sessions[id]; s != nil && s.stream == stream {
		s.stream = 0
		c.unbindAll(s)
	}
}

// bind gives a number of a stream its meaning.
func (c *Core) bind(now time.Time, s *session, wire *enginev1.TaskTemplate) {
	number := wire.GetNumber()
	c.unbind(s, number)
	t := c.internTemplate(wire)
	b := &binding{template: t}
	if t.err == nil {
		b.class = c.classFor(now, t, s, "")
	}
	s.bindings[number] = b
}

func (c *Core) unbind(s *session, number uint32) {
	b := s.bindings[number]
	if b == nil {
		return
	}
	delete(s.bindings, number)
	if s.last == b {
		s.last = nil
	}
	if b.class != nil {
		c.unref(b.class)
	}
	c.dropTemplate(b.template)
}

func (c *Core) unbindAll(s *session) {
	for _, number := range slices.Sorted(maps.Keys(s.bindings)) {
		c.unbind(s, number)
	}
}

// binding returns what a number means; nil if nothing.
func (s *session) binding(number uint32) *binding {
	if s.last == nil || s.lastNumber != number {
		s.last, s.lastNumber = s.bindings[number], number
	}
	return s.last
}

func (c *Core) wakeSession(s *session) {
	if !s.woken && s.stream != 0 {
		s.woken = true
		c.events.Sessions = append(c.events.Sessions, s.id)
	}
}

// isFull reports whether nothing more of the session is granted, since its client does not take in what it has.
func (s *session) isFull(config *Config) bool {
	return s.ends.count >= config.MaxUnread || s.unreadBytes >= config.MaxUnreadBytes
}

// stray answers a submission that no task comes of.
func (c *Core) stray(s *session, outcome *enginev1.TaskOutcome) {
	s.strays = append(s.strays, outcome)
	c.wakeSession(s)
}

// Respond returns what a stream has not carried, with so many outcomes at most; nil if there is nothing. If there is more, the session is
// among the next Events.Sessions again. The message and what it holds must not be changed.
func (c *Core) Respond(id string, stream uint64, most int) *enginev1.RunTasksResponse {
	s := c.sessions[id]
	if s == nil || s.stream != stream {
		return nil
	}
	s.woken = false
	if s.cursor == nil && len(s.strays)+len(s.refusals) == 0 {
		return nil
	}
	response := &enginev1.RunTasksResponse{}
	size := 0
	outcomes := make([]*enginev1.TaskOutcome, 0, min(most, s.ends.count+len(s.strays)))
	take := func(outcome *enginev1.TaskOutcome) {
		outcomes = append(outcomes, outcome)
		size += outcomeBytes(outcome)
	}
	taken := 0
	for ; taken < len(s.refusals) && taken < maxRefusals && size < maxAnswerBytes; taken++ {
		size += refusalOverhead + len(s.refusals[taken].GetError().GetMessage())
	}
	response.Refusals, s.refusals = s.refusals[:taken:taken], rest(s.refusals, taken)
	for taken = 0; taken < len(s.strays) && len(outcomes) < most && size < maxAnswerBytes; taken++ {
		take(s.strays[taken])
	}
	s.strays = rest(s.strays, taken)
	for ; s.cursor != nil && len(outcomes) < most && size < maxAnswerBytes; s.cursor = s.cursor.ends.next {
		take(s.cursor.outcome)
	}
	response.Outcomes = outcomes
	if s.cursor != nil || len(s.strays)+len(s.refusals) > 0 {
		c.wakeSession(s)
	}
	return response
}

// rest is what remains of a list once so many are taken.
func rest[T any](list []T, taken int) []T {
	if taken == len(list) {
		return nil
	}
	return list[taken:]
}

// outcomeBytes is about what an outcome takes in a message.
func outcomeBytes(outcome *enginev1.TaskOutcome) int {
	size := outcomeOverhead + len(outcome.GetNodeId())
	if outcome.GetError() != nil {
		size += proto.Size(outcome.GetError())
	}
	for _, output := range outcome.GetOutputs() {
		size += outputOverhead + len(output.GetValue()) + len(output.GetCheckpoint())
	}
	return size
}

// valueBytes counts the bytes of the values in an outcome.
func valueBytes(outcome *enginev1.TaskOutcome) (bytes int64) {
	for _, output := range outcome.GetOutputs() {
		bytes += int64(len(output.GetValue()))
	}
	return bytes
}

// EndSession cancels and forgets all that belongs to a session.
func (c *Core) EndSession(now time.Time, id string) {
	c.endOrphansOf(id)
	c.removeGroupsOf(now, id)
	s := c.sessions[id]
	if s == nil {
		c.refill(now)
		return
	}
	cause := engine.Errorf(engine.KindCanceled, opRun, "", "its session has ended")
	end := func(t *task) {
		if t.state != stateEnded {
			c.withdraw(now, t)
			t.rerunning = false
			c.finish(now, t, cancelled(t, cause), nil)
		}
		if t.unread {
			c.acknowledge(t)
		}
		c.dropLineage(t)
	}
	for t := s.tasks.head; t != nil; t = s.tasks.head {
		end(t)
	}
	for t := s.kept.head; t != nil; t = s.kept.head {
		end(t)
	}
	c.unbindAll(s)
	delete(c.sessions, id)
	c.refill(now)
}
