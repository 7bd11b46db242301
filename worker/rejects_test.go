package worker_test

import (
	"bytes"
	"context"
	"testing"

	"github.com/f708428e/engine/dataset"
	"github.com/f708428e/engine/worker"
)

// TestRejectsDoNotPileUp leaves out far more rows than fit into memory before a reader finds a good one.
func TestRejectsDoNotPileUp(t *testing.T) {
	row := dataset.BadRow{RowInfo: dataset.RowInfo{Path: "in.csv", Line: 1, Raw: bytes.Repeat([]byte{'x'}, 1000)}, Reason: "is bad"}
	const rows = 20_000
	written, waited, err := worker.RejectWhileReading(context.Background(), rows, row)
	if err != nil || written != rows || waited > 2000 {
		t.Errorf("%d of %d rows were written, %d waited at a time, %v", written, rows, waited, err)
	}
}
