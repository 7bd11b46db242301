package objects

import (
	"context"

	"github.com/f708428e/engine"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// Evacuate has the head move what the store alone has, and what others own here, to the stores of other nodes; what has a checkpoint need
// not move. It returns when nothing is left that can be moved, or ctx ends. The store takes no more objects of the head's choice from then
// on, and goes on in everything else; Stop follows. An error of kind engine.KindUnavailable says how much goes with the store, and why.
func (o *Objects) Evacuate(ctx context.Context) error {
	const operation = "move objects"
	o.evacuate.Do(func() { close(o.evacuating) })
	select {
	case <-o.evacuated:
	case <-o.group.Done():
		return engine.Errorf(engine.KindUnavailable, operation, string(o.config.Node), "the store is closed")
	case <-ctx.Done():
		return engine.WrapError(operation, string(o.config.Node), context.Cause(ctx))
	}
	e := o.evacuation.Load()
	if e.GetLeftObjects() > 0 {
		return engine.Errorf(engine.KindUnavailable, operation, string(o.config.Node), "%d of its objects, %s, could not be moved: %s",
			e.GetLeftObjects(), engine.FormatSize(e.GetLeftBytes()), e.GetReason())
	}
	return nil
}

// hearEvacuation takes in that the head has moved what can be moved. It belongs to the goroutine that receives.
func (o *Objects) hearEvacuation(e *enginev1.Evacuation) {
	if e == nil {
		return
	}
	if o.evacuation.Swap(e) == nil {
		close(o.evacuated)
	}
}
