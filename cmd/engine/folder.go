package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/f708428e/engine"
)

// The files of the command line in a data folder. The head keeps its own beside them.
const (
	pidFile = "engine.pid"
	logFile = "engine.log"
)

// pidRecord is what the pid file of a data folder says while its process lives.
type pidRecord struct {
	PID int `json:"pid"`
	// StartTicks is when the process started, as /proc tells it; 0 where there is no /proc. With the pid it names a process
	// for as long as the machine is up.
	StartTicks uint64 `json:"start_ticks"`
	StartTime  string `json:"start_time"`
	// Role is head, worker, or run.
	Role    string `json:"role"`
	Address string `json:"address"`
}

// dataFolder is a data folder that this process, or the one that it starts, has for itself: whoever holds the lock of the pid
// file. The lock ends with the last process that has the file open, so it cannot outlive its owner.
type dataFolder struct {
	path string
	lock *os.File
}

// claimFolder makes the folder and takes it. A folder that another process has is a conflict that names it.
func claimFolder(ctx context.Context, path string) (*dataFolder, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, engine.Errorf(engine.KindInvalidArgument, "open data folder", path, "%w", err)
	}
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, engine.Errorf(engine.KindInvalidArgument, "open data folder", "", "%w", err).WithHint("--data-dir names another folder")
	}
	file, err := os.OpenFile(filepath.Join(path, pidFile), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, engine.Errorf(engine.KindInvalidArgument, "open data folder", "", "%w", err).WithHint("--data-dir names another folder")
	}
	// A command that looks whether a node runs holds the lock for an instant, without a record.
	const looks = 5
	for try := 0; ; try++ {
		if err = unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB); err == nil || try == looks || readRecord(file).PID != 0 {
			break
		}
		if pause(ctx) != nil {
			break
		}
	}
	if err != nil {
		record := readRecord(file)
		_ = file.Close() // nothing was written
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return nil, engine.Errorf(engine.KindInvalidArgument, "lock data folder", path, "%w", err)
		}
		owner := "another process"
		if record.PID != 0 {
			owner = "a " + record.Role + " with pid " + strconv.Itoa(record.PID)
		}
		return nil, engine.Errorf(engine.KindConflict, "open data folder", path, "%s uses it", owner).
			WithHint("`engine stop --data-dir %s` stops that process; --data-dir names another folder", path)
	}
	if !sameFile(file, filepath.Join(path, pidFile)) {
		// The folder was pruned between the opening and the lock: what is locked has no name any more.
		_ = file.Close() // nothing was written
		return claimFolder(ctx, path)
	}
	return &dataFolder{path: path, lock: file}, nil
}

// sameFile tells whether an open file is still the one at path.
func sameFile(file *os.File, path string) bool {
	open, err := file.Stat()
	if err != nil {
		return false
	}
	named, err := os.Stat(path)
	return err == nil && os.SameFile(open, named)
}

// record writes into the pid file who owns the folder.
func (f *dataFolder) record(role, address string, now time.Time) error {
	text, err := json.Marshal(pidRecord{
		PID: os.Getpid(), StartTicks: startTicks(os.Getpid()), StartTime: now.UTC().Format(time.RFC3339), Role: role, Address: address,
	})
	if err == nil {
		err = f.lock.Truncate(0)
	}
	if err == nil {
		_, err = f.lock.WriteAt(append(text, '\n'), 0)
	}
	if err != nil {
		return engine.Errorf(engine.KindExhausted, "write pid file", f.lock.Name(), "%w", err)
	}
	return nil
}

// release gives the folder back. The file stays: removing it could remove the lock of a process that came in between.
func (f *dataFolder) release() {
	_ = f.lock.Truncate(0) // a record that stays is recognized as stale by its lock
	_ = f.lock.Close()     // nothing is buffered
}

// owner returns who has the folder now, or false if nobody has. A process that is just starting has not written its pid yet.
func owner(path string) (pidRecord, bool, error) {
	file, err := os.Open(filepath.Join(path, pidFile))
	if errors.Is(err, os.ErrNotExist) {
		return pidRecord{}, false, nil
	}
	if err != nil {
		return pidRecord{}, false, engine.Errorf(engine.KindInvalidArgument, "open data folder", "", "%w", err)
	}
	defer func() { _ = file.Close() }() // read only
	switch err := unix.Flock(int(file.Fd()), unix.LOCK_SH|unix.LOCK_NB); {
	case err == nil:
		return pidRecord{}, false, nil
	case !errors.Is(err, unix.EWOULDBLOCK):
		return pidRecord{}, false, engine.Errorf(engine.KindInvalidArgument, "lock data folder", path, "%w", err)
	}
	return readRecord(file), true, nil
}

func readRecord(file *os.File) pidRecord {
	var record pidRecord
	buffer := make([]byte, 4096)
	n, _ := file.ReadAt(buffer, 0) // a short file ends in io.EOF
	if json.Unmarshal(buffer[:n], &record) != nil {
		return pidRecord{}
	}
	return record
}

// startTicks is when a process started, in clock ticks since the machine did; 0 if it is not there or the system has no /proc.
func startTicks(pid int) uint64 {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0
	}
	// The program's name, in parentheses, may hold spaces and parentheses itself; the start is the 22nd field, the 20th after it.
	after := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	if len(after) < 20 {
		return 0
	}
	ticks, _ := strconv.ParseUint(after[19], 10, 64) // no number: not known
	return ticks
}

// How many folders of ended runs are kept: those of runs with a submission id can be resumed and remember what is done, the
// others are records alone.
const (
	keptRuns      = 100
	keptNamedRuns = 1000

	freshPrefix = "run-"
	namedPrefix = "id-"
)

// runFolder returns the data folder of a run: the same for the same submission id, a new one without.
func runFolder(cache, submissionID string, now time.Time) string {
	if submissionID == "" {
		return filepath.Join(cache, "engine", "runs", freshPrefix+string(engine.NewJobID(now)))
	}
	name := namedPrefix + url.PathEscape(submissionID)
	if len(name) > 200 {
		sum := sha256.Sum256([]byte(submissionID))
		name = namedPrefix + "sha256-" + hex.EncodeToString(sum[:])
	}
	return filepath.Join(cache, "engine", "runs", name)
}

// pruneRuns removes the oldest run folders beyond what is kept. One that a process has is never removed. What cannot be removed
// stays: it is tried again by the next run.
func pruneRuns(ctx context.Context, runs string, fresh, named int) {
	entries, err := os.ReadDir(runs)
	if err != nil {
		return
	}
	for prefix, keep := range map[string]int{freshPrefix: fresh, namedPrefix: named} {
		type run struct {
			path string
			used time.Time
		}
		var all []run
		for _, e := range entries {
			path := filepath.Join(runs, e.Name())
			// The pid file is written at the start of each run of the folder.
			if info, err := os.Stat(filepath.Join(path, pidFile)); err == nil && e.IsDir() && strings.HasPrefix(e.Name(), prefix) {
				all = append(all, run{path, info.ModTime()})
			}
		}
		slices.SortFunc(all, func(a, b run) int { return b.used.Compare(a.used) })
		for _, r := range all[min(keep, len(all)):] {
			folder, err := claimFolder(ctx, r.path)
			if err != nil {
				continue
			}
			_ = os.RemoveAll(r.path) // tried again by the next run
			_ = folder.lock.Close()  // the file is gone
		}
	}
}
