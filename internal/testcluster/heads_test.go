package testcluster_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/client"
	"github.com/f708428e/engine/internal/rpc"
	"github.com/f708428e/engine/internal/testcluster"
	"github.com/f708428e/engine/internal/testenv"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
	"github.com/f708428e/engine/runtime"
	"github.com/f708428e/engine/runtime/fake"
)

// gated is a loader whose models wait until open is called.
func gated(t *testing.T) (models func() runtime.Loader, open func()) {
	t.Helper()
	gate := make(chan struct{})
	opened := false
	open = func() {
		if !opened {
			close(gate)
			opened = true
		}
	}
	t.Cleanup(open)
	return func() runtime.Loader {
		loader := fake.New()
		loader.SetFaults(fake.Faults{Gate: gate})
		return loader
	}, open
}

// awaitRunning returns when tasks of a job run.
func awaitRunning(t *testing.T, job *client.Job) {
	t.Helper()
	if err := job.Watch(withTimeout(t), func(state *enginev1.Job) error {
		if state.GetProgress().GetTasksRunning() > 0 {
			return errSeen
		}
		return nil
	}); err != nil && err != errSeen { //nolint:errorlint // The very error is meant.
		t.Fatal(err)
	}
}

func TestJobOutlivesItsLeader(t *testing.T) {
	tb := newTable(t, 10_000, 4)
	models, open := gated(t)
	h := testcluster.StartHeads(t, 3, testcluster.Options{Workers: 2, TargetSplitBytes: 20_000, Models: models})
	// The client knows one head alone, which is killed.
	first := h.Leader()
	c, err := client.Dial(t.Context(), h.HeadAddress(first))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}()
	job, err := c.Submit(withTimeout(t), tb.spec)
	if err != nil {
		t.Fatal(err)
	}
	awaitRunning(t, job)
	h.Kill(first)
	second := h.Leader()
	if second == first {
		t.Fatal("a head that was killed leads")
	}
	open()
	result := wait(t, job, engine.JobSucceeded)
	tb.check(t)
	if result.RowsWritten != 10_000 {
		t.Fatalf("result %+v", result)
	}
	// The one that was killed comes back, and follows.
	h.StartOne(first)
	heads, err := c.Heads(withTimeout(t))
	if err != nil {
		t.Fatal(err)
	}
	if len(heads) != 3 {
		t.Fatalf("heads %v", heads)
	}
	for _, head := range heads {
		if head.GetLeader() != (head.GetAddress() == h.HeadAddress(second)) || !head.GetVoter() {
			t.Errorf("head %v, expected that %s leads", head, h.HeadAddress(second))
		}
	}
}

// TestEveryAcknowledgedJobIsThere submits without pause while heads stop and are killed, and counts at each that is left.
func TestEveryAcknowledgedJobIsThere(t *testing.T) {
	h := testcluster.StartHeads(t, 3, testcluster.Options{})
	ctx, cancel := context.WithCancel(withTimeout(t))
	type accepted struct {
		ids []engine.JobID
		err error
	}
	done := make(chan accepted, 1)
	progress := make(chan struct{}, 1)
	go func() {
		var a accepted
		for i := 0; ctx.Err() == nil; i++ {
			job, err := h.Client().Submit(ctx, objectSpecFor(t, i))
			if err != nil {
				if ctx.Err() == nil {
					a.err = err
				}
				break
			}
			a.ids = append(a.ids, job.ID())
			select {
			case progress <- struct{}{}:
			default:
			}
		}
		done <- a
	}()
	await := func(n int) {
		for range n {
			select {
			case <-progress:
			case a := <-done:
				t.Fatalf("submitting ended after %d jobs: %v", len(a.ids), a.err)
			}
		}
	}
	await(5)
	killed := h.Leader()
	h.Kill(killed)
	await(5)
	h.StartOne(killed)
	stopped := h.Leader()
	h.StopOne(stopped) // Hands over.
	await(5)
	h.StartOne(stopped)
	await(2)
	cancel()
	a := <-done
	if a.err != nil {
		t.Fatal(a.err)
	}
	jobs, err := h.Client().Jobs(withTimeout(t), 10_000)
	if err != nil {
		t.Fatal(err)
	}
	times := map[engine.JobID]int{}
	names := map[string]int{}
	for _, job := range jobs {
		times[engine.JobID(job.GetJobId())]++
		names[job.GetName()]++
	}
	for _, id := range a.ids {
		if times[id] != 1 {
			t.Errorf("job %s was acknowledged and is there %d times", id, times[id])
		}
	}
	for name, n := range names {
		if n != 1 {
			t.Errorf("submission %s has made %d jobs", name, n)
		}
	}
	t.Logf("%d jobs", len(a.ids))
}

