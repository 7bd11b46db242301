package embedding_test

import (
	"math"
	"strings"
	"testing"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/model"
	"github.com/f708428e/engine/runtime/embedding"
)

func TestCompare(t *testing.T) {
	base := newEmbedder(t, embedding.Config{Model: newGraph(), Spec: spec(model.PoolCLS)})
	// The first token's vector is (1, 0, sum), the last one's (2, n, sum).
	other := newEmbedder(t, embedding.Config{Model: newGraph(), Spec: spec(model.PoolLastToken)})
	same, err := embedding.Compare(t.Context(), base, base, []string{"a", "b", "a"})
	if err != nil || same.Texts != 2 || math.Abs(same.Min-1) > 1e-12 || same.BaseRate <= 0 || same.OtherRate <= 0 {
		t.Errorf("got %+v, %v", same, err)
	}
	s, err := embedding.Compare(t.Context(), base, other, []string{"a", "a b"})
	if err != nil {
		t.Fatal(err)
	}
	cosine := func(n, sum float64) float64 {
		return (2 + sum*sum) / math.Sqrt((1+sum*sum)*(4+n*n+sum*sum))
	}
	first, second := cosine(2, 7), cosine(3, 12)
	if math.Abs(s.Min-min(first, second)) > 1e-12 || s.P1 != s.Min || math.Abs(s.Mean-(first+second)/2) > 1e-12 || s.Texts != 2 {
		t.Errorf("got %+v, want %v and %v", s, first, second)
	}
	many := make([]string, 0, 1000)
	for i := range 26 {
		for j := range 26 {
			many = append(many, string(rune('a'+i))+" "+string(rune('a'+j)))
		}
	}
	if s, err := embedding.Compare(t.Context(), base, other, many); err != nil || s.Texts != 676 || !(s.Min < s.P1 && s.P1 < s.Mean && s.Mean < 1) {
		t.Errorf("got %+v, %v", s, err)
	}
}

func TestCompareRefuses(t *testing.T) {
	base := newEmbedder(t, embedding.Config{Model: newGraph(), Spec: spec(model.PoolMean)})
	nan := newGraph()
	nan.nanID = 4
	broken := newEmbedder(t, embedding.Config{Model: nan, Spec: spec(model.PoolMean)})
	if _, err := embedding.Compare(t.Context(), base, broken, []string{"a", "b"}); engine.KindOf(err) != engine.KindModel || !strings.Contains(err.Error(), "1 texts of 2 hold NaN") {
		t.Errorf("got %v", err)
	}
	wide := newEmbedder(t, embedding.Config{Model: newGraph(), Spec: spec(model.PoolMean, model.PoolMax)})
	if _, err := embedding.Compare(t.Context(), base, wide, []string{"a"}); engine.KindOf(err) != engine.KindInvalidArgument {
		t.Errorf("got %v", err)
	}
	if _, err := embedding.Compare(t.Context(), base, base, nil); engine.KindOf(err) != engine.KindInvalidArgument {
		t.Errorf("got %v", err)
	}
}
