package raftlog_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"golang.org/x/sys/unix"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/head/state/raftlog"
)

const magicBytes = len("engine-head-log 2\n")

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func open(t *testing.T, dir string) *raftlog.Log {
	t.Helper()
	log, err := raftlog.Open(dir)
	check(t, err)
	t.Cleanup(func() {
		if err := log.Close(); err != nil {
			t.Error(err)
		}
	})
	return log
}

func entry(index uint64) *raft.Log {
	return &raft.Log{
		Index: index, Term: index / 3, Type: raft.LogType(index % 3), Data: []byte(fmt.Sprint("data of ", index)),
		AppendedAt: time.Unix(int64(index), 5),
	}
}

// store stores entries from to to, each with a sync of its own.
func store(t *testing.T, log *raftlog.Log, from, to uint64) {
	t.Helper()
	for index := from; index <= to; index++ {
		check(t, log.StoreLog(entry(index)))
	}
}

// holds checks that a log has the entries from to to, and no others.
func holds(t *testing.T, log *raftlog.Log, from, to uint64) {
	t.Helper()
	first, err := log.FirstIndex()
	check(t, err)
	last, err := log.LastIndex()
	check(t, err)
	if to < from {
		from, to = 0, 0
	}
	if first != from || last != to {
		t.Fatalf("entries %d to %d, want %d to %d", first, last, from, to)
	}
	for index := from; index <= to && index > 0; index++ {
		var got raft.Log
		check(t, log.GetLog(index, &got))
		want := entry(index)
		if got.Index != want.Index || got.Term != want.Term || got.Type != want.Type || !bytes.Equal(got.Data, want.Data) || !got.AppendedAt.Equal(want.AppendedAt) {
			t.Fatalf("entry %+v, want %+v", got, want)
		}
	}
	var other raft.Log
	for _, index := range []uint64{from - 1, to + 1} {
		if err := log.GetLog(index, &other); !errors.Is(err, raft.ErrLogNotFound) {
			t.Fatalf("entry %d: error %v, want not found", index, err)
		}
	}
}

// written makes a log of entries 1 to count, and returns its bytes and where its frames begin and end.
func written(t *testing.T, dir string, count uint64) (content []byte, ends []int) {
	t.Helper()
	log := open(t, dir)
	ends = []int{magicBytes}
	for index := uint64(1); index <= count; index++ {
		store(t, log, index, index)
		ends = append(ends, int(log.SizeBytes()))
	}
	check(t, log.Close())
	content, err := os.ReadFile(filepath.Join(dir, raftlog.FileName))
	check(t, err)
	if len(content) != ends[count] {
		t.Fatalf("%d bytes after Close, want %d", len(content), ends[count])
	}
	return content, ends
}

func rewrite(t *testing.T, dir string, content []byte) {
	t.Helper()
	check(t, os.WriteFile(filepath.Join(dir, raftlog.FileName), content, 0o600))
}

