package worker

import (
	"context"

	"github.com/apache/arrow/go/v15/arrow"

	"github.com/f708428e/engine/dataset"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// RejectWhileReading tells the rejects of a job that writes them of rows that one call of a reader leaves out. It returns how many were
// written, at the end, and the most that waited.
func RejectWhileReading(ctx context.Context, rows int, row dataset.BadRow) (written, waited int64, err error) {
	out := &countedRejects{}
	l := &lease{job: &jobEntry{assignment: &enginev1.JobAssignment{Spec: &enginev1.JobSpec{OnBadRow: &enginev1.BadRows{Action: "dead_letter"}}}}}
	r, err := newRejects(l, out)
	if err != nil {
		return 0, 0, err
	}
	tell := r.reader(ctx)
	for i := range rows {
		if err := tell(row); err != nil {
			return out.rows, waited, err
		}
		waited = max(waited, int64(i+1)-out.rows)
	}
	err = r.flush(ctx)
	return out.rows, waited, err
}

// RowJSON is what is kept of a row that is no text.
var RowJSON = rowJSON

type countedRejects struct {
	draft
	rows int64
}

func (c *countedRejects) reject(_ context.Context, record arrow.Record) error {
	c.rows += record.NumRows()
	return nil
}

// SplitReader reads splits as a task does: take opens the next one, and close ends what was opened ahead.
func SplitReader(ctx context.Context, splits []dataset.Split, open func(context.Context, dataset.Split) (dataset.Reader, error)) (
	take func() (dataset.Split, dataset.Reader, bool, error), end func() error,
) {
	s := &splitReader{splits: splits, open: open}
	s.ctx, s.cancel = context.WithCancel(ctx)
	return s.take, s.close
}

// DigestRejected is what identifies a rejected row that was read from a place, as attempts compare it.
func DigestRejected(row dataset.BadRow) (digest uint64, err error) {
	out := &digestedRejects{}
	r := &rejects{keep: true, out: out, writing: make(chan struct{}, 1), rows: []dataset.BadRow{row}}
	err = r.flush(context.Background())
	return out.digest, err
}

type digestedRejects struct{ digest uint64 }

func (d *digestedRejects) reject(_ context.Context, record arrow.Record) error {
	d.digest += rejectDigest(record, 0)
	return nil
}
