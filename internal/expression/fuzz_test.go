package expression_test

import (
	"errors"
	"testing"

	"github.com/apache/arrow/go/v15/arrow/memory"

	"github.com/f708428e/engine/internal/expression"
)

// FuzzExpression parses, checks, and evaluates any text: it must not panic, and every refusal is an error of this package.
func FuzzExpression(f *testing.F) {
	for _, text := range []string{
		"i > 0 and not is_null(f)", `"fixed acidity" * 2`, "case when b then 1 else 2.5 end", "s like 'a%' or s in ('a', null)",
		"cast(s as date) between d and t", "substring(s, small, 2) || concat(f, i)", "round(half, small)", "least(i, f, 1) // 2 % 3",
		"date '2024-01-01' <= d", "replace(s, 'p', upper(s))", "((((i))))", "- - - 1", "list is null", "pow(2, 1e3)", "'", `"`, "é.è",
	} {
		f.Add(text)
	}
	record := table(f, memory.DefaultAllocator)
	f.Fuzz(func(t *testing.T, text string) {
		_, _, err := evaluate(t, text, record)
		var mistake *expression.Error
		var row *expression.RowError
		if err != nil && !errors.As(err, &mistake) && !errors.As(err, &row) {
			t.Fatalf("%q: %v", text, err)
		}
	})
}
