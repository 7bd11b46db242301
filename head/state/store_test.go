package state_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/head/state"
	"github.com/f708428e/engine/head/state/raftlog"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// stall keeps the writer busy until release is called, so that what is proposed meanwhile becomes one group.
func stall(t *testing.T, store *state.Store) (release func()) {
	t.Helper()
	in, gate, out := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	refused := errors.New("refused")
	go func() {
		out <- store.ProposeIf(context.Background(), func(*state.State) error {
			close(in)
			<-gate
			return refused
		})
	}()
	<-in
	return func() {
		close(gate)
		if err := <-out; !errors.Is(err, refused) {
			t.Errorf("error %v, want that of the condition", err)
		}
	}
}

// propose proposes without waiting; the channel has the answer.
func propose(store *state.Store, entries ...*enginev1.LogEntry) <-chan error {
	answer := make(chan error, 1)
	store.ProposeAsync(context.Background(), func(err error) { answer <- err }, entries...)
	return answer
}

func wait(t *testing.T, answer <-chan error) error {
	t.Helper()
	select {
	case err := <-answer:
		return err
	case <-time.After(2 * time.Minute):
		t.Fatal("no answer")
		return nil
	}
}

func hasJob(store *state.Store, id string) (has bool) {
	store.View(func(s *state.State) { has = s.Job(id) != nil })
	return has
}

func TestRefusedProposalFailsAlone(t *testing.T) {
	dir := t.TempDir()
	store := open(t, state.Config{Dir: dir})
	release := stall(t, store)
	steps := []struct {
		name   string
		want   engine.Kind
		bad    bool
		answer <-chan error
	}{
		{name: "good", answer: propose(store, accepted("a", ""))},
		{name: "contradiction", bad: true, want: engine.KindCorrupt, answer: propose(store, forgotten("x"))},
		{name: "not UTF-8", bad: true, want: engine.KindInternal, answer: propose(store, accepted("\xff", ""))},
		{name: "refused as a whole", bad: true, want: engine.KindCorrupt, answer: propose(store, accepted("b", ""), planned("a", 9), forgotten("b"))},
		{name: "builds on itself and on what came before", answer: propose(store, planned("a", 2), started("a"), accepted("c", ""), planned("c", 1))},
		{name: "contradicts its own group", bad: true, want: engine.KindCorrupt, answer: propose(store, planned("c", 1))},
		{name: "after all", answer: propose(store, accepted("b", "again"))},
	}
	release()
	for _, step := range steps {
		if err := wait(t, step.answer); (err != nil) != step.bad || step.bad && engine.KindOf(err) != step.want {
			t.Errorf("%s: error %v", step.name, err)
		}
	}
	before := snapshot(store)
	if len(before.GetJobs()) != 3 || len(before.GetJobs()[0].GetPlan().GetTasks()) != 2 {
		t.Fatalf("state %v", before)
	}
	check(t, store.Close())
	again := open(t, state.Config{Dir: dir})
	if n := again.RefusedEntries(); n != 0 {
		t.Fatalf("%d refused entries were made durable", n)
	}
	after := snapshot(again)
	before.Term = after.GetTerm()
	if !proto.Equal(before, after) {
		t.Fatalf("state %v after %v", after, before)
	}
}

// TestProposeAsyncNeverBlocks proposes from done, on the writer's goroutine, while many others wait.
func TestProposeAsyncNeverBlocks(t *testing.T) {
	store := open(t, state.Config{Dir: t.TempDir()})
	queued := make(chan struct{})
	again := make(chan error, 1)
	store.ProposeAsync(context.Background(), func(error) {
		<-queued
		store.ProposeAsync(context.Background(), func(err error) { again <- err }, accepted("again", ""))
	}, accepted("first", ""))
	var last <-chan error
	for i := range 3000 {
		last = propose(store, accepted(fmt.Sprint("job-", i), ""))
	}
	close(queued)
	check(t, wait(t, last))
	check(t, wait(t, again))
}

