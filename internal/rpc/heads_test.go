package rpc_test

import (
	"context"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/internal/rpc"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// ensemble is some heads one of which leads, or none.
type ensemble struct {
	mu     sync.Mutex
	heads  []*fakeHead
	leader *fakeHead
}

// fakeHead answers GetJob with its own address while it leads.
type fakeHead struct {
	enginev1.UnimplementedClusterServiceServer
	enginev1.UnimplementedJobServiceServer
	all     *ensemble
	address string
	server  *grpc.Server
	served  chan error
	calls   atomic.Int64
	// called gets a token for each of the first calls.
	called chan struct{}
	// hung gets a token for each of the first ListHeads that wait.
	hung chan struct{}
	// hangs, once closed, ends what ListHeads and WatchJob wait for; nil if they do not.
	hangs chan struct{}
	// pretends makes ListHeads say that this head leads although its calls say otherwise.
	pretends atomic.Bool
}

func startHeads(t *testing.T, n int) *ensemble {
	t.Helper()
	all := &ensemble{}
	for range n {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		h := &fakeHead{all: all, address: listener.Addr().String(), server: rpc.NewServer(slog.New(slog.DiscardHandler)), served: make(chan error, 1), called: make(chan struct{}, 100), hung: make(chan struct{}, 100)}
		enginev1.RegisterClusterServiceServer(h.server, h)
		enginev1.RegisterJobServiceServer(h.server, h)
		go func() { h.served <- h.server.Serve(listener) }()
		all.heads = append(all.heads, h)
		t.Cleanup(h.stop)
	}
	all.leader = all.heads[0]
	return all
}

func (h *fakeHead) stop() { h.server.Stop() }

func (e *ensemble) lead(h *fakeHead) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.leader = h
}

// hang makes ListHeads and WatchJob of all heads wait until the channel is closed; nil ends that for those that follow.
func (e *ensemble) hang(hangs chan struct{}) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, h := range e.heads {
		h.hangs = hangs
	}
}

func (h *fakeHead) leading() (self bool, address string) {
	h.all.mu.Lock()
	defer h.all.mu.Unlock()
	if h.all.leader == nil {
		return false, ""
	}
	return h.all.leader == h, h.all.leader.address
}

func (h *fakeHead) ListHeads(context.Context, *enginev1.ListHeadsRequest) (*enginev1.ListHeadsResponse, error) {
	if hangs := h.hanging(); hangs != nil {
		select {
		case h.hung <- struct{}{}:
		default:
		}
		<-hangs
	}
	response := &enginev1.ListHeadsResponse{HeadId: h.address}
	_, leader := h.leading()
	for _, other := range h.all.heads {
		response.Heads = append(response.Heads, &enginev1.HeadInfo{
			HeadId: other.address, Address: other.address, Leader: other.address == leader || other == h && h.pretends.Load(),
		})
	}
	return response, nil
}

func (h *fakeHead) GetJob(context.Context, *enginev1.GetJobRequest) (*enginev1.GetJobResponse, error) {
	h.calls.Add(1)
	select {
	case h.called <- struct{}{}:
	default:
	}
	if self, leader := h.leading(); !self {
		return nil, rpc.NewNotLeader("get job", leader, leader, nil)
	}
	return &enginev1.GetJobResponse{Job: &enginev1.Job{Name: h.address}}, nil
}

func (h *fakeHead) WatchJob(_ *enginev1.WatchJobRequest, stream grpc.ServerStreamingServer[enginev1.WatchJobResponse]) error {
	self, leader := h.leading()
	if !self {
		return rpc.NewNotLeader("watch job", leader, leader, nil)
	}
	if err := stream.Send(&enginev1.WatchJobResponse{Job: &enginev1.Job{Name: h.address}}); err != nil {
		return err
	}
	if hangs := h.hanging(); hangs != nil {
		<-hangs
	}
	return nil
}

func (h *fakeHead) hanging() chan struct{} {
	h.all.mu.Lock()
	defer h.all.mu.Unlock()
	return h.hangs
}

func dialHeads(t *testing.T, addresses ...string) (*rpc.Heads, enginev1.JobServiceClient) {
	t.Helper()
	conn, err := rpc.DialHeads(strings.Join(addresses, ","))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	})
	return conn, enginev1.NewJobServiceClient(conn)
}

