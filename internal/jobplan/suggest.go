package jobplan

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode"
)

// nearest returns the candidates that a person may have meant by name, the nearest first, at most two.
func nearest(name string, candidates []string) []string {
	type scored struct {
		candidate string
		distance  int
	}
	plain := fold(name)
	limit := max(1, (len([]rune(plain))+1)/3)
	var found []scored
	for _, c := range candidates {
		if d := editDistance(plain, fold(c), limit); d <= limit {
			found = append(found, scored{c, d})
		}
	}
	slices.SortStableFunc(found, func(a, b scored) int { return a.distance - b.distance })
	var names []string
	for _, s := range found {
		// What is exactly the same but for case and separators leaves no doubt.
		if len(names) == 2 || len(names) == 1 && found[0].distance == 0 {
			break
		}
		names = append(names, s.candidate)
	}
	return names
}

// fold removes what people get wrong most: case, blanks, and punctuation.
func fold(name string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsLetter(r) || unicode.IsDigit(r) {
			return unicode.ToLower(r)
		}
		return -1
	}, name)
}

// editDistance is Levenshtein's distance, or more than limit if it is more than limit.
func editDistance(a, b string, limit int) int {
	x, y := []rune(a), []rune(b)
	if len(x)-len(y) > limit || len(y)-len(x) > limit {
		return limit + 1
	}
	row := make([]int, len(y)+1)
	for j := range row {
		row[j] = j
	}
	for i := range x {
		diagonal := row[0]
		row[0] = i + 1
		for j := range y {
			cost := 1
			if x[i] == y[j] {
				cost = 0
			}
			diagonal, row[j+1] = row[j+1], min(row[j+1]+1, row[j]+1, diagonal+cost)
		}
	}
	return row[len(y)]
}

// Suggestion returns ` (nearest: "a", "b")` for a name that is none of the candidates, or nothing if none is near.
func Suggestion(name string, candidates []string) string { return suggestion(name, candidates) }

// suggestion is ` (nearest: "a", "b")`, or empty.
func suggestion(name string, candidates []string) string {
	names := nearest(name, candidates)
	if len(names) == 0 {
		return ""
	}
	return " (nearest: " + quoted(names) + ")"
}

// quoted lists names for a message.
func quoted(names []string) string {
	parts := make([]string, len(names))
	for i, n := range names {
		parts[i] = fmt.Sprintf("%q", n)
	}
	return strings.Join(parts, ", ")
}

// abridged lists names for a message, the first twenty of many.
func abridged(names []string) string {
	const most = 20
	if len(names) <= most {
		return quoted(names)
	}
	return fmt.Sprintf("%s, and %d more", quoted(names[:most]), len(names)-most)
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
