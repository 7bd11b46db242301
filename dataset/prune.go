package dataset

// Prune tells by bounds of columns which parts of a split are not needed. A format without bounds ignores it. A record batch ends before a
// part that is left out.
type Prune struct {
	// MayMatch reports whether a row of a part may be needed. It may be asked of the same part more than once. Required.
	MayMatch func(bounds func(column string) Bounds) bool
	// LeftOut is told how many rows have been left out, within Reader.Read. May be nil.
	LeftOut func(rows int64)
}

// Bounds is what a file says of a column in a part of itself. The zero value is nothing.
type Bounds struct {
	// Low and High bound the values that are neither null nor NaN: both int64 (of dates the days, of timestamps those units of the
	// column's type, since 1970), both float64, or both string. They need not be values of the column. Nil if they are not known.
	Low, High any
	// NoNulls says that no row is null, AllNulls that every row is.
	NoNulls, AllNulls bool
}
