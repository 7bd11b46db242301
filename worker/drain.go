package worker

import (
	"context"
	"time"

	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// leaveWithin bounds what a worker still waits for once it has drained: operators that do not return, and the head's last answer.
const leaveWithin = 10 * time.Second

// goodbyeWithin is what the goodbye gets, however long operators that do not return have been waited for.
const goodbyeWithin = time.Second

// evacuateAtLeast is what the objects get, however little of a drain's time the tasks have left.
const evacuateAtLeast = 10 * time.Second

// obeyDrain finishes what the worker holds, gives back what has not ended in time, has objects brought away, and leaves. The worker is
// then done, without an error.
func (w *Worker) obeyDrain(ctx context.Context, order *enginev1.DrainOrder) error {
	within, begun := time.Duration(order.GetWithinMillis())*time.Millisecond, time.Now()
	w.config.Logger.InfoContext(ctx, "draining by order of the head", "reason", order.GetReason(), "within", within)
	finishing, cancel := ctx, func() {}
	if within > 0 {
		finishing, cancel = context.WithTimeout(ctx, within)
	}
	err := w.Drain(finishing)
	cancel()
	if err != nil && ctx.Err() == nil {
		w.config.Logger.WarnContext(ctx, "what has not ended in time is given back", "within", within)
		w.table.giveBack()
		w.granted.GiveBack()
		err = w.Drain(ctx)
	}
	if err == nil && w.config.Evacuate != nil {
		evacuating, cancel := ctx, func() {}
		if within > 0 {
			evacuating, cancel = context.WithTimeout(ctx, max(evacuateAtLeast, within-time.Since(begun)))
		}
		if err := w.config.Evacuate(evacuating); err != nil && ctx.Err() == nil {
			w.config.Logger.WarnContext(ctx, "not everything could be brought away before leaving", "error", err)
		}
		cancel()
	}
	if ctx.Err() != nil {
		return nil // Stop has overtaken the drain.
	}
	leaving, done := context.WithTimeout(ctx, leaveWithin)
	defer done()
	w.table.dropAll()
	if err := w.tasks.Stop(leaving); err != nil {
		w.config.Logger.WarnContext(ctx, "attempts still run", "error", err)
	}
	if err := w.granted.Stop(leaving); err != nil {
		w.config.Logger.WarnContext(ctx, "operators still run", "error", err)
	}
	deadline, _ := leaving.Deadline()
	w.sayGoodbye(ctx, max(goodbyeWithin, time.Until(deadline)))
	w.drained.Store(true)
	w.group.End()
	return nil
}

// sayGoodbye tells the head that the worker leaves, and waits until it has heard, within has passed, or ctx ends: a head that is away will
// find out.
func (w *Worker) sayGoodbye(ctx context.Context, within time.Duration) {
	timer := time.NewTimer(within)
	defer timer.Stop()
	select {
	case <-w.table.sayGoodbye():
	case <-w.group.Done():
	case <-timer.C:
	case <-ctx.Done():
	}
}

// Drained reports whether the worker has left because the head had ordered it to.
func (w *Worker) Drained() bool { return w.drained.Load() }
