package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"

	"github.com/f708428e/engine/internal/rpc"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// progress shows how far a job is. Its methods are called by one goroutine.
type progress interface {
	// show takes in the job as it is now.
	show(now time.Time, job *enginev1.Job)
	// tick is called about once a second, also when nothing changes.
	tick(now time.Time)
	// close ends the display; what is printed afterwards begins on a line of its own.
	close()
}

// linesEvery is how often a job's progress is printed where no line can be redrawn.
const linesEvery = 10 * time.Second

// newProgress chooses the display: a bar on a terminal, lines elsewhere, nothing if quiet. Lines that others write to logs
// stand above the bar.
func (a *app) newProgress(logs *logWriter) progress {
	switch {
	case a.quiet:
		return noProgress{}
	case a.fancy:
		return newBar(a.stderr, terminalWidth, logs)
	default:
		return &lines{out: a.stderr}
	}
}

type noProgress struct{}

func (noProgress) show(time.Time, *enginev1.Job) {}
func (noProgress) tick(time.Time)                {}
func (noProgress) close()                        {}

// lines prints a line when the job is first seen, when it is planned, with the columns that it reads, and every ten seconds.
type lines struct {
	out     io.Writer
	meter   meter
	job     *enginev1.Job
	printed time.Time
	planned bool
	schema  schemaLine
}

func (l *lines) show(now time.Time, job *enginev1.Job) {
	first, planned := l.job == nil, !l.planned && job.GetProgress().GetSplitsTotal() > 0
	l.job, l.planned = job, l.planned || planned
	l.meter.observe(now, job)
	if rpc.JobStateFromProto(job.GetState()).Terminal() {
		return // The summary says it.
	}
	if first || planned {
		l.print(now)
	}
	fmt.Fprint(l.out, l.schema.line(job))
}

func (l *lines) tick(now time.Time) {
	if l.job != nil && now.Sub(l.printed) >= linesEvery {
		l.meter.observe(now, l.job)
		l.print(now)
	}
}

func (l *lines) print(now time.Time) {
	l.printed = now
	fmt.Fprintf(l.out, "job %s: %s\n", l.job.GetJobId(), l.meter.last)
}

func (l *lines) close() {}

// schemaLine says once which columns a job reads, and of which types.
type schemaLine struct{ said bool }

// line is the line, with its end, as soon as the job is planned; empty before and afterwards.
func (s *schemaLine) line(job *enginev1.Job) string {
	if s.said || len(job.GetSourceColumns()) == 0 {
		return ""
	}
	s.said = true
	return fmt.Sprintf("job %s: columns %s\n", job.GetJobId(), rpc.ListColumns(job.GetSourceColumns()))
}

// bar is one line that is redrawn in place: when the job changes, every second, and below each log line that goes past it. It is
// safe for concurrent use.
type bar struct {
	out   io.Writer
	width func() int
	logs  *logWriter
	meter meter
	job   *enginev1.Job
	// schema stands above the bar.
	schema schemaLine

	mu   sync.Mutex
	text string
}

const (
	barCells = 28
	// clearLine goes to the line's beginning and empties it.
	clearLine = "\r\x1b[K"
)

// terminalWidth is how many columns the terminal at standard error has, or 0 if that is not known.
func terminalWidth() int {
	width, _, err := term.GetSize(int(os.Stderr.Fd()))
	if err != nil {
		return 0
	}
	return width
}

// newBar draws on out, which is width columns wide.
func newBar(out io.Writer, width func() int, logs *logWriter) *bar {
	b := &bar{out: out, width: width, logs: logs}
	logs.redirect(b)
	return b
}

func (b *bar) show(now time.Time, job *enginev1.Job) {
	b.job = job
	b.refresh(b.meter.observe(now, job))
	if line := b.schema.line(job); line != "" {
		fmt.Fprint(b, line)
	}
}

func (b *bar) tick(now time.Time) {
	if b.job != nil {
		b.refresh(b.meter.observe(now, b.job))
	}
}

func (b *bar) refresh(r reading) {
	done := 0
	if r.bytesTotal > 0 {
		done = int(barCells * r.bytesDone / r.bytesTotal)
	}
	text := "[" + strings.Repeat("=", done) + strings.Repeat(" ", barCells-done) + "] " + r.String()
	// A line that wraps could not be redrawn.
	if most := b.width() - 1; most > 0 && len(text) > most {
		text = text[:most]
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.text = text
	fmt.Fprint(b.out, clearLine, b.text)
}

// Write prints whole lines above the bar.
func (b *bar) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	fmt.Fprint(b.out, clearLine)
	n, err := b.out.Write(p)
	fmt.Fprint(b.out, b.text)
	return n, err
}

func (b *bar) close() {
	b.logs.redirect(nil)
	b.mu.Lock()
	defer b.mu.Unlock()
	fmt.Fprint(b.out, clearLine)
}

// logWriter is where log lines go: to out, or above a progress bar while there is one. It is safe for concurrent use.
type logWriter struct {
	mu  sync.Mutex
	out io.Writer
	bar io.Writer
}

// Write writes p to the bar, or to out.
func (w *logWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.bar != nil {
		if n, err := w.bar.Write(p); err == nil {
			return n, nil
		}
	}
	return w.out.Write(p)
}

func (w *logWriter) redirect(bar io.Writer) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.bar = bar
}
