// Package raftlog keeps a head's raft log and its votes on disk: Log is raft's LogStore, Votes its StableStore.
//
// A log is one file: a line that names its format, then frames, each of which was written and synced by itself. What follows the last
// frame is zeros, reserved so that a full disk is known before raft has taken an entry. A frame at the end that is cut short or fails
// its checksum was being written when the head was killed: nobody was told that it is there, and it is dropped. A bad frame with a
// whole one behind it is damage, and the log is refused by name and byte: whatever is behind a frame was written after it was durable.
package raftlog

import (
	"errors"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"

	"github.com/hashicorp/raft"

	"github.com/f708428e/engine"
)

// FileName is the log's name in its folder.
const FileName = "head.log"

// slackBytes is kept free beyond what Reserve was asked for, for the entries that raft adds by itself.
const slackBytes = 16 << 10

// Log is a raft log in a file. It is safe for concurrent use. Its entries have no gaps.
type Log struct {
	dir, path string
	// writing is held by the one that changes the file. Whoever holds it may read what mu guards without mu.
	writing sync.Mutex
	// endBytes is where the next frame goes, reservedBytes the length of the file; sizeBytes is endBytes for others.
	endBytes, reservedBytes int64
	sizeBytes               atomic.Int64
	failed                  error
	buffer                  []byte
	closed                  bool
	tornBytes               int64

	// mu guards the file's identity and the index, and is held for reading while an entry is read: the file must not be replaced then.
	mu    sync.RWMutex
	file  *os.File
	first uint64
	// base is the index of the first entry that the log was ever meant to hold since it was last cut.
	base uint64
	// places says where the entries from first on are.
	places []place
}

// place is where one entry is in the file.
type place struct {
	offset int64
	length int64
}

var (
	_ raft.LogStore          = (*Log)(nil)
	_ raft.MonotonicLogStore = (*Log)(nil)
)

// Open opens or makes the log in dir, checks every frame, and cuts a torn one off.
func Open(dir string) (_ *Log, err error) {
	path := filepath.Join(dir, FileName)
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, StorageError("open log", path, err)
	}
	l := &Log{dir: dir, path: path, file: file, base: 1}
	defer func() {
		if err != nil {
			err = errors.Join(err, file.Close())
		}
	}()
	info, err := file.Stat()
	if err != nil {
		return nil, StorageError("open log", path, err)
	}
	if info.Size() < int64(len(magic)) {
		if err := l.start(); err != nil {
			return nil, err
		}
		return l, nil
	}
	if err := l.scan(info.Size()); err != nil {
		return nil, err
	}
	if err := l.cutBack(); err != nil {
		return nil, err
	}
	l.sizeBytes.Store(l.endBytes)
	return l, nil
}

// Create puts an empty log, whose entries begin with index base, in the place of whatever file has its name in dir. A crash leaves the
// one or the other.
func Create(dir string, base uint64) error {
	file, _, err := replace(dir, base, nil)
	if file == nil {
		return err
	}
	return errors.Join(err, StorageError("make log", file.Name(), file.Close()))
}

// start writes the first line of a new log. A shorter file is one whose maker was killed before that.
func (l *Log) start() error {
	err := l.file.Truncate(0)
	if err == nil {
		_, err = l.file.WriteAt([]byte(magic), 0)
	}
	if err == nil {
		err = l.file.Sync()
	}
	if err != nil {
		return StorageError("start log", l.path, err)
	}
	l.endBytes, l.reservedBytes = int64(len(magic)), int64(len(magic))
	l.sizeBytes.Store(l.endBytes)
	return SyncDir(l.dir)
}

// TornBytes is how many bytes of an unfinished frame Open cut off.
func (l *Log) TornBytes() int64 { return l.tornBytes }

// SizeBytes is how long the log is, without what is reserved. It never waits.
func (l *Log) SizeBytes() int64 { return l.sizeBytes.Load() }

