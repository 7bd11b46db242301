package worker

import (
	"context"

	"github.com/apache/arrow/go/v15/arrow"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/dataset/postgres"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// postgresOutput commits parts as rows of a table of Postgres.
type postgresOutput struct {
	target *postgres.Target
	schema *arrow.Schema
}

func (o *postgresOutput) begin(ctx context.Context, l *lease) (draft, *part, error) {
	unit, found, err := o.target.Begin(ctx, l.task.Index, uint64(l.epoch), o.schema)
	if err != nil {
		return nil, nil, err
	}
	if found != nil {
		p, err := o.part(*found, true)
		return nil, p, err
	}
	return &rowsDraft{output: o, unit: unit}, nil, nil
}

// part says what was committed.
func (o *postgresOutput) part(commit postgres.Commit, adopted bool) (*part, error) {
	counts := &enginev1.TaskCounts{}
	if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(commit.Details, counts); err != nil {
		return nil, engine.Errorf(engine.KindCorrupt, "read commit", o.target.String(), "%w", err)
	}
	counts.BytesWritten = commit.SizeBytes
	return &part{counts: counts, sizeBytes: commit.SizeBytes, epoch: engine.Epoch(commit.Epoch), adopted: adopted}, nil
}

// rowsDraft is a transaction.
type rowsDraft struct {
	output *postgresOutput
	unit   *postgres.Unit
}

// Write implements draft.
func (d *rowsDraft) Write(ctx context.Context, record arrow.Record) error {
	return d.unit.Write(ctx, record)
}

func (d *rowsDraft) publish(ctx context.Context, counts *enginev1.TaskCounts, right func(context.Context) error) (*part, error) {
	details, err := protojson.Marshal(counts)
	if err != nil {
		return nil, engine.Errorf(engine.KindInternal, "commit rows", d.output.target.String(), "%w", err)
	}
	commit, adopted, err := d.unit.Publish(ctx, details, right)
	if err != nil {
		return nil, err
	}
	return d.output.part(commit, adopted)
}

func (d *rowsDraft) close() error { return d.unit.Close() }