func TestCloseAnswersAllThatWait(t *testing.T) {
	store := open(t, state.Config{Dir: t.TempDir()})
	release := stall(t, store)
	var answers []<-chan error
	for i := range 10 {
		answers = append(answers, propose(store, accepted(fmt.Sprint("job-", i), "")))
	}
	closed := make(chan error, 1)
	go func() { closed <- store.Close() }()
	release()
	check(t, wait(t, closed))
	for i, answer := range answers {
		// Each was written or refused, as Close came before or after the writer's next look.
		if err := wait(t, answer); err == nil != hasJob(store, fmt.Sprint("job-", i)) || err != nil && engine.KindOf(err) != engine.KindUnavailable {
			t.Errorf("job %d: error %v", i, err)
		}
	}
	if err := wait(t, propose(store, accepted("late", ""))); engine.KindOf(err) != engine.KindUnavailable {
		t.Fatalf("error %v, want kind unavailable", err)
	}
}

// TestStateIgnoresTheClock goes through a resumption while the clock runs backwards.
func TestStateIgnoresTheClock(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	dir := t.TempDir()
	config := state.Config{Dir: dir, Now: func() time.Time {
		now = now.Add(-time.Second)
		return now
	}}
	store := open(t, config)
	for _, step := range []struct {
		entry *enginev1.LogEntry
		want  engine.JobState
	}{
		{accepted("a", ""), engine.JobPending},
		{planned("a", 1), engine.JobPending},
		{started("a"), engine.JobRunning},
		{ended("a", failed), engine.JobFailed},
		{resumed("a"), engine.JobPending},
		{started("a"), engine.JobRunning},
	} {
		check(t, store.Propose(context.Background(), step.entry))
		restored := state.New()
		check(t, restored.Apply(&enginev1.LogEntry{Fact: &enginev1.LogEntry_Snapshot{Snapshot: snapshot(store)}}))
		store.View(func(s *state.State) {
			if got, again := s.Job("a").State(), restored.Job("a").State(); got != step.want || again != step.want {
				t.Fatalf("after %v: state %s, restored %s, want %s", step.entry, got, again, step.want)
			}
		})
	}
}

// TestFullDiskLeavesNothing lets the disk refuse a group, and then take the same one. The head leads on meanwhile.
func TestFullDiskLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	store := open(t, state.Config{Dir: dir})
	check(t, store.Propose(context.Background(), accepted("a", "")))
	info, err := os.Stat(filepath.Join(dir, "head.log"))
	check(t, err)
	var limit unix.Rlimit
	check(t, unix.Getrlimit(unix.RLIMIT_FSIZE, &limit))
	small := limit
	small.Cur = uint64(info.Size())
	check(t, unix.Setrlimit(unix.RLIMIT_FSIZE, &small))
	t.Cleanup(func() { _ = unix.Setrlimit(unix.RLIMIT_FSIZE, &limit) })
	big := &enginev1.LogEntry{Fact: &enginev1.LogEntry_JobAccepted{JobAccepted: &enginev1.JobAccepted{
		JobId: "b", Spec: &enginev1.JobSpec{Name: strings.Repeat("n", 1<<20)},
	}}}
	release := stall(t, store)
	answers := []<-chan error{propose(store, big), propose(store, accepted("b", "")), propose(store, planned("a", 1))}
	release()
	for _, answer := range answers {
		if err := wait(t, answer); !errors.Is(err, unix.EFBIG) {
			t.Errorf("error %v, want that of the disk", err)
		}
	}
	// What is small fits into what was reserved.
	check(t, store.Propose(context.Background(), accepted("c", "")))
	check(t, unix.Setrlimit(unix.RLIMIT_FSIZE, &limit))
	check(t, store.Propose(context.Background(), accepted("b", ""), planned("a", 1)))
	check(t, store.Close())
	again := open(t, state.Config{Dir: dir})
	if !hasJob(again, "b") || !hasJob(again, "c") || again.TornBytes() != 0 {
		t.Fatalf("after a failed write: %v", snapshot(again))
	}
	again.View(func(s *state.State) {
		if s.Term != 2 {
			t.Fatalf("term %d, want 2: the head ceased to lead", s.Term)
		}
	})
}

