package audit

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/internal/lifecycle"
)

// Config says where a log is.
type Config struct {
	// Dir is the folder, made if it does not exist, with mode 0700. One Log at a time may have it; its owner's data folder is locked.
	Dir string
	// RotateBytes is the size from which a file is closed and the next one begun. Zero means 64 MiB.
	RotateBytes int64
	// RefusalsPerSecond bounds the lines of calls that were refused; further ones are counted. Zero means 100.
	RefusalsPerSecond int
	// Now tells the time. Nil means time.Now.
	Now func() time.Time
	// Trouble hears that refusals could not be written; what was allowed is then refused, and the caller hears of it. Nil means nobody does.
	Trouble func(error)
}

// Log appends to an audit log. It is safe for concurrent use. A nil one keeps nothing, and allows everything.
type Log struct {
	config Config
	group  *lifecycle.Group
	wake   chan struct{}
	ended  chan struct{}

	mu      sync.Mutex
	waiting []waiting
	closing bool
	// second is the one in which refused lines were counted last, suppressed those that were not written since.
	second     int64
	refused    int
	suppressed int64

	// The writing goroutine alone uses what follows.
	file     *os.File
	size     int64
	number   uint64
	previous string
}

type waiting struct {
	event Event
	at    time.Time
	done  chan<- error
}

// filePrefix and fileSuffix make a file's name with the number of its first line between them, in 20 digits: names sort as lines do.
const (
	filePrefix = "audit-"
	fileSuffix = ".jsonl"
)

// Open continues the log of a folder. A last line that was cut off by a crash is removed, which a line says. The error is of kind
// engine.KindCorrupt if the end of the log is none: nothing is appended to a log whose end is not understood.
func Open(config Config) (*Log, error) {
	if config.RotateBytes == 0 {
		config.RotateBytes = 64 << 20
	}
	if config.RefusalsPerSecond == 0 {
		config.RefusalsPerSecond = 100
	}
	if config.Now == nil {
		config.Now = time.Now
	}
	if config.Trouble == nil {
		config.Trouble = func(error) {}
	}
	l := &Log{config: config, wake: make(chan struct{}, 1), ended: make(chan struct{}), previous: origin, group: lifecycle.NewGroup(context.Background(), "audit")}
	torn, err := l.open()
	if err != nil {
		return nil, err
	}
	l.group.Go("write", l.run)
	if torn > 0 {
		event := Event{Who: "engine", Call: "open audit log", Allowed: true, Reason: fmt.Sprintf("a last line of %d bytes was cut off by a crash, and is removed", torn)}
		if err := l.Allowed(context.Background(), event); err != nil {
			return nil, errors.Join(err, l.Close())
		}
	}
	return l, nil
}

// open finds the end of the log, and returns how many bytes were cut off it.
func (l *Log) open() (torn int64, err error) {
	const op = "open audit log"
	if err := os.MkdirAll(l.config.Dir, 0o700); err != nil {
		return 0, engine.Errorf(engine.KindInvalidArgument, op, l.config.Dir, "%w", err)
	}
	files, err := Files(l.config.Dir)
	if err != nil {
		return 0, err
	}
	if len(files) == 0 {
		return 0, l.begin()
	}
	path := files[len(files)-1]
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return 0, engine.Errorf(engine.KindInvalidArgument, op, path, "%w", err)
	}
	last, end, whole, err := lastLine(file)
	if err == nil && end < whole {
		torn = whole - end
		err = errors.Join(file.Truncate(end), file.Sync())
	}
	if err == nil {
		_, err = file.Seek(end, io.SeekStart)
	}
	if err != nil {
		return 0, errors.Join(engine.WrapError(op, path, err), file.Close())
	}
	l.file, l.size = file, end
	if last == nil { // A file without a line was begun and not written to; what was before it is in the one before.
		if len(files) == 1 {
			return torn, nil
		}
		return torn, l.continueFrom(files[len(files)-2])
	}
	entry, err := decode(last)
	if err != nil {
		return 0, errors.Join(engine.WrapError(op, path, err), file.Close())
	}
	l.number, l.previous = entry.Number, entry.Hash
	return torn, nil
}

// continueFrom takes the end of the chain from a file that was closed.
func (l *Log) continueFrom(path string) error {
	file, err := os.Open(path)
	if err != nil {
		return engine.Errorf(engine.KindInvalidArgument, "open audit log", path, "%w", err)
	}
	defer func() { _ = file.Close() }() // read only
	last, _, _, err := lastLine(file)
	if err == nil && last == nil {
		err = engine.Errorf(engine.KindCorrupt, "", "", "it is empty, and is not the last file")
	}
	var entry Entry
	if err == nil {
		entry, err = decode(last)
	}
	l.number, l.previous = entry.Number, entry.Hash
	return engine.WrapError("open audit log", path, err)
}

