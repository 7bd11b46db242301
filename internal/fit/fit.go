// Package fit finds out what the steps one_hot, index, and scale leave out: the categories of a column, its mean and standard deviation,
// or its smallest and largest value. Workers let a Column observe what reaches a step, the head merges what they send. All in between is
// exact, so the result does not depend on how the rows are divided or in which order they come.
package fit

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"

	"github.com/f708428e/engine"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// Kind is what is found out of a column.
type Kind uint8

// The kinds.
const (
	// Categories are the values of a column of texts, whole numbers, or truth values.
	Categories Kind = iota + 1
	// Standard is the mean and the standard deviation of the population.
	Standard
	// MinMax is the smallest and the largest value.
	MinMax
)

const (
	// MaxCategories bounds the categories of a column.
	MaxCategories = 10_000
	// maxCategoryBytes bounds their texts together, so that what a task sends stays small.
	maxCategoryBytes = 1 << 20
)

// Target is a column that a step is fitted to.
type Target struct {
	// Step is the step's place in the job, from 0.
	Step int
	// Column is the column's name at that step.
	Column string
	// Kind is what is found out.
	Kind Kind
	// Integers says that categories are whole numbers, which are sorted as such.
	Integers bool
	// ByFrequency sorts categories by how often they come, the most frequent first.
	ByFrequency bool
}

// RowError are values that nothing can be fitted to.
type RowError struct {
	// Rows are the values' places in the array, from 0, ascending.
	Rows []int64
	// Err says what is wrong with the first.
	Err error
}

func (e *RowError) add(row int, format string, args ...any) {
	if e.Err == nil {
		e.Err = fmt.Errorf(format, args...)
	}
	e.Rows = append(e.Rows, int64(row))
}

// Error returns the first row and what is wrong with it.
func (e *RowError) Error() string {
	return "row " + strconv.FormatInt(e.Rows[0], 10) + ": " + e.Err.Error()
}

// Unwrap returns the cause as an error of kind engine.KindData.
func (e *RowError) Unwrap() error { return &engine.Error{Kind: engine.KindData, Err: e.Err} }

// Column is what has been seen of a target. It is not safe for concurrent use.
type Column struct {
	target      Target
	rows, nulls int64
	counts      map[string]*int64
	// bytes counts the texts of the categories.
	bytes          int
	sums           sums
	smallest, most float64
	scratch        []byte
}

// New returns a column of which nothing has been seen.
func New(target Target) *Column {
	c := &Column{target: target, smallest: math.Inf(1), most: math.Inf(-1)}
	if target.Kind == Categories {
		c.counts = map[string]*int64{}
	}
	return c
}

// Check finds the values that Observe cannot take in, infinite numbers and texts that are not UTF-8: an error that has them all, or nil.
func (c *Column) Check(values arrow.Array) error {
	bad := &RowError{}
	if text, ok := values.(*array.String); ok && c.target.Kind == Categories {
		for i := range text.Len() {
			if value := text.Value(i); !utf8.ValidString(value) && text.IsValid(i) {
				bad.add(i, "the text %.40q is not UTF-8", value)
			}
		}
	} else if c.target.Kind != Categories && integers(values) == nil {
		at, err := numbers(values)
		if err != nil {
			return err
		}
		for i := range values.Len() {
			if v := at(i); math.IsInf(v, 0) && values.IsValid(i) {
				bad.add(i, "%v is infinite; a scale cannot be fitted to it", v)
			}
		}
	}
	if bad.Err == nil {
		return nil
	}
	return bad
}

// Observe takes in the values of a record batch, which Check has nothing against. It keeps nothing of the array. More categories than
// MaxCategories, or too long ones, are errors that name the column.
func (c *Column) Observe(values arrow.Array) error {
	if c.target.Kind == Categories {
		return c.observeCategories(values)
	}
	at, err := numbers(values)
	if err != nil {
		return err
	}
	c.rows += int64(values.Len())
	for i := range values.Len() {
		if values.IsNull(i) {
			c.nulls++
			continue
		}
		v := at(i)
		if math.IsNaN(v) {
			c.nulls++
			continue
		}
		c.smallest, c.most = min(c.smallest, v), max(c.most, v)
		if c.target.Kind == Standard {
			c.sums.add(v)
		}
	}
	return nil
}