func objectSpecFor(t *testing.T, i int) *enginev1.JobSpec {
	return &enginev1.JobSpec{
		Name:   fmt.Sprintf("job-%d", i),
		Source: &enginev1.Source{Kind: &enginev1.Source_Csv{Csv: &enginev1.CsvSource{Paths: []string{"/nowhere/in.csv"}}}},
		Sink:   &enginev1.Sink{Kind: &enginev1.Sink_Parquet{Parquet: &enginev1.ParquetSink{Path: fmt.Sprintf("%s/out-%d", t.TempDir(), i)}}},
	}
}

func TestAFollowerIsCutOffAndCatchesUp(t *testing.T) {
	testenv.Full(t)
	tb := newTable(t, 2_000, 2)
	h := testcluster.StartHeads(t, 3, testcluster.Options{Workers: 1, TargetSplitBytes: 20_000})
	leader := h.Leader()
	follower := (leader + 1) % 3
	h.Cut(follower)
	wait(t, submit(t, h.Cluster, tb.spec), engine.JobSucceeded)
	if now := h.Leader(); now != leader {
		t.Errorf("head %d leads because another one was cut off; it was %d", now, leader)
	}
	h.Heal(follower)
	// It has everything when it can lead.
	h.Kill((leader + 2) % 3)
	h.StopOne(leader)
	h.StartOne((leader + 2) % 3)
	h.Leader()
	jobs, err := h.Client().Jobs(withTimeout(t), 0)
	if err != nil || len(jobs) != 1 || jobs[0].GetState() != enginev1.JobState_JOB_STATE_SUCCEEDED {
		t.Fatalf("jobs %v: %v", jobs, err)
	}
}

func TestAHeadThatLostItsFolderJoinsAgain(t *testing.T) {
	testenv.Full(t)
	h := testcluster.StartHeads(t, 3, testcluster.Options{})
	if h.Leader() != 0 {
		t.Fatal("the first head does not lead")
	}
	before, err := h.Client().Heads(withTimeout(t))
	if err != nil {
		t.Fatal(err)
	}
	h.Kill(2)
	h.Forget(2)
	h.StartOne(2)
	after, err := h.Client().Heads(withTimeout(t))
	if err != nil {
		t.Fatal(err)
	}
	if len(after) != 3 || strings.Join(ids(before), " ") == strings.Join(ids(after), " ") {
		t.Fatalf("heads %v, before %v: expected three, one of them new", ids(after), ids(before))
	}
	// The new one has a vote that counts.
	h.Kill(0)
	h.Leader()
	if _, err := h.Client().Submit(withTimeout(t), objectSpecFor(t, 0)); err != nil {
		t.Fatal(err)
	}
}

func ids(heads []*enginev1.HeadInfo) (all []string) {
	for _, head := range heads {
		all = append(all, head.GetHeadId())
	}
	return all
}

