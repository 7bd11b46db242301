package state

import (
	"errors"
	"os"
	"path/filepath"
	"strings"

	"github.com/hashicorp/raft"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/head/state/raftlog"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// keptSnapshots is how many snapshots a folder holds; the newest is used, the one before it is there while a new one is written.
const keptSnapshots = 2

// folder is a data folder that is open: this head's alone.
type folder struct {
	lock      *os.File
	log       *raftlog.Log
	votes     *raftlog.Votes
	snapshots *raft.FileSnapshotStore
	headID    string
	// tornBytes and refusedEntries are what TornBytes and RefusedEntries of the store tell.
	tornBytes      int64
	refusedEntries int
}

// openFolder takes a data folder, brings it to this version, and reads its log. On failure nothing stays open.
func openFolder(config Config, self func(headID string) raft.Configuration, transport raft.Transport) (_ *folder, err error) {
	if err := os.MkdirAll(config.Dir, 0o700); err != nil {
		return nil, raftlog.StorageError("make data folder", config.Dir, err)
	}
	f := &folder{}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.close())
		}
	}()
	if f.lock, err = lockDir(config.Dir); err != nil {
		return nil, err
	}
	if f.headID, err = headID(config.Dir, config.HeadID); err != nil {
		return nil, err
	}
	old, err := f.readOld(config)
	if err != nil {
		return nil, err
	}
	if err := removeUnfinished(config.Dir); err != nil {
		return nil, err
	}
	if f.snapshots, err = raft.NewFileSnapshotStoreWithLogger(config.Dir, keptSnapshots, newRaftLogger(config.Logger)); err != nil {
		return nil, raftlog.StorageError("open snapshots", config.Dir, err)
	}
	if old != nil {
		if err := takeOver(config.Dir, old, f.snapshots, self(f.headID), transport); err != nil {
			return nil, err
		}
	}
	if f.log, err = raftlog.Open(config.Dir); err != nil {
		return nil, err
	}
	f.tornBytes += f.log.TornBytes()
	if f.votes, err = raftlog.OpenVotes(config.Dir); err != nil {
		return nil, err
	}
	if err := f.check(config.Dir); err != nil {
		return nil, err
	}
	if err := f.begin(config, self(f.headID)); err != nil {
		return nil, err
	}
	return f, nil
}

// readOld returns the state that a log of version 1 holds, or nil if the folder has none. What an earlier attempt at taking it over left
// behind is removed.
func (f *folder) readOld(config Config) (*State, error) {
	path := filepath.Join(config.Dir, raftlog.FileName)
	is, err := isVersion1(path)
	if !is || err != nil {
		return nil, err
	}
	if config.Join {
		return nil, ownCluster(config.Dir)
	}
	var old *State
	if old, f.tornBytes, f.refusedEntries, err = readVersion1(path); err != nil {
		return nil, err
	}
	for _, name := range []string{"snapshots", raftlog.VotesName} {
		if err := os.RemoveAll(filepath.Join(config.Dir, name)); err != nil {
			return nil, raftlog.StorageError("take over log", path, err)
		}
	}
	return old, nil
}

// removeUnfinished removes the snapshots that a head was writing when it died, which raft leaves alone for ever.
func removeUnfinished(dir string) error {
	unfinished, err := filepath.Glob(filepath.Join(dir, "snapshots", "*.tmp"))
	if err != nil {
		return raftlog.StorageError("list snapshots", dir, err)
	}
	for _, path := range unfinished {
		if err := os.RemoveAll(path); err != nil {
			return raftlog.StorageError("remove unfinished snapshot", path, err)
		}
	}
	return nil
}

func ownCluster(dir string) error {
	return engine.Errorf(engine.KindConflict, "join cluster", dir, "the data folder is that of a cluster of its own").
		WithHint("give another --data-dir, or start without --join")
}

// check looks whether the log follows the newest snapshot, and whether this version knows all that it holds: raft itself would end the
// process, or begin with a part of the state.
func (f *folder) check(dir string) error {
	snapshots, err := f.snapshots.List()
	if err != nil {
		return raftlog.StorageError("list snapshots", dir, err)
	}
	var last uint64
	if len(snapshots) > 0 {
		last = snapshots[0].Index
	}
	if base := f.log.Base(); base > last+1 {
		return engine.Errorf(engine.KindCorrupt, "read log", dir, "the log begins with entry %d, and the newest readable snapshot ends with entry %d", base, last).
			WithHint("restore the folder %s from a copy, or start with another --data-dir", filepath.Join(dir, "snapshots"))
	}
	first, err := f.log.FirstIndex()
	if err != nil {
		return err
	}
	end, err := f.log.LastIndex()
	if err != nil {
		return err
	}
	for index := max(first, last+1); index <= end; index++ {
		var entry raft.Log
		if err := f.log.GetLog(index, &entry); err != nil {
			return err
		}
		if entry.Type != raft.LogCommand {
			continue
		}
		if err := checkGroup(entry.Data); err != nil {
			return engine.WrapError("read log", dir, err)
		}
	}
	return nil
}

