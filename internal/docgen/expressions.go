package docgen

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/f708428e/engine/internal/expression"
)

const expressionsIntro = `# Expressions

The steps ` + "`filter`" + ` and ` + "`with`" + ` take expressions: SQL's, over the columns that the table has at the step. They are checked before the first
row is read: a column that is missing, a type that does not fit, and a mistake in writing are errors that name the place.

` + "```yaml" + `
steps:
  - filter: {where: "alcohol > 9 and not is_null(pH)"}
  - with:
      columns:
        ratio: 'alcohol / "fixed acidity"'
        grade: "case when quality >= 7 then 'good' when quality >= 5 then 'fair' else 'poor' end"
` + "```" + `

- Columns are written as they are named, or in double quotes if they have blanks or are named like a keyword. Their case counts; that of
  keywords and functions does not.
- Literals: ` + "`12`, `1.5`, `1e-3`, `'text'`" + ` (a quote in it is doubled), ` + "`true`, `false`, `null`, `date '2026-01-31'`, `timestamp '2026-01-31 12:00:00'`" + `.
- An expression has at most 10,000 bytes and is nested at most 100 deep.

## Operators

From what binds least to what binds most:

| operators | what they do |
| --- | --- |
| ` + "`or`" + ` | three-valued, as ` + "`and`" + ` and ` + "`not`" + ` |
| ` + "`and`" + ` | |
| ` + "`not`" + ` | |
| ` + "`= <> < <= > >=`" + ` | compare; ` + "`==` and `!=`" + ` are accepted too |
| ` + "`is null`, `is true`, `is false`" + ` | never null; with ` + "`not`" + ` after ` + "`is`" + ` the contrary |
| ` + "`in (…)`, `between … and …`, `like '…'`" + ` | with ` + "`not`" + ` before them the contrary; in ` + "`like`, `%`" + ` stands for any characters, ` + "`_`" + ` for one |
| ` + "`+` `-` `\\|\\|`" + ` | ` + "`\\|\\|`" + ` joins texts |
| ` + "`*` `/` `//` `%`" + ` | ` + "`/`" + ` always gives a float; ` + "`//`" + ` cuts towards zero; ` + "`%`" + ` has the sign of what is divided |
| ` + "`-`" + ` before a number | |
| ` + "`case when … then … else … end`, `cast(… as type)`" + ` | without ` + "`else`" + ` null; types are those of the step cast |

## Types

Values are bool, int64, float64, string, date, and timestamp. int32 is calculated as int64 and float32 as float64; a literal that a
float32 column is compared with is rounded to float32, so that ` + "`ph = 3.1`" + ` holds where 3.1 was read. An integer beside a float becomes a float, a
date beside a timestamp its midnight, and a literal text beside a date or timestamp is read as one. Nothing else changes its type
without ` + "`cast`" + `, which refuses what does not fit exactly, as the step cast does.

## Nulls and numbers

- An operator or function of a null is null, unless the table below says otherwise. A filter keeps the rows for which its condition is
  true: neither false nor null.
- Floats are IEEE 754's: ` + "`1 / 0` is Inf, `0 / 0` and `sqrt(-1)`" + ` are NaN, none of which is an error. NaN equals itself and is greater than all
  other numbers, as in PostgreSQL, DuckDB, Spark, and polars; so ` + "`x > 9`" + ` keeps NaN, and ` + "`is_nan(x)`" + ` tells it.
- Integers that overflow, and ` + "`//` and `%`" + ` by the integer zero, are errors that name column and row.
- What is not needed for a row is no error in it: ` + "`n <> 0 and 10 % n = 1`" + ` is safe, and so are the branches of case and if.

## Functions

| function | what it gives |
| --- | --- |
`

// Expressions writes the page of the expression language.
func Expressions() []byte {
	var b bytes.Buffer
	b.WriteString(notice + expressionsIntro)
	for _, f := range expression.Functions() {
		usage, what, _ := strings.Cut(f.Usage, ": ")
		usages := strings.Split(usage, " or ")
		for i, u := range usages {
			usages[i] = "`" + u + "`"
		}
		fmt.Fprintf(&b, "| %s | %s |\n", strings.Join(usages, " "), what)
	}
	return b.Bytes()
}
