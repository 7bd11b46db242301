package worker

import (
	"github.com/f708428e/engine/dataset"
	"github.com/f708428e/engine/internal/jobplan"
)

// prune lets a reader leave out what the program's first filter would. Rows that are left out count as read and filtered, unless counts
// is nil.
func prune(program *jobplan.Program, counts *counts) *dataset.Prune {
	mayMatch := program.MayMatch()
	if mayMatch == nil {
		return nil
	}
	p := &dataset.Prune{MayMatch: mayMatch}
	if counts != nil {
		p.LeftOut = func(rows int64) {
			counts.rowsRead.Add(rows)
			counts.rowsFiltered.Add(rows)
		}
	}
	return p
}
