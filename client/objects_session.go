package client

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/internal/lifecycle"
	"github.com/f708428e/engine/internal/rpc"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// session is the client's session at the head: it is opened when it first owns an object, and kept alive until the group ends. The
// references that it holds end then, or one lease time after the head has lost it. When the head says that it has ended, the next
// object begins another one.
type session struct {
	// Constant.
	client  string
	service enginev1.ObjectServiceClient
	group   *lifecycle.Group
	// heard is called with the cluster's id whenever the head says it.
	heard func(cluster string)

	open atomic.Bool
	// name is the id of the session that is open, or of the one that is opened next. Never nil.
	name atomic.Pointer[string]

	mu sync.Mutex
	// opening is the first stream while the head has not answered it; nil before and after.
	opening *opening
}

// opening is an attempt to open the session; err is set when done is closed.
type opening struct {
	done chan struct{}
	err  error
}

// errClosed is what calls on a client get that was closed.
var errClosed = engine.Errorf(engine.KindCanceled, "use client", "", "the client is closed")

// newSessionID is the id of a session that was never opened.
func newSessionID() *string {
	id := engine.NewObjectID().String()
	return &id
}

// id is the session's id. It changes when the session has ended.
func (s *session) id() string { return *s.name.Load() }

// ensure returns when the head knows the session. Once it does, ensure costs nothing, and a head that goes away is found again in the
// background.
func (s *session) ensure(ctx context.Context) error {
	if s.open.Load() {
		return nil
	}
	attempt, err := s.begin()
	if attempt == nil {
		return err
	}
	select {
	case <-attempt.done:
		return attempt.err
	case <-ctx.Done():
		return engine.WrapError("open session", s.id(), context.Cause(ctx))
	}
}

// begin returns the attempt that is in flight, or starts one; nil if the session is open or the client closed.
func (s *session) begin() (*opening, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open.Load() {
		return nil, nil //nolint:nilnil // Nothing is to be awaited.
	}
	if s.opening == nil {
		attempt := &opening{done: make(chan struct{})}
		if !s.group.Go("session", func(ctx context.Context) error {
			s.run(ctx, attempt)
			return nil
		}) {
			return nil, errClosed
		}
		s.opening = attempt
	}
	return s.opening, nil
}

// run keeps the session until ctx ends. If the first stream fails, whoever waits for it gets the error, and the next call tries again.
func (s *session) run(ctx context.Context, first *opening) {
	err := s.stream(ctx, func() {
		if s.open.CompareAndSwap(false, true) {
			close(first.done)
		}
	})
	if !s.open.Load() {
		s.reset(err)
		first.err = err
		close(first.done)
		return
	}
	var backoff rpc.Backoff
	// A session that has ended is not opened again under its id: an order to end it may still be on its way to a store.
	// The connection's owner may close it before the client; then no stream will work again.
	for ctx.Err() == nil && engine.KindOf(err) != engine.KindCanceled {
		if engine.KindOf(err) == engine.KindFenced {
			s.reset(err)
			return
		}
		if backoff.Wait(ctx, nil); ctx.Err() != nil {
			return
		}
		err = s.stream(ctx, backoff.Reset)
	}
}

// reset prepares for the next call to begin anew after a stream failed, with another id if the head has ended this one.
func (s *session) reset(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if engine.KindOf(err) == engine.KindFenced {
		s.name.Store(newSessionID())
	}
	s.opening = nil
	s.open.Store(false)
}

// errSilent ends a stream whose head does not answer.
var errSilent = engine.Errorf(engine.KindUnavailable, "keep session", "", "the head does not answer")

// goodbyeWithin is how long closing waits for the head to take in that the session ends.
const goodbyeWithin = time.Second

// stream keeps the session alive over one stream until that breaks or ctx ends, which it tells the head. acknowledged is called with
// each answer.
func (s *session) stream(ctx context.Context, acknowledged func()) error {
	// The stream outlives ctx by the goodbye.
	streamCtx, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	defer cancel(nil)
	answerWithin := 10 * time.Second
	silent := time.AfterFunc(answerWithin, func() { cancel(errSilent) })
	defer silent.Stop()
	defer context.AfterFunc(ctx, func() { silent.Reset(goodbyeWithin) })()
	stream, err := s.service.OpenSession(streamCtx)
	if err != nil {
		return err
	}
	request := &enginev1.OpenSessionRequest{SessionId: s.id(), Client: s.client}
	for ctx.Err() == nil {
		silent.Reset(answerWithin)
		// The reason why a stream broke is what receiving says.
		_ = stream.Send(request)
		request = &enginev1.OpenSessionRequest{}
		response, err := stream.Recv()
		if err != nil {
			return err
		}
		s.heard(response.GetClusterId())
		acknowledged()
		lease := max(response.GetLeaseTime().AsDuration(), 30*time.Millisecond)
		answerWithin = max(lease/2, time.Second)
		silent.Reset(lease/3 + answerWithin)
		timer := time.NewTimer(lease / 3)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
		}
	}
	silent.Reset(goodbyeWithin)
	if err := stream.CloseSend(); err != nil {
		return err
	}
	_, err = stream.Recv()
	return err
}
