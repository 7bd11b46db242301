package telemetry

import (
	"context"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc/metadata"

	"github.com/f708428e/engine"
)

const (
	// scope names the spans' origin.
	scope = "github.com/f708428e/engine"
	// header carries the W3C trace context in the metadata of calls.
	header = "traceparent"
)

// tracing says that somebody collects spans.
var tracing atomic.Bool

// Use makes spans go to a provider from now on; nil ends that. Spans cost nothing until then.
func Use(provider trace.TracerProvider) {
	if provider == nil {
		tracing.Store(false)
		return
	}
	otel.SetTracerProvider(provider)
	tracing.Store(true)
}

// IsTracing reports whether somebody collects spans of this process.
func IsTracing() bool { return tracing.Load() }

// Begin begins a span under that of ctx. The caller calls end with how it ended.
func Begin(ctx context.Context, name string, attributes ...attribute.KeyValue) (_ context.Context, end func(error)) {
	if !IsTracing() {
		return ctx, func(error) {}
	}
	ctx, span := otel.Tracer(scope).Start(ctx, name, trace.WithAttributes(attributes...)) //nolint:spancheck // The caller ends it.
	return ctx, func(err error) { finish(span, err) }                                     //nolint:spancheck // See above.
}

// Record makes a span that has ended already, under the one that parent names as a W3C traceparent; empty means a trace of its own.
func Record(parent, name string, begin, end time.Time, err error, attributes ...attribute.KeyValue) {
	if !IsTracing() {
		return
	}
	ctx := WithParent(context.Background(), parent)
	_, span := otel.Tracer(scope).Start(ctx, name, trace.WithTimestamp(begin), trace.WithAttributes(attributes...))
	mark(span, err)
	span.End(trace.WithTimestamp(end))
}

func finish(span trace.Span, err error) {
	mark(span, err)
	span.End()
}

// mark says in a span how it ended.
func mark(span trace.Span, err error) {
	if err != nil {
		span.SetStatus(codes.Error, err.Error())
		span.SetAttributes(attribute.String("error.type", engine.KindOf(err).String()))
	}
}

// Parent returns the span of ctx as a W3C traceparent, empty if there is none.
func Parent(ctx context.Context) string {
	if !trace.SpanContextFromContext(ctx).IsValid() {
		return ""
	}
	carrier := propagation.MapCarrier{}
	propagation.TraceContext{}.Inject(ctx, carrier)
	return carrier[header]
}

// WithParent returns a context whose span is the one that a W3C traceparent names. What is none changes nothing.
func WithParent(ctx context.Context, parent string) context.Context {
	if parent == "" {
		return ctx
	}
	return propagation.TraceContext{}.Extract(ctx, propagation.MapCarrier{header: parent})
}

// ToCall lets a call carry the span of ctx.
func ToCall(ctx context.Context) context.Context {
	if parent := Parent(ctx); parent != "" {
		return metadata.AppendToOutgoingContext(ctx, header, parent)
	}
	return ctx
}

// FromCall returns the context of a call's handler with the span that the call carries.
func FromCall(ctx context.Context) context.Context {
	if values := metadata.ValueFromIncomingContext(ctx, header); len(values) > 0 {
		return WithParent(ctx, values[0])
	}
	return ctx
}