// Base is the index before which nothing is missing in the log: what came earlier was cut off because a snapshot has it. It is 1 in a
// log that was never cut.
func (l *Log) Base() uint64 {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if len(l.places) > 0 {
		return l.first // A log that was empty may go on further on, behind a snapshot of another head.
	}
	return l.base
}

// Err returns the failure after which the log takes nothing more, or nil.
func (l *Log) Err() error {
	l.writing.Lock()
	defer l.writing.Unlock()
	return l.failed
}

// IsMonotonic implements raft.MonotonicLogStore.
func (l *Log) IsMonotonic() bool { return true }

// FirstIndex implements raft.LogStore.
func (l *Log) FirstIndex() (uint64, error) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if len(l.places) == 0 {
		return 0, nil
	}
	return l.first, nil
}

// LastIndex implements raft.LogStore.
func (l *Log) LastIndex() (uint64, error) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.lastIndex(), nil
}

func (l *Log) lastIndex() uint64 {
	if len(l.places) == 0 {
		return 0
	}
	return l.first + uint64(len(l.places)) - 1
}

// GetLog implements raft.LogStore. An index that is not there is raft.ErrLogNotFound.
func (l *Log) GetLog(index uint64, entry *raft.Log) error {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if len(l.places) == 0 || index < l.first || index > l.lastIndex() {
		return raft.ErrLogNotFound
	}
	at := l.places[index-l.first]
	bytes := make([]byte, at.length)
	if _, err := l.file.ReadAt(bytes, at.offset); err != nil {
		return StorageError("read log", l.path, err)
	}
	entry.Index = index
	if rest, ok := decodeEntry(bytes, entry); !ok || len(rest) != 0 {
		return engine.Errorf(engine.KindCorrupt, "read log", l.path, "entry %d at byte %d is damaged", index, at.offset)
	}
	return nil
}

// StoreLog implements raft.LogStore.
func (l *Log) StoreLog(entry *raft.Log) error { return l.StoreLogs([]*raft.Log{entry}) }

// StoreLogs implements raft.LogStore: all entries become durable with one sync, or none is there. They must follow the last one.
func (l *Log) StoreLogs(entries []*raft.Log) error {
	if len(entries) == 0 {
		return nil
	}
	l.writing.Lock()
	defer l.writing.Unlock()
	first := entries[0].Index
	if last := l.lastIndex(); last != 0 && first != last+1 {
		return engine.Errorf(engine.KindInternal, "write log", l.path, "entry %d does not follow entry %d", first, last)
	}
	if first < l.base {
		// All was cut off because it contradicted the leader's log, which goes on in its place.
		if err := l.beginAt(first); err != nil {
			return err
		}
	}
	frame := startEntries(l.buffer[:0], first, len(entries))
	places := make([]place, len(entries))
	for i, entry := range entries {
		start := len(frame)
		frame = appendEntry(frame, entry)
		places[i] = place{offset: l.endBytes + int64(start), length: int64(len(frame) - start)}
	}
	if err := l.write(frame); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.places) == 0 {
		l.first = first
	}
	l.places = append(l.places, places...)
	return nil
}

// write finishes a frame, appends it, and syncs; writing is held. After a failure that may have left a part of the frame behind, the
// log is cut back; if even that fails, every further write fails with the first error.
func (l *Log) write(frame []byte) error {
	if l.buffer = frame; cap(frame) > 4<<20 {
		l.buffer = nil
	}
	if l.failed != nil {
		return l.failed
	}
	if err := finish(frame, l.endBytes); err != nil {
		return err
	}
	if err := l.reserve(l.endBytes + int64(len(frame))); err != nil {
		return err
	}
	_, err := l.file.WriteAt(frame, l.endBytes)
	if err == nil {
		err = syncData(l.file)
	}
	if err == nil {
		l.endBytes += int64(len(frame))
		l.sizeBytes.Store(l.endBytes)
		return nil
	}
	err = StorageError("write log", l.path, err)
	// After a failed sync the kernel may have dropped the pages: what is on the disk is unknown until it is cut back.
	if repairErr := l.cutBack(); repairErr != nil {
		l.failed = errors.Join(err, repairErr)
	}
	return err
}

