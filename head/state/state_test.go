package state_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/head/state"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

func open(t *testing.T, config state.Config) *state.Store {
	t.Helper()
	config.NewClusterID = "c-" + filepath.Base(t.Name())
	store, err := state.Open(config)
	if err != nil {
		t.Fatal(err)
	}
	lead(t, store)
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	return store
}

// lead waits until a store leads.
func lead(t *testing.T, store *state.Store) state.Term {
	t.Helper()
	select {
	case term := <-store.Terms():
		return term
	case <-store.Failed():
		t.Fatal(store.Err())
	case <-time.After(2 * time.Minute):
		t.Fatal("it does not lead")
	}
	return state.Term{}
}

func accepted(id, submission string) *enginev1.LogEntry {
	return &enginev1.LogEntry{Fact: &enginev1.LogEntry_JobAccepted{JobAccepted: &enginev1.JobAccepted{
		JobId: id, SubmissionId: submission, Spec: &enginev1.JobSpec{Name: "n"},
	}}}
}

func planned(id string, tasks int) *enginev1.LogEntry {
	plan := &enginev1.Plan{}
	for i := range tasks {
		plan.Tasks = append(plan.Tasks, &enginev1.TaskPlan{Part: fmt.Sprint(i)})
	}
	return &enginev1.LogEntry{Fact: &enginev1.LogEntry_JobPlanned{JobPlanned: &enginev1.JobPlanned{JobId: id, Plan: plan}}}
}

func committed(id string, task int32) *enginev1.LogEntry {
	return &enginev1.LogEntry{Fact: &enginev1.LogEntry_TaskCommitted{TaskCommitted: &enginev1.TaskCommitted{JobId: id, Task: task}}}
}

func started(id string) *enginev1.LogEntry {
	return &enginev1.LogEntry{Fact: &enginev1.LogEntry_JobStarted{JobStarted: &enginev1.JobStarted{JobId: id}}}
}

func ended(id string, s enginev1.JobState) *enginev1.LogEntry {
	return &enginev1.LogEntry{Fact: &enginev1.LogEntry_JobEnded{JobEnded: &enginev1.JobEnded{JobId: id, State: s}}}
}

func resumed(id string) *enginev1.LogEntry {
	return &enginev1.LogEntry{Fact: &enginev1.LogEntry_JobResumed{JobResumed: &enginev1.JobResumed{JobId: id}}}
}

func forgotten(id string) *enginev1.LogEntry {
	return &enginev1.LogEntry{Fact: &enginev1.LogEntry_JobForgotten{JobForgotten: &enginev1.JobForgotten{JobId: id}}}
}

const (
	failed    = enginev1.JobState_JOB_STATE_FAILED
	succeeded = enginev1.JobState_JOB_STATE_SUCCEEDED
)

// TestWhatAJobTakesOverSurvives accepts jobs that are not like others, and has them read again from the log and from a snapshot.
func TestWhatAJobTakesOverSurvives(t *testing.T) {
	dir := t.TempDir()
	store := open(t, state.Config{Dir: dir})
	onlyNew, cached, done := accepted("a", ""), accepted("b", ""), ended("b", succeeded)
	onlyNew.GetJobAccepted().OnlyNew = true
	done.GetJobEnded().Cached = &enginev1.CachedOutput{JobId: "earlier", Outputs: []*enginev1.OutputFile{{Path: "/out/part", Rows: 3, SizeBytes: 4}}}
	for _, entries := range [][]*enginev1.LogEntry{{onlyNew}, {cached, done}} {
		if err := store.Propose(context.Background(), entries...); err != nil {
			t.Fatal(err)
		}
	}
	check := func(what string, s *state.State) {
		t.Helper()
		a, b := s.Job("a"), s.Job("b")
		if !a.OnlyNew || b.OnlyNew || a.Ended != nil || b.State() != engine.JobSucceeded || b.Plan != nil || !proto.Equal(b.Ended.GetCached(), done.GetJobEnded().GetCached()) {
			t.Errorf("%s: %+v and %+v", what, a, b)
		}
	}
	store.View(func(s *state.State) {
		check("applied", s)
		check("from a snapshot", state.RestoreAgain(t, s))
	})
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	open(t, state.Config{Dir: dir}).View(func(s *state.State) { check("from the log", s) })
}

