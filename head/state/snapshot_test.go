package state_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/head/state"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// randomEntry is an entry that may or may not contradict the state.
func randomEntry(random *rand.Rand, term uint64) *enginev1.LogEntry {
	job := fmt.Sprint("job-", random.IntN(8))
	node, queue := fmt.Sprint("n-", random.IntN(3)), fmt.Sprint("q-", random.IntN(3))
	entries := []*enginev1.LogEntry{
		accepted(job, ""), accepted(job, "s-"+job), planned(job, random.IntN(5)), started(job), committed(job, int32(random.IntN(6))), committed(job, int32(random.IntN(6))),
		ended(job, failed), ended(job, succeeded), resumed(job), forgotten(job), headStarted(term), queueSet(queue, int32(random.IntN(9))),
		{Fact: &enginev1.LogEntry_QueueDeleted{QueueDeleted: &enginev1.QueueDeleted{Name: queue}}},
		{Fact: &enginev1.LogEntry_NodeDraining{NodeDraining: &enginev1.NodeDraining{NodeId: node, Reason: job}}},
		{Fact: &enginev1.LogEntry_NodeDrained{NodeDrained: &enginev1.NodeDrained{NodeId: node}}},
	}
	entry := entries[random.IntN(len(entries))]
	entry.Time = timestamppb.New(time.Unix(random.Int64N(1e9), 0))
	return entry
}

// TestClonesAndSnapshotsAreTheSameState applies random entries to a state, to clones that were made on the way, and to what snapshots
// restore: all agree on what they refuse and what comes of the rest, and no clone sees what another does.
func TestClonesAndSnapshotsAreTheSameState(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	all := []*state.State{state.New()}
	type still struct {
		state *state.State
		was   *enginev1.Snapshot
	}
	var aside []still
	for i := range 3000 {
		entry := randomEntry(random, uint64(i)/10)
		var first error
		for j, s := range all {
			err := s.Apply(entry)
			if j == 0 {
				first = err
			}
			if fmt.Sprint(err) != fmt.Sprint(first) {
				t.Fatalf("%v: error %v and %v", entry, first, err)
			}
		}
		if i%100 != 0 {
			continue
		}
		want := all[0].Snapshot()
		for _, s := range all[1:] {
			if !proto.Equal(s.Snapshot(), want) {
				t.Fatalf("state %v, want %v", s.Snapshot(), want)
			}
		}
		for _, other := range aside {
			if !proto.Equal(other.state.Snapshot(), other.was) {
				t.Fatal("a clone has changed with another")
			}
		}
		aside = append(aside, still{all[0].Clone(), proto.CloneOf(want)})
		all = []*state.State{all[random.IntN(len(all))].Clone(), all[random.IntN(len(all))], state.RestoreAgain(t, all[0])}
	}
}

// TestSnapshotCutAnywhere cuts a snapshot at every byte: none of it passes for a whole one.
func TestSnapshotCutAnywhere(t *testing.T) {
	s := state.New()
	for _, entry := range []*enginev1.LogEntry{headStarted(1), accepted("a", "s"), planned("a", 2), committed("a", 1), queueSet("q", 1), accepted("b", "")} {
		check(t, s.Apply(entry))
	}
	var file bytes.Buffer
	check(t, state.WriteSnapshot(&file, s))
	for size := range file.Len() {
		if _, err := state.ReadSnapshot(bytes.NewReader(file.Bytes()[:size])); engine.KindOf(err) != engine.KindCorrupt {
			t.Fatalf("cut at byte %d of %d: error %v, want kind corrupt", size, file.Len(), err)
		}
	}
	other := bytes.Replace(file.Bytes(), []byte("snapshot 1"), []byte("snapshot 2"), 1)
	if _, err := state.ReadSnapshot(bytes.NewReader(other)); engine.KindOf(err) != engine.KindVersion {
		t.Fatalf("error %v, want kind version", err)
	}
}

func FuzzReadSnapshot(f *testing.F) {
	s := state.New()
	for _, entry := range []*enginev1.LogEntry{headStarted(1), accepted("a", "s"), planned("a", 2), committed("a", 1), queueSet("q", 1)} {
		if err := s.Apply(entry); err != nil {
			f.Fatal(err)
		}
	}
	var file bytes.Buffer
	if err := state.WriteSnapshot(&file, s); err != nil {
		f.Fatal(err)
	}
	f.Add(file.Bytes())
	f.Fuzz(func(t *testing.T, content []byte) {
		read, err := state.ReadSnapshot(bytes.NewReader(content))
		if err != nil {
			return
		}
		if !proto.Equal(state.RestoreAgain(t, read).Snapshot(), read.Snapshot()) {
			t.Fatal("what was read is not what it writes")
		}
	})
}

// TestLostSnapshotIsRefused takes the snapshot away that the log begins behind: the head does not begin with a part of its state.
func TestLostSnapshotIsRefused(t *testing.T) {
	for name, damage := range map[string]func(t *testing.T, snapshots string){
		"removed": func(t *testing.T, snapshots string) { check(t, os.RemoveAll(snapshots)) },
		"damaged": func(t *testing.T, snapshots string) {
			files, err := filepath.Glob(filepath.Join(snapshots, "*", "state.bin"))
			check(t, err)
			for _, file := range files {
				content, err := os.ReadFile(file)
				check(t, err)
				content[len(content)/2] ^= 1
				check(t, os.WriteFile(file, content, 0o600))
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			store := open(t, state.Config{Dir: dir, CompactAboveBytes: 1})
			files := filepath.Join(dir, "snapshots", "*", "state.bin")
			for i := 0; ; i++ {
				check(t, store.Propose(t.Context(), accepted(fmt.Sprint("job-", i), "")))
				if found, _ := filepath.Glob(files); len(found) > 0 && i > 20 {
					break
				}
			}
			check(t, store.Close())
			damage(t, filepath.Join(dir, "snapshots"))
			if _, err := state.Open(state.Config{Dir: dir, NewClusterID: "x"}); engine.KindOf(err) != engine.KindCorrupt {
				t.Fatalf("error %v, want kind corrupt", err)
			}
		})
	}
}
