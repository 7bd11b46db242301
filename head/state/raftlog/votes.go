package raftlog

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/hashicorp/raft"

	"github.com/f708428e/engine"
)

// VotesName is the name of the file of votes in its folder.
const VotesName = "head.votes"

// Votes keeps the few values that raft must not forget: the term, and for whom this head voted. They are in a file of fixed size, as
// two slots that are written in turn: a full disk cannot keep a head from voting, and a torn write leaves the slot before. It is safe
// for concurrent use.
type Votes struct {
	path string

	mu      sync.Mutex // Also held while the file is written: a value that is not durable must not be seen.
	file    *os.File
	values  map[string][]byte
	version uint64
}

var _ raft.StableStore = (*Votes)(nil)

// A slot is a version (8 bytes, little endian), the length of what follows the head (4 bytes), the CRC-32C of all the rest (4 bytes),
// and pairs of a name and a value with their lengths.
const (
	slotBytes = 4096
	slotHead  = 16
)

// errNotFound is what raft expects for a value that was never set: it compares the text.
var errNotFound = errors.New("not found")

// OpenVotes opens or makes the file of votes in dir.
func OpenVotes(dir string) (_ *Votes, err error) {
	path := filepath.Join(dir, VotesName)
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, StorageError("open votes", path, err)
	}
	v := &Votes{path: path, file: file, values: map[string][]byte{}}
	defer func() {
		if err != nil {
			err = errors.Join(err, file.Close())
		}
	}()
	content := make([]byte, 2*slotBytes)
	n, err := file.ReadAt(content, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, StorageError("read votes", path, err)
	}
	for i := range 2 {
		version, values, ok := decodeSlot(content[i*slotBytes:][:slotBytes])
		if ok && version > v.version {
			v.version, v.values = version, values
		}
	}
	if v.version > 0 {
		return v, nil
	}
	// A file whose maker was killed holds at most the first half of a first slot.
	if len(bytes.TrimRight(content[slotBytes:], "\x00")) > 0 {
		return nil, engine.Errorf(engine.KindCorrupt, "read votes", path, "neither of its two slots is whole").
			WithHint("restore the file from a copy, or start with another --data-dir")
	}
	if n < len(content) {
		if _, err := file.WriteAt(make([]byte, len(content)), 0); err != nil {
			return nil, StorageError("make votes", path, err)
		}
		if err := file.Sync(); err != nil {
			return nil, StorageError("make votes", path, err)
		}
		return v, SyncDir(dir)
	}
	return v, nil
}

func decodeSlot(slot []byte) (version uint64, values map[string][]byte, ok bool) {
	version = binary.LittleEndian.Uint64(slot)
	length := binary.LittleEndian.Uint32(slot[8:])
	if version == 0 || length > slotBytes-slotHead {
		return 0, nil, false
	}
	rest := slot[slotHead : slotHead+length]
	if slotChecksum(slot[:12], rest) != binary.LittleEndian.Uint32(slot[12:]) {
		return 0, nil, false
	}
	values = map[string][]byte{}
	for len(rest) > 0 {
		var pair [2][]byte
		for i := range pair {
			length, after, ok := uvarint(rest)
			if !ok || length > uint64(len(after)) {
				return 0, nil, false
			}
			pair[i], rest = bytes.Clone(after[:length]), after[length:]
		}
		values[string(pair[0])] = pair[1]
	}
	return version, values, true
}

func slotChecksum(head, rest []byte) uint32 {
	return crc32.Update(crc32.Checksum(head, castagnoli), castagnoli, rest)
}

// Get implements raft.StableStore.
func (v *Votes) Get(key []byte) ([]byte, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	value, ok := v.values[string(key)]
	if !ok {
		return nil, errNotFound
	}
	return bytes.Clone(value), nil
}

// GetUint64 implements raft.StableStore.
func (v *Votes) GetUint64(key []byte) (uint64, error) {
	value, err := v.Get(key)
	if err != nil {
		return 0, err
	}
	if len(value) != 8 {
		return 0, engine.Errorf(engine.KindCorrupt, "read votes", v.path, "%q is no number", key)
	}
	return binary.LittleEndian.Uint64(value), nil
}

// SetUint64 implements raft.StableStore.
func (v *Votes) SetUint64(key []byte, value uint64) error {
	return v.Set(key, binary.LittleEndian.AppendUint64(nil, value))
}

// Set implements raft.StableStore: the value is durable when it returns nil.
func (v *Votes) Set(key, value []byte) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if known, ok := v.values[string(key)]; ok && bytes.Equal(known, value) {
		return nil
	}
	values := maps.Clone(v.values)
	values[string(key)] = bytes.Clone(value)
	slot := make([]byte, slotHead, slotBytes)
	for _, name := range slices.Sorted(maps.Keys(values)) {
		slot = append(binary.AppendUvarint(slot, uint64(len(name))), name...)
		slot = append(binary.AppendUvarint(slot, uint64(len(values[name]))), values[name]...)
	}
	if len(slot) > slotBytes {
		return engine.Errorf(engine.KindExhausted, "write votes", v.path, "%d bytes are over the limit of %d", len(slot), slotBytes)
	}
	version := v.version + 1
	binary.LittleEndian.PutUint64(slot, version)
	binary.LittleEndian.PutUint32(slot[8:], uint32(len(slot)-slotHead)) //nolint:gosec // Bounded above.
	binary.LittleEndian.PutUint32(slot[12:], slotChecksum(slot[:12], slot[slotHead:]))
	// The slot that is not the present one. After a failure it is still not the present one.
	_, err := v.file.WriteAt(slot, int64((version-1)%2)*slotBytes)
	if err == nil {
		err = syncData(v.file)
	}
	if err != nil {
		return StorageError("write votes", v.path, err)
	}
	v.values, v.version = values, version
	return nil
}

// Close closes the file.
func (v *Votes) Close() error {
	v.mu.Lock()
	defer v.mu.Unlock()
	return StorageError("close votes", v.path, v.file.Close())
}
