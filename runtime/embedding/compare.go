package embedding

import (
	"context"
	"math"
	"slices"
	"time"

	"github.com/f708428e/engine"
)

// Similarity says how near the vectors of one embedder are to those of another, and how fast both are.
type Similarity struct {
	// Texts is how many texts were compared, equal ones once.
	Texts int
	// Min, P1, and Mean are of the cosines of the two vectors of each text: the smallest, that of the text below which one in a hundred
	// lies, and the mean.
	Min, P1, Mean float64
	// BaseRate and OtherRate are texts a second: each the best of several rounds.
	BaseRate, OtherRate float64
}

// compareRounds is how often Compare embeds the texts with each embedder, after once to warm up.
const compareRounds = 5

// Compare embeds texts with base and other, by turns, and compares the vectors. There must be at least one text. A vector that holds NaN, or is
// zero, is an error of kind engine.KindModel; other errors are those of Run.
func Compare(ctx context.Context, base, other *Embedder, texts []string) (Similarity, error) {
	var s Similarity
	sides := [2]struct {
		e       *Embedder
		vectors []float32
		fastest time.Duration
	}{{e: base, fastest: math.MaxInt64}, {e: other, fastest: math.MaxInt64}}
	for round := range 1 + compareRounds {
		for i := range sides {
			side := &sides[i]
			batch := side.e.NewBatch()
			begun := time.Now()
			for _, text := range texts {
				batch.Add(text)
			}
			s.Texts = batch.Len()
			dim := side.e.config.Spec.Dim
			side.vectors = grow(side.vectors, s.Texts*dim)
			nan, err := side.e.Run(ctx, batch, func(text int) []float32 { return side.vectors[text*dim:][:dim] })
			if err != nil {
				return s, err
			}
			if len(nan) > 0 {
				return s, engine.Errorf(engine.KindModel, "compare models", side.e.config.Spec.Path, "the vectors of %d texts of %d hold NaN", len(nan), s.Texts)
			}
			if round > 0 {
				side.fastest = min(side.fastest, time.Since(begun))
			}
		}
	}
	if len(sides[0].vectors) != len(sides[1].vectors) || s.Texts == 0 {
		return s, engine.Errorf(engine.KindInvalidArgument, "compare models", other.config.Spec.Path, "the models give vectors of %d and %d for %d texts",
			base.config.Spec.Dim, other.config.Spec.Dim, s.Texts)
	}
	cosines := make([]float64, s.Texts)
	dim := base.config.Spec.Dim
	for i := range cosines {
		cosines[i] = cosine(sides[0].vectors[i*dim:][:dim], sides[1].vectors[i*dim:][:dim])
		if math.IsNaN(cosines[i]) {
			return s, engine.Errorf(engine.KindModel, "compare models", other.config.Spec.Path, "a vector is zero or infinite")
		}
		s.Mean += cosines[i] / float64(s.Texts)
	}
	slices.Sort(cosines)
	s.Min, s.P1 = cosines[0], cosines[(s.Texts-1)/100]
	s.BaseRate, s.OtherRate = float64(s.Texts)/sides[0].fastest.Seconds(), float64(s.Texts)/sides[1].fastest.Seconds()
	return s, nil
}

func cosine(a, b []float32) float64 {
	var dot, x, y float64
	for i := range a {
		p, q := float64(a[i]), float64(b[i])
		dot, x, y = dot+p*q, x+p*p, y+q*q
	}
	return dot / math.Sqrt(x*y)
}
