package main

import (
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"

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
		return newBar(a.stderr, logs)
	default:
		return &lines{out: a.stderr}
	}
}

type noProgress struct{}

func (noProgress) show(time.Time, *enginev1.Job) {}
func (noProgress) tick(time.Time)                {}
func (noProgress) close()                        {}

// lines prints a line when the job is first seen, when it is planned, and every ten seconds.
type lines struct {
	out     io.Writer
	meter   meter
	job     *enginev1.Job
	printed time.Time
	planned bool
}

func (l *lines) show(now time.Time, job *enginev1.Job) {
	first, planned := l.job == nil, !l.planned && job.GetProgress().GetSplitsTotal() > 0
	l.job, l.planned = job, l.planned || planned
	l.meter.observe(now, job)
	if first || planned {
		l.print(now)
	}
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

// bar is one line that is redrawn: when the job changes, every second, and when a log line goes past it. Nothing is drawn in
// between, so that what was written is on the screen when the bar is closed.
type bar struct {
	container *mpb.Progress
	line      *mpb.Bar
	redraws   chan any
	logs      *logWriter
	meter     meter
	job       *enginev1.Job
	text      atomic.Pointer[string]
}

func newBar(out io.Writer, logs *logWriter) *bar {
	b := &bar{logs: logs, redraws: make(chan any)}
	empty := ""
	b.text.Store(&empty)
	b.container = mpb.New(mpb.WithOutput(out), mpb.WithWidth(80), mpb.WithManualRefresh(b.redraws))
	b.line = b.container.New(1, mpb.BarStyle().Lbound("[").Filler("=").Tip(">").Padding(" ").Rbound("]"),
		mpb.BarWidth(28), mpb.BarRemoveOnComplete(),
		mpb.AppendDecorators(decor.Any(func(decor.Statistics) string { return *b.text.Load() })))
	logs.redirect(b)
	return b
}

func (b *bar) show(now time.Time, job *enginev1.Job) {
	b.job = job
	b.refresh(b.meter.observe(now, job))
}

func (b *bar) tick(now time.Time) {
	if b.job != nil {
		b.refresh(b.meter.observe(now, b.job))
	}
}

func (b *bar) refresh(r reading) {
	text := " " + r.String()
	b.text.Store(&text)
	// One more than there is, so that the bar does not complete before it is closed.
	b.line.SetTotal(max(r.bytesTotal, 1)+1, false)
	b.line.SetCurrent(r.bytesDone)
	b.redraw()
}

// redraw returns when the container is bound to draw.
func (b *bar) redraw() { b.redraws <- time.Now() }

// Write prints whole lines above the bar.
func (b *bar) Write(p []byte) (int, error) {
	n, err := b.container.Write(p)
	b.redraw()
	return n, err
}

func (b *bar) close() {
	b.logs.redirect(nil)
	b.line.Abort(true)
	b.redraw()
	b.container.Wait()
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
