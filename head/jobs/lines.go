package jobs

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/head/joblog"
	"github.com/f708428e/engine/internal/failpoint"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// lines are the head's lines on their way to the jobs' logs. A goroutine writes what has gathered, each job's in one go, so that neither
// accepting a job nor a worker's report waits for files. It is safe for concurrent use.
type lines struct {
	logs   *joblog.Book
	logger *slog.Logger
	wake   chan struct{}

	// writing is held while a job's lines are taken and written, so that they stay in order.
	writing sync.Mutex

	mu      sync.Mutex
	pending map[engine.JobID][]*enginev1.LogLine
	// order has the jobs with pending lines, in the order in which they got the first, and perhaps some without.
	order []engine.JobID
	count int
	// ended says that nobody writes what gathers.
	ended bool
}

// gatherFor is how long lines gather: a job has several one after the other when it begins and when it ends, and to open a file costs more
// than to write a line.
const gatherFor = 50 * time.Millisecond

// maxPendingLines is how many lines may gather. Whoever adds more writes its own.
const maxPendingLines = 20_000

func newLines(logs *joblog.Book, logger *slog.Logger) *lines {
	return &lines{logs: logs, logger: logger, wake: make(chan struct{}, 1), pending: map[engine.JobID][]*enginev1.LogLine{}}
}

// add adds a line to a job's log. It does not wait for the file unless very many lines do.
func (l *lines) add(id engine.JobID, line *enginev1.LogLine) {
	l.mu.Lock()
	first := len(l.order) == 0
	if l.pending[id] == nil {
		l.order = append(l.order, id)
	}
	l.pending[id] = append(l.pending[id], line)
	l.count++
	mustWrite := l.ended || l.count > maxPendingLines
	l.mu.Unlock()
	if mustWrite {
		l.flush(id)
		return
	}
	if first { // Else the goroutine is to write already, and is not to be put off.
		select {
		case l.wake <- struct{}{}:
		default: // It has yet to hear of an earlier one.
		}
	}
}

// run writes what gathers until ctx ends, and then what is left.
func (l *lines) run(ctx context.Context) error {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		select {
		case <-l.wake:
			timer.Reset(gatherFor)
		case <-timer.C:
			l.writeAll()
		case <-ctx.Done():
			l.mu.Lock()
			l.ended = true
			l.mu.Unlock()
			l.writeAll()
			return nil
		}
	}
}

func (l *lines) writeAll() {
	for {
		l.mu.Lock()
		if len(l.order) == 0 {
			l.order = nil
			l.mu.Unlock()
			return
		}
		id := l.order[0]
		l.order = l.order[1:]
		l.mu.Unlock()
		l.flush(id)
	}
}

// flush writes a job's lines, and returns when those are written that were added before. A failure is logged and costs the lines.
func (l *lines) flush(id engine.JobID) {
	l.writing.Lock()
	defer l.writing.Unlock()
	l.mu.Lock()
	gathered := l.pending[id]
	delete(l.pending, id)
	l.count -= len(gathered)
	l.mu.Unlock()
	if len(gathered) == 0 {
		return
	}
	failpoint.Hit(failpoint.HeadWritingJobLog)
	if err := l.logs.Append(id, gathered...); err != nil {
		l.logger.Warn("lines were lost from a job's log", "job", id, "lines", len(gathered), "first", gathered[0].GetMessage(), "error", err)
	}
}
