package client

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/f708428e/engine"
)

// The bounds of one message, the second of which the last task may exceed, and about how many bytes its parts have.
const (
	maxBatchTasks = 2_000
	maxBatchBytes = 1 << 20
	taskBytes     = 24
	argumentBytes = 20
	templateBytes = 64
)

// acknowledgeWithin is how long an acknowledgement waits for something else to be sent, and acknowledgeAt how many bytes of them do not.
const (
	acknowledgeWithin = 10 * time.Millisecond
	acknowledgeAt     = 1_000 * len(engine.TaskUID{})
)

// sender sends over the stream that is open: all that has gathered in one message, which is large if much gathers while the last one is sent.
// A task that is alone is sent by who submits it, so that its way is short.
type sender struct {
	tasks *tasks
	woken chan struct{}
	// later says that a timer will wake the sender for acknowledgements.
	later atomic.Bool

	// mu is held by who sends.
	mu sync.Mutex
	// stream is nil while none is open.
	stream taskStream
}

func newSender(t *tasks) *sender { return &sender{tasks: t, woken: make(chan struct{}, 1)} }

// start sends over a stream until ctx ends, and at once what there is. The function that it returns waits for the end.
func (s *sender) start(ctx context.Context, stream taskStream) (stop func()) {
	s.mu.Lock()
	s.stream = stream
	s.mu.Unlock()
	done := make(chan struct{})
	s.wake(false)
	if !s.tasks.objects.group.Go("send tasks", func(context.Context) error {
		defer close(done)
		for {
			select {
			case <-s.woken:
				s.mu.Lock()
				for s.send() {
				}
				s.mu.Unlock()
			case <-ctx.Done():
				return nil
			}
		}
	}) {
		close(done)
	}
	return func() {
		<-done
		s.mu.Lock()
		s.stream = nil
		s.mu.Unlock()
	}
}

// wake makes the sender look, or this goroutine send if the task that it has submitted is the only one.
func (s *sender) wake(alone bool) {
	if alone && s.mu.TryLock() {
		sent := s.stream != nil && s.send()
		s.mu.Unlock()
		if sent {
			return
		}
	}
	select {
	case s.woken <- struct{}{}:
	default:
	}
}

// send sends one message; it reports false if there is nothing to send. s.mu is held.
func (s *sender) send() bool {
	request := s.tasks.next()
	if request == nil {
		return false
	}
	// Why a stream broke is what receiving says.
	return s.stream.Send(request) == nil
}

// acknowledge sees that acknowledgements are sent soon.
func (s *sender) acknowledge(bytes int) {
	switch {
	case bytes == 0:
	case bytes >= acknowledgeAt:
		s.wake(false)
	case s.later.CompareAndSwap(false, true):
		time.AfterFunc(acknowledgeWithin, func() {
			s.later.Store(false)
			s.wake(false)
		})
	}
}
