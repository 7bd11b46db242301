package state

import (
	"bufio"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"os"

	"github.com/hashicorp/raft"
	"google.golang.org/protobuf/proto"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/head/state/raftlog"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// A head of before there was raft kept its log in a file of the same name: a line that names its format, then records of
//
//	length of the payload   4 bytes, little endian, never 0
//	CRC-32C of the payload  4 bytes, little endian
//	payload                 a LogEntry
//
// A record at the end that is cut short or fails its checksum was being written when the head was killed: it was never
// acknowledged, and is dropped. A bad record with a whole one behind it is damage, and the log is refused. Where the bad record's
// length cannot tell what is behind it, the first lookAheadBytes after its first byte are searched.
const (
	logMagic1      = "engine-head-log 1\n"
	recordHead     = 8
	maxRecordBytes = 1 << 30
	// lookAheadBytes is how far behind a bad record a whole one is looked for, and lookAheadWork how many bytes are checksummed for
	// that at most. What is longer, or farther away, is not found.
	lookAheadBytes = 64 << 20
	lookAheadWork  = 4 << 30
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// isVersion1 reports whether the file at path is such a log. One that does not exist is none.
func isVersion1(path string) (bool, error) {
	file, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, raftlog.StorageError("open log", path, err)
	}
	line := make([]byte, len(logMagic1))
	_, err = io.ReadFull(file, line)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = nil // The maker of a new log was killed, of whichever version.
	}
	return string(line) == logMagic1, raftlog.StorageError("open log", path, errors.Join(err, file.Close()))
}

// readVersion1 returns the state that such a log makes, how many bytes at its end were never acknowledged, and how many entries
// contradict others. Earlier versions wrote an entry before the state had looked at it: what it refused then, it refuses now, and then
// as now that changes nothing. A snapshot was never refused, and an entry without a fact is one of a kind that this version does not
// know: without them the state would be another one.
func readVersion1(path string) (state *State, tornBytes int64, refused int, err error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, 0, 0, raftlog.StorageError("open log", path, err)
	}
	defer func() { err = errors.Join(err, raftlog.StorageError("close log", path, file.Close())) }()
	info, err := file.Stat()
	if err != nil {
		return nil, 0, 0, raftlog.StorageError("open log", path, err)
	}
	state = New()
	end, err := replay(path, file, info.Size(), func(entry *enginev1.LogEntry) error {
		err := state.Apply(entry)
		if err == nil || entry.GetFact() == nil || entry.GetSnapshot() != nil {
			return err
		}
		refused++
		return nil
	})
	return state, info.Size() - end, refused, err
}

// takeOver makes a data folder of version 1 into one of this version: its state becomes a snapshot, and then the new log takes the old
// one's place. A crash before that leaves the old log, and what else is there is made again.
func takeOver(dir string, state *State, snapshots raft.SnapshotStore, self raft.Configuration, transport raft.Transport) error {
	sink, err := snapshots.Create(1, 1, 1, self, 1, transport)
	if err != nil {
		return raftlog.StorageError("take over log", dir, err)
	}
	if err := (&frozen{state}).Persist(sink); err != nil {
		return raftlog.StorageError("take over log", dir, err)
	}
	votes, err := raftlog.OpenVotes(dir)
	if err != nil {
		return err
	}
	// The terms of raft begin with that of the snapshot.
	err = votes.SetUint64([]byte("CurrentTerm"), 1)
	if err := errors.Join(err, votes.Close()); err != nil {
		return err
	}
	return raftlog.Create(dir, 2)
}

