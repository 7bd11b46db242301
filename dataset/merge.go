package dataset

import (
	"fmt"
	"strings"

	"github.com/apache/arrow/go/v15/arrow"
)

// MergeFields compares the columns of another table of a source with fields, those of the tables before, and makes those nullable that
// are so in either. It returns what differs, for people, or "" if nothing does: a column that is missing, extra, or of another type.
// merge returns the type for values of two types, or false if they are not the same; nil means that the types must be equal.
func MergeFields(fields, own []arrow.Field, merge func(want, have arrow.DataType) (arrow.DataType, bool)) string {
	if merge == nil {
		merge = func(want, have arrow.DataType) (arrow.DataType, bool) { return want, arrow.TypeEqual(want, have) }
	}
	places := make(map[string]int, len(own))
	for i, f := range own {
		places[f.Name] = i
	}
	var wrong []string
	for i, want := range fields {
		place, ok := places[want.Name]
		if !ok {
			wrong = append(wrong, fmt.Sprintf("column %q (%s) is missing", want.Name, TypeName(want.Type)))
			continue
		}
		delete(places, want.Name)
		have := own[place]
		merged, ok := merge(want.Type, have.Type)
		if !ok {
			wrong = append(wrong, fmt.Sprintf("column %q is %s instead of %s", want.Name, TypeName(have.Type), TypeName(want.Type)))
			continue
		}
		fields[i].Type, fields[i].Nullable = merged, want.Nullable || have.Nullable
	}
	for _, have := range own {
		if _, left := places[have.Name]; left {
			wrong = append(wrong, fmt.Sprintf("column %q (%s) is extra", have.Name, TypeName(have.Type)))
		}
	}
	const shown = 5
	if n := len(wrong); n > shown {
		wrong = append(wrong[:shown], fmt.Sprintf("and %d more differences", n-shown))
	}
	return strings.Join(wrong, "; ")
}
