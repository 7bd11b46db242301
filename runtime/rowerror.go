package runtime

import (
	"fmt"

	"github.com/f708428e/engine"
)

// RowError is a value that an operator cannot process. Whoever read the record batch knows the file and line of the row and
// rewrites the error in these terms. Its kind is engine.KindData.
type RowError struct {
	// Column is the column's name, or empty if the row as a whole is at fault.
	Column string
	// Row is the row's place in the record batch that the operator was given, from 0.
	Row int64
	// Others are further rows, ascending, of which the same is true, as far as that is known. May be nil.
	Others []int64
	// Err says what is wrong with the value, without column and row.
	Err error
}

// Error returns column, row and cause.
func (e *RowError) Error() string {
	if e.Column == "" {
		return fmt.Sprintf("row %d of the record batch: %v", e.Row, e.Err)
	}
	return fmt.Sprintf("column %q, row %d of the record batch: %v", e.Column, e.Row, e.Err)
}

// Unwrap returns the cause as an error of kind engine.KindData.
func (e *RowError) Unwrap() error { return &engine.Error{Kind: engine.KindData, Err: e.Err} }
