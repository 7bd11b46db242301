package state_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/head/state"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// magic1 is the first line of a log of version 1.
const magic1 = "engine-head-log 1\n"

// record is an entry as a log of version 1 holds it.
func record(t *testing.T, entry *enginev1.LogEntry) []byte {
	t.Helper()
	entry.Time = timestamppb.New(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC))
	payload, err := proto.Marshal(entry)
	check(t, err)
	head := binary.LittleEndian.AppendUint32(nil, uint32(len(payload)))
	return append(binary.LittleEndian.AppendUint32(head, crc32.Checksum(payload, crc32.MakeTable(crc32.Castagnoli))), payload...)
}

func headStarted(term uint64) *enginev1.LogEntry {
	return &enginev1.LogEntry{Fact: &enginev1.LogEntry_HeadStarted{HeadStarted: &enginev1.HeadStarted{Term: term, ClusterId: "c-old"}}}
}

// log1 is a log of version 1 with one start of a head and so many jobs.
func log1(t *testing.T, jobs int) []byte {
	t.Helper()
	log := append([]byte(magic1), record(t, headStarted(1))...)
	for i := range jobs {
		log = append(log, record(t, accepted(fmt.Sprint("job-", i), fmt.Sprint("s-", i)))...)
	}
	return log
}

func writeLog1(t *testing.T, dir string, log []byte) {
	t.Helper()
	check(t, os.WriteFile(filepath.Join(dir, "head.log"), log, 0o600))
}

// stride is how many places a test leaves out of those that it would try: each costs a sync or more.
func stride(t *testing.T) int {
	t.Helper()
	if os.Getenv("ENGINE_TEST") == "" {
		return 11
	}
	return 1
}

// random is a source whose seed is printed.
func random(t *testing.T) *rand.Rand {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

func TestFolderOfVersion1IsTakenOver(t *testing.T) {
	dir := t.TempDir()
	log := log1(t, 3)
	for _, entry := range []*enginev1.LogEntry{planned("job-1", 2), started("job-1"), committed("job-1", 1), ended("job-0", failed)} {
		log = append(log, record(t, entry)...)
	}
	writeLog1(t, dir, log)
	want := state.New()
	for _, entry := range []*enginev1.LogEntry{
		headStarted(1), accepted("job-0", "s-0"), accepted("job-1", "s-1"), accepted("job-2", "s-2"),
		planned("job-1", 2), started("job-1"), committed("job-1", 1), ended("job-0", failed),
	} {
		entry.Time = timestamppb.New(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC))
		check(t, want.Apply(entry))
	}
	for term := uint64(2); term < 5; term++ {
		store := open(t, state.Config{Dir: dir})
		want.Term = term
		if got := snapshot(store); !proto.Equal(got, want.Snapshot()) {
			t.Fatalf("state %v, want %v", got, want.Snapshot())
		}
		check(t, store.Close())
	}
}

// TestTakingOverIsRepeated leaves behind what a crash in the middle of it does.
func TestTakingOverIsRepeated(t *testing.T) {
	dir := t.TempDir()
	log := log1(t, 3)
	writeLog1(t, dir, log)
	store := open(t, state.Config{Dir: dir})
	check(t, store.Propose(context.Background(), accepted("later", "")))
	check(t, store.Close())
	writeLog1(t, dir, log) // As if the new log had never taken its place.
	store = open(t, state.Config{Dir: dir})
	if hasJob(store, "later") || !hasJob(store, "job-2") {
		t.Fatalf("state %v", snapshot(store))
	}
	check(t, store.Close())
	writeLog1(t, dir, log)
	if _, err := state.Open(state.Config{Dir: dir, Join: true}); engine.KindOf(err) != engine.KindConflict {
		t.Fatalf("error %v, want kind conflict", err)
	}
}

