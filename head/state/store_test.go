package state_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/head/state"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// magicBytes is where a log's first record begins.
const magicBytes = len("engine-head-log 1\n")

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
	case <-time.After(10 * time.Second):
		t.Fatal("no answer")
		return nil
	}
}

func hasJob(store *state.Store, id string) (has bool) {
	store.View(func(s *state.State) { has = s.Job(id) != nil })
	return has
}

// writeLog makes a log of jobs in dir and returns its bytes.
func writeLog(t *testing.T, dir string, jobs int) []byte {
	t.Helper()
	store := open(t, state.Config{Dir: dir})
	for i := range jobs {
		check(t, store.Propose(context.Background(), accepted(fmt.Sprint("job-", i), "")))
	}
	check(t, store.Close())
	log, err := os.ReadFile(filepath.Join(dir, "head.log"))
	check(t, err)
	return log
}

// record is an entry as the log holds it.
func record(t *testing.T, entry *enginev1.LogEntry) []byte {
	t.Helper()
	entry.Time = timestamppb.New(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC))
	payload, err := proto.Marshal(entry)
	check(t, err)
	head := binary.LittleEndian.AppendUint32(nil, uint32(len(payload)))
	return append(binary.LittleEndian.AppendUint32(head, crc32.Checksum(payload, crc32.MakeTable(crc32.Castagnoli))), payload...)
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

// TestRefusedEntriesOfOlderLogsAreSkipped opens a log as earlier versions left it, which wrote entries before they looked at them.
func TestRefusedEntriesOfOlderLogsAreSkipped(t *testing.T) {
	dir := t.TempDir()
	log := writeLog(t, dir, 2)
	path := filepath.Join(dir, "head.log")
	log = append(log, record(t, forgotten("job-0"))...)
	log = append(log, record(t, planned("job-1", 1))...)
	log = append(log, record(t, planned("job-1", 2))...)
	check(t, os.WriteFile(path, log, 0o600))
	store := open(t, state.Config{Dir: dir})
	if n := store.RefusedEntries(); n != 2 {
		t.Fatalf("%d entries were skipped, want 2", n)
	}
	store.View(func(s *state.State) {
		if s.Job("job-0") == nil || len(s.Job("job-1").Committed) != 1 {
			t.Fatalf("jobs %v", s.Snapshot())
		}
	})
	check(t, store.Close())

	bad := &enginev1.Snapshot{Jobs: []*enginev1.JobSnapshot{{Accepted: &enginev1.JobAccepted{}}}}
	for name, entry := range map[string]*enginev1.LogEntry{
		"of an unknown kind": {},
		"a bad snapshot":     {Fact: &enginev1.LogEntry_Snapshot{Snapshot: bad}},
	} {
		check(t, os.WriteFile(path, append(bytes.Clone(log), record(t, entry)...), 0o600))
		if _, err := state.Open(state.Config{Dir: dir, NewClusterID: "x"}); engine.KindOf(err) != engine.KindCorrupt {
			t.Errorf("%s: error %v, want kind corrupt", name, err)
		}
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

// TestFailedWriteLeavesNothing lets the disk refuse a group, and then take the same one.
func TestFailedWriteLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	store := open(t, state.Config{Dir: dir})
	check(t, store.Propose(context.Background(), accepted("a", "")))
	info, err := os.Stat(filepath.Join(dir, "head.log"))
	check(t, err)
	var limit unix.Rlimit
	check(t, unix.Getrlimit(unix.RLIMIT_FSIZE, &limit))
	small := limit
	small.Cur = uint64(info.Size()) + 10
	check(t, unix.Setrlimit(unix.RLIMIT_FSIZE, &small))
	release := stall(t, store)
	answers := []<-chan error{propose(store, accepted("b", "")), propose(store, accepted("b", "")), propose(store, planned("a", 1))}
	release()
	for _, answer := range answers {
		if err := wait(t, answer); !errors.Is(err, unix.EFBIG) {
			t.Errorf("error %v, want that of the disk", err)
		}
	}
	check(t, unix.Setrlimit(unix.RLIMIT_FSIZE, &limit))
	check(t, store.Propose(context.Background(), accepted("b", ""), planned("a", 1)))
	check(t, store.Close())
	again := open(t, state.Config{Dir: dir})
	if !hasJob(again, "b") || again.TornBytes() != 0 || again.RefusedEntries() != 0 {
		t.Fatalf("after a failed write: %d torn bytes, %d refused entries", again.TornBytes(), again.RefusedEntries())
	}
}

// TestFailedCompactionLosesNothing fails a compaction on either side of its rename. What is acknowledged must be there afterwards.
func TestFailedCompactionLosesNothing(t *testing.T) {
	broken := errors.New("broken")
	for _, test := range []struct {
		name string
		open func(string) (*os.File, error)
		// goesOn says that the head still takes entries.
		goesOn bool
	}{
		{"before the rename", func(string) (*os.File, error) { return nil, broken }, true},
		{"after the rename", func(string) (*os.File, error) { // A pipe cannot be synced.
			r, w, err := os.Pipe()
			return r, errors.Join(err, w.Close())
		}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			var troubles atomic.Int32
			store := open(t, state.Config{Dir: dir, CompactAboveBytes: 2000, Trouble: func(error) { troubles.Add(1) }})
			state.ReplaceOpenFolder(t, test.open)
			var acknowledged []string
			for i := 0; troubles.Load() == 0; i++ {
				id := fmt.Sprint("job-", i)
				check(t, store.Propose(context.Background(), accepted(id, "")))
				acknowledged = append(acknowledged, id)
				_ = wait(t, propose(store)) // Comes after the compaction, if there was one, and fails as that did.
			}
			err := store.Propose(context.Background(), accepted("late", ""))
			if (err == nil) != test.goesOn {
				t.Fatalf("error %v", err)
			}
			if err == nil {
				acknowledged = append(acknowledged, "late")
			}
			check(t, store.Close())
			again := open(t, state.Config{Dir: dir})
			for _, id := range acknowledged {
				if !hasJob(again, id) {
					t.Fatalf("%s was acknowledged and is lost", id)
				}
			}
		})
	}
}

