package dataset

import (
	"fmt"

	"github.com/f708428e/engine"
)

// RowInfo says where a row came from.
type RowInfo struct {
	// Path is the file's, or what the source names itself by.
	Path string
	// Line is the number of the line in which the row begins, from 1; zero if it is not known, or the format has no lines.
	Line int64
	// Row is the row's number in the file, from 1; zero if it is not known.
	Row int64
	// OffsetBytes is where the row begins in the file, unpacked if it is compressed; -1 if that says nothing.
	OffsetBytes int64
	// Raw is the row as it stands in a text, without its line end; nil if it is not known. It is the receiver's.
	Raw []byte
}

// BadRow is a row that is not taken.
type BadRow struct {
	RowInfo
	// Column is the column whose value is at fault; empty if the row as a whole is.
	Column string
	// Reason says why, without saying where.
	Reason string
}

// RefusedRow is a row of a record batch that an output does not take.
type RefusedRow struct {
	// Row is its place in the record batch, from 0.
	Row int64
	// Column is the column whose value is at fault.
	Column string
	// Err says what is wrong with the value, without row and column.
	Err error
}

// RefusedRows is the error of who has written all rows of a record batch but these, of which there is one at least. They ascend.
type RefusedRows []RefusedRow

// Error returns column, row, and cause of the first.
func (r RefusedRows) Error() string {
	return fmt.Sprintf("column %q, row %d of the record batch: %v", r[0].Column, r[0].Row, r[0].Err)
}

// Unwrap returns the cause of the first as an error of kind engine.KindData.
func (r RefusedRows) Unwrap() error { return &engine.Error{Kind: engine.KindData, Err: r[0].Err} }

// Locator finds the rows of one record batch in storage. It is safe for concurrent use, and may be used until the reader that made it is
// closed, also after the reader has gone on.
type Locator interface {
	// Locate says where a row came from; it counts from 0. What cannot be found out is left out.
	Locate(row int64) RowInfo
}

// Marker is a Reader that remembers where rows came from. Readers of files are.
type Marker interface {
	// Mark returns a Locator of the last record batch that Read returned; nil if nothing is known of its rows.
	Mark() Locator
}

// Numbered is a Locator for formats whose rows have numbers alone: First is that of the record batch's first row, from 0.
type Numbered struct {
	Path  string
	First int64
}

// Locate implements Locator.
func (n Numbered) Locate(row int64) RowInfo {
	return RowInfo{Path: n.Path, Row: n.First + row + 1, OffsetBytes: -1}
}

// Unnumbered is a Locator that knows no more than the file.
type Unnumbered struct{ Path string }

// Locate implements Locator.
func (u Unnumbered) Locate(int64) RowInfo { return RowInfo{Path: u.Path, OffsetBytes: -1} }

// MarkFrom is Mark for readers that cut the record batches of another reader: first is the row of its last one with which theirs begins. It
// is nil if the other reader is no Marker.
func MarkFrom(reader Reader, first int64) Locator {
	m, ok := reader.(Marker)
	if !ok {
		return nil
	}
	at := m.Mark()
	if at == nil {
		return nil
	}
	return shifted{at, first}
}

type shifted struct {
	Locator
	first int64
}

// Locate implements Locator.
func (s shifted) Locate(row int64) RowInfo { return s.Locator.Locate(s.first + row) }
