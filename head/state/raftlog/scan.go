package raftlog

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"io"

	"github.com/hashicorp/raft"

	"github.com/f708428e/engine"
)

// lookAheadWork bounds how many bytes are checksummed in the search for a whole frame behind a bad one.
const lookAheadWork = 4 << 30

// scan checks every frame of a file and fills the index. It sets endBytes to where the frames end, and tornBytes.
func (l *Log) scan(sizeBytes int64) error {
	r := bufio.NewReaderSize(io.NewSectionReader(l.file, 0, sizeBytes), 1<<20)
	line := make([]byte, len(magic))
	if _, err := io.ReadFull(r, line); err != nil {
		return StorageError("read log", l.path, err)
	}
	if string(line) != magic {
		return engine.Errorf(engine.KindVersion, "read log", l.path, "starts with %q, this version writes %q", line, magic).
			WithHint("the data folder belongs to another version of engine; use another --data-dir or that version")
	}
	l.endBytes = int64(len(magic))
	var head [frameHead]byte
	var payload []byte
	for {
		left := sizeBytes - l.endBytes
		if left < frameHead {
			return l.torn(sizeBytes)
		}
		if _, err := io.ReadFull(r, head[:]); err != nil {
			return StorageError("read log", l.path, err)
		}
		length := int64(binary.LittleEndian.Uint32(head[4:]))
		if string(head[:4]) != mark || length == 0 || length > min(left-frameHead, maxPayload) {
			return l.torn(sizeBytes)
		}
		if int64(cap(payload)) < length {
			payload = make([]byte, length)
		}
		payload = payload[:length]
		if _, err := io.ReadFull(r, payload); err != nil {
			return StorageError("read log", l.path, err)
		}
		if checksum(l.endBytes, head[4:8], payload) != binary.LittleEndian.Uint32(head[8:]) {
			return l.torn(sizeBytes)
		}
		if what := l.take(payload); what != "" {
			return l.damaged("%s", what)
		}
		l.endBytes += frameHead + length
	}
}

func (l *Log) damaged(format string, args ...any) error {
	return engine.Errorf(engine.KindCorrupt, "read log", l.path, "record at byte %d "+format, append([]any{l.endBytes}, args...)...).
		WithHint("restore the file from a copy, or start with another --data-dir")
}

// take adds what a whole frame says to the index, and returns what is wrong with it.
func (l *Log) take(payload []byte) string {
	kind, rest := payload[0], payload[1:]
	first, rest, ok := uvarint(rest)
	if !ok {
		return "has no index"
	}
	last := l.lastIndex()
	switch kind {
	case kindBase:
		if l.endBytes != int64(len(magic)) || first == 0 || len(rest) != 0 {
			return "says where the log begins, but is not its first"
		}
		l.base = first
		return ""
	case kindCut:
		if first <= l.first || first > last || len(rest) != 0 {
			return "cuts off what is not there"
		}
		l.places = l.places[:first-l.first]
		return ""
	case kindEntries:
		count, rest, ok := uvarint(rest)
		if !ok || first < l.base || last != 0 && first != last+1 {
			return "does not follow the one before it"
		}
		if last == 0 {
			l.first = first
		}
		for range count {
			var entry raft.Log
			start := len(payload) - len(rest)
			if rest, ok = decodeEntry(rest, &entry); !ok {
				return "ends within an entry"
			}
			end := len(payload) - len(rest)
			l.places = append(l.places, place{offset: l.endBytes + frameHead + int64(start), length: int64(end - start)})
		}
		if len(rest) != 0 {
			return "goes on behind its entries"
		}
		return ""
	default:
		return "is of a kind that this version does not know"
	}
}

// torn ends the log at endBytes: what is there is reserved space, or a frame that was being written. A whole frame behind it means
// that it is neither.
func (l *Log) torn(sizeBytes int64) error {
	behind, used, err := l.search(l.endBytes, sizeBytes)
	switch {
	case err != nil:
		return StorageError("read log", l.path, err)
	case behind >= 0:
		return l.damaged("is damaged: a whole one follows at byte %d", behind)
	}
	l.tornBytes = used - l.endBytes
	return nil
}

// search looks for a whole frame behind offset from, and returns its offset or -1. used is where the last byte that is not zero ends.
func (l *Log) search(from, sizeBytes int64) (found, used int64, err error) {
	const step = 1 << 20
	used = from
	work := int64(0)
	window := make([]byte, step+len(mark)-1)
	for at := from; at < sizeBytes; at += step {
		n, err := l.file.ReadAt(window[:min(int64(len(window)), sizeBytes-at)], at)
		if err != nil && !errors.Is(err, io.EOF) {
			return 0, 0, err
		}
		part := window[:n]
		if trimmed := bytes.TrimRight(part, "\x00"); len(trimmed) > 0 {
			used = at + int64(len(trimmed))
		}
		for offset := 0; ; offset++ {
			next := bytes.Index(part[offset:], []byte(mark))
			if next < 0 {
				break
			}
			offset += next
			candidate := at + int64(offset)
			if candidate == from || work > lookAheadWork {
				continue
			}
			whole, bytes, err := l.isFrame(candidate, sizeBytes)
			if err != nil {
				return 0, 0, err
			}
			if whole {
				return candidate, used, nil
			}
			work += bytes
		}
	}
	return -1, used, nil
}

// isFrame reports whether a whole frame begins at offset, and how many bytes it had to read to know.
func (l *Log) isFrame(offset, sizeBytes int64) (whole bool, readBytes int64, err error) {
	if sizeBytes-offset < frameHead {
		return false, 0, nil
	}
	var head [frameHead]byte
	if _, err := l.file.ReadAt(head[:], offset); err != nil {
		return false, 0, err
	}
	length := int64(binary.LittleEndian.Uint32(head[4:]))
	if length == 0 || length > min(sizeBytes-offset-frameHead, maxPayload) {
		return false, frameHead, nil
	}
	payload := make([]byte, length)
	if _, err := l.file.ReadAt(payload, offset+frameHead); err != nil {
		return false, 0, err
	}
	return checksum(offset, head[4:8], payload) == binary.LittleEndian.Uint32(head[8:]), frameHead + length, nil
}
