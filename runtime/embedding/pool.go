package embedding

import (
	"math"

	"github.com/f708428e/engine/model"
)

// poolers make one vector of those of a text's tokens, which lie one after the other. There is at least one token.
var poolers = map[model.Pooling]func(to, tokens []float32){
	model.PoolMean: func(to, tokens []float32) {
		sum(to, tokens)
		divide(to, float32(len(tokens)/len(to)))
	},
	model.PoolMeanSqrtLen: func(to, tokens []float32) {
		sum(to, tokens)
		divide(to, float32(math.Sqrt(float64(len(tokens)/len(to)))))
	},
	model.PoolWeightedMean: func(to, tokens []float32) {
		clear(to)
		weights := float32(0)
		for at, weight := 0, float32(1); at < len(tokens); at, weight = at+len(to), weight+1 {
			addScaled(to, tokens[at:], weight)
			weights += weight
		}
		divide(to, weights)
	},
	model.PoolCLS:       func(to, tokens []float32) { copy(to, tokens) },
	model.PoolLastToken: func(to, tokens []float32) { copy(to, tokens[len(tokens)-len(to):]) },
	model.PoolMax: func(to, tokens []float32) {
		copy(to, tokens)
		for at := len(to); at < len(tokens); at += len(to) {
			for i, v := range tokens[at:][:len(to)] {
				if v > to[i] || v != v { // NaN stays NaN, as in every other pooling.
					to[i] = v
				}
			}
		}
	},
}

// sum adds up vectors of to's length, four at a time: most of the time goes into reading to again.
func sum(to, tokens []float32) {
	n := len(to)
	copy(to, tokens)
	at := n
	for ; at+4*n <= len(tokens); at += 4 * n {
		a, b, c, d := tokens[at:][:n], tokens[at+n:][:n], tokens[at+2*n:][:n], tokens[at+3*n:][:n]
		for i := range to {
			to[i] += (a[i] + b[i]) + (c[i] + d[i])
		}
	}
	for ; at < len(tokens); at += n {
		addScaled(to, tokens[at:], 1)
	}
}

func addScaled(to, from []float32, factor float32) {
	from = from[:len(to)]
	for i := range to {
		to[i] += factor * from[i]
	}
}

func divide(v []float32, by float32) {
	for i := range v {
		v[i] /= by
	}
}

var activations = map[string]func(float32) float32{
	model.ActivationIdentity: func(x float32) float32 { return x },
	model.ActivationTanh:     func(x float32) float32 { return float32(math.Tanh(float64(x))) },
	model.ActivationGELU: func(x float32) float32 {
		return float32(float64(x) * 0.5 * (1 + math.Erf(float64(x)/math.Sqrt2)))
	},
	model.ActivationReLU: func(x float32) float32 {
		if x < 0 {
			return 0
		}
		return x // NaN too
	},
}

// dense applies a layer: to has Out elements, from In.
func dense(to, from []float32, layer *model.Dense) {
	activation := activations[layer.Activation]
	for i := range to {
		y := dot(layer.Weight[i*len(from):][:len(from)], from)
		if layer.Bias != nil {
			y += layer.Bias[i]
		}
		to[i] = activation(y)
	}
}

// dot has four sums, so that additions need not wait for each other.
func dot(x, y []float32) float32 {
	var a, b, c, d float32
	y = y[:len(x)]
	i := 0
	for ; i+4 <= len(x); i += 4 {
		a += x[i] * y[i]
		b += x[i+1] * y[i+1]
		c += x[i+2] * y[i+2]
		d += x[i+3] * y[i+3]
	}
	for ; i < len(x); i++ {
		a += x[i] * y[i]
	}
	return (a + b) + (c + d)
}

// normalize scales v to unit length; a vector shorter than 1e-12 is scaled as if it had that length, as torch does it.
func normalize(v []float32) {
	var squares float64
	for _, x := range v {
		squares += float64(x) * float64(x)
	}
	divide(v, max(float32(math.Sqrt(squares)), 1e-12))
}

func hasNaN(v []float32) bool {
	for _, x := range v {
		if x != x { // NaN alone is not itself.
			return true
		}
	}
	return false
}