// stride is how many places a test leaves out of those that it would try: each costs a sync or more.
func stride(t *testing.T) int {
	t.Helper()
	if os.Getenv("ENGINE_TEST") == "" {
		return 5
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

func allZero(b []byte) bool { return len(bytes.TrimRight(b, "\x00")) == 0 }

func TestEntriesSurviveReopening(t *testing.T) {
	dir := t.TempDir()
	log := open(t, dir)
	holds(t, log, 1, 0)
	check(t, log.StoreLogs([]*raft.Log{entry(1), entry(2), entry(3)}))
	store(t, log, 4, 9)
	if err := log.StoreLog(entry(11)); err == nil {
		t.Fatal("a gap was taken")
	}
	holds(t, log, 1, 9)
	check(t, log.Close())
	log = open(t, dir)
	holds(t, log, 1, 9)
	store(t, log, 10, 12)
	holds(t, log, 1, 12)
	if err := log.Close(); err != nil || log.StoreLog(entry(13)) == nil {
		t.Fatal("a closed log takes entries")
	}
}

// TestRanges deletes at either end, in a random order, and opens the log again in between.
func TestRanges(t *testing.T) {
	random := random(t)
	dir := t.TempDir()
	log := open(t, dir)
	from, to := uint64(1), uint64(0)
	for range 120 {
		switch random.IntN(5) {
		case 0, 1:
			count := uint64(1 + random.IntN(20))
			var entries []*raft.Log
			for range count {
				to++
				entries = append(entries, entry(to))
			}
			check(t, log.StoreLogs(entries))
		case 2: // As a snapshot does.
			if to >= from {
				upTo := from + random.Uint64N(to-from+1)
				check(t, log.DeleteRange(from, upTo))
				from = upTo + 1
				if log.Base() != from {
					t.Fatalf("the log begins with %d, want %d", log.Base(), from)
				}
			}
		case 3: // As a new leader does.
			if to > from {
				to -= 1 + random.Uint64N(to-from)
				check(t, log.DeleteRange(to+1, 1<<40))
			}
		case 4:
			check(t, log.Close())
			log = open(t, dir)
		}
		holds(t, log, from, to)
	}
	if to > from+1 {
		if err := log.DeleteRange(from+1, to-1); err == nil {
			t.Fatal("the middle was deleted")
		}
	}
}

// TestLogBeginsEarlierAgain cuts everything off behind a snapshot because it contradicts the leader's log, whose entries take its place.
func TestLogBeginsEarlierAgain(t *testing.T) {
	dir := t.TempDir()
	log := open(t, dir)
	for i := range uint64(6) {
		check(t, log.StoreLogs([]*raft.Log{entry(i + 1)}))
	}
	check(t, log.DeleteRange(1, 4))
	check(t, log.DeleteRange(5, 6))
	check(t, log.StoreLogs([]*raft.Log{entry(5)}))
	holds(t, log, 5, 5)
	check(t, log.Close())
	log = open(t, dir)
	holds(t, log, 5, 5)
	if log.Base() != 5 {
		t.Errorf("the log begins with %d", log.Base())
	}
	// One that begins further on, behind a snapshot of another head, lacks what came before.
	check(t, log.Close())
	dir = t.TempDir()
	log = open(t, dir)
	check(t, log.StoreLogs([]*raft.Log{entry(9)}))
	if log.Base() != 9 {
		t.Errorf("the log begins with %d", log.Base())
	}
	check(t, log.Close())
}

// TestLogCutAnywhere cuts the log at every byte, with and without reserved space behind it: what was synced before that byte is there,
// and new entries are taken.
func TestLogCutAnywhere(t *testing.T) {
	content, ends := written(t, t.TempDir(), 3)
	dir := t.TempDir()
	stride := stride(t)
	for size := random(t).IntN(stride); size < len(content); size += stride {
		whole := uint64(0)
		for whole < 3 && ends[whole+1] <= size {
			whole++
		}
		for _, behind := range []int{0, 5000} {
			rewrite(t, dir, append(bytes.Clone(content[:size]), make([]byte, behind)...))
			if size < magicBytes && behind > 0 && size+behind >= magicBytes {
				continue // No crash leaves that: the first line is synced before there is anything else.
			}
			whole := whole
			if missing := ends[min(whole+1, 3)] - size; missing > 0 && missing <= behind && allZero(content[size:][:missing]) {
				whole++ // What is behind it is what was cut off.
			}
			log := open(t, dir)
			holds(t, log, 1, whole)
			store(t, log, whole+1, whole+2)
			check(t, log.Close())
			log = open(t, dir)
			holds(t, log, 1, whole+2)
			if log.TornBytes() != 0 {
				t.Fatalf("cut at byte %d: %d bytes were still torn after a repair", size, log.TornBytes())
			}
			check(t, log.Close())
		}
	}
}

// TestTornPages writes zeros over parts of the last frame, as a crash of the machine can.
func TestTornPages(t *testing.T) {
	content, ends := written(t, t.TempDir(), 3)
	dir := t.TempDir()
	for from := ends[2]; from < ends[3]; from++ {
		torn := bytes.Clone(content)
		clear(torn[ends[2]:from])
		if from > ends[2] && bytes.Equal(torn, content) {
			continue
		}
		if from == ends[2] {
			torn[from] ^= 1
		}
		rewrite(t, dir, torn)
		log := open(t, dir)
		holds(t, log, 1, 2)
		// What is zero at the end does not count.
		if want := int64(max(0, len(bytes.TrimRight(torn, "\x00"))-ends[2])); log.TornBytes() != want {
			t.Fatalf("%d bytes were cut off, want %d", log.TornBytes(), want)
		}
		check(t, log.Close())
	}
}

// TestDamagedBitIsRefused flips each bit before the last frame in turn: none may pass for a torn end.
func TestDamagedBitIsRefused(t *testing.T) {
	content, ends := written(t, t.TempDir(), 4)
	dir := t.TempDir()
	stride := stride(t)
	for i := random(t).IntN(stride); i < ends[3]*8; i += stride {
		damaged := bytes.Clone(content)
		damaged[i/8] ^= 1 << (i % 8)
		rewrite(t, dir, damaged)
		want := engine.KindCorrupt
		if i/8 < magicBytes {
			want = engine.KindVersion
		}
		log, err := raftlog.Open(dir)
		if err == nil {
			t.Fatalf("bit %d of byte %d is damaged, and %d bytes were cut off", i%8, i/8, log.TornBytes())
		}
		if engine.KindOf(err) != want {
			t.Fatalf("bit %d of byte %d: error %v, want kind %s", i%8, i/8, err, want)
		}
	}
}

func TestDamageNamesItsByte(t *testing.T) {
	dir := t.TempDir()
	content, ends := written(t, dir, 4)
	content[ends[1]+6] ^= 0x40 // The length: the frame claims to end behind the file.
	rewrite(t, dir, content)
	_, err := raftlog.Open(dir)
	want := fmt.Sprintf("record at byte %d is damaged: a whole one follows at byte %d", ends[1], ends[2])
	if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), filepath.Join(dir, raftlog.FileName)) {
		t.Fatalf("error %v, want %q", err, want)
	}
}

