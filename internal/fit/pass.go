package fit

import (
	"github.com/f708428e/engine"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// maxPassBytes bounds the categories of all columns of a pass, so that what a task sends fits into a report, and what the head keeps into
// its log.
const maxPassBytes = 8 << 20

// Pass is what has been seen of all targets of one pass over the data, by one task, or by those that the head has heard of. It is not safe
// for concurrent use.
type Pass struct {
	columns []*Column
}

// NewPass returns a pass that has seen nothing.
func NewPass(targets []Target) *Pass {
	p := &Pass{}
	for _, target := range targets {
		p.columns = append(p.columns, New(target))
	}
	return p
}

// Columns are those of the targets, in their order.
func (p *Pass) Columns() []*Column { return p.columns }

// ToProto returns what has been seen. Too many categories together are an error of kind engine.KindData.
func (p *Pass) ToProto() (*enginev1.Fit, error) {
	if err := p.checkSize(); err != nil {
		return nil, err
	}
	message := &enginev1.Fit{}
	for _, c := range p.columns {
		message.Columns = append(message.Columns, c.ToProto())
	}
	return message, nil
}

// Merge adds what another task has seen. After an error the pass is of no use.
func (p *Pass) Merge(message *enginev1.Fit) error {
	if n := len(message.GetColumns()); n != len(p.columns) {
		return engine.Errorf(engine.KindCorrupt, "merge fit", "", "%d columns, expected %d", n, len(p.columns))
	}
	for i, c := range message.GetColumns() {
		if err := p.columns[i].Merge(c); err != nil {
			return err
		}
	}
	return p.checkSize()
}

// Results returns what the steps are fitted to, in the order of the targets.
func (p *Pass) Results() ([]*enginev1.FittedColumn, error) {
	results := make([]*enginev1.FittedColumn, len(p.columns))
	for i, c := range p.columns {
		var err error
		if results[i], err = c.Result(); err != nil {
			return nil, err
		}
	}
	return results, nil
}

func (p *Pass) checkSize() error {
	total := 0
	for _, c := range p.columns {
		total += c.bytes
	}
	if total > maxPassBytes {
		return engine.Errorf(engine.KindData, "fit", "", "the categories of %d columns are longer than %d bytes together", len(p.columns), maxPassBytes).
			WithHint("give those that count in the job file, with unknown: ignore")
	}
	return nil
}
