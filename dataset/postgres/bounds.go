package postgres

import (
	"math/big"
	"strconv"
	"time"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/dataset"
)

const (
	dayMicros = 24 * 60 * 60 * 1_000_000
	// firstDay and lastDay are 0001-01-01 and 9999-12-31 in days since 1970. Bounds lie between them; rows need not.
	firstDay = -719_162
	lastDay  = 2_932_896
)

// timeLayouts are the forms of a bound that is a moment.
var timeLayouts = []string{time.RFC3339Nano, "2006-01-02T15:04:05.999999", "2006-01-02 15:04:05.999999", time.DateOnly}

// parse understands a bound of the job file: a whole number, days, or microseconds since 1970.
func (k rangeKind) parse(field, text string) (int64, error) {
	refuse := func(form string) (int64, error) {
		return 0, engine.Errorf(engine.KindInvalidArgument, "", field, "%q is not %s, as the partition column is", text, form)
	}
	switch k {
	case integerRange:
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return refuse("a whole number")
		}
		return n, nil
	case dateRange:
		t, err := time.Parse(time.DateOnly, text)
		if err != nil {
			return refuse("a date such as 2026-11-27")
		}
		return t.Unix() / (24 * 60 * 60), nil
	default:
		for _, layout := range timeLayouts {
			t, err := time.Parse(layout, text)
			if err == nil && (k == instantRange || layout != time.RFC3339Nano) {
				return t.UnixMicro(), nil
			}
		}
		return refuse("a timestamp such as 2026-11-27T15:04:05")
	}
}

// format is the text of a bound in a statement, in which Postgres sees the type of what it is compared with.
func (k rangeKind) format(n int64) string {
	switch k {
	case integerRange:
		return strconv.FormatInt(n, 10)
	case dateRange:
		return time.Unix(n*24*60*60, 0).UTC().Format(time.DateOnly)
	case instantRange:
		return time.UnixMicro(n).UTC().Format("2006-01-02 15:04:05.000000+00")
	default:
		return time.UnixMicro(n).UTC().Format("2006-01-02 15:04:05.000000")
	}
}

// extent is a query's expression for a bound, as a whole number.
func (k rangeKind) extent(function, column string) string {
	value := function + "(" + column + ")"
	if k != integerRange {
		value += " FILTER (WHERE isfinite(" + column + "))"
	}
	switch k {
	case integerRange:
		return value + "::int8"
	case dateRange:
		return "(" + value + " - date '1970-01-01')::int8"
	default:
		return "trunc(extract(epoch FROM " + value + ") * 1000000)::int8"
	}
}

// cutRange cuts the values from lower to upper into at most count ranges of the same width and returns where all but the first begin,
// ascending. The first and the last range are open, so that no row is in none.
func cutRange(lower, upper int64, count int) []int64 {
	first := big.NewInt(lower)
	span := new(big.Int).Sub(big.NewInt(upper), first)
	span.Add(span, big.NewInt(1))
	var begins []int64
	last := lower
	for i := 1; i < count; i++ {
		at := new(big.Int).Mul(span, big.NewInt(int64(i)))
		at.Quo(at, big.NewInt(int64(count)))
		if begin := at.Add(at, first).Int64(); begin > last {
			begins = append(begins, begin)
			last = begin
		}
	}
	return begins
}

// splits makes the splits of an input: one more than there are inner bounds.
func (k rangeKind) splits(file dataset.File, begins []int64) []dataset.Split {
	splits := []dataset.Split{{File: file, Nulls: len(begins) > 0}}
	for _, begin := range begins {
		at := k.format(begin)
		splits[len(splits)-1].Upper = at
		splits = append(splits, dataset.Split{File: file, Lower: at})
	}
	return splits
}

// condition is the WHERE of a split.
func condition(column string, split dataset.Split) string {
	column = quote(column)
	text := ""
	if split.Lower != "" {
		text = column + " >= " + literal(split.Lower)
	}
	if split.Upper != "" {
		if text != "" {
			text += " AND "
		}
		text += column + " < " + literal(split.Upper)
	}
	switch {
	case text == "":
		return ""
	case split.Nulls:
		return " WHERE (" + text + " OR " + column + " IS NULL)"
	default:
		return " WHERE " + text
	}
}