// TestFrameInsideAFrame stores the bytes of a log as data: when the frame around them is torn, they are none of the log's own.
func TestFrameInsideAFrame(t *testing.T) {
	content, _ := written(t, t.TempDir(), 3)
	dir := t.TempDir()
	log := open(t, dir)
	store(t, log, 1, 1)
	whole := log.SizeBytes()
	inner := entry(2)
	inner.Data = content
	check(t, log.StoreLog(inner))
	check(t, log.Close())
	outer, err := os.ReadFile(filepath.Join(dir, raftlog.FileName))
	check(t, err)
	outer[len(outer)-1] ^= 1
	rewrite(t, dir, outer)
	log = open(t, dir)
	holds(t, log, 1, 1)
	if log.SizeBytes() != whole {
		t.Fatalf("the log ends at byte %d, want %d", log.SizeBytes(), whole)
	}
}

// TestWholeFramesWithNonsense gives frames with a right checksum that say what no log says.
func TestWholeFramesWithNonsense(t *testing.T) {
	dir := t.TempDir()
	content, _ := written(t, dir, 2)
	for name, payload := range map[string][]byte{
		"kind":              {9, 1},
		"no index":          {1},
		"entry 0":           {1, 0, 0},
		"gap":               {1, 9, 0},
		"ends early":        {1, 3, 1, 0},
		"goes on":           {1, 3, 0, 7},
		"cut of nothing":    {2, 3},
		"cut of everything": {2, 1},
		"late base":         {3, 1},
	} {
		rewrite(t, dir, append(bytes.Clone(content), raftlog.Frame(payload, len(content))...))
		if _, err := raftlog.Open(dir); engine.KindOf(err) != engine.KindCorrupt {
			t.Errorf("%s: error %v, want kind corrupt", name, err)
		}
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
	content, _ := written(t, dir, 2)
	content[magicBytes+14] ^= 1
	rewrite(t, dir, content)
	before := count()
	for range 10 {
		if _, err := raftlog.Open(dir); err == nil || strings.Contains(err.Error(), "invalid argument") {
			t.Fatalf("error %v, want the damage alone", err)
		}
	}
	if after := count(); after >= before+10 {
		t.Fatalf("%d descriptors are open, %d were before", after, before)
	}
}

// limitFiles lets files grow to so many bytes only; restore ends that.
func limitFiles(t *testing.T, bytes int64) (restore func()) {
	t.Helper()
	var limit unix.Rlimit
	check(t, unix.Getrlimit(unix.RLIMIT_FSIZE, &limit))
	small := limit
	small.Cur = uint64(bytes)
	check(t, unix.Setrlimit(unix.RLIMIT_FSIZE, &small))
	restore = func() { check(t, unix.Setrlimit(unix.RLIMIT_FSIZE, &limit)) }
	t.Cleanup(restore)
	return restore
}

// TestFullDiskIsKnownBefore reserves until the disk refuses: what was reserved, and what raft adds by itself, still fits.
func TestFullDiskIsKnownBefore(t *testing.T) {
	dir := t.TempDir()
	log := open(t, dir)
	check(t, log.Reserve(100))
	restore := limitFiles(t, 1<<20)
	if err := log.Reserve(2 << 20); !errors.Is(err, unix.EFBIG) {
		t.Fatalf("error %v, want that of the disk", err)
	}
	index := uint64(0)
	for {
		if err := log.Reserve(1000); err != nil {
			break
		}
		index++
		check(t, log.StoreLog(&raft.Log{Index: index, Data: make([]byte, 900)}))
	}
	for range 10 {
		index++
		check(t, log.StoreLog(entry(index)))
	}
	// Also when the space was not reserved: nothing stays behind, and the log is whole.
	big := &raft.Log{Index: index + 1, Data: make([]byte, 1<<20)}
	if err := log.StoreLog(big); !errors.Is(err, unix.EFBIG) {
		t.Fatalf("error %v, want that of the disk", err)
	}
	restore()
	check(t, log.StoreLog(big))
	check(t, log.Close())
	log = open(t, dir)
	if last, err := log.LastIndex(); err != nil || last != index+1 || log.TornBytes() != 0 {
		t.Fatalf("last entry %d, want %d; %d bytes torn", last, index+1, log.TornBytes())
	}
}

// TestFailedCutLosesNothing fails a cut on either side of its rename.
func TestFailedCutLosesNothing(t *testing.T) {
	broken := errors.New("broken")
	for _, test := range []struct {
		name string
		open func(string) (*os.File, error)
		// goesOn says that the log still takes entries.
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
			log := open(t, dir)
			store(t, log, 1, 9)
			raftlog.ReplaceOpenFolder(t, test.open)
			if err := log.DeleteRange(1, 5); err == nil {
				t.Fatal("no error")
			}
			err := log.StoreLog(entry(10))
			if (err == nil) != test.goesOn || (log.Err() == nil) != test.goesOn {
				t.Fatalf("error %v, log's error %v", err, log.Err())
			}
			from, to := uint64(1), uint64(10)
			if !test.goesOn {
				from, to = 6, 9
			}
			holds(t, log, from, to)
			check(t, log.Close())
			holds(t, open(t, dir), from, to)
		})
	}
}

