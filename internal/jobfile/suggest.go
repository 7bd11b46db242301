package jobfile

import (
	"fmt"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/f708428e/engine/internal/secret"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// fieldSet is what a message and a oneof have in common.
type fieldSet interface {
	Len() int
	Get(int) protoreflect.FieldDescriptor
}

func nameList(fields fieldSet) []string {
	names := make([]string, fields.Len())
	for i := range names {
		names[i] = string(fields.Get(i).Name())
	}
	return names
}

func fieldNames(fields fieldSet) string { return strings.Join(nameList(fields), ", ") }

// suggest returns the hint behind an unknown field: the nearest name, or all of them.
func suggest(name string, fields fieldSet) string { return nearestHint(name, nameList(fields)) }

// Secrets returns the values that go with a job: see secret.Collect.
func Secrets(spec *enginev1.JobSpec, given secret.Values, surroundings bool) (secret.Values, error) {
	return secret.Collect(spec, given, surroundings, nearestHint)
}

func nearestHint(name string, known []string) string {
	if near := nearest(name, known); near != "" {
		return fmt.Sprintf(" (did you mean %q?)", near)
	}
	return fmt.Sprintf(" (known: %s)", strings.Join(known, ", "))
}

// nearest returns the known name that is at most a third of its length, and at least one edit, away; or "".
func nearest(name string, known []string) string {
	const longest = 64
	if len(name) > longest {
		return ""
	}
	plain := func(s string) []rune {
		return []rune(strings.ToLower(strings.NewReplacer("-", "", "_", "").Replace(s)))
	}
	best, bestDistance := "", 0
	for _, k := range known {
		distance := editDistance(plain(name), plain(k))
		if distance <= max(1, len(k)/3) && (best == "" || distance < bestDistance) {
			best, bestDistance = k, distance
		}
	}
	return best
}

// editDistance is Levenshtein's, with the swap of two neighbours as one edit.
func editDistance(a, b []rune) int {
	var before, last []int
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range a {
		before, last, row = last, row, make([]int, len(b)+1)
		row[0] = i + 1
		for j := range b {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			row[j+1] = min(last[j+1]+1, row[j]+1, last[j]+cost)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				row[j+1] = min(row[j+1], before[j-1]+1)
			}
		}
	}
	return row[len(b)]
}