func (c *Column) observeCategories(values arrow.Array) error {
	text, err := c.texts(values)
	if err != nil {
		return err
	}
	c.rows += int64(values.Len())
	for i := range values.Len() {
		if values.IsNull(i) {
			c.nulls++
			continue
		}
		category := text(i)
		if n := c.counts[string(category)]; n != nil {
			*n++
			continue
		}
		if err := c.count(category, 1); err != nil {
			return err
		}
	}
	return nil
}

// count adds n rows of a category, whose bytes it copies if it keeps them.
func (c *Column) count(category []byte, n int64) error {
	if before := c.counts[string(category)]; before != nil {
		*before += n
		return nil
	}
	if len(c.counts) == MaxCategories {
		return c.refuse("it has more than %d categories", MaxCategories)
	}
	if c.bytes += len(category); c.bytes > maxCategoryBytes {
		return c.refuse("its categories are longer than %d bytes together; there are %d so far", maxCategoryBytes, len(c.counts)+1)
	}
	c.counts[string(category)] = &n
	return nil
}

func (c *Column) refuse(format string, args ...any) error {
	return engine.Errorf(engine.KindData, "fit steps["+strconv.Itoa(c.target.Step)+"]", "column "+strconv.Quote(c.target.Column), format, args...).
		WithHint("give the categories that count in the job file, with unknown: ignore, or use another column")
}

// texts returns what reads an array's categories. The bytes are valid until the next call.
func (c *Column) texts(values arrow.Array) (func(i int) []byte, error) {
	switch a := values.(type) {
	case *array.String:
		return func(i int) []byte { c.scratch = append(c.scratch[:0], a.Value(i)...); return c.scratch }, nil
	case *array.LargeString:
		return func(i int) []byte { c.scratch = append(c.scratch[:0], a.Value(i)...); return c.scratch }, nil
	case *array.Boolean:
		return func(i int) []byte { c.scratch = strconv.AppendBool(c.scratch[:0], a.Value(i)); return c.scratch }, nil
	case *array.Uint64:
		return func(i int) []byte { c.scratch = strconv.AppendUint(c.scratch[:0], a.Value(i), 10); return c.scratch }, nil
	}
	if at := integers(values); at != nil {
		return func(i int) []byte { c.scratch = strconv.AppendInt(c.scratch[:0], at(i), 10); return c.scratch }, nil
	}
	return nil, engine.Errorf(engine.KindInternal, "fit", c.target.Column, "categories of type %s", values.DataType())
}

// integers returns what reads an array of whole numbers that fit an int64, or nil.
func integers(values arrow.Array) func(i int) int64 {
	switch a := values.(type) {
	case *array.Int8:
		return func(i int) int64 { return int64(a.Value(i)) }
	case *array.Int16:
		return func(i int) int64 { return int64(a.Value(i)) }
	case *array.Int32:
		return func(i int) int64 { return int64(a.Value(i)) }
	case *array.Int64:
		return a.Value
	case *array.Uint8:
		return func(i int) int64 { return int64(a.Value(i)) }
	case *array.Uint16:
		return func(i int) int64 { return int64(a.Value(i)) }
	case *array.Uint32:
		return func(i int) int64 { return int64(a.Value(i)) }
	default:
		return nil
	}
}

// numbers returns what reads an array's numbers as float64, to which large integers are rounded.
func numbers(values arrow.Array) (func(i int) float64, error) {
	switch a := values.(type) {
	case *array.Float64:
		return a.Value, nil
	case *array.Float32:
		return func(i int) float64 { return float64(a.Value(i)) }, nil
	case *array.Uint64:
		return func(i int) float64 { return float64(a.Value(i)) }, nil
	}
	if at := integers(values); at != nil {
		return func(i int) float64 { return float64(at(i)) }, nil
	}
	return nil, engine.Errorf(engine.KindInternal, "fit", "", "numbers of type %s", values.DataType())
}

// ToProto returns what has been seen.
func (c *Column) ToProto() *enginev1.FitColumn {
	message := &enginev1.FitColumn{Rows: c.rows, Nulls: c.nulls}
	switch c.target.Kind {
	case Categories:
		message.Categories = make([]string, 0, len(c.counts))
		for category := range c.counts {
			message.Categories = append(message.Categories, category)
		}
		slices.Sort(message.Categories)
		for _, category := range message.Categories {
			message.Counts = append(message.Counts, *c.counts[category])
		}
	case Standard:
		c.sums.fold()
		message.Sum, message.Squares = sumToProto(&c.sums.values), sumToProto(&c.sums.squares)
	case MinMax:
		if c.rows > c.nulls {
			message.Min, message.Max = c.smallest, c.most
		}
	}
	return message
}