// begin makes this head the only one of a new cluster, if the folder is new.
func (f *folder) begin(config Config, self raft.Configuration) error {
	if config.Join {
		return nil
	}
	exists, err := raft.HasExistingState(f.log, f.votes, f.snapshots)
	if exists || err != nil {
		return err
	}
	// As raft.BootstrapCluster would, with one write that a crash cannot leave half done.
	return f.log.StoreLog(&raft.Log{Index: 1, Term: 1, Type: raft.LogConfiguration, Data: raft.EncodeConfiguration(self)})
}

func (f *folder) close() error {
	var errs []error
	if f.log != nil {
		errs = append(errs, f.log.Close())
	}
	if f.votes != nil {
		errs = append(errs, f.votes.Close())
	}
	if f.lock != nil {
		errs = append(errs, f.lock.Close())
	}
	return errors.Join(errs...)
}

func lockDir(dir string) (*os.File, error) {
	path := filepath.Join(dir, "lock")
	lock, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, raftlog.StorageError("lock data folder", dir, err)
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		closeErr := lock.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, engine.Errorf(engine.KindConflict, "lock data folder", dir, "another head uses it").
				WithHint("stop that one with `engine stop --data-dir %s`, or give another --data-dir", dir)
		}
		return nil, errors.Join(raftlog.StorageError("lock data folder", dir, err), closeErr)
	}
	return lock, nil
}

// headID returns the id that the folder holds, after it was made if there was none.
func headID(dir, wanted string) (string, error) {
	path := filepath.Join(dir, "head.id")
	content, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", raftlog.StorageError("read head's id", path, err)
	}
	id := strings.TrimSpace(string(content))
	switch {
	case id == "":
	case wanted != "" && id != wanted:
		return "", engine.Errorf(engine.KindConflict, "read head's id", path, "the folder is that of head %s, not of %s", id, wanted)
	default:
		return id, nil
	}
	if id = wanted; id == "" {
		id = newHeadID()
	}
	// Renamed into place, so that a crash leaves all of it or nothing.
	if err := os.WriteFile(path+".new", []byte(id+"\n"), 0o600); err != nil {
		return "", raftlog.StorageError("write head's id", path, err)
	}
	if err := syncFile(path + ".new"); err != nil {
		return "", err
	}
	if err := os.Rename(path+".new", path); err != nil {
		return "", raftlog.StorageError("write head's id", path, err)
	}
	return id, raftlog.SyncDir(dir)
}

func syncFile(path string) error {
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return raftlog.StorageError("sync file", path, err)
	}
	return raftlog.StorageError("sync file", path, errors.Join(file.Sync(), file.Close()))
}

// facts are the numbers of the fields of a LogEntry that this version knows.
var facts = func() map[protowire.Number]bool {
	known := map[protowire.Number]bool{}
	fields := (&enginev1.LogEntry{}).ProtoReflect().Descriptor().Fields()
	for i := range fields.Len() {
		known[fields.Get(i).Number()] = fields.Get(i).ContainingOneof() != nil
	}
	return known
}()

// checkGroup returns why this version cannot apply a group, as far as that can be said without decoding it.
func checkGroup(data []byte) error {
	return eachField(data, func(number protowire.Number, entry []byte) error {
		if number != 2 {
			return nil
		}
		known := false
		if err := eachField(entry, func(number protowire.Number, _ []byte) error {
			known = known || facts[number]
			return nil
		}); err != nil || known {
			return err
		}
		return engine.Errorf(engine.KindVersion, "read log", "", "it holds an entry of a kind that this version does not know").
			WithHint("the data folder belongs to a newer version of engine: use that one, or another --data-dir")
	})
}

// eachField calls f for each field of a message, with its bytes if it has a length.
func eachField(message []byte, f func(protowire.Number, []byte) error) error {
	for len(message) > 0 {
		number, kind, n := protowire.ConsumeTag(message)
		if n < 0 {
			return engine.Errorf(engine.KindCorrupt, "read log", "", "%w", protowire.ParseError(n))
		}
		var value []byte
		length := protowire.ConsumeFieldValue(number, kind, message[n:])
		if length < 0 {
			return engine.Errorf(engine.KindCorrupt, "read log", "", "%w", protowire.ParseError(length))
		}
		if kind == protowire.BytesType {
			value, _ = protowire.ConsumeBytes(message[n:])
		}
		if err := f(number, value); err != nil {
			return err
		}
		message = message[n+length:]
	}
	return nil
}
