package worker

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"math/rand/v2"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/internal/jobplan"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

const (
	minReconnect = 50 * time.Millisecond
	maxReconnect = 2 * time.Second
	// defaultReportInterval holds until the head has said its own.
	defaultReportInterval = time.Second
)

// sync keeps a stream to the head until ctx ends, the worker has said goodbye, or the head refuses it for good.
func (w *Worker) sync(ctx context.Context, hello *enginev1.WorkerHello) error {
	pause := minReconnect
	giveUp := time.Now().Add(w.config.ConnectTimeout)
	for {
		began := time.Now()
		err := w.session(ctx, hello)
		switch kind := engine.KindOf(err); {
		case err == nil, ctx.Err() != nil:
			return nil //nolint:nilerr // The worker ends because it was told to.
		case kind == engine.KindVersion, kind == engine.KindUnauthenticated, kind == engine.KindPermission, kind == engine.KindInvalidArgument:
			return err
		case !w.hasJoined() && time.Now().After(giveUp):
			return err
		}
		level := slog.LevelDebug // One line is enough while the head stays away.
		if time.Since(began) > maxReconnect || pause == minReconnect {
			level = slog.LevelWarn
		}
		w.config.Logger.Log(ctx, level, "the stream to the head ended; connecting again", "error", err)
		if time.Since(began) > maxReconnect {
			pause = minReconnect
		}
		// Many workers that lost the same head must not come back at the same instant.
		wait := time.Duration(float64(pause) * (0.5 + rand.Float64())) //nolint:gosec // Jitter needs no secrecy.
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil
		}
		pause = min(2*pause, maxReconnect)
	}
}

func (w *Worker) hasJoined() bool {
	select {
	case <-w.joined:
		return true
	default:
		return false
	}
}

// session is one stream. It returns nil when the worker has said goodbye.
func (w *Worker) session(ctx context.Context, hello *enginev1.WorkerHello) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := w.client.Sync(ctx)
	if err != nil {
		return err
	}
	answers := make(chan *enginev1.SyncResponse)
	failed := make(chan error, 1)
	go func() { // lifecycle: Recv fails when the stream's context ends, which it does with this function.
		for {
			answer, err := stream.Recv()
			if err != nil {
				failed <- err
				return
			}
			select {
			case answers <- answer:
			case <-ctx.Done():
				return
			}
		}
	}()
	var sent, acknowledged uint64
	var goodbye uint64 // The report that said goodbye.
	report := func(due bool) error {
		sent++
		now := time.Now()
		message := w.table.report(sent, acknowledged, now)
		w.granted.Report(message, due, now)
		if sent == 1 {
			message.Hello = proto.CloneOf(hello)
			message.Hello.ClusterId = w.table.cluster()
		}
		if message.GetGoodbye() && goodbye == 0 {
			goodbye = sent
		}
		return stream.Send(message)
	}
	err = report(true)
	ticker := time.NewTicker(defaultReportInterval)
	defer ticker.Stop()
	for err == nil {
		select {
		case answer := <-answers:
			acknowledged = answer.GetSequence()
			if welcome := answer.GetWelcome(); welcome != nil {
				w.once.Do(func() { close(w.joined) })
				if interval := welcome.GetReportInterval().AsDuration(); interval > 0 {
					ticker.Reset(interval)
				}
			}
			w.begin(w.table.take(answer))
			w.granted.Take(answer)
			if order := answer.GetDrain(); order != nil {
				w.draining.Do(func() {
					w.group.Go("drain", func(ctx context.Context) error { return w.obeyDrain(ctx, order) })
				})
			}
			if goodbye != 0 && answer.GetAcknowledgedSequence() >= goodbye {
				close(w.table.saidGoodbye)
				return nil
			}
		case <-w.table.wake:
			err = report(false)
		case <-ticker.C:
			err = report(true)
		case err = <-failed:
			return streamError(err)
		case <-ctx.Done():
			return nil
		}
	}
	// Why a stream broke, Recv knows; Send says only that it did.
	for {
		select {
		case err = <-failed:
			return streamError(err)
		case <-answers:
			// Else Recv's goroutine would wait for us to take it, and we for its error.
		case <-ctx.Done():
			return nil
		}
	}
}

func streamError(err error) error {
	if errors.Is(err, io.EOF) {
		return engine.Errorf(engine.KindUnavailable, "sync with head", "", "the head closed the stream")
	}
	return err
}

// begin starts the attempts of new leases.
func (w *Worker) begin(leases []*lease) {
	for _, l := range leases {
		// Tasks of clients start only in what is left beside the leases of jobs.
		resources, err := jobplan.Resources(l.job.assignment.GetSpec())
		if err != nil {
			resources = engine.Resources{} // The attempt says what is wrong.
		}
		giveBack := w.granted.Hold(resources, l.devices)
		started := w.tasks.Go("task "+l.task.String(), func(ctx context.Context) error {
			defer giveBack()
			defer context.AfterFunc(ctx, func() { l.revoke(errRevoked) })()
			w.table.finish(l, w.attempt(l.revoked, l))
			return nil
		})
		if !started {
			giveBack()
			l.revoke(errRevoked)
		}
	}
}