// TestDamagedBitIsRefused flips each bit before the last record in turn: none may pass for a torn end.
func TestDamagedBitIsRefused(t *testing.T) {
	dir := t.TempDir()
	log := writeLog(t, dir, 4)
	last := magicBytes
	for next := last; next < len(log); next += 8 + int(binary.LittleEndian.Uint32(log[next:])) {
		last = next
	}
	for i := range last * 8 {
		damaged := bytes.Clone(log)
		damaged[i/8] ^= 1 << (i % 8)
		check(t, os.WriteFile(filepath.Join(dir, "head.log"), damaged, 0o600))
		want := engine.KindCorrupt
		if i/8 < magicBytes {
			want = engine.KindVersion
		}
		store, err := state.Open(state.Config{Dir: dir, NewClusterID: "x"})
		if err == nil {
			t.Fatalf("bit %d of byte %d is damaged, and %d bytes were cut off", i%8, i/8, store.TornBytes())
		}
		if engine.KindOf(err) != want {
			t.Fatalf("bit %d of byte %d: error %v, want kind %s", i%8, i/8, err, want)
		}
	}
}

func TestDamageNamesItsByte(t *testing.T) {
	dir := t.TempDir()
	log := writeLog(t, dir, 4)
	second := magicBytes + 8 + int(binary.LittleEndian.Uint32(log[magicBytes:]))
	log[magicBytes+2] ^= 0x40 // The length: the record claims to end behind the file.
	check(t, os.WriteFile(filepath.Join(dir, "head.log"), log, 0o600))
	_, err := state.Open(state.Config{Dir: dir, NewClusterID: "x"})
	if want := fmt.Sprintf("record at byte %d is damaged: a whole one follows at byte %d", magicBytes, second); err == nil || !strings.Contains(err.Error(), want) {
		t.Fatalf("error %v, want %q", err, want)
	}
}

func TestRefusedLogIsClosed(t *testing.T) {
	const descriptors = "/proc/self/fd"
	count := func() int {
		entries, err := os.ReadDir(descriptors)
		if err != nil {
			t.Skip(err)
		}
		return len(entries)
	}
	dir := t.TempDir()
	log := writeLog(t, dir, 2)
	log[magicBytes+12] ^= 1
	check(t, os.WriteFile(filepath.Join(dir, "head.log"), log, 0o600))
	before := count()
	for range 10 {
		if _, err := state.Open(state.Config{Dir: dir, NewClusterID: "x"}); err == nil || strings.Contains(err.Error(), "invalid argument") {
			t.Fatalf("error %v, want the damage alone", err)
		}
	}
	if after := count(); after >= before+10 {
		t.Fatalf("%d descriptors are open, %d were before", after, before)
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
