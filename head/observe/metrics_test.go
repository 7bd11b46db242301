package observe_test

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"google.golang.org/grpc"
	"google.golang.org/grpc/test/bufconn"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/head/dispatch"
	"github.com/f708428e/engine/head/objects"
	"github.com/f708428e/engine/head/observe"
	"github.com/f708428e/engine/head/state"
	"github.com/f708428e/engine/internal/rpc"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// scrape returns what a handler answers, by line.
func scrape(t *testing.T, handler http.Handler) map[string]string {
	t.Helper()
	recorder := httptest.NewRecorder()
	handler.ServeHTTP(recorder, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	body, err := io.ReadAll(recorder.Result().Body)
	check(t, err)
	if recorder.Code != http.StatusOK {
		t.Fatalf("status %d: %s", recorder.Code, body)
	}
	lines := map[string]string{}
	for line := range strings.Lines(string(body)) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), " "); ok && name != "#" {
			lines[name] = value
		}
	}
	return lines
}

func TestMetrics(t *testing.T) {
	store, err := state.Open(state.Config{Dir: t.TempDir(), NewClusterID: "c1"})
	check(t, err)
	t.Cleanup(func() { check(t, store.Close()) })
	term := <-store.Terms()
	metrics := observe.New(store, "1.2.3", func() map[string]int64 { return map[string]int64{"revoked": 3} })
	lines := scrape(t, metrics.Handler())
	if lines["engine_head_leads"] != "0" || lines[`engine_build_info{version="1.2.3"}`] != "1" || lines[`engine_connections_refused_total{reason="revoked"}`] != "3" {
		t.Errorf("%v", lines)
	}
	if _, ok := lines["engine_jobs_active"]; ok {
		t.Error("a head that does not lead tells of tasks")
	}

	dispatcher := dispatch.NewDispatcher(dispatch.Config{ClusterID: "c1", Term: term.Number}, dispatch.Hooks{
		Line: func(dispatch.Line) {}, Commit: func(dispatch.Commit) {},
	}, nil)
	directory := objects.NewDirectory(objects.Config{ClusterID: "c1", Term: term.Number}, slog.New(slog.DiscardHandler), nil)
	metrics.Lead(&observe.Reign{Dispatcher: dispatcher, Directory: directory})
	check(t, store.Propose(t.Context(), &enginev1.LogEntry{Fact: &enginev1.LogEntry_QueueSet{QueueSet: &enginev1.QueueSet{Queue: &enginev1.Queue{Name: "etl"}}}}))
	_, _, _, err = dispatcher.Connect(&enginev1.SyncRequest{
		Sequence: 1, ResidentBytes: 4096,
		Hello: &enginev1.WorkerHello{ProtocolVersion: rpc.WorkerProtocolVersion, NodeId: "n1", Total: &enginev1.Resources{}},
	})
	check(t, err)
	_, _, _, err = directory.Connect(&enginev1.SyncObjectsRequest{
		Store: &enginev1.ObjectStoreAddress{NodeId: "n1"}, Complete: true, Usage: &enginev1.ObjectStoreUsage{Objects: 3, SpilledBytes: 7, Spills: 2},
	})
	check(t, err)
	dispatcher.AddJob(dispatch.Job{ID: "j1", Spec: &enginev1.JobSpec{Name: strings.Repeat("x", 10_000)}, Plan: &enginev1.Plan{Tasks: make([]*enginev1.TaskPlan, 3)}, MaxAttempts: 1, Request: engine.Resources{CPU: 1}})
	dispatcher.Suspect("n1", true)
	lines = scrape(t, metrics.Handler())
	for name, want := range map[string]string{
		"engine_head_leads": "1", "engine_log_entries_total": "1", "engine_log_commit_seconds_count": "1",
		`engine_nodes{state="ALIVE"}`: "1", `engine_nodes{state="DEAD"}`: "0", "engine_nodes_suspect": "1", `engine_node_resident_bytes{node="n1"}`: "4096",
		"engine_worker_streams": "1", `engine_objects_stored{node="n1"}`: "3", `engine_objects_spilled_bytes{node="n1"}`: "7",
		`engine_objects_spills_total{node="n1"}`: "2", "engine_jobs_active": "1", "engine_jobs_waiting": "1", `engine_tasks{state="PENDING"}`: "3",
		`engine_queue_tasks{queue="default",state="PENDING"}`: "3", "engine_leases_granted_total": "0",
	} {
		if lines[name] != want {
			t.Errorf("%s is %q, expected %q", name, lines[name], want)
		}
	}
	for _, name := range []string{"engine_scheduler_pass_seconds_count", "engine_jobs_waiting_bytes", "engine_log_bytes", "go_goroutines", "process_resident_memory_bytes"} {
		if lines[name] == "" || lines[name] == "0" {
			t.Errorf("%s is %q", name, lines[name])
		}
	}
	registry := prometheus.NewRegistry()
	check(t, registry.Register(metrics))
	problems, err := testutil.GatherAndLint(registry)
	check(t, err)
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
	metrics.Lead(nil)
	if lines = scrape(t, metrics.Handler()); lines["engine_head_leads"] != "0" {
		t.Errorf("the head still leads: %v", lines)
	}
}

// Calls are counted by the code that their callers get.
func TestCallsAreCounted(t *testing.T) {
	store, err := state.Open(state.Config{Dir: t.TempDir(), NewClusterID: "c1"})
	check(t, err)
	t.Cleanup(func() { check(t, store.Close()) })
	metrics := observe.New(store, "1.2.3", nil)
	server := rpc.NewServer(slog.New(slog.DiscardHandler), metrics.ServerOptions()...)
	enginev1.RegisterJobServiceServer(server, refusing{})
	metrics.CountCalls(server)
	listener := bufconn.Listen(1 << 16)
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }() // lifecycle: ends with the server.
	defer func() {
		server.Stop()
		check(t, <-served)
	}()
	conn, err := rpc.Dial("passthrough:///test", grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }))
	check(t, err)
	defer func() { check(t, conn.Close()) }()
	const handled = `grpc_server_handled_total{grpc_code="NotFound",grpc_method="GetJob",grpc_service="engine.v1.JobService",grpc_type="unary"}`
	if got := scrape(t, metrics.Handler())[handled]; got != "0" {
		t.Errorf("before: %q", got)
	}
	if _, err := enginev1.NewJobServiceClient(conn).GetJob(t.Context(), &enginev1.GetJobRequest{}); engine.KindOf(err) != engine.KindNotFound {
		t.Errorf("got %v", err)
	}
	lines := scrape(t, metrics.Handler())
	if lines[handled] != "1" || lines[`grpc_server_handling_seconds_count{grpc_method="GetJob",grpc_service="engine.v1.JobService",grpc_type="unary"}`] != "1" {
		t.Errorf("after: %q", lines[handled])
	}
}

type refusing struct {
	enginev1.UnimplementedJobServiceServer
}

func (refusing) GetJob(context.Context, *enginev1.GetJobRequest) (*enginev1.GetJobResponse, error) {
	return nil, engine.Errorf(engine.KindNotFound, "get job", "x", "there is none")
}