// Merge adds what another column of the same target has seen. A message that no column could have made is an error of kind
// engine.KindCorrupt; for others see Observe.
func (c *Column) Merge(message *enginev1.FitColumn) error {
	rows, nulls := message.GetRows(), message.GetNulls()
	refuse := func(format string, args ...any) error {
		return engine.Errorf(engine.KindCorrupt, "merge fit", c.target.Column, format, args...)
	}
	if nulls < 0 || rows < nulls || c.rows+rows < 0 {
		return refuse("%d nulls of %d rows", nulls, rows)
	}
	switch c.target.Kind {
	case Categories:
		if len(message.GetCategories()) != len(message.GetCounts()) {
			return refuse("%d counts of %d categories", len(message.GetCounts()), len(message.GetCategories()))
		}
		left := rows - nulls
		for i, category := range message.GetCategories() {
			n := message.GetCounts()[i]
			if n < 1 || n > left {
				return refuse("%d rows of category %q, of %d", n, category, left)
			}
			left -= n
			if err := c.count([]byte(category), n); err != nil {
				return err
			}
		}
		if left != 0 {
			return refuse("%d rows without category", left)
		}
	case Standard:
		if err := mergeSum(&c.sums.values, message.GetSum()); err != nil {
			return err
		}
		if err := mergeSum(&c.sums.squares, message.GetSquares()); err != nil {
			return err
		}
	case MinMax:
		low, high := message.GetMin(), message.GetMax()
		if rows > nulls && (!(low <= high) || math.IsInf(low, 0) || math.IsInf(high, 0)) {
			return refuse("values from %v to %v", low, high)
		}
		if rows > nulls {
			c.smallest, c.most = min(c.smallest, low), max(c.most, high)
		}
	}
	c.rows += rows
	c.nulls += nulls
	return nil
}

// Result returns what the step is fitted to. A column without a value that counts, and one whose range is too large for a float64, are
// errors of kind engine.KindData.
func (c *Column) Result() (*enginev1.FittedColumn, error) {
	result := &enginev1.FittedColumn{Step: int32(c.target.Step), Column: c.target.Column, Rows: c.rows, Nulls: c.nulls} //nolint:gosec // A job has few steps.
	refuse := func(format string, args ...any) (*enginev1.FittedColumn, error) {
		return nil, engine.Errorf(engine.KindData, "fit steps["+strconv.Itoa(c.target.Step)+"]", "column "+strconv.Quote(c.target.Column), format, args...)
	}
	n := c.rows - c.nulls
	switch {
	case c.rows == 0:
		return refuse("no row reaches the step, so it cannot be fitted")
	case n == 0:
		return refuse("all of %d values are null or NaN, so the step cannot be fitted", c.rows)
	}
	switch c.target.Kind {
	case Categories:
		result.Categories = make([]string, 0, len(c.counts))
		for category := range c.counts {
			result.Categories = append(result.Categories, category)
		}
		slices.SortFunc(result.Categories, c.compare)
		for _, category := range result.Categories {
			result.Counts = append(result.Counts, *c.counts[category])
		}
	case Standard:
		mean, std := c.sums.moments(n)
		result.Mean, result.Std = &mean, &std
	case MinMax:
		// No minus: a zero has no sign, or it would depend on which one came first.
		low, high := c.smallest+0, c.most+0
		if math.IsInf(high-low, 0) {
			return refuse("the values from %v to %v are too far apart", low, high)
		}
		result.Min, result.Max = &low, &high
	}
	return result, nil
}

// compare is the order of the categories.
func (c *Column) compare(a, b string) int {
	if n, m := *c.counts[a], *c.counts[b]; c.target.ByFrequency && n != m {
		if n > m {
			return -1
		}
		return 1
	}
	if c.target.Integers {
		return compareIntegers(a, b)
	}
	return strings.Compare(a, b)
}

// compareIntegers compares whole numbers, written without leading zeros.
func compareIntegers(a, b string) int {
	minusA, minusB := strings.HasPrefix(a, "-"), strings.HasPrefix(b, "-")
	switch {
	case minusA && minusB:
		return compareIntegers(b[1:], a[1:])
	case minusA != minusB:
		if minusA {
			return -1
		}
		return 1
	case len(a) != len(b):
		return len(a) - len(b)
	default:
		return strings.Compare(a, b)
	}
}