// lastLine returns the last whole line of a file, nil if there is none, where it ends, and where the file does.
func lastLine(file *os.File) (line []byte, end, whole int64, err error) {
	if whole, err = file.Seek(0, io.SeekEnd); err != nil {
		return nil, 0, 0, err
	}
	tail := min(whole, 2*maxLineBytes)
	buffer := make([]byte, tail)
	if _, err := file.ReadAt(buffer, whole-tail); err != nil && !errors.Is(err, io.EOF) {
		return nil, 0, 0, err
	}
	last := bytes.LastIndexByte(buffer, '\n')
	if last < 0 {
		if whole > tail {
			return nil, 0, 0, engine.Errorf(engine.KindCorrupt, "", "", "its end has no line end within %d bytes", tail)
		}
		return nil, 0, whole, nil
	}
	begin := bytes.LastIndexByte(buffer[:last], '\n') + 1
	return buffer[begin:last], whole - tail + int64(last) + 1, whole, nil
}

// Files returns the paths of a log's files in the order of their lines.
func Files(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, engine.Errorf(engine.KindNotFound, "read audit log", dir, "%w", err)
	}
	var files []string
	for _, e := range entries {
		if name := e.Name(); strings.HasPrefix(name, filePrefix) && strings.HasSuffix(name, fileSuffix) {
			files = append(files, filepath.Join(dir, name))
		}
	}
	slices.Sort(files)
	return files, nil
}

// begin begins the next file.
func (l *Log) begin() error {
	path := filepath.Join(l.config.Dir, fmt.Sprintf("%s%020d%s", filePrefix, l.number+1, fileSuffix))
	file, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return engine.Errorf(engine.KindExhausted, "write audit log", path, "%w", err)
	}
	folder, err := os.Open(l.config.Dir)
	if err == nil {
		err = errors.Join(folder.Sync(), folder.Close())
	}
	if err != nil {
		return errors.Join(engine.Errorf(engine.KindExhausted, "write audit log", path, "%w", err), file.Close())
	}
	if l.file != nil {
		err = l.file.Close()
	}
	l.file, l.size = file, 0
	return err
}

// Allowed writes that something is allowed, and returns when the line is on the disk. Whoever gets an error must not go on with it.
func (l *Log) Allowed(ctx context.Context, event Event) error {
	if l == nil {
		return nil
	}
	event.Allowed = true
	done := make(chan error, 1)
	if !l.add(event, done) {
		return engine.Errorf(engine.KindUnavailable, "write audit log", "", "it is closed")
	}
	select {
	case err := <-done: // The writer answers all, also when it ends.
		return err
	case <-ctx.Done():
		return engine.WrapError("write audit log", "", context.Cause(ctx))
	}
}

// Refused has written that something was refused. It does not wait. Of very many, some are only counted.
func (l *Log) Refused(event Event) {
	if l == nil {
		return
	}
	event.Allowed = false
	l.add(event, nil)
}

func (l *Log) add(event Event, done chan<- error) bool {
	now := l.config.Now()
	l.mu.Lock()
	if l.closing {
		l.mu.Unlock()
		return false
	}
	if done == nil {
		if second := now.Unix(); second != l.second {
			l.second, l.refused = second, 0
		}
		if l.refused >= l.config.RefusalsPerSecond {
			l.suppressed++
			l.mu.Unlock()
			return true
		}
		l.refused++
		event.Repeated, l.suppressed = l.suppressed, 0
	}
	l.waiting = append(l.waiting, waiting{event, now, done})
	l.mu.Unlock()
	l.signal()
	return true
}

func (l *Log) signal() {
	select {
	case l.wake <- struct{}{}:
	default: // It will look anyway.
	}
}

// run writes what gathers, in one piece and with one sync, until Close.
func (l *Log) run(context.Context) error {
	defer close(l.ended)
	for range l.wake {
		l.mu.Lock()
		gathered, closing := l.waiting, l.closing
		l.waiting = nil
		l.mu.Unlock()
		if err := l.write(gathered); err != nil {
			l.config.Trouble(err)
		}
		if closing {
			return l.file.Close()
		}
	}
	return nil
}

// write appends entries. What cannot be written as a whole is cut off again, so that the chain goes on with what was.
func (l *Log) write(gathered []waiting) error {
	if len(gathered) == 0 {
		return nil
	}
	number, previous := l.number, l.previous
	var text []byte
	err := func() error {
		if l.size >= l.config.RotateBytes {
			if err := l.begin(); err != nil {
				return err
			}
		}
		for _, w := range gathered {
			number++
			line, hash, err := encode(Entry{Number: number, Time: w.at, Event: w.event, Previous: previous})
			if err != nil {
				return err
			}
			text, previous = append(text, line...), hash
		}
		_, err := l.file.WriteAt(text, l.size)
		if err == nil {
			err = l.file.Sync()
		}
		if err != nil {
			return engine.Errorf(engine.KindExhausted, "write audit log", l.file.Name(), "%w", errors.Join(err, l.file.Truncate(l.size)))
		}
		return nil
	}()
	if err == nil {
		l.number, l.previous, l.size = number, previous, l.size+int64(len(text))
	}
	for _, w := range gathered {
		if w.done != nil {
			w.done <- err
		}
	}
	return err
}

