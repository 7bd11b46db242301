package expression

import (
	"math"
)

const (
	microsPerSecond = 1_000_000
	microsPerDay    = 24 * 60 * 60 * microsPerSecond
)

func evalDateToTime(e *Evaluator, n *node, active bitmap) (*vector, error) {
	a, err := e.eval(n.args[0], active)
	if err != nil {
		return nil, err
	}
	out := e.get()
	out.validAs(e.rows, a)
	out.ints = grow(out.ints, e.rows)
	for i, days := range a.ints[:e.rows] {
		// Beyond year 292,277 a timestamp has no place for it; what is compared stays in order.
		out.ints[i] = min(max(days, math.MinInt64/microsPerDay), math.MaxInt64/microsPerDay) * microsPerDay
	}
	e.done(a)
	return out, nil
}

// floorDiv divides towards minus infinity.
func floorDiv(x, y int64) int64 {
	q := x / y
	if x%y < 0 {
		q--
	}
	return q
}

// civil is the date in the Gregorian calendar of a day since 1970-01-01. It counts eras of 400 years that begin in March, so that leap
// days are last; see Hinnant, "chrono-compatible low-level date algorithms".
func civil(days int64) (year, month, day int64) {
	days += 719_468
	era := floorDiv(days, 146_097)
	ofEra := days - era*146_097
	yearOfEra := (ofEra - ofEra/1_460 + ofEra/36_524 - ofEra/146_096) / 365
	ofYear := ofEra - (365*yearOfEra + yearOfEra/4 - yearOfEra/100)
	shifted := (5*ofYear + 2) / 153
	day = ofYear - (153*shifted+2)/5 + 1
	month = shifted + 3
	if month > 12 {
		month -= 12
	}
	year = yearOfEra + era*400
	if month <= 2 {
		year++
	}
	return year, month, day
}

// dateParts are functions of days, timeParts of the microseconds of a day.
var (
	dateParts = map[string]func(days int64) int64{
		"year":  func(d int64) int64 { y, _, _ := civil(d); return y },
		"month": func(d int64) int64 { _, m, _ := civil(d); return m },
		"day":   func(d int64) int64 { _, _, d = civil(d); return d },
		// Sunday is 0; 1970-01-01 was a Thursday.
		"dayofweek": func(d int64) int64 { return d + 4 - floorDiv(d+4, 7)*7 },
	}
	timeParts = map[string]func(micros int64) int64{
		"hour":   func(t int64) int64 { return t / (3600 * microsPerSecond) },
		"minute": func(t int64) int64 { return t / (60 * microsPerSecond) % 60 },
		"second": func(t int64) int64 { return t / microsPerSecond % 60 },
	}
)

// evalPart takes the part that extra names of a date or timestamp.
func evalPart(e *Evaluator, n *node, active bitmap) (*vector, error) {
	a, err := e.eval(n.args[0], active)
	if err != nil {
		return nil, err
	}
	out := e.get()
	out.validAs(e.rows, a)
	out.ints = grow(out.ints, e.rows)
	name := n.extra.(string)
	ofDay, ofTime := dateParts[name], timeParts[name]
	date := n.args[0].kind == kindDate
	for i, x := range a.ints[:e.rows] {
		days, micros := x, int64(0)
		if !date {
			days = floorDiv(x, microsPerDay)
			micros = x - days*microsPerDay
		}
		if ofDay != nil {
			out.ints[i] = ofDay(days)
		} else {
			out.ints[i] = ofTime(micros)
		}
	}
	e.done(a)
	return out, nil
}
