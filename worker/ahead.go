package worker

import (
	"context"
	"runtime/debug"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/dataset"
	"github.com/f708428e/engine/dataset/storage"
	"github.com/f708428e/engine/internal/jobplan"
)

// splitReader opens the splits of a task one after the other. While one in a bucket is read, the next one is opened already, which begins to
// read it: else each short one would wait for its own round trips. How much is read ahead the storage bounds. It is not safe for
// concurrent use, and must be closed.
type splitReader struct {
	splits []dataset.Split
	open   func(ctx context.Context, split dataset.Split) (dataset.Reader, error)
	ctx    context.Context //nolint:containedctx // The attempt's, which readers live under.
	cancel context.CancelFunc
	next   int
	ahead  chan opened // nil if no split is being opened
}

// opened is a split that was opened ahead, or why that could not be.
type opened struct {
	reader dataset.Reader
	err    error
}

// splitsOf returns the splits of a task. Rows that cannot be read are rejected by bad, which may be nil.
func (w *Worker) splitsOf(ctx context.Context, program *jobplan.Program, l *lease, bad *rejects) *splitReader {
	reject := bad.reader(ctx) // The files of rejected rows outlive the readers.
	s := &splitReader{open: func(ctx context.Context, split dataset.Split) (dataset.Reader, error) {
		return w.open(ctx, program, l.job, split, reject, &l.counts)
	}}
	for i, split := range l.plan.GetSplits() {
		s.splits = append(s.splits, jobplan.SplitOf(l.inputs[i], split))
	}
	s.ctx, s.cancel = context.WithCancel(ctx)
	return s
}

// each calls f with every split and its reader, which f closes, until one fails.
func (s *splitReader) each(f func(split dataset.Split, reader dataset.Reader) error) error {
	for {
		split, reader, more, err := s.take()
		if err != nil || !more {
			return err
		}
		if err := f(split, reader); err != nil {
			return err
		}
	}
}

// take opens the next split, whose reader is the caller's; false after the last.
func (s *splitReader) take() (split dataset.Split, reader dataset.Reader, more bool, err error) {
	if s.next == len(s.splits) {
		return split, nil, false, nil
	}
	split = s.splits[s.next]
	s.next++
	if s.ahead != nil {
		found := <-s.ahead // Opening ends with the context.
		s.ahead = nil
		reader, err = found.reader, found.err
	} else {
		reader, err = s.open(s.ctx, split)
	}
	if err == nil && s.next < len(s.splits) && worthwhile(s.splits[s.next]) {
		s.begin(s.splits[s.next])
	}
	return split, reader, true, err
}

// worthwhile tells whether a split is opened ahead: files of this machine the operating system reads ahead, and a database would have a
// connection wait, and a transaction.
func worthwhile(split dataset.Split) bool {
	return storage.Remote(split.File) && split.File.SizeBytes > 0
}

// begin opens a split ahead.
func (s *splitReader) begin(split dataset.Split) {
	ahead := make(chan opened, 1)
	s.ahead = ahead
	go func() { // lifecycle: ends with the context, and take or close waits for it.
		var found opened
		defer func() {
			if p := recover(); p != nil { // as in attempt
				found = opened{err: engine.Errorf(engine.KindInternal, "open split", split.File.Path, "panic: %v\n%s", p, debug.Stack())}
			}
			ahead <- found
		}()
		found.reader, found.err = s.open(s.ctx, split)
	}()
}

// close closes what was opened ahead and is not wanted.
func (s *splitReader) close() error {
	s.cancel()
	if s.ahead == nil {
		return nil
	}
	found := <-s.ahead
	s.ahead = nil
	if found.err != nil {
		return nil //nolint:nilerr // Why it could not be opened does not matter any more.
	}
	return found.reader.Close()
}
