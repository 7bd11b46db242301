package audit_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/internal/security/audit"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// write makes a log of n lines in small files.
func write(t *testing.T, dir string, n int) {
	t.Helper()
	log, err := audit.Open(audit.Config{Dir: dir, RotateBytes: 2000})
	check(t, err)
	for i := range n {
		check(t, log.Allowed(t.Context(), audit.Event{Who: "w", Call: "/a/b", Target: fmt.Sprint("job ", i)}))
	}
	check(t, log.Close())
}

func verify(t *testing.T, dir string, noted *audit.Noted) (audit.Report, error) {
	t.Helper()
	return audit.Verify(t.Context(), dir, noted, nil)
}

func TestLog(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "audit")
	write(t, dir, 20)
	first, err := verify(t, dir, nil)
	check(t, err)
	files, err := audit.Files(dir)
	check(t, err)
	if first.Lines != 20 || first.First != 1 || first.Last != 20 || len(files) < 3 || first.Torn != 0 || first.End.Before(first.Begin) {
		t.Errorf("%+v in %d files", first, len(files))
	}
	for _, path := range append(files, dir) {
		info, err := os.Stat(path)
		check(t, err)
		if info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
	}
	// It goes on where it was, also for who has noted a line.
	write(t, dir, 5)
	report, err := verify(t, dir, &audit.Noted{Number: first.Last, Hash: first.Hash})
	check(t, err)
	if report.Last != 25 {
		t.Errorf("%+v", report)
	}
	if _, err := verify(t, dir, &audit.Noted{Number: 20, Hash: report.Hash}); engine.KindOf(err) != engine.KindCorrupt {
		t.Errorf("another line 20: %v", err)
	}
	if _, err := verify(t, dir, &audit.Noted{Number: 26, Hash: report.Hash}); engine.KindOf(err) != engine.KindCorrupt {
		t.Errorf("a log whose end was cut off: %v", err)
	}
	// Old files may go.
	check(t, os.Remove(files[0]))
	report, err = verify(t, dir, nil)
	check(t, err)
	if report.First < 2 || report.Last != 25 {
		t.Errorf("%+v", report)
	}
	if _, err := verify(t, t.TempDir(), nil); engine.KindOf(err) != engine.KindNotFound {
		t.Errorf("no log: %v", err)
	}
}

// TestAnyChangeIsFound changes, leaves out, doubles, and swaps lines, and bytes at random.
func TestAnyChangeIsFound(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "audit")
	write(t, dir, 30)
	files, err := audit.Files(dir)
	check(t, err)
	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 0))
	t.Logf("seed %d", seed)
	for round := range 400 {
		path := files[random.IntN(len(files))]
		whole, err := os.ReadFile(path)
		check(t, err)
		lines := bytes.SplitAfter(bytes.TrimSuffix(whole, []byte("\n")), []byte("\n"))
		lines[len(lines)-1] = append(bytes.Clone(lines[len(lines)-1]), '\n')
		last := path == files[len(files)-1]
		i := random.IntN(len(lines))
		var changed []byte
		var what string
		switch random.IntN(4) {
		case 0:
			what = "a byte"
			changed = bytes.Clone(whole)
			at := random.IntN(len(changed))
			if changed[at] == '\n' {
				continue
			}
			changed[at] ^= byte(1 + random.IntN(255))
		case 1:
			what = "left out"
			if last && i == len(lines)-1 {
				continue // Only who has noted it can know.
			}
			if path == files[0] && i == 0 {
				continue // As if it were an old file.
			}
			changed = bytes.Join(append(append([][]byte{}, lines[:i]...), lines[i+1:]...), nil)
		case 2:
			what = "doubled"
			changed = bytes.Join(append(append([][]byte{}, lines[:i+1]...), lines[i:]...), nil)
		default:
			what = "swapped"
			j := random.IntN(len(lines))
			if i == j {
				continue
			}
			other := append([][]byte{}, lines...)
			other[i], other[j] = other[j], other[i]
			changed = bytes.Join(other, nil)
		}
		check(t, os.WriteFile(path, changed, 0o600))
		if _, err := verify(t, dir, nil); engine.KindOf(err) != engine.KindCorrupt || !strings.Contains(err.Error(), ".jsonl") {
			t.Errorf("round %d: %s in line %d of %s: %v", round, what, i+1, filepath.Base(path), err)
		}
		check(t, os.WriteFile(path, whole, 0o600))
	}
	_, err = verify(t, dir, nil)
	check(t, err)
}

