package export_test

import (
	"context"
	"net"
	"testing"

	"go.uber.org/goleak"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/grpc"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/internal/telemetry"
	"github.com/f708428e/engine/internal/telemetry/export"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeCollector keeps the names of the spans that it gets.
type fakeCollector struct {
	collector.UnimplementedTraceServiceServer
	names chan string
}

func (f *fakeCollector) Export(_ context.Context, request *collector.ExportTraceServiceRequest) (*collector.ExportTraceServiceResponse, error) {
	for _, r := range request.GetResourceSpans() {
		service := ""
		for _, a := range r.GetResource().GetAttributes() {
			if a.GetKey() == "service.name" {
				service = a.GetValue().GetStringValue()
			}
		}
		for _, s := range r.GetScopeSpans() {
			for _, span := range s.GetSpans() {
				f.names <- service + " " + span.GetName() + " " + span.GetStatus().GetMessage()
			}
		}
	}
	return &collector.ExportTraceServiceResponse{}, nil
}

func TestSpansReachTheCollector(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	fake := &fakeCollector{names: make(chan string, 10)}
	server := grpc.NewServer()
	collector.RegisterTraceServiceServer(server, fake)
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	defer func() {
		server.Stop()
		if err := <-served; err != nil {
			t.Log(err)
		}
	}()
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://"+listener.Addr().String())
	stop, err := export.Start(t.Context(), "1.2.3")
	if err != nil || !telemetry.IsTracing() {
		t.Fatalf("tracing %v: %v", telemetry.IsTracing(), err)
	}
	defer telemetry.Use(nil)
	_, end := telemetry.Begin(t.Context(), "work")
	end(engine.Errorf(engine.KindUnavailable, "work", "", "it is late"))
	if err := stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := <-fake.names; got != "engine work work: it is late" {
		t.Errorf("got %q", got)
	}
}

func TestWithoutACollectorNothingIsTraced(t *testing.T) {
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "")
	t.Setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "")
	stop, err := export.Start(t.Context(), "1.2.3")
	if err != nil || telemetry.IsTracing() {
		t.Fatalf("tracing %v: %v", telemetry.IsTracing(), err)
	}
	ctx, end := telemetry.Begin(t.Context(), "work")
	end(nil)
	if telemetry.Parent(ctx) != "" || stop(t.Context()) != nil {
		t.Error("there is a span")
	}
	// That of a caller is passed on all the same.
	const parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	if got := telemetry.Parent(telemetry.WithParent(ctx, parent)); got != parent {
		t.Errorf("parent %q", got)
	}
	if got := telemetry.Parent(telemetry.WithParent(ctx, "nonsense")); got != "" {
		t.Errorf("parent %q", got)
	}
}