// replay applies every whole record and returns where they end.
func replay(path string, file io.ReaderAt, sizeBytes int64, apply func(*enginev1.LogEntry) error) (int64, error) {
	r := bufio.NewReaderSize(io.NewSectionReader(file, 0, sizeBytes), 1<<20)
	magic := make([]byte, len(logMagic1))
	if _, err := io.ReadFull(r, magic); err != nil {
		return 0, raftlog.StorageError("read log", path, err)
	}
	offset := int64(len(logMagic1))
	damaged := func(format string, args ...any) error {
		return engine.Errorf(engine.KindCorrupt, "read log", path, "record at byte "+format, append([]any{offset}, args...)...).
			WithHint("restore the file from a copy, or start with another --data-dir")
	}
	// torn ends the log at a bad record that may have been the last one, unless it was not.
	torn := func() (int64, error) {
		switch behind, err := findRecord(file, offset+1, sizeBytes); {
		case err != nil:
			return 0, raftlog.StorageError("read log", path, err)
		case behind >= 0:
			return 0, damaged("%d is damaged: a whole one follows at byte %d", behind)
		}
		return offset, nil
	}
	var head [recordHead]byte
	var payload []byte
	for {
		left := sizeBytes - offset
		if left < recordHead {
			return offset, nil // Nothing, or a torn head.
		}
		if _, err := io.ReadFull(r, head[:]); err != nil {
			return 0, raftlog.StorageError("read log", path, err)
		}
		length := int64(binary.LittleEndian.Uint32(head[:4]))
		switch {
		case length == 0:
			// A file system that grew the file before it wrote the bytes leaves zeros behind.
			if zeros, err := onlyZeros(r); err != nil || !zeros || head != [recordHead]byte{} {
				return 0, damaged("%d has length 0")
			}
			return offset, nil
		case length > maxRecordBytes:
			return 0, damaged("%d has length %d", length)
		case length > left-recordHead:
			return torn() // It would end behind the file.
		}
		if int64(cap(payload)) < length {
			payload = make([]byte, length)
		}
		payload = payload[:length]
		if _, err := io.ReadFull(r, payload); err != nil {
			return 0, raftlog.StorageError("read log", path, err)
		}
		if crc32.Checksum(payload, castagnoli) != binary.LittleEndian.Uint32(head[4:]) {
			if length == left-recordHead {
				return torn() // It is the last one, if its length is right.
			}
			return 0, damaged("%d fails its checksum")
		}
		entry := &enginev1.LogEntry{}
		if err := proto.Unmarshal(payload, entry); err != nil {
			return 0, damaged("%d is no log entry: %w", err)
		}
		if err := apply(entry); err != nil {
			return 0, damaged("%d: %w", err)
		}
		offset += recordHead + length
	}
}

// findRecord returns where the first whole record at or after offset from begins, or -1 if there is none within the bounds.
func findRecord(file io.ReaderAt, from, sizeBytes int64) (int64, error) {
	rest := make([]byte, min(sizeBytes-from, lookAheadBytes))
	if _, err := file.ReadAt(rest, from); err != nil && !errors.Is(err, io.EOF) {
		return 0, err
	}
	work := 0
	for i := 0; i+recordHead+3 <= len(rest) && work < lookAheadWork; i++ {
		payload := rest[i+recordHead:]
		// Every entry begins with its time, and a time with its seconds: cheap to see, and rare elsewhere.
		if payload[0] != 0x0a || payload[2] != 0x08 {
			continue
		}
		length := int64(binary.LittleEndian.Uint32(rest[i:]))
		if length == 0 || length > int64(len(payload)) {
			continue
		}
		payload = payload[:length]
		work += len(payload)
		if crc32.Checksum(payload, castagnoli) == binary.LittleEndian.Uint32(rest[i+4:]) && proto.Unmarshal(payload, &enginev1.LogEntry{}) == nil {
			return from + int64(i), nil
		}
	}
	return -1, nil
}

func onlyZeros(r io.Reader) (bool, error) {
	buffer := make([]byte, 64<<10)
	for {
		n, err := r.Read(buffer)
		for _, b := range buffer[:n] {
			if b != 0 {
				return false, nil
			}
		}
		if errors.Is(err, io.EOF) {
			return true, nil
		}
		if err != nil {
			return false, err
		}
	}
}