func TestCrash(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "audit")
	write(t, dir, 3)
	files, err := audit.Files(dir)
	check(t, err)
	last := files[len(files)-1]
	whole, err := os.ReadFile(last)
	check(t, err)
	check(t, os.WriteFile(last, append(bytes.Clone(whole), []byte(`{"n":4,"ti`)...), 0o600))
	report, err := verify(t, dir, nil)
	check(t, err)
	if report.Torn != 10 {
		t.Errorf("%+v", report)
	}
	write(t, dir, 1)
	var texts []string
	_, err = audit.Verify(t.Context(), dir, nil, func(e audit.Entry) error {
		texts = append(texts, e.Reason)
		return nil
	})
	check(t, err)
	if len(texts) != 5 || !strings.Contains(texts[3], "10 bytes was cut off") {
		t.Errorf("%q", texts)
	}
	// A file that was begun when it crashed.
	check(t, os.WriteFile(filepath.Join(dir, "audit-00000000000000000006.jsonl"), nil, 0o600))
	write(t, dir, 1)
	report, err = verify(t, dir, nil)
	check(t, err)
	if report.Last != 6 {
		t.Errorf("%+v", report)
	}
	// What is no entry is no end to go on from.
	check(t, os.WriteFile(filepath.Join(dir, "audit-00000000000000000009.jsonl"), []byte("{}\n"), 0o600))
	if _, err := audit.Open(audit.Config{Dir: dir}); engine.KindOf(err) != engine.KindCorrupt {
		t.Errorf("a broken end: %v", err)
	}
}

func TestManyAtOnce(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "audit")
	now := time.Unix(1000, 0)
	log, err := audit.Open(audit.Config{Dir: dir, RefusalsPerSecond: 10, Now: func() time.Time { return now }})
	check(t, err)
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			for range 50 {
				if err := log.Allowed(context.Background(), audit.Event{Who: strings.Repeat("ü", 1000), Call: "c"}); err != nil {
					t.Error(err)
				}
				log.Refused(audit.Event{Who: "x\n\"", Call: "c", Reason: "\x00\xff"})
			}
		})
	}
	group.Wait()
	now = now.Add(time.Second)
	log.Refused(audit.Event{Who: "last", Call: "c"})
	check(t, errors.Join(log.Close(), log.Close()))
	if err := log.Allowed(context.Background(), audit.Event{}); engine.KindOf(err) != engine.KindUnavailable {
		t.Errorf("a log that is closed: %v", err)
	}
	var allowed, refused int
	var repeated int64
	_, err = audit.Verify(t.Context(), dir, nil, func(e audit.Entry) error {
		if e.Allowed {
			allowed++
		} else {
			refused++
			repeated += e.Repeated
		}
		return nil
	})
	check(t, err)
	if allowed != 400 || refused != 11 || repeated != 390 {
		t.Errorf("%d allowed, %d refused, and %d more", allowed, refused, repeated)
	}
}

// TestFullDisk refuses what it cannot write down, and goes on when there is room.
func TestFullDisk(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "audit")
	var troubles int
	log, err := audit.Open(audit.Config{Dir: dir, RotateBytes: 1, Trouble: func(error) { troubles++ }})
	check(t, err)
	check(t, log.Allowed(t.Context(), audit.Event{Who: "a", Call: "c"}))
	// The next file cannot be made.
	blocked := filepath.Join(dir, "audit-00000000000000000002.jsonl")
	check(t, os.Mkdir(blocked, 0o700))
	if err := log.Allowed(t.Context(), audit.Event{Who: "b", Call: "c"}); engine.KindOf(err) != engine.KindExhausted {
		t.Errorf("%v", err)
	}
	check(t, os.Remove(blocked))
	check(t, log.Allowed(t.Context(), audit.Event{Who: "c", Call: "c"}))
	check(t, log.Close())
	report, err := verify(t, dir, nil)
	check(t, err)
	if report.Last != 2 || troubles != 1 {
		t.Errorf("%+v, %d troubles", report, troubles)
	}
	var none *audit.Log
	check(t, errors.Join(none.Allowed(t.Context(), audit.Event{}), none.Close()))
	none.Refused(audit.Event{})
}

func FuzzVerify(f *testing.F) {
	f.Add([]byte("{}\n"))
	f.Add([]byte(`{"n":1,"time":"2026-01-01T00:00:00Z","who":"a","call":"b","allowed":true,"previous":"","hash":""}` + "\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		dir := t.TempDir()
		check(t, os.WriteFile(filepath.Join(dir, "audit-00000000000000000001.jsonl"), text, 0o600))
		_, err := verify(t, dir, nil)
		if kind := engine.KindOf(err); err != nil && kind != engine.KindCorrupt {
			t.Errorf("%v", err)
		}
	})
}
