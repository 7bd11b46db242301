package state

import (
	"bufio"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"syscall"

	"google.golang.org/protobuf/proto"

	"github.com/f708428e/engine"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// The log is one file: a line that names its format, then records of
//
//	length of the payload   4 bytes, little endian, never 0
//	CRC-32C of the payload  4 bytes, little endian
//	payload                 a LogEntry
//
// A record at the end that is cut short or fails its checksum was being written when the head was killed: it was never
// acknowledged, and is dropped. A bad record with a whole one behind it is damage, and the log is refused. Where the bad record's
// length cannot tell what is behind it, the first lookAheadBytes after its first byte are searched.
const (
	logName        = "head.log"
	logMagic       = "engine-head-log 1\n"
	recordHead     = 8
	maxRecordBytes = 1 << 30
	// lookAheadBytes is how far behind a bad record a whole one is looked for, and lookAheadWork how many bytes are checksummed for
	// that at most. What is longer, or farther away, is not found.
	lookAheadBytes = 64 << 20
	lookAheadWork  = 4 << 30
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// openLog opens or makes the log in dir, feeds every entry to apply, and cuts a torn record off. It returns the file, placed at
// its end, its size, and how many bytes were cut off.
func openLog(dir string, apply func(*enginev1.LogEntry) error) (_ *os.File, sizeBytes, tornBytes int64, err error) {
	path := filepath.Join(dir, logName)
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, 0, 0, storageError("open log", path, err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, file.Close())
		}
	}()
	info, err := file.Stat()
	if err != nil {
		return nil, 0, 0, storageError("open log", path, err)
	}
	if info.Size() < int64(len(logMagic)) {
		return file, int64(len(logMagic)), 0, startLog(dir, file)
	}
	end, err := replay(path, file, info.Size(), apply)
	if err != nil {
		return nil, 0, 0, err
	}
	if tornBytes = info.Size() - end; tornBytes > 0 {
		if err := file.Truncate(end); err != nil {
			return nil, 0, 0, storageError("cut torn record off", path, err)
		}
	}
	if _, err := file.Seek(end, io.SeekStart); err != nil {
		return nil, 0, 0, storageError("open log", path, err)
	}
	return file, end, tornBytes, nil
}

// startLog writes the first line of a new log. A shorter file is one whose maker was killed before that.
func startLog(dir string, file *os.File) error {
	if err := file.Truncate(0); err != nil {
		return storageError("start log", file.Name(), err)
	}
	if _, err := file.WriteAt([]byte(logMagic), 0); err != nil {
		return storageError("start log", file.Name(), err)
	}
	if _, err := file.Seek(0, io.SeekEnd); err != nil {
		return storageError("start log", file.Name(), err)
	}
	if err := file.Sync(); err != nil {
		return storageError("start log", file.Name(), err)
	}
	return syncDir(dir)
}

// replay applies every whole record and returns where they end.
func replay(path string, file io.ReaderAt, sizeBytes int64, apply func(*enginev1.LogEntry) error) (int64, error) {
	r := bufio.NewReaderSize(io.NewSectionReader(file, 0, sizeBytes), 1<<20)
	magic := make([]byte, len(logMagic))
	if _, err := io.ReadFull(r, magic); err != nil {
		return 0, storageError("read log", path, err)
	}
	if string(magic) != logMagic {
		return 0, engine.Errorf(engine.KindVersion, "read log", path, "starts with %q, this version writes %q", magic, logMagic).
			WithHint("the data folder belongs to another version of engine; use another --data-dir or that version")
	}
	offset := int64(len(logMagic))
	damaged := func(format string, args ...any) error {
		return engine.Errorf(engine.KindCorrupt, "read log", path, "record at byte "+format, append([]any{offset}, args...)...).
			WithHint("restore the file from a copy, or start with another --data-dir")
	}
	// torn ends the log at a bad record that may have been the last one, unless it was not.
	torn := func() (int64, error) {
		switch behind, err := findRecord(file, offset+1, sizeBytes); {
		case err != nil:
			return 0, storageError("read log", path, err)
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
			return 0, storageError("read log", path, err)
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
			return 0, storageError("read log", path, err)
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

// appendRecords appends the records of entries to buffer.
func appendRecords(buffer []byte, entries []*enginev1.LogEntry) (_ []byte, err error) {
	for _, entry := range entries {
		if buffer, err = appendRecord(buffer, entry); err != nil {
			return nil, err
		}
	}
	return buffer, nil
}

// appendRecord appends the record of entry to buffer.
func appendRecord(buffer []byte, entry *enginev1.LogEntry) ([]byte, error) {
	start := len(buffer)
	buffer = append(buffer, make([]byte, recordHead)...)
	buffer, err := proto.MarshalOptions{}.MarshalAppend(buffer, entry)
	if err != nil {
		return nil, engine.Errorf(engine.KindInternal, "write log", "", "%w", err)
	}
	payload := buffer[start+recordHead:]
	if len(payload) > maxRecordBytes {
		return nil, engine.Errorf(engine.KindExhausted, "write log", "", "entry of %d bytes is over the limit of %d", len(payload), maxRecordBytes)
	}
	binary.LittleEndian.PutUint32(buffer[start:], uint32(len(payload))) //nolint:gosec // Bounded above.
	binary.LittleEndian.PutUint32(buffer[start+4:], crc32.Checksum(payload, castagnoli))
	return buffer, nil
}

// writeCompacted makes a new log in dir that holds only entry, and puts it in the old one's place. With an error, file is nil if the
// old log is still in its place, and else the new one, whose place a crash of the machine may give back to the old one.
func writeCompacted(dir string, entry *enginev1.LogEntry) (_ *os.File, sizeBytes int64, err error) {
	buffer, err := appendRecord([]byte(logMagic), entry)
	if err != nil {
		return nil, 0, err
	}
	path := filepath.Join(dir, logName)
	// Opened first: after the rename there is no way back.
	folder, err := openFolder(dir)
	if err != nil {
		return nil, 0, storageError("compact log", path, err)
	}
	file, err := os.OpenFile(path+".new", os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, 0, storageError("compact log", path, errors.Join(err, folder.Close()))
	}
	_, err = file.Write(buffer)
	if err == nil {
		err = file.Sync()
	}
	if err == nil {
		err = os.Rename(path+".new", path)
	}
	if err != nil {
		// A full disk needs the space back.
		return nil, 0, storageError("compact log", path, errors.Join(err, file.Close(), os.Remove(path+".new"), folder.Close()))
	}
	return file, int64(len(buffer)), storageError("compact log", path, errors.Join(folder.Sync(), folder.Close()))
}

// openFolder opens a folder to sync it. Tests put another one in its place.
var openFolder = os.Open

func syncDir(dir string) error {
	d, err := openFolder(dir)
	if err != nil {
		return storageError("sync folder", dir, err)
	}
	return storageError("sync folder", dir, errors.Join(d.Sync(), d.Close()))
}

// storageError classifies what a file system answers. Nil stays nil.
func storageError(operation, path string, err error) error {
	if err == nil {
		return nil
	}
	kind := engine.KindInternal
	hint := ""
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		kind, hint = engine.KindExhausted, "the disk is full: free some space, or give another folder"
	case errors.Is(err, os.ErrPermission), errors.Is(err, syscall.EROFS):
		kind, hint = engine.KindPermission, "the folder must be writable"
	case errors.Is(err, os.ErrNotExist):
		kind = engine.KindNotFound
	}
	return engine.Errorf(kind, operation, path, "%w", err).WithHint("%s", hint)
}
