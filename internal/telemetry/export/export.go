// Package export sends the process's spans to a collector. It is apart from package telemetry so that a client's program does not link the
// exporter.
package export

import (
	"context"
	"os"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/sdk/resource"
	"go.opentelemetry.io/otel/sdk/trace"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/internal/telemetry"
)

// Start sends the process's spans to the collector that the environment variable OTEL_EXPORTER_OTLP_ENDPOINT, or
// OTEL_EXPORTER_OTLP_TRACES_ENDPOINT, names; without one it does nothing, and spans cost nothing. OpenTelemetry's other variables hold, too.
// The caller calls stop, which sends what is left, at the end. It does not wait for the collector.
func Start(ctx context.Context, version string) (stop func(context.Context) error, err error) {
	nothing := func(context.Context) error { return nil }
	if os.Getenv("OTEL_EXPORTER_OTLP_ENDPOINT") == "" && os.Getenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") == "" {
		return nothing, nil
	}
	exporter, err := otlptracegrpc.New(ctx)
	if err != nil {
		return nothing, engine.Errorf(engine.KindInvalidArgument, "send spans", "", "%w", err)
	}
	about, err := resource.New(ctx, resource.WithAttributes(attribute.String("service.name", "engine"), attribute.String("service.version", version)),
		resource.WithHost(), resource.WithProcessPID(), resource.WithFromEnv())
	if err != nil && about == nil {
		return nothing, engine.Errorf(engine.KindInvalidArgument, "send spans", "", "%w", err)
	}
	provider := trace.NewTracerProvider(trace.WithBatcher(exporter), trace.WithResource(about))
	telemetry.Use(provider)
	return provider.Shutdown, nil
}