func TestJobGoesThroughItsStates(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	store := open(t, state.Config{Dir: t.TempDir(), Now: func() time.Time {
		now = now.Add(time.Second)
		return now
	}})
	for _, step := range []struct {
		entry *enginev1.LogEntry
		want  engine.JobState
		done  int
	}{
		{accepted("a", "s"), engine.JobPending, 0},
		{planned("a", 3), engine.JobPending, 0},
		{started("a"), engine.JobRunning, 0},
		{committed("a", 1), engine.JobRunning, 1},
		{committed("a", 1), engine.JobRunning, 1}, // The first record counts.
		{ended("a", failed), engine.JobFailed, 1},
		{resumed("a"), engine.JobPending, 1},
		{started("a"), engine.JobRunning, 1},
		{committed("a", 0), engine.JobRunning, 2},
		{committed("a", 2), engine.JobRunning, 3},
		{ended("a", succeeded), engine.JobSucceeded, 3},
	} {
		if err := store.Propose(context.Background(), step.entry); err != nil {
			t.Fatalf("%v: %v", step.entry, err)
		}
		store.View(func(s *state.State) {
			job := s.Job("s")
			if job == nil || job.State() != step.want || job.CommittedCount != step.done {
				t.Fatalf("after %v: job %+v, want state %s with %d tasks done", step.entry, job, step.want, step.done)
			}
		})
	}
	if err := store.Propose(context.Background(), forgotten("a")); err != nil {
		t.Fatal(err)
	}
	store.View(func(s *state.State) {
		if s.Job("a") != nil || s.BySubmission("s") != nil || len(s.Jobs()) != 0 {
			t.Fatal("a forgotten job is still known")
		}
	})
}

func TestContradictionsAreRefused(t *testing.T) {
	base := []*enginev1.LogEntry{accepted("a", "s"), planned("a", 2)}
	for _, test := range []struct {
		name  string
		entry *enginev1.LogEntry
	}{
		{"accepted twice", accepted("a", "")},
		{"submission id taken", accepted("b", "s")},
		{"planned twice", planned("a", 2)},
		{"unknown job", planned("x", 2)},
		{"task out of range", committed("a", 2)},
		{"negative task", committed("a", -1)},
		{"resumed while active", resumed("a")},
		{"forgotten while active", forgotten("a")},
		{"no fact", &enginev1.LogEntry{}},
		{"term goes back", &enginev1.LogEntry{Fact: &enginev1.LogEntry_HeadStarted{HeadStarted: &enginev1.HeadStarted{}}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := state.New()
			for _, entry := range base {
				if err := s.Apply(entry); err != nil {
					t.Fatal(err)
				}
			}
			before := proto.CloneOf(s.Snapshot())
			if err := s.Apply(test.entry); engine.KindOf(err) != engine.KindCorrupt {
				t.Fatalf("error %v, want kind corrupt", err)
			}
			if !proto.Equal(before, s.Snapshot()) {
				t.Fatal("a refused entry changed the state")
			}
		})
	}
}

func snapshot(store *state.Store) (snapshot *enginev1.Snapshot) {
	store.View(func(s *state.State) { snapshot = proto.CloneOf(s.Snapshot()) })
	return snapshot
}

