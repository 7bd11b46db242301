// Package joblog keeps the log lines of jobs: one file of JSON lines a job, appended to while the job runs and read from any
// place on, also after a restart of the head. Trouble with one job's file is that job's alone, and costs lines only.
package joblog

import (
	"bufio"
	"context"
	"errors"
	"io"
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/f708428e/engine"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// Book holds the logs of all jobs in one folder. It is safe for concurrent use.
type Book struct {
	dir        string
	unreadable atomic.Int64
	// floor is a number below that of each line that is added from now on.
	floor atomic.Uint64

	// mu guards the map alone; no file is touched under it.
	mu   sync.Mutex
	logs map[engine.JobID]*log
}

// log is what is known of one job's file.
type log struct {
	path string

	// mu guards what follows and the writing of the file.
	mu sync.Mutex
	// known says that the file was read to its end, and holds what was appended since.
	known   bool
	removed bool
	// sequence is the last line's number.
	sequence uint64
	// fromWorker is the last line of each worker, so that a line that is sent again is not kept twice.
	fromWorker map[string]uint64
	// unreadable counts the lines of the file that are damaged.
	unreadable int64
	// changed is closed, and another one made, with every line.
	changed chan struct{}
}

// workerSequenceKey is the attribute under which a worker's own numbering is kept in the file; readers do not see it.
const workerSequenceKey = "worker_sequence"

// extension is that of the files.
const extension = ".jsonl"

// New makes a book in dir, which is made when the first line is written.
func New(dir string) *Book {
	return &Book{dir: dir, logs: map[engine.JobID]*log{}}
}

// UnreadableLines is how many lines of the files opened so far are damaged. Readers do not see them.
func (b *Book) UnreadableLines() int64 { return b.unreadable.Load() }

// Begin makes the numbers of further lines begin above floor. Another head may have numbered lines that this one has not, below that;
// who follows a log asks for what comes after the last number seen.
func (b *Book) Begin(floor uint64) { b.floor.Store(floor) }

// path returns where a job's log is.
func (b *Book) path(id engine.JobID) string { return filepath.Join(b.dir, string(id)+extension) }

// Jobs returns the jobs that have a log.
func (b *Book) Jobs() ([]engine.JobID, error) {
	entries, err := os.ReadDir(b.dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, engine.WrapError("list job logs", b.dir, err)
	}
	var ids []engine.JobID
	for _, entry := range entries {
		if id, ok := strings.CutSuffix(entry.Name(), extension); ok {
			ids = append(ids, engine.JobID(id))
		}
	}
	return ids, nil
}

// open returns a job's log, locked.
func (b *Book) open(id engine.JobID) (*log, error) {
	b.mu.Lock()
	l, ok := b.logs[id]
	if !ok {
		l = &log{path: b.path(id), fromWorker: map[string]uint64{}, changed: make(chan struct{})}
		b.logs[id] = l
	}
	b.mu.Unlock()
	l.mu.Lock()
	before := l.unreadable
	err := l.learn()
	b.unreadable.Add(l.unreadable - before)
	if err != nil {
		l.mu.Unlock()
		return nil, err
	}
	return l, nil
}

// learn reads the file if it is not known, makes its folder if it does not exist, and cuts off a line that was cut short: it was never
// acknowledged. The caller holds the lock.
func (l *log) learn() error {
	switch {
	case l.removed:
		return engine.Errorf(engine.KindNotFound, "open job log", l.path, "it was removed")
	case l.known:
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(l.path), 0o700); err != nil {
		return engine.WrapError("open job log", l.path, err)
	}
	file, err := os.OpenFile(l.path, os.O_RDWR, 0o600)
	if errors.Is(err, os.ErrNotExist) {
		l.known = true // The first line makes it.
		return nil
	}
	if err != nil {
		return engine.WrapError("open job log", l.path, err)
	}
	var sequence uint64
	var unreadable int64
	end, err := readLines(file, 0, func(line *enginev1.LogLine) error {
		if line == nil {
			unreadable++
			sequence++ // Somebody may have read it, as the line of this number, while it was good.
			return nil
		}
		sequence = max(sequence, line.GetSequence())
		if n, err := strconv.ParseUint(line.GetAttributes()[workerSequenceKey], 10, 64); err == nil {
			l.fromWorker[line.GetOrigin()] = max(l.fromWorker[line.GetOrigin()], n)
		}
		return nil
	})
	if err == nil {
		err = file.Truncate(end)
	}
	if err = errors.Join(err, file.Close()); err != nil {
		return engine.WrapError("open job log", l.path, err)
	}
	l.sequence, l.unreadable, l.known = max(l.sequence, sequence), unreadable, true
	return nil
}

// Append adds lines to a job's log and numbers them.
func (b *Book) Append(id engine.JobID, lines ...*enginev1.LogLine) error {
	l, err := b.open(id)
	if err != nil {
		return err
	}
	defer l.mu.Unlock()
	return l.append(b.floor.Load(), lines)
}

// AppendFromWorker adds lines that a worker sent, leaving out those that the log has already.
func (b *Book) AppendFromWorker(id engine.JobID, sent ...*enginev1.WorkerLogLine) error {
	l, err := b.open(id)
	if err != nil {
		return err
	}
	defer l.mu.Unlock()
	var lines []*enginev1.LogLine
	last := maps.Clone(l.fromWorker)
	for _, s := range sent {
		origin := s.GetLine().GetOrigin()
		if s.GetLine() == nil || s.GetWorkerSequence() <= last[origin] {
			continue
		}
		last[origin] = s.GetWorkerSequence()
		line := proto.CloneOf(s.GetLine())
		if line.Attributes == nil {
			line.Attributes = map[string]string{}
		}
		line.Attributes[workerSequenceKey] = strconv.FormatUint(s.GetWorkerSequence(), 10)
		lines = append(lines, line)
	}
	if err := l.append(b.floor.Load(), lines); err != nil {
		return err
	}
	l.fromWorker = last
	return nil
}

// append writes lines with their numbers, which are above floor, all or none. The caller holds the lock.
func (l *log) append(floor uint64, lines []*enginev1.LogLine) error {
	if len(lines) == 0 {
		return nil
	}
	var buffer []byte
	before := max(l.sequence, floor)
	for i, line := range lines {
		line.Sequence = before + uint64(i) + 1
		text, err := protojson.Marshal(line)
		if err != nil {
			return engine.Errorf(engine.KindInternal, "write job log", l.path, "%w", err)
		}
		buffer = append(append(buffer, text...), '\n')
	}
	// Somebody may have removed the file: that costs the lines that were in it.
	file, err := os.OpenFile(l.path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return engine.WrapError("write job log", l.path, err)
	}
	end, err := file.Seek(0, io.SeekEnd)
	if err == nil {
		if _, err = file.Write(buffer); err != nil {
			err = errors.Join(err, file.Truncate(end))
		}
	}
	if err = errors.Join(err, file.Close()); err != nil {
		l.known = false // A part may be there.
		return engine.WrapError("write job log", l.path, err)
	}
	l.sequence = before + uint64(len(lines))
	close(l.changed)
	l.changed = make(chan struct{})
	return nil
}

// Read calls emit with the lines after the sequence number given, and, if follow is not nil, waits for further ones until it is
// closed; what was there then is still sent.
func (b *Book) Read(ctx context.Context, id engine.JobID, after uint64, follow <-chan struct{}, emit func([]*enginev1.LogLine) error) (err error) {
	l, err := b.open(id)
	if err != nil {
		return err
	}
	l.mu.Unlock()
	var file *os.File
	defer func() {
		if file != nil {
			err = errors.Join(err, file.Close())
		}
	}()
	for offset := int64(0); ; {
		// Both are looked at before the file is: what is written after that is seen in the next turn.
		l.mu.Lock()
		changed := l.changed
		l.mu.Unlock()
		last := follow == nil || isClosed(follow)
		if file == nil {
			if file, err = os.Open(l.path); errors.Is(err, os.ErrNotExist) {
				file, err = nil, nil // The first line makes it.
			}
			if err != nil {
				return engine.WrapError("read job log", l.path, err)
			}
		}
		if file != nil {
			offset, err = sendLines(file, offset, after, emit)
		}
		if err != nil || last {
			return err
		}
		select {
		case <-changed:
		case <-follow:
		case <-ctx.Done():
			return engine.WrapError("read job log", string(id), context.Cause(ctx))
		}
	}
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// sendLines reads from offset to the end in portions, and returns where the last whole line ended.
func sendLines(file *os.File, offset int64, after uint64, emit func([]*enginev1.LogLine) error) (int64, error) {
	const portion = 256
	var lines []*enginev1.LogLine
	end, err := readLines(file, offset, func(line *enginev1.LogLine) error {
		if line == nil || line.GetSequence() <= after {
			return nil
		}
		delete(line.GetAttributes(), workerSequenceKey)
		if lines = append(lines, line); len(lines) < portion {
			return nil
		}
		full := lines
		lines = nil
		return emit(full)
	})
	if err == nil && len(lines) > 0 {
		err = emit(lines)
	}
	return end, err
}

// readLines calls use with every whole line from offset on, nil for one that is damaged, and returns where the last one ended.
func readLines(file *os.File, offset int64, use func(*enginev1.LogLine) error) (int64, error) {
	r := bufio.NewReaderSize(io.NewSectionReader(file, offset, 1<<62-offset), 64<<10)
	for {
		text, err := r.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return offset, nil
		}
		if err != nil {
			return offset, engine.WrapError("read job log", file.Name(), err)
		}
		line := &enginev1.LogLine{}
		if err := protojson.Unmarshal(text, line); err != nil {
			line = nil
		}
		if err := use(line); err != nil {
			return offset, err
		}
		offset += int64(len(text))
	}
}

// Remove deletes a job's log, if there is one.
func (b *Book) Remove(id engine.JobID) error {
	b.mu.Lock()
	l := b.logs[id]
	delete(b.logs, id)
	b.mu.Unlock()
	if l != nil {
		// Whoever has it from before must not make the file again.
		l.mu.Lock()
		defer l.mu.Unlock()
		l.removed = true
	}
	if err := os.Remove(b.path(id)); !errors.Is(err, os.ErrNotExist) {
		return engine.WrapError("remove job log", string(id), err)
	}
	return nil
}