// TestGroupsOfAnotherVersionAreRefused puts into the log what no head of this version writes.
func TestGroupsOfAnotherVersionAreRefused(t *testing.T) {
	for name, test := range map[string]struct {
		data []byte
		want engine.Kind
	}{
		"an entry of an unknown kind": {[]byte{8, 1, 0x12, 3, 0xa2, 6, 0}, engine.KindVersion},
		"an entry without a fact":     {[]byte{8, 1, 0x12, 2, 0x0a, 0}, engine.KindVersion},
		"no group":                    {[]byte{0x12, 9, 1}, engine.KindCorrupt},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			check(t, open(t, state.Config{Dir: dir}).Close())
			log, err := raftlog.Open(dir)
			check(t, err)
			last, err := log.LastIndex()
			check(t, err)
			check(t, log.StoreLog(&raft.Log{Index: last + 1, Term: 2, Data: test.data}))
			check(t, log.Close())
			if _, err := state.Open(state.Config{Dir: dir, NewClusterID: "x"}); engine.KindOf(err) != test.want {
				t.Fatalf("error %v, want kind %s", err, test.want)
			}
		})
	}
}

// TestContradictionInTheLogChangesNothing puts an entry into the log that contradicts the state, as only a fault of ours can: every head
// leaves it out, and one says so.
func TestContradictionInTheLogChangesNothing(t *testing.T) {
	dir := t.TempDir()
	store := open(t, state.Config{Dir: dir})
	check(t, store.Propose(context.Background(), accepted("a", "")))
	check(t, store.Close())
	data, err := proto.Marshal(&enginev1.LogGroup{Term: 1, Entries: []*enginev1.LogEntry{accepted("a", ""), accepted("b", "")}})
	check(t, err)
	stale, err := proto.Marshal(&enginev1.LogGroup{Term: 9, Entries: []*enginev1.LogEntry{accepted("c", "")}})
	check(t, err)
	log, err := raftlog.Open(dir)
	check(t, err)
	last, err := log.LastIndex()
	check(t, err)
	check(t, log.StoreLogs([]*raft.Log{{Index: last + 1, Term: 2, Data: data}, {Index: last + 2, Term: 2, Data: stale}}))
	check(t, log.Close())
	troubles := make(chan error, 9)
	again := open(t, state.Config{Dir: dir, Trouble: func(err error) { troubles <- err }})
	if err := <-troubles; engine.KindOf(err) != engine.KindCorrupt || len(troubles) > 0 {
		t.Fatalf("error %v, want kind corrupt", err)
	}
	if !hasJob(again, "a") || !hasJob(again, "b") || hasJob(again, "c") {
		t.Fatalf("state %v", snapshot(again))
	}
}

// TestStoreFailsByItself has a head hear of an entry that it does not know, as from a head of a newer version: it stops, rather than
// have another state than the others.
func TestStoreFailsByItself(t *testing.T) {
	store, err := state.Open(state.Config{Dir: t.TempDir(), NewClusterID: "x"})
	check(t, err)
	lost := lead(t, store).Lost
	store.ApplyRaw([]byte{8, 1, 0x12, 3, 0xa2, 6, 0})
	<-store.Failed()
	<-lost
	if engine.KindOf(store.Err()) != engine.KindVersion {
		t.Fatalf("error %v, want kind version", store.Err())
	}
	if err := store.Propose(context.Background(), accepted("b", "")); engine.KindOf(err) != engine.KindVersion {
		t.Fatalf("error %v, want kind version", err)
	}
	check(t, store.Close())
}

// A snapshot that was being written when its head died does not stay for ever.
func TestUnfinishedSnapshotsAreRemoved(t *testing.T) {
	dir := t.TempDir()
	unfinished := filepath.Join(dir, "snapshots", "1-2-3.tmp")
	if err := os.MkdirAll(unfinished, 0o700); err != nil {
		t.Fatal(err)
	}
	store, err := state.Open(state.Config{Dir: dir, NewClusterID: "c"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(unfinished); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%v", err)
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
}
