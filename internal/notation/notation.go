// Package notation says how values are written as text, in both directions, so that the step cast, expressions, and messages agree.
// Its functions may be called from several goroutines.
package notation

import (
	"errors"
	"math"
	"strconv"
	"strings"
	"time"
)

// Layouts of dates and of timestamps, as package time has them.
const (
	DateLayout      = "2006-01-02"
	TimestampLayout = "2006-01-02T15:04:05.999999999"
)

// ErrNotExact is a value that is well written, but lies between two values of its type.
var ErrNotExact = errors.New("the value does not fit exactly")

const secondsPerDay = 24 * 60 * 60

// AppendFloat appends a number in the fewest digits that parse to the same value of as many bits, with an exponent if it is below -6
// or above 20; NaN, Inf, and -Inf.
func AppendFloat(b []byte, v float64, bits int) []byte {
	if math.IsInf(v, 1) {
		return append(b, "Inf"...)
	}
	format := byte('f')
	if a := math.Abs(v); a != 0 && (a < 1e-6 || a >= 1e21) {
		format = 'e'
	}
	return strconv.AppendFloat(b, v, format, -1, bits)
}

// AppendDate appends the date that lies as many days after 1970-01-01.
func AppendDate(b []byte, days int64) []byte {
	return time.Unix(days*secondsPerDay, 0).UTC().AppendFormat(b, DateLayout)
}

// AppendTimestamp appends the moment that lies as many microseconds after 1970, without a zone.
func AppendTimestamp(b []byte, micros int64) []byte {
	return time.UnixMicro(micros).UTC().AppendFormat(b, TimestampLayout)
}

// ParseFloat is strconv.ParseFloat without what only a programmer would write: hexadecimal digits and underscores. A number beyond
// the range is an error of strconv.
func ParseFloat(s string, bits int) (float64, error) {
	if strings.ContainsAny(s, "xX_") {
		return 0, strconv.ErrSyntax
	}
	return strconv.ParseFloat(s, bits)
}

// ParseDate returns the days from 1970-01-01 to a date like 2006-01-02.
func ParseDate(s string) (int32, error) {
	t, err := time.Parse(DateLayout, s)
	if err != nil {
		return 0, err
	}
	return int32(t.Unix() / secondsPerDay), nil // four digits of a year fit
}

// ParseTimestamp returns the microseconds from 1970 to a moment like 2006-01-02T15:04:05, with an optional fraction, a space for the T,
// a Z at the end, or no time of day at all. Nanoseconds are ErrNotExact.
func ParseTimestamp(s string) (int64, error) {
	if len(s) == len(DateLayout) {
		t, err := time.Parse(DateLayout, s)
		return t.UnixMicro(), err
	}
	layout := "2006-01-02T15:04:05"
	if len(s) > len(DateLayout) && s[len(DateLayout)] == ' ' {
		layout = "2006-01-02 15:04:05"
	}
	t, err := time.Parse(layout, strings.TrimSuffix(s, "Z"))
	if err != nil {
		return 0, err
	}
	if t.Nanosecond()%1000 != 0 {
		return 0, ErrNotExact
	}
	return t.UnixMicro(), nil
}
