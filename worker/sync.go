package worker

import (
	"context"
	"errors"
	"io"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/internal/failpoint"
	"github.com/f708428e/engine/internal/jobplan"
	"github.com/f708428e/engine/internal/rpc"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// defaultReportInterval holds until the head has said its own.
const defaultReportInterval = time.Second

// sync keeps a stream to the head that leads until ctx ends, the worker has said goodbye, or the head refuses it for good.
func (w *Worker) sync(ctx context.Context, hello *enginev1.WorkerHello) error {
	giveUp := time.Now().Add(w.config.ConnectTimeout)
	keeper := rpc.Keeper{
		Stream: "worker", Logger: w.config.Logger,
		GiveUp: func() bool { return !w.hasJoined() && time.Now().After(giveUp) },
	}
	return keeper.Keep(ctx, func(ctx context.Context) error { return w.session(ctx, hello) })
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
		if due {
			message.ResidentBytes = residentBytes()
		}
		w.granted.Report(message, due, now)
		if sent == 1 {
			message.Hello = proto.CloneOf(hello)
			message.Hello.ClusterId = w.table.cluster()
		}
		if message.GetGoodbye() && goodbye == 0 {
			goodbye = sent
		}
		err := stream.Send(message)
		if len(message.GetResults()) > 0 {
			failpoint.Hit(failpoint.WorkerReported)
		}
		return err
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
				if w.config.Welcomed != nil {
					w.config.Welcomed(welcome)
				}
				if interval := welcome.GetReportInterval().AsDuration(); interval > 0 {
					ticker.Reset(interval)
				}
			}
			w.begin(w.table.take(answer))
			if len(answer.GetSettled()) > 0 {
				failpoint.Hit(failpoint.WorkerSettled)
			}
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
		// Tasks of clients start only in what is left beside the leases of jobs, which wait for those that have begun already.
		resources, err := jobplan.Resources(l.job.assignment.GetSpec())
		if err != nil {
			resources = engine.Resources{} // The attempt says what is wrong.
		}
		free, giveBack := w.granted.Hold(resources, l.devices)
		started := w.tasks.Go("task "+l.task.String(), func(ctx context.Context) error {
			defer giveBack()
			defer context.AfterFunc(ctx, func() { l.revoke(errRevoked) })()
			select {
			case <-free:
			case <-l.revoked.Done():
			}
			result := w.attempt(l.revoked, l)
			failpoint.Hit(failpoint.WorkerFinished)
			w.table.finish(l, result)
			return nil
		})
		if !started {
			giveBack()
			l.revoke(errRevoked)
		}
	}
}