// cutBack makes the file end with its last frame.
func (l *Log) cutBack() error {
	if err := l.file.Truncate(l.endBytes); err != nil {
		return StorageError("cut log back", l.path, err)
	}
	l.reservedBytes = l.endBytes
	return StorageError("cut log back", l.path, l.file.Sync())
}

// Reserve makes room for entries of so many bytes in all. Without an error, storing them does not fail for want of space.
func (l *Log) Reserve(bytes int) error {
	l.writing.Lock()
	defer l.writing.Unlock()
	if l.failed != nil {
		return l.failed
	}
	return l.reserve(l.endBytes + int64(bytes) + slackBytes)
}

func (l *Log) reserve(upTo int64) error {
	if upTo <= l.reservedBytes {
		return nil
	}
	// Ever more at a time, since each growth costs a sync more than what is already there.
	generous := upTo + min(max(l.reservedBytes/4, 64<<10), 4<<20)
	for _, size := range []int64{generous, upTo} {
		err := extend(l.file, l.reservedBytes, size)
		if err == nil {
			l.reservedBytes = size
			return nil
		}
		if size == upTo {
			return StorageError("write log", l.path, err)
		}
	}
	return nil
}

// DeleteRange implements raft.LogStore. The range must reach to one end of the log.
func (l *Log) DeleteRange(from, to uint64) error {
	l.writing.Lock()
	defer l.writing.Unlock()
	if l.failed != nil {
		return l.failed
	}
	last := l.lastIndex()
	switch {
	case len(l.places) == 0 || to < l.first || from > last || from > to:
		return nil
	case from > l.first && to >= last:
		if err := l.write(cutFrame(l.buffer[:0], from)); err != nil {
			return err
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		l.places = l.places[:from-l.first]
		return nil
	case from > l.first:
		return engine.Errorf(engine.KindInternal, "cut log", l.path, "entries %d to %d are in the middle of %d to %d", from, to, l.first, last)
	}
	kept := l.places[min(to+1-l.first, uint64(len(l.places))):]
	return l.rewrite(to+1, l.copies(to+1, kept))
}

// beginAt makes the empty log one whose first entry is that of an index; writing is held.
func (l *Log) beginAt(index uint64) error {
	if l.failed != nil {
		return l.failed
	}
	return l.rewrite(index, nil)
}

// rewrite puts a log that begins with an index, and holds what fill writes, in this one's place; writing is held.
func (l *Log) rewrite(begin uint64, fill func(file *os.File, offset int64) ([]place, error)) error {
	file, places, err := replace(l.dir, begin, fill)
	if file == nil {
		return err
	}
	// With an error, nobody knows which of the two files a crash of the machine leaves: what is durable is in both as long as nothing is
	// added.
	l.failed = err
	info, statErr := file.Stat()
	if statErr != nil {
		l.failed = errors.Join(l.failed, StorageError("cut log", l.path, statErr))
	} else {
		l.endBytes, l.reservedBytes = info.Size(), info.Size()
		l.sizeBytes.Store(l.endBytes)
	}
	l.mu.Lock()
	old := l.file
	l.file, l.first, l.base, l.places = file, begin, begin, places
	l.mu.Unlock()
	return errors.Join(l.failed, StorageError("cut log", l.path, old.Close()))
}

// Close gives back what was reserved, and closes the file.
func (l *Log) Close() error {
	l.writing.Lock()
	defer l.writing.Unlock()
	if l.closed {
		return nil
	}
	l.closed = true
	var err error
	if l.failed == nil {
		err = StorageError("close log", l.path, l.file.Truncate(l.endBytes))
	}
	l.failed = errors.Join(l.failed, engine.Errorf(engine.KindUnavailable, "write log", l.path, "it is closed"))
	return errors.Join(err, StorageError("close log", l.path, l.file.Close()))
}