func TestCreateReplaces(t *testing.T) {
	dir := t.TempDir()
	rewrite(t, dir, []byte("of another time"))
	check(t, raftlog.Create(dir, 7))
	log := open(t, dir)
	holds(t, log, 1, 0)
	if log.Base() != 7 {
		t.Fatalf("it begins with %d, want 7", log.Base())
	}
}

func FuzzOpen(f *testing.F) {
	f.Add([]byte{1, 1, 1, 0, 0, 0, 0, 0})
	f.Add(binary.AppendUvarint([]byte{1}, 1<<63))
	f.Add([]byte{3, 9})
	f.Fuzz(func(t *testing.T, payload []byte) {
		if len(payload) == 0 {
			return
		}
		dir := t.TempDir()
		rewrite(t, dir, append([]byte("engine-head-log 2\n"), raftlog.Frame(payload, magicBytes)...))
		log, err := raftlog.Open(dir)
		if err != nil {
			if engine.KindOf(err) != engine.KindCorrupt {
				t.Fatalf("error %v, want kind corrupt", err)
			}
			return
		}
		first, _ := log.FirstIndex()
		last, _ := log.LastIndex()
		for index := first; index <= last && last > 0; index++ {
			var entry raft.Log
			check(t, log.GetLog(index, &entry))
		}
		check(t, log.Close())
	})
}
