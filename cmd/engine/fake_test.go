package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/f708428e/engine/client"
	"github.com/f708428e/engine/internal/rpc"
	"github.com/f708428e/engine/node"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// TestMain lets the test's own program be the engine: that is what start runs in the background.
func TestMain(m *testing.M) {
	if code, executed := node.RunExecutor(); executed {
		os.Exit(code)
	}
	if os.Getenv("ENGINE_TEST_IS_ENGINE") == "1" {
		os.Exit(newApp().run(context.Background(), os.Args[1:]))
	}
	if len(os.Args) > 1 && !strings.HasPrefix(os.Args[1], "-test.") {
		fmt.Fprintf(os.Stderr, "a test has started the tests themselves as the engine: %q\n", os.Args)
		os.Exit(exitFailed) // They would do so again, without end.
	}
	os.Exit(m.Run())
}

// fakeHead answers with what it is told to.
type fakeHead struct {
	enginev1.UnimplementedJobServiceServer
	enginev1.UnimplementedClusterServiceServer

	mu sync.Mutex
	// job is what every call returns; watched are the states that a watcher sees before it.
	job     *enginev1.Job
	watched []*enginev1.Job
	// hold keeps watchers waiting until it is closed.
	hold chan struct{}
	// stubborn jobs do not stop.
	stubborn bool
	attached bool
	lines    []*enginev1.LogLine
	err      error
	request  *enginev1.SubmitJobRequest
	calls    []string
	cluster  *enginev1.GetClusterResponse
	heads    []*enginev1.HeadInfo
	// removed is the head that was.
	removed string
	nodes   []*enginev1.Node
	// queues answers for queues and drains.
	queues fakeQueues
	// objects answers for objects; nil means that the head has no such service.
	objects *fakeObjects
	// tasks answers for tasks; nil means that the head has no such service.
	tasks *fakeTasks
}

func (h *fakeHead) called(name string) (*enginev1.Job, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.calls = append(h.calls, name)
	return h.job, h.err
}

func (h *fakeHead) SubmitJob(_ context.Context, r *enginev1.SubmitJobRequest) (*enginev1.SubmitJobResponse, error) {
	job, err := h.called("submit")
	if err != nil {
		return nil, err
	}
	h.request = r
	return &enginev1.SubmitJobResponse{Job: job, Attached: h.attached}, nil
}

func (h *fakeHead) GetJob(_ context.Context, r *enginev1.GetJobRequest) (*enginev1.GetJobResponse, error) {
	job, err := h.called("get " + r.GetJobId())
	if err != nil {
		return nil, err
	}
	return &enginev1.GetJobResponse{Job: job}, nil
}

func (h *fakeHead) ListJobs(_ context.Context, r *enginev1.ListJobsRequest) (*enginev1.ListJobsResponse, error) {
	job, err := h.called("list " + r.String())
	if err != nil || job == nil {
		return &enginev1.ListJobsResponse{}, err
	}
	return &enginev1.ListJobsResponse{Jobs: []*enginev1.Job{job}}, nil
}