// TestLog1CutAnywhere cuts a log of version 1 at every byte: what is left must open, hold a prefix of the entries, and accept new ones.
func TestLog1CutAnywhere(t *testing.T) {
	whole := log1(t, 3)
	last := -1
	dir := t.TempDir()
	stride := stride(t)
	for size := random(t).IntN(stride); size < len(whole); size += stride {
		cut := filepath.Join(dir, fmt.Sprint(size))
		check(t, os.Mkdir(cut, 0o700))
		writeLog1(t, cut, whole[:size])
		again := open(t, state.Config{Dir: cut})
		jobs := len(snapshot(again).GetJobs())
		if jobs < last || jobs > last+1 && last >= 0 {
			t.Fatalf("log cut at byte %d has %d jobs, one byte before it had %d", size, jobs, last)
		}
		last = jobs
		check(t, again.Propose(context.Background(), accepted("new", "")))
		check(t, again.Close())
	}
	if last != 2 && last != 1 {
		t.Fatalf("nearly whole, the log has %d jobs, want 1 or 2", last)
	}
}

// TestDamagedBitOfLog1IsRefused flips each bit before the last record in turn: none may pass for a torn end.
func TestDamagedBitOfLog1IsRefused(t *testing.T) {
	dir := t.TempDir()
	log := log1(t, 4)
	last := len(magic1)
	for next := last; next < len(log); next += 8 + int(binary.LittleEndian.Uint32(log[next:])) {
		last = next
	}
	stride := stride(t)
	for i := random(t).IntN(stride); i < last*8; i += stride {
		damaged := bytes.Clone(log)
		damaged[i/8] ^= 1 << (i % 8)
		writeLog1(t, dir, damaged)
		want := engine.KindCorrupt
		switch {
		case i/8 == 16 && damaged[16] == '2':
			continue // It is now the first line of this version, and what follows is not.
		case i/8 < len(magic1):
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

func TestDamageOfLog1(t *testing.T) {
	dir := t.TempDir()
	log := log1(t, 4)
	first := len(magic1) + 8 + int(binary.LittleEndian.Uint32(log[len(magic1):]))
	length := bytes.Clone(log)
	length[len(magic1)+2] ^= 0x40 // The record claims to end behind the file.
	zero := bytes.Clone(log)
	binary.LittleEndian.PutUint32(zero[first:], 0)
	unknown := append(bytes.Clone(log), record(t, &enginev1.LogEntry{})...)
	bad := &enginev1.Snapshot{Jobs: []*enginev1.JobSnapshot{{Accepted: &enginev1.JobAccepted{}}}}
	for name, test := range map[string]struct {
		log  []byte
		want string
	}{
		"a length":                 {length, fmt.Sprintf("record at byte %d is damaged: a whole one follows at byte %d", len(magic1), first)},
		"a length of zero":         {zero, fmt.Sprintf("record at byte %d has length 0", first)},
		"an entry of unknown kind": {unknown, "unknown kind"},
		"a bad snapshot":           {append(bytes.Clone(log), record(t, &enginev1.LogEntry{Fact: &enginev1.LogEntry_Snapshot{Snapshot: bad}})...), "accepted twice"},
	} {
		writeLog1(t, dir, test.log)
		_, err := state.Open(state.Config{Dir: dir, NewClusterID: "x"})
		if engine.KindOf(err) != engine.KindCorrupt || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: error %v, want %q", name, err, test.want)
		}
	}
	// Zeros at the end are what a file system leaves that grew the file before it wrote the record.
	writeLog1(t, dir, append(bytes.Clone(log), make([]byte, 5000)...))
	if again := open(t, state.Config{Dir: dir}); again.TornBytes() != 5000 || !hasJob(again, "job-3") {
		t.Fatalf("%d bytes were cut off, want 5000", again.TornBytes())
	}
}

// TestRefusedEntriesOfLog1AreSkipped opens a log as early versions left it, which wrote entries before they looked at them.
func TestRefusedEntriesOfLog1AreSkipped(t *testing.T) {
	dir := t.TempDir()
	log := log1(t, 2)
	for _, entry := range []*enginev1.LogEntry{forgotten("job-0"), planned("job-1", 1), planned("job-1", 2)} {
		log = append(log, record(t, entry)...)
	}
	writeLog1(t, dir, log)
	store := open(t, state.Config{Dir: dir})
	if n := store.RefusedEntries(); n != 2 {
		t.Fatalf("%d entries were skipped, want 2", n)
	}
	store.View(func(s *state.State) {
		if s.Job("job-0") == nil || len(s.Job("job-1").Committed) != 1 {
			t.Fatalf("jobs %v", s.Snapshot())
		}
	})
}
