// Package joblog keeps the log lines of jobs: one file of JSON lines a job, appended to while the job runs and read from any
// place on, also after a restart of the head.
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
	"sync"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/f708428e/engine"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// Book holds the logs of all jobs in one folder. It is safe for concurrent use.
type Book struct {
	dir string

	mu   sync.Mutex
	logs map[engine.JobID]*log
}

// log is what is known of one job's file.
type log struct {
	mu       sync.Mutex
	path     string
	sequence uint64
	// fromWorker is the last line of each worker, so that a line that is sent again is not kept twice.
	fromWorker map[string]uint64
	// changed is closed, and another one made, with every line.
	changed chan struct{}
}

// workerSequenceKey is the attribute under which a worker's own numbering is kept in the file; readers do not see it.
const workerSequenceKey = "worker_sequence"

// New makes a book in dir, which is made when the first line is written.
func New(dir string) *Book {
	return &Book{dir: dir, logs: map[engine.JobID]*log{}}
}

// open returns a job's log; the first time, it reads the file to learn where it stands.
func (b *Book) open(id engine.JobID) (*log, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if l, ok := b.logs[id]; ok {
		return l, nil
	}
	l := &log{path: filepath.Join(b.dir, string(id)+".jsonl"), fromWorker: map[string]uint64{}, changed: make(chan struct{})}
	if err := os.MkdirAll(b.dir, 0o700); err != nil {
		return nil, engine.WrapError("open job log", b.dir, err)
	}
	file, err := os.OpenFile(l.path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, engine.WrapError("open job log", l.path, err)
	}
	end, err := readLines(file, 0, func(line *enginev1.LogLine) error {
		l.sequence = line.GetSequence()
		if n, err := strconv.ParseUint(line.GetAttributes()[workerSequenceKey], 10, 64); err == nil {
			l.fromWorker[line.GetOrigin()] = n
		}
		return nil
	})
	if err == nil {
		// A line that was cut short by a crash was never acknowledged.
		err = file.Truncate(end)
	}
	if err = errors.Join(err, file.Close()); err != nil {
		return nil, engine.WrapError("open job log", l.path, err)
	}
	b.logs[id] = l
	return l, nil
}

// Append adds lines to a job's log and numbers them.
func (b *Book) Append(id engine.JobID, lines ...*enginev1.LogLine) error {
	l, err := b.open(id)
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.append(lines)
}

// AppendFromWorker adds lines that a worker sent, leaving out those that the log has already.
func (b *Book) AppendFromWorker(id engine.JobID, sent ...*enginev1.WorkerLogLine) error {
	l, err := b.open(id)
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	var lines []*enginev1.LogLine
	last := maps.Clone(l.fromWorker)
	for _, s := range sent {
		origin := s.GetLine().GetOrigin()
		if s.GetWorkerSequence() <= last[origin] {
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
	if err := l.append(lines); err != nil {
		return err
	}
	l.fromWorker = last
	return nil
}

// append writes lines with their numbers, all or none.
func (l *log) append(lines []*enginev1.LogLine) error {
	if len(lines) == 0 {
		return nil
	}
	var buffer []byte
	for i, line := range lines {
		line.Sequence = l.sequence + uint64(i) + 1
		text, err := protojson.Marshal(line)
		if err != nil {
			return engine.Errorf(engine.KindInternal, "write job log", l.path, "%w", err)
		}
		buffer = append(append(buffer, text...), '\n')
	}
	file, err := os.OpenFile(l.path, os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return engine.WrapError("write job log", l.path, err)
	}
	before, err := file.Seek(0, io.SeekEnd)
	if err == nil {
		if _, err = file.Write(buffer); err != nil {
			err = errors.Join(err, file.Truncate(before))
		}
	}
	if err = errors.Join(err, file.Close()); err != nil {
		return engine.WrapError("write job log", l.path, err)
	}
	l.sequence += uint64(len(lines))
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
	file, err := os.Open(l.path)
	if err != nil {
		return engine.WrapError("read job log", l.path, err)
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	for offset := int64(0); ; {
		// Both are looked at before the file is: what is written after that is seen in the next turn.
		l.mu.Lock()
		changed := l.changed
		l.mu.Unlock()
		last := follow == nil || isClosed(follow)
		if offset, err = sendLines(file, offset, after, emit); err != nil || last {
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
		if line.GetSequence() <= after {
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

// readLines calls use with every whole line from offset on and returns where the last one ended.
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
			return offset, engine.Errorf(engine.KindCorrupt, "read job log", file.Name(), "line at byte %d: %w", offset, err)
		}
		if err := use(line); err != nil {
			return offset, err
		}
		offset += int64(len(text))
	}
}

// Remove deletes a job's log.
func (b *Book) Remove(id engine.JobID) error {
	l, err := b.open(id)
	if err != nil {
		return err
	}
	b.mu.Lock()
	delete(b.logs, id)
	b.mu.Unlock()
	return engine.WrapError("remove job log", string(id), os.Remove(l.path))
}