func expectFrom(t *testing.T, jobs enginev1.JobServiceClient, want *fakeHead) {
	t.Helper()
	response, err := jobs.GetJob(t.Context(), &enginev1.GetJobRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if got := response.GetJob().GetName(); got != want.address {
		t.Fatalf("%s answered, expected %s", got, want.address)
	}
}

func TestCallsGoToTheLeader(t *testing.T) {
	all := startHeads(t, 3)
	a, b, c := all.heads[0], all.heads[1], all.heads[2]
	all.lead(b)
	_, jobs := dialHeads(t, a.address) // The others are learned.
	expectFrom(t, jobs, b)
	all.lead(c)
	expectFrom(t, jobs, c)
	a.stop()
	expectFrom(t, jobs, c)
	all.lead(b)
	c.stop()
	expectFrom(t, jobs, b)
	if n := a.calls.Load(); n != 0 {
		t.Errorf("a head that never led got %d calls", n)
	}
}

func TestStreamsGoToTheLeader(t *testing.T) {
	all := startHeads(t, 2)
	a, b := all.heads[0], all.heads[1]
	_, jobs := dialHeads(t, b.address)
	receive := func() (string, error) {
		stream, err := jobs.WatchJob(t.Context(), &enginev1.WatchJobRequest{})
		if err != nil {
			return "", err
		}
		response, err := stream.Recv()
		return response.GetJob().GetName(), err
	}
	if from, err := receive(); err != nil || from != a.address {
		t.Fatalf("from %q: %v", from, err)
	}
	all.lead(b)
	// The stream says that another head leads; the next one goes there.
	if _, err := receive(); rpc.IsNotLeader(err) == nil || rpc.IsNotLeader(err).Address != b.address {
		t.Fatalf("a stream to a head that does not lead: %v", err)
	}
	if from, err := receive(); err != nil || from != b.address {
		t.Fatalf("from %q: %v", from, err)
	}
}

// TestAStreamToALeaderThatHangs sees that it breaks once another head leads, and not before: to hang is no reason to leave.
func TestAStreamToALeaderThatHangs(t *testing.T) {
	all := startHeads(t, 2)
	a, b := all.heads[0], all.heads[1]
	conn, jobs := dialHeads(t, a.address)
	conn.SetWatchEvery(10 * time.Millisecond)
	expectFrom(t, jobs, a)
	hangs := make(chan struct{})
	defer close(hangs)
	all.mu.Lock()
	a.hangs = hangs
	all.mu.Unlock()
	stream, err := jobs.WatchJob(t.Context(), &enginev1.WatchJobRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); err != nil {
		t.Fatal(err)
	}
	all.lead(b)
	_, err = stream.Recv()
	if engine.KindOf(err) != engine.KindUnavailable {
		t.Fatalf("the stream ended with %v", err)
	}
	expectFrom(t, jobs, b)
}

func TestNobodyThereIsSaidAtOnce(t *testing.T) {
	all := startHeads(t, 2)
	for _, h := range all.heads {
		h.stop()
	}
	_, jobs := dialHeads(t, all.heads[0].address, all.heads[1].address)
	// Without a deadline of its own the call would be repeated for as long as an election may take.
	_, err := jobs.GetJob(t.Context(), &enginev1.GetJobRequest{})
	if engine.KindOf(err) != engine.KindUnavailable || rpc.IsNotLeader(err) != nil || !strings.Contains(err.Error(), all.heads[0].address) {
		t.Fatal(err)
	}
}

func TestACallWaitsForAnElection(t *testing.T) {
	all := startHeads(t, 2)
	all.lead(nil)
	conn, jobs := dialHeads(t, all.heads[0].address)
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	_, err := jobs.GetJob(ctx, &enginev1.GetJobRequest{})
	if engine.KindOf(err) != engine.KindUnavailable || rpc.IsNotLeader(err) == nil || rpc.IsNotLeader(err).Address != "" {
		t.Fatalf("a call during an election that does not end: %v", err)
	}
	// A head that believes that it leads is asked, and what it answers is believed.
	all.heads[0].pretends.Store(true)
	called := make(chan error, 1)
	go func() {
		_, err := jobs.GetJob(t.Context(), &enginev1.GetJobRequest{})
		called <- err
	}()
	for range 2 {
		<-all.heads[0].called
	}
	all.heads[0].pretends.Store(false)
	all.lead(all.heads[1])
	if err := <-called; err != nil {
		t.Fatal(err)
	}
	if err := conn.Close(); err != nil {
		t.Error(err)
	}
	if _, err := jobs.GetJob(t.Context(), &enginev1.GetJobRequest{}); err == nil {
		t.Error("a closed connection answered")
	}
}

// A head that has answered that it does not lead any more may be slow to say who does, while another one is away.
func TestACallWaitsForAHeadThatWasThere(t *testing.T) {
	all := startHeads(t, 2)
	all.heads[1].stop()
	all.lead(nil)
	all.heads[0].pretends.Store(true)
	_, jobs := dialHeads(t, all.heads[1].address, all.heads[0].address)
	called := make(chan error, 1)
	go func() {
		_, err := jobs.GetJob(t.Context(), &enginev1.GetJobRequest{})
		called <- err
	}()
	<-all.heads[0].called
	hangs := make(chan struct{})
	all.hang(hangs)
	for range 2 { // It was asked again after it had not answered in time.
		select {
		case <-all.heads[0].hung:
		case err := <-called:
			t.Fatalf("the call did not wait: %v", err)
		}
	}
	all.lead(all.heads[0])
	all.hang(nil)
	close(hangs)
	if err := <-called; err != nil {
		t.Fatal(err)
	}
}

func TestAServerWithoutHeadsIsAlone(t *testing.T) {
	if err := watchThrough(t, func(address string) (grpc.ClientConnInterface, func() error, error) {
		conn, err := rpc.DialHeads(address)
		return conn, conn.Close, err
	}); engine.KindOf(err) != engine.KindNotFound {
		t.Fatal(err)
	}
}

// watchThrough watches a job on a server that has no ClusterService, over a connection of the caller's making.
func watchThrough(t *testing.T, dial func(address string) (grpc.ClientConnInterface, func() error, error)) error {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := rpc.NewServer(slog.New(slog.DiscardHandler))
	enginev1.RegisterJobServiceServer(server, &endingServer{err: engine.Errorf(engine.KindNotFound, "watch job", "x", "no such job")})
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	defer server.Stop()
	conn, closeConn, err := dial(listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := closeConn(); err != nil {
			t.Error(err)
		}
	}()
	stream, err := enginev1.NewJobServiceClient(conn).WatchJob(t.Context(), &enginev1.WatchJobRequest{})
	if err != nil {
		return err
	}
	_, err = stream.Recv()
	return err
}

func TestSplitAddresses(t *testing.T) {
	got, err := rpc.SplitAddresses(" a:1,b:2 ,,a:1")
	if err != nil || strings.Join(got, "|") != "a:1|b:2" {
		t.Errorf("%v, %v", got, err)
	}
	if _, err := rpc.SplitAddresses(" , "); engine.KindOf(err) != engine.KindInvalidArgument {
		t.Error(err)
	}
}

func TestKeeper(t *testing.T) {
	logger := slog.New(slog.DiscardHandler)
	away := engine.Errorf(engine.KindUnavailable, "sync", "", "away")
	t.Run("refused", func(t *testing.T) {
		calls := 0
		err := rpc.Keeper{Stream: "test", Logger: logger}.Keep(t.Context(), func(context.Context) error {
			if calls++; calls < 3 {
				return away
			}
			return engine.Errorf(engine.KindVersion, "sync", "", "another version")
		})
		if calls != 3 || engine.KindOf(err) != engine.KindVersion {
			t.Errorf("%d calls: %v", calls, err)
		}
	})
	t.Run("given up", func(t *testing.T) {
		calls := 0
		keeper := rpc.Keeper{Stream: "test", Logger: logger, GiveUp: func() bool { return calls == 2 }}
		err := keeper.Keep(t.Context(), func(context.Context) error { calls++; return away })
		if calls != 2 || engine.KindOf(err) != engine.KindUnavailable {
			t.Errorf("%d calls: %v", calls, err)
		}
	})
	t.Run("leaving", func(t *testing.T) {
		leaving := make(chan struct{})
		calls := 0
		err := rpc.Keeper{Stream: "test", Logger: logger, Leaving: leaving}.Keep(t.Context(), func(context.Context) error {
			calls++
			close(leaving)
			return away
		})
		if calls != 1 || err != nil {
			t.Errorf("%d calls: %v", calls, err)
		}
	})
}
