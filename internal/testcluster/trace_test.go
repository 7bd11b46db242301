package testcluster_test

import (
	"context"
	"testing"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/internal/telemetry"
	"github.com/f708428e/engine/internal/testcluster"
	"github.com/f708428e/engine/runtime/operator"
)

// Who submits under a span finds what became of it below: at the head and on the node, for jobs and for tasks.
func TestSpansOfJobsAndTasks(t *testing.T) {
	exporter := tracetest.NewInMemoryExporter()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSyncer(exporter))
	telemetry.Use(provider)
	t.Cleanup(func() { telemetry.Use(nil) })
	operators := &operator.Registry{}
	operators.Register("traced", func(context.Context, []byte, []*operator.Table) ([]operator.Output, error) { return nil, nil })
	tb := newTable(t, 100, 1)
	c := testcluster.Start(t, testcluster.Options{Workers: 1, Operators: operators})
	spans := func(work func(ctx context.Context)) map[string]int {
		exporter.Reset()
		ctx, end := telemetry.Begin(withTimeout(t), "program")
		trace := telemetry.Parent(ctx)[3:35]
		work(ctx)
		end(nil)
		found := map[string]int{}
		for _, span := range exporter.GetSpans() {
			if span.SpanContext.TraceID().String() != trace {
				t.Errorf("%s is of another trace", span.Name)
			}
			if span.EndTime.Before(span.StartTime) {
				t.Errorf("%s ends before it begins", span.Name)
			}
			if span.Name != "program" && !span.Parent.IsValid() {
				t.Errorf("%s has no parent", span.Name)
			}
			found[span.Name]++
		}
		return found
	}
	expect := func(found map[string]int, names ...string) {
		t.Helper()
		for _, name := range names {
			if found[name] != 1 {
				t.Errorf("%d spans %q: %v", found[name], name, found)
			}
		}
	}
	expect(spans(func(ctx context.Context) {
		job, err := c.Client().Submit(ctx, tb.spec)
		must(t, err)
		wait(t, job, engine.JobSucceeded)
	}), "program", "submit job", "schedule", "lease", "run", "commit")
	expect(spans(func(ctx context.Context) {
		_, err := c.Client().Run(ctx, engine.Task{Operator: "traced"}).Wait(ctx)
		must(t, err)
	}), "program", "schedule", "lease", "run")
	// Without a span nothing is told.
	exporter.Reset()
	_, err := c.Client().Run(withTimeout(t), engine.Task{Operator: "traced"}).Wait(withTimeout(t))
	must(t, err)
	if n := len(exporter.GetSpans()); n != 0 {
		t.Errorf("%d spans of a task without one", n)
	}
}