// Close writes what waits, and ends the log. It may be called more than once.
func (l *Log) Close() error {
	if l == nil {
		return nil
	}
	l.mu.Lock()
	l.closing = true
	l.mu.Unlock()
	l.signal()
	<-l.ended
	return l.group.Stop(context.Background())
}

// Report is what Verify has found.
type Report struct {
	// Lines are those that were checked, from First on. First is above 1 if older files are gone.
	Lines uint64 `json:"lines"`
	First uint64 `json:"first"`
	// Last and Hash are of the last line: what to note elsewhere.
	Last uint64 `json:"last"`
	Hash string `json:"hash"`
	// Begin and End are the times of the first line and of the last.
	Begin time.Time `json:"begin"`
	End   time.Time `json:"end"`
	// Torn is how many bytes at the end are no whole line, which a crash leaves.
	Torn int64 `json:"torn"`
}

// Noted is a line that somebody has noted.
type Noted struct {
	Number uint64
	Hash   string
}

// Verify reads a whole log, calls see with each line if it is not nil, and compares it with what was noted, if it was. An error of kind
// engine.KindCorrupt names the file and the line from which on the log is not what was written. A log that is being written can be read.
func Verify(ctx context.Context, dir string, noted *Noted, see func(Entry) error) (Report, error) {
	var report Report
	files, err := Files(dir)
	if err != nil {
		return report, err
	}
	if len(files) == 0 {
		return report, engine.Errorf(engine.KindNotFound, "verify audit log", dir, "there is none in this folder")
	}
	v := verifier{report: &report, noted: noted, see: see}
	for i, path := range files {
		if err := v.file(ctx, path, i == len(files)-1); err != nil {
			return report, err
		}
	}
	if noted != nil && !v.met {
		return report, engine.Errorf(engine.KindCorrupt, "verify audit log", dir, "line %d, which was noted, is not in it: it ends with line %d", noted.Number, report.Last)
	}
	return report, nil
}

type verifier struct {
	report *Report
	noted  *Noted
	see    func(Entry) error
	met    bool
}

func (v *verifier) file(ctx context.Context, path string, last bool) error {
	file, err := os.Open(path)
	if err != nil {
		return engine.Errorf(engine.KindNotFound, "verify audit log", path, "%w", err)
	}
	defer func() { _ = file.Close() }() // read only
	reader := bufio.NewReaderSize(file, maxLineBytes)
	for number := 1; ; number++ {
		if err := ctx.Err(); err != nil {
			return engine.WrapError("verify audit log", path, context.Cause(ctx))
		}
		line, err := reader.ReadSlice('\n')
		at := fmt.Sprintf("%s:%d", path, number)
		switch {
		case errors.Is(err, io.EOF):
			if v.report.Torn = int64(len(line)); len(line) > 0 && !last {
				return engine.Errorf(engine.KindCorrupt, "verify audit log", at, "it ends in the middle of a line, and is not the last file")
			}
			return nil
		case err != nil:
			return engine.Errorf(engine.KindCorrupt, "verify audit log", at, "%w", err)
		}
		if err := v.line(bytes.TrimSuffix(line, []byte("\n"))); err != nil {
			return engine.WrapError("verify audit log", at, err)
		}
	}
}

func (v *verifier) line(line []byte) error {
	entry, err := decode(line)
	if err != nil {
		return err
	}
	r := v.report
	switch {
	case r.Lines == 0 && entry.Number == 1 && entry.Previous != origin:
		return engine.Errorf(engine.KindCorrupt, "", "", "the first line has another one before it")
	case r.Lines == 0 && entry.Number == 0:
		return engine.Errorf(engine.KindCorrupt, "", "", "lines are counted from 1 on")
	case r.Lines > 0 && entry.Number != r.Last+1:
		return engine.Errorf(engine.KindCorrupt, "", "", "line %d comes after line %d", entry.Number, r.Last)
	case r.Lines > 0 && entry.Previous != r.Hash:
		return engine.Errorf(engine.KindCorrupt, "", "", "line %d does not follow the line before it: its previous hash is another", entry.Number)
	case v.noted != nil && v.noted.Number == entry.Number && v.noted.Hash != entry.Hash:
		return engine.Errorf(engine.KindCorrupt, "", "", "line %d is not the one that was noted", entry.Number)
	}
	v.met = v.met || v.noted != nil && v.noted.Number == entry.Number
	if r.Lines == 0 {
		r.First, r.Begin = entry.Number, entry.Time
	}
	r.Lines++
	r.Last, r.Hash, r.End = entry.Number, entry.Hash, entry.Time
	if v.see != nil {
		return v.see(entry)
	}
	return nil
}