func TestWithoutAMajorityNothingIsAccepted(t *testing.T) {
	testenv.Full(t)
	h := testcluster.StartHeads(t, 3, testcluster.Options{})
	leader := h.Leader()
	others := []int{(leader + 1) % 3, (leader + 2) % 3}
	for _, i := range others {
		h.Kill(i)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	_, err := h.Client().Submit(ctx, objectSpecFor(t, 1))
	if engine.KindOf(err) != engine.KindUnavailable || rpc.IsNotLeader(err) == nil || !strings.Contains(err.Error(), "more than half of the heads") {
		t.Fatalf("submission to one of three heads: %v", err)
	}
	h.StartOne(others[0])
	h.Leader()
	if _, err := h.Client().Submit(withTimeout(t), objectSpecFor(t, 2)); err != nil {
		t.Fatal(err)
	}
}

func TestAHeadOfAnotherClusterCannotJoin(t *testing.T) {
	h := testcluster.StartHeads(t, 2, testcluster.Options{})
	other := testcluster.StartHeads(t, 1, testcluster.Options{})
	other.StopOne(0)
	for _, test := range []struct {
		join, want string
		kind       engine.Kind
	}{
		{h.HeadAddress(0), "cluster of its own", engine.KindConflict},
		{other.HeadAddress(0), "address of the head itself", engine.KindInvalidArgument},
		{"192.0.2.1:10001", "not loopback", engine.KindInvalidArgument},
	} {
		if err := other.TryStartOne(0, test.join); engine.KindOf(err) != test.kind || !strings.Contains(err.Error(), test.want) {
			t.Errorf("join %s: %v, expected %s and %q", test.join, err, test.kind, test.want)
		}
	}
	// It is as it was.
	other.StartOne(0)
	other.Leader()
	other.StopOne(0)
	other.Forget(0)
	if err := other.TryStartOne(0, "127.0.0.1:1"); engine.KindOf(err) != engine.KindUnavailable || !strings.Contains(err.Error(), "127.0.0.1:1") {
		t.Errorf("join where nobody is: %v", err)
	}
	// It goes on joining, where it is told to now.
	if err := other.TryStartOne(0, h.HeadAddress(1)); err != nil {
		t.Error(err)
	}
	heads, err := h.Client().Heads(withTimeout(t))
	if err != nil || len(heads) != 3 {
		t.Errorf("heads %v: %v", heads, err)
	}
}

func TestAHeadIsTakenOut(t *testing.T) {
	h := testcluster.StartHeads(t, 3, testcluster.Options{})
	heads, err := h.Client().Heads(withTimeout(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, head := range heads {
		if head.GetAddress() == h.HeadAddress(2) {
			if err := h.Client().RemoveHead(withTimeout(t), head.GetHeadId()); err != nil {
				t.Fatal(err)
			}
		}
	}
	h.StopOne(2)
	// Two heads are left, which need each other.
	if heads, err = h.Client().Heads(withTimeout(t)); err != nil || len(heads) != 2 {
		t.Fatalf("heads %v: %v", heads, err)
	}
	if _, err := h.Client().Submit(withTimeout(t), objectSpecFor(t, 0)); err != nil {
		t.Fatal(err)
	}
	if err := h.Client().RemoveHead(withTimeout(t), "head-x"); engine.KindOf(err) != engine.KindNotFound {
		t.Errorf("removing a head that is not there: %v", err)
	}
}

// TestTasksOutliveTheirLeaders kills two leaders under tasks that run and wait; what is done, and what runs, is not done again.
func TestTasksOutliveTheirLeaders(t *testing.T) {
	s := newStage()
	h := testcluster.StartHeads(t, 3, testcluster.Options{Workers: 1, CPU: 4, LeaseTime: time.Second, Operators: s.registry()})
	ctx, c := within(t), h.Client()
	first := c.Run(ctx, engine.Task{Operator: "add", Params: 3})
	if _, err := first.Wait(ctx); err != nil {
		t.Fatal(err)
	}
	held := c.RunMany(ctx, slices.Repeat([]engine.Task{{Operator: "wait", Params: 1}}, 4)...)
	last := c.Run(ctx, engine.Task{Operator: "add", Params: 4, Args: refs(append(held, first)...)})
	s.awaitRunning(t, 4)
	leader := h.Leader()
	h.Kill(leader)
	close(s.gate)
	s.await(t, "the end of what runs", func() bool { return s.running == 0 })
	wantSum(ctx, t, c, last.Ref(), 4+4+3)
	h.StartOne(leader)
	h.Kill(h.Leader())
	wantSum(ctx, t, c, c.Run(ctx, engine.Task{Operator: "add", Params: 5}).Ref(), 5)
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, h := range append(held, first, last) {
		if s.runs[h.ID()] != 1 {
			t.Errorf("a task ran %d times", s.runs[h.ID()])
		}
	}
}
