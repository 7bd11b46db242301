package tokenizer

import (
	"slices"
	"strings"
	"testing"
)

func TestGraphemeEnd(t *testing.T) {
	for _, clusters := range [][]string{
		{"a", "b"}, {"\r\n", "\n", "\r", "a"}, {"e\u0301\u0323", "x"}, {"\u0915\u0903", "a"}, {"\u0600a", "b"}, {"\u1112\u1161\u11ab", "\uac00\u11a8", "\u1100"},
		{"🇩🇪", "🇫🇷", "🇩"}, {"👨\u200d👩\u200d👧", "👍🏽"}, {"a\u200d", "👍"}, // GB11 needs a pictograph before the joiner
		{"\u0915\u094d\u0937", "\u0915"}, {"\u0915\u094d\u200d\u0937"}, {"\u0915\u0301", "\u0937"}, {"a\u094d", "\u0937"}, // GB9c needs a linker between consonants
	} {
		s, i := []byte(strings.Join(clusters, "")), 0
		for _, c := range clusters {
			end := tables().graphemeEnd(s, i)
			if string(s[i:end]) != c {
				t.Errorf("%+q: got %+q, want %+q", s, s[i:end], c)
				break
			}
			i = end
		}
	}
}

func TestSortMarks(t *testing.T) {
	var scratch []rune
	for n := range 40 {
		var run []rune
		for i := range n {
			run = append(run, []rune{0x301, 0x323, 0x334, 0x300, 0x345}[i*7%5])
		}
		want := slices.Clone(run)
		slices.SortStableFunc(want, func(a, b rune) int { return int(tables().at(a).class) - int(tables().at(b).class) })
		if tables().sortMarks(run, &scratch); !slices.Equal(run, want) {
			t.Errorf("%d marks: %x, want %x", n, run, want)
		}
	}
}
