package observe

import (
	"time"

	"go.opentelemetry.io/otel/attribute"

	"github.com/f708428e/engine/head/tasks"
	"github.com/f708428e/engine/internal/telemetry"
)

// Span tells what an attempt looks like from the head: how long its task waited, how long a node had it, and how long its result took to
// become durable. What the node did in that time, the node tells.
func Span(a tasks.Attempt) {
	if !telemetry.IsTracing() {
		return
	}
	about := []attribute.KeyValue{
		attribute.String("engine.task.name", a.Name), attribute.String("engine.node", string(a.Node)), attribute.Int("engine.attempt", a.Number),
	}
	if a.Job != "" {
		about = append(about, attribute.String("engine.job", string(a.Job)), attribute.Int("engine.task", a.Index))
	} else {
		about = append(about, attribute.String("engine.task", a.ID.String()))
	}
	// Clocks of nodes differ; a span never ends before it begins.
	granted := later(a.Granted, a.Queued)
	ended := later(a.Ended, granted)
	telemetry.Record(a.Parent, "schedule", a.Queued, granted, nil, about...)
	telemetry.Record(a.Parent, "lease", granted, ended, a.Err, about...)
	if !a.Committed.IsZero() {
		telemetry.Record(a.Parent, "commit", ended, later(a.Committed, ended), nil, about...)
	}
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