func TestStateSurvivesReopening(t *testing.T) {
	dir := t.TempDir()
	store := open(t, state.Config{Dir: dir})
	for i := range 50 {
		id := fmt.Sprintf("job-%02d", i)
		entries := []*enginev1.LogEntry{accepted(id, "s"+id), planned(id, 3), started(id), committed(id, int32(i%3))}
		if i%2 == 0 {
			entries = append(entries, ended(id, failed))
		}
		if i%4 == 0 {
			entries = append(entries, resumed(id))
		}
		if err := store.Propose(context.Background(), entries...); err != nil {
			t.Fatal(err)
		}
	}
	before := snapshot(store)
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	// Once by the entries, and once by the snapshot that a tiny limit makes of them.
	for _, limit := range []int64{1 << 30, 1, 1} {
		again := open(t, state.Config{Dir: dir, CompactAboveBytes: limit})
		after := snapshot(again)
		if after.GetTerm() != before.GetTerm()+1 {
			t.Fatalf("term %d after %d", after.GetTerm(), before.GetTerm())
		}
		before.Term = after.GetTerm()
		if !proto.Equal(before, after) {
			t.Fatal("state differs after it was opened again")
		}
		if err := again.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestSecondHeadIsRefused(t *testing.T) {
	dir := t.TempDir()
	open(t, state.Config{Dir: dir})
	if _, err := state.Open(state.Config{Dir: dir, NewClusterID: "x"}); engine.KindOf(err) != engine.KindConflict {
		t.Fatalf("error %v, want kind conflict", err)
	}
}

func TestConditionSeesWhatCameBefore(t *testing.T) {
	store := open(t, state.Config{Dir: t.TempDir()})
	var won, lost int
	var mu sync.Mutex
	var all sync.WaitGroup
	for i := range 20 {
		all.Go(func() {
			err := store.ProposeIf(context.Background(), func(s *state.State) error {
				if s.BySubmission("only-one") != nil {
					return engine.Errorf(engine.KindConflict, "test", "", "taken")
				}
				return nil
			}, accepted(fmt.Sprint("job-", i), "only-one"))
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				won++
			case engine.KindOf(err) == engine.KindConflict:
				lost++
			default:
				t.Error(err)
			}
		})
	}
	all.Wait()
	if won != 1 || lost != 19 {
		t.Fatalf("%d won and %d lost, want 1 and 19", won, lost)
	}
}

func TestClosedStoreRefuses(t *testing.T) {
	store := open(t, state.Config{Dir: t.TempDir()})
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	if err := store.Propose(context.Background(), accepted("a", "")); engine.KindOf(err) != engine.KindUnavailable {
		t.Fatalf("error %v, want kind unavailable", err)
	}
}

// TestAcknowledgedSurvivesKill kills a process that proposes as fast as it can at a random instant: what it had printed as
// acknowledged must be there.
func TestAcknowledgedSurvivesKill(t *testing.T) {
	if dir := os.Getenv("ENGINE_STATE_TEST_DIR"); dir != "" {
		store, err := state.Open(state.Config{Dir: dir, NewClusterID: "x", CompactAboveBytes: 20_000})
		if err != nil {
			t.Fatal(err)
		}
		<-store.Terms()
		var known int
		store.View(func(s *state.State) { known = len(s.Jobs()) })
		for i := known; ; i++ {
			if err := store.Propose(context.Background(), accepted(fmt.Sprintf("job-%06d", i), "")); err != nil {
				t.Fatal(err)
			}
			fmt.Println(i + 1)
		}
	}
	dir := t.TempDir()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	for range 8 {
		ctx, cancel := context.WithTimeout(context.Background(), time.Duration(20+random.IntN(150))*time.Millisecond)
		command := exec.CommandContext(ctx, os.Args[0], "-test.run=^TestAcknowledgedSurvivesKill$")
		command.Env = append(os.Environ(), "ENGINE_STATE_TEST_DIR="+dir)
		output, err := command.Output()
		cancel()
		if err == nil {
			t.Fatal("the child ended by itself")
		}
		var acknowledged int
		for line := 0; line < len(output); {
			end := line
			for end < len(output) && output[end] != '\n' {
				end++
			}
			if end < len(output) {
				if _, err := fmt.Sscan(string(output[line:end]), &acknowledged); err != nil {
					t.Fatalf("child printed %q", output[line:end])
				}
			}
			line = end + 1
		}
		store, err := state.Open(state.Config{Dir: dir, NewClusterID: "x"})
		if err != nil {
			t.Fatal(err)
		}
		lead(t, store)
		var found int
		store.View(func(s *state.State) { found = len(s.Jobs()) })
		if found < acknowledged {
			t.Fatalf("%d jobs after the kill, %d were acknowledged", found, acknowledged)
		}
		if err := store.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// What passes have found adds up, is in snapshots, and is found once.
func TestFitted(t *testing.T) {
	mean, std := 1.5, 0.25
	s := state.New()
	apply := func(want bool, fact *enginev1.LogEntry) {
		t.Helper()
		if err := s.Apply(fact); (err == nil) != want {
			t.Fatalf("%v: %v", fact, err)
		}
	}
	fitted := func(step int32, column string, output ...string) *enginev1.LogEntry {
		f := &enginev1.JobFitted{JobId: "j", Columns: []*enginev1.FittedColumn{{Step: step, Column: column, Rows: 2, Mean: &mean, Std: &std}}}
		for _, name := range output {
			f.OutputColumns = append(f.OutputColumns, &enginev1.ColumnInfo{Name: name, Type: "float64"})
		}
		return &enginev1.LogEntry{Fact: &enginev1.LogEntry_JobFitted{JobFitted: f}}
	}
	steps := []*enginev1.Step{{Kind: &enginev1.Step_Scale{Scale: &enginev1.ScaleStep{}}}, {Kind: &enginev1.Step_Scale{Scale: &enginev1.ScaleStep{}}}}
	apply(true, &enginev1.LogEntry{Fact: &enginev1.LogEntry_JobAccepted{JobAccepted: &enginev1.JobAccepted{JobId: "j", Spec: &enginev1.JobSpec{Steps: steps}}}})
	apply(false, fitted(0, "a")) // It has no plan.
	apply(true, &enginev1.LogEntry{Fact: &enginev1.LogEntry_JobPlanned{JobPlanned: &enginev1.JobPlanned{JobId: "j", Plan: &enginev1.Plan{Tasks: []*enginev1.TaskPlan{{}}}}}})
	apply(true, fitted(0, "a"))
	apply(false, fitted(0, "a"))
	apply(false, fitted(2, "a"))
	apply(true, fitted(1, "a", "a"))
	again := state.New()
	if err := again.Apply(&enginev1.LogEntry{Fact: &enginev1.LogEntry_Snapshot{Snapshot: s.Snapshot()}}); err != nil {
		t.Fatal(err)
	}
	for _, s := range []*state.State{s, again} {
		job := s.Job("j")
		if job.Fitted.GetPasses() != 2 || len(job.Fitted.GetColumns()) != 2 || job.Fitted.GetColumns()[1].GetStd() != std || len(job.OutputColumns()) != 1 {
			t.Errorf("fitted %v", job.Fitted)
		}
	}
}