func (h *fakeHead) StopJob(_ context.Context, r *enginev1.StopJobRequest) (*enginev1.StopJobResponse, error) {
	job, err := h.called("stop " + r.GetJobId())
	if err != nil {
		return nil, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.stubborn {
		return &enginev1.StopJobResponse{Job: job}, nil
	}
	h.job = proto.CloneOf(job)
	h.job.State = enginev1.JobState_JOB_STATE_STOPPED
	if h.hold != nil {
		close(h.hold)
		h.hold = nil
	}
	return &enginev1.StopJobResponse{Job: h.job}, nil
}

func (h *fakeHead) ResumeJob(_ context.Context, r *enginev1.ResumeJobRequest) (*enginev1.ResumeJobResponse, error) {
	job, err := h.called("resume " + r.GetJobId())
	if err != nil {
		return nil, err
	}
	return &enginev1.ResumeJobResponse{Job: job}, nil
}

func (h *fakeHead) ForgetJob(_ context.Context, r *enginev1.ForgetJobRequest) (*enginev1.ForgetJobResponse, error) {
	job, err := h.called(fmt.Sprintf("forget %s %v", r.GetJobId(), r.GetDiscard()))
	if err != nil {
		return nil, err
	}
	return &enginev1.ForgetJobResponse{Job: job}, nil
}

func (h *fakeHead) WatchJob(r *enginev1.WatchJobRequest, stream grpc.ServerStreamingServer[enginev1.WatchJobResponse]) error {
	if _, err := h.called("watch " + r.GetJobId()); err != nil {
		return err
	}
	for _, j := range h.watched {
		if err := stream.Send(&enginev1.WatchJobResponse{Job: j}); err != nil {
			return err
		}
	}
	h.mu.Lock()
	hold := h.hold
	h.mu.Unlock()
	if hold != nil {
		select {
		case <-hold:
		case <-stream.Context().Done():
			return stream.Context().Err()
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	return stream.Send(&enginev1.WatchJobResponse{Job: h.job})
}

func (h *fakeHead) ReadJobLog(r *enginev1.ReadJobLogRequest, stream grpc.ServerStreamingServer[enginev1.ReadJobLogResponse]) error {
	if _, err := h.called("logs " + r.GetJobId()); err != nil {
		return err
	}
	for _, l := range h.lines {
		if l.GetSequence() > r.GetAfterSequence() {
			if err := stream.Send(&enginev1.ReadJobLogResponse{Lines: []*enginev1.LogLine{l}}); err != nil {
				return err
			}
		}
	}
	return nil
}

func (h *fakeHead) GetCluster(context.Context, *enginev1.GetClusterRequest) (*enginev1.GetClusterResponse, error) {
	_, err := h.called("cluster")
	return h.cluster, err
}

// ListHeads answers as the head that leads, whose id is "h1".
func (h *fakeHead) ListHeads(context.Context, *enginev1.ListHeadsRequest) (*enginev1.ListHeadsResponse, error) {
	heads := h.heads
	if heads == nil {
		heads = []*enginev1.HeadInfo{{HeadId: "h1", Address: "127.0.0.1:10001", Voter: true, Leader: true}}
	}
	return &enginev1.ListHeadsResponse{HeadId: "h1", Heads: heads}, nil
}

func (h *fakeHead) RemoveHead(_ context.Context, r *enginev1.RemoveHeadRequest) (*enginev1.RemoveHeadResponse, error) {
	_, err := h.called("remove head")
	h.removed = r.GetHeadId()
	return &enginev1.RemoveHeadResponse{}, err
}

func (h *fakeHead) ListNodes(context.Context, *enginev1.ListNodesRequest) (*enginev1.ListNodesResponse, error) {
	_, err := h.called("nodes")
	return &enginev1.ListNodesResponse{Nodes: h.nodes}, err
}

// console is an app whose surroundings a test holds.
type console struct {
	app            *app
	stdout, stderr *bytes.Buffer
	signals        chan os.Signal
	cache          string
}

var testNow = time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)

// newConsole returns an app that talks to head, or to nobody if head is nil.
func newConsole(t *testing.T, head *fakeHead) *console {
	t.Helper()
	c := &console{stdout: &bytes.Buffer{}, stderr: &bytes.Buffer{}, signals: make(chan os.Signal, 2), cache: t.TempDir()}
	c.app = newApp()
	c.app.stdin, c.app.stdout, c.app.stderr, c.app.fancy = strings.NewReader(""), c.stdout, c.stderr, false
	c.app.env = func(string) (string, bool) { return "", false }
	c.app.now = func() time.Time { return testNow }
	c.app.signals = func() (<-chan os.Signal, func()) { return c.signals, func() {} }
	c.app.exitNow = func(int) {}
	c.app.cacheDir = func() (string, error) { return c.cache, nil }
	if head == nil {
		c.app.dial = func(context.Context, string) (*client.Client, error) {
			return nil, errors.New("this test has no head")
		}
		return c
	}
	listener := bufconn.Listen(1 << 16)
	server := rpc.NewServer(slog.New(slog.DiscardHandler))
	enginev1.RegisterJobServiceServer(server, head)
	enginev1.RegisterClusterServiceServer(server, head)
	if head.objects != nil {
		enginev1.RegisterObjectServiceServer(server, head.objects)
	}
	if head.tasks != nil {
		enginev1.RegisterTaskServiceServer(server, head.tasks)
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	t.Cleanup(func() {
		server.Stop()
		// A test that asks nothing may end before the server began.
		if err := <-served; err != nil && !errors.Is(err, grpc.ErrServerStopped) {
			t.Error(err)
		}
	})
	c.app.dial = func(ctx context.Context, _ string) (*client.Client, error) {
		return client.Dial(ctx, "passthrough:///fake", client.WithGRPCOptions(grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			return listener.DialContext(ctx)
		})))
	}
	return c
}

// run executes a command line and checks its exit code.
func (c *console) run(t *testing.T, wantCode int, args ...string) {
	t.Helper()
	c.stdout.Reset()
	c.stderr.Reset()
	c.app.begun = false
	if code := c.app.run(t.Context(), args); code != wantCode {
		t.Errorf("engine %s: exit code %d, want %d\nstdout: %s\nstderr: %s", strings.Join(args, " "), code, wantCode, c.stdout, c.stderr)
	}
}

func (c *console) wantOut(t *testing.T, want string) {
	t.Helper()
	if got := c.stdout.String(); got != want {
		t.Errorf("stdout:\n%s\nwant:\n%s", got, want)
	}
}

func (c *console) wantErr(t *testing.T, want string) {
	t.Helper()
	if got := c.stderr.String(); got != want {
		t.Errorf("stderr:\n%s\nwant:\n%s", got, want)
	}
}

const testJob = "20261122-095900-7f3k2m9q"

// doneJob is a job that ended in state.
func doneJob(state enginev1.JobState) *enginev1.Job {
	cpu := 1.0
	return &enginev1.Job{
		JobId: testJob, Name: "wine", State: state, SubmissionId: "nightly",
		SubmitTime: timestamppb.New(testNow.Add(-time.Minute)), StartTime: timestamppb.New(testNow.Add(-59 * time.Second)), EndTime: timestamppb.New(testNow.Add(-50 * time.Second)),
		Progress: &enginev1.JobProgress{
			TasksTotal: 2, TasksDone: 2, SplitsTotal: 4, SplitsDone: 4, RowsRead: 1599, RowsProcessed: 1599, RowsWritten: 1599, BytesRead: 84199, BytesTotal: 84199, BytesWritten: 40000, Batches: 4, AttemptsLost: 1,
		},
		Outputs: []*enginev1.OutputFile{{Path: "/out/wine/part-a-0.parquet", Rows: 800, SizeBytes: 20000}, {Path: "/out/wine/part-a-1.parquet", Rows: 799, SizeBytes: 20000}},
		Labels:  map[string]string{"team": "wine", "a": "b"},
		Spec: &enginev1.JobSpec{
			Name:      "wine",
			Source:    &enginev1.Source{Kind: &enginev1.Source_Csv{Csv: &enginev1.CsvSource{Paths: []string{"/data/*.csv"}, Delimiter: ";"}}},
			Sink:      &enginev1.Sink{Kind: &enginev1.Sink_Parquet{Parquet: &enginev1.ParquetSink{Path: "/out/wine"}}},
			Resources: &enginev1.Resources{Cpu: &cpu},
		},
	}
}

func failedJob() *enginev1.Job {
	j := doneJob(enginev1.JobState_JOB_STATE_FAILED)
	j.Error = &enginev1.Error{Kind: "data", Operation: "read csv", Id: "/data/a.csv:17", Message: "found 11 fields, expected 12", Hint: "is the delimiter right?"}
	j.Outputs = nil
	return j
}
