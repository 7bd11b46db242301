// Package expression is the language of the steps filter and with: SQL's expressions over the columns of one table, checked against
// its schema before the first row, and then evaluated a record batch at a time.
//
// # The language
//
// Columns are written as they are named, or in double quotes ("fixed acidity"); names of columns are case-sensitive, keywords and
// functions are not. Literals are 12, 1.5, 'text' (with ” for a quote, or two single ones), true, false, null, date '2026-01-31', and
// timestamp '2026-01-31 12:00:00'. From what binds least to what binds most:
//
//	or, and, not
//	= <> < <= > >=, is [not] null, is [not] true, is [not] false, [not] in (…), [not] between … and …, [not] like '…'
//	+ - || (joins texts)
//	* / // %
//	+ - (signs)
//
// and further case when … then … else … end, cast(… as type), and the functions that Functions lists.
//
// # Types
//
// Values are bool, int64, float64, string, date, and timestamp in microseconds. Narrower columns are widened when they are used: int32
// to int64, float32 to float64; a literal that a float32 is compared with is rounded to float32. An integer beside a float becomes a
// float, as near as it gets; a date beside a timestamp becomes its midnight; a literal text beside a date or timestamp is read as one.
// Nothing else changes its type without cast, whose rules are those of the step cast: what does not fit exactly is an error.
//
// # Nulls, numbers, errors
//
// Nulls are SQL's: an operator or function of a null is null, and so is every comparison; and, or, and not are three-valued;
// coalesce, concat, greatest, least, and if say otherwise at Functions. A filter keeps the rows for which its condition is true.
//
// "/" always divides floats. Floats are IEEE 754's: 1/0 is Inf, 0/0 and sqrt(-1) are NaN, and nothing about them is an error. To
// comparisons, NaN equals itself and is greater than all other numbers, as in PostgreSQL, DuckDB, Spark, and polars; is_nan tells it.
// Integers that overflow are errors that name the row, and so are "//" (which cuts towards zero) and "%" by zero. What a case, an if,
// a coalesce, an and, or an or does not need for a row is no error in that row: `n <> 0 and 10 % n = 1` is safe.
//
// # Use
//
// An Expression and a Bound never change and may be used by several goroutines; an Evaluator belongs to one.
package expression
