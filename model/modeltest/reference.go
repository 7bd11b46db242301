package modeltest

import (
	"fmt"
	"math"
)

// matrix is rows of numbers.
type matrix [][]float64

// reference evaluates an encoder.
type reference struct {
	Encoder
	weights Tensors
}

// Evaluate returns the last hidden state of one text of token ids without padding: a vector for each token. types may be nil.
func (e Encoder) Evaluate(weights Tensors, ids, types []int) [][]float64 {
	r := reference{e, weights}
	x := make(matrix, len(ids))
	for i, id := range ids {
		position := i
		if e.ModelType != "bert" {
			position = e.PadID + 1 + i
		}
		x[i] = make([]float64, e.Hidden)
		for d := range x[i] {
			x[i][d] = r.at("embeddings.word_embeddings.weight", id, d) + r.at("embeddings.position_embeddings.weight", position, d)
			if e.TokenTypes > 0 {
				kind := 0
				if types != nil {
					kind = types[i]
				}
				x[i][d] += r.at("embeddings.token_type_embeddings.weight", kind, d)
			}
		}
	}
	r.norm(x, "embeddings.LayerNorm")
	for i := range e.Layers {
		x = r.layer(x, fmt.Sprintf("encoder.layer.%d.", i))
	}
	return x
}

func (r reference) at(name string, row, column int) float64 {
	t := r.weights[r.Prefix+name]
	return float64(t.Data[row*t.Shape[len(t.Shape)-1]+column])
}

func (r reference) layer(x matrix, at string) matrix {
	query, key, value, out, norm := r.attention()
	q, k, v := r.linear(x, at+query), r.linear(x, at+key), r.linear(x, at+value)
	width := r.Hidden / r.Heads
	mixed := make(matrix, len(x))
	for i := range x {
		mixed[i] = make([]float64, r.Hidden)
		for h := range r.Heads {
			weights, sum := make([]float64, len(x)), 0.0
			for j := range x {
				score := 0.0
				for d := h * width; d < (h+1)*width; d++ {
					score += q[i][d] * k[j][d]
				}
				score /= math.Sqrt(float64(width))
				if r.ModelType == "mpnet" {
					score += r.at("encoder.relative_attention_bias.weight", bucket(j-i), h)
				}
				weights[j] = math.Exp(score)
				sum += weights[j]
			}
			for j := range x {
				for d := h * width; d < (h+1)*width; d++ {
					mixed[i][d] += weights[j] / sum * v[j][d]
				}
			}
		}
	}
	x = add(x, r.linear(mixed, at+out))
	r.norm(x, at+norm)
	wide := r.linear(x, at+"intermediate.dense")
	for _, row := range wide {
		for d := range row {
			row[d] = r.activate(row[d])
		}
	}
	x = add(x, r.linear(wide, at+"output.dense"))
	r.norm(x, at+"output.LayerNorm")
	return x
}

func (r reference) activate(x float64) float64 {
	switch r.Activation {
	case "relu":
		return max(x, 0)
	case "gelu_new":
		return x / 2 * (1 + math.Tanh(math.Sqrt(2/math.Pi)*(x+0.044715*x*x*x)))
	}
	return x / 2 * (1 + math.Erf(x/math.Sqrt2))
}

// edges are the distances at which a bucket of MPNet begins, within one direction: 0 to 7 one by one, then by powers of 2^(1/2).
var edges = []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 23, 32, 46, 64, 91}

// bucket is the row of the table of biases for a key that lies distance tokens after its query.
func bucket(distance int) int {
	first := 0
	if distance > 0 {
		first = Buckets / 2
	}
	distance = max(distance, -distance)
	row := 0
	for row+1 < len(edges) && edges[row+1] <= distance {
		row++
	}
	return first + row
}

func (r reference) linear(x matrix, name string) matrix {
	y := make(matrix, len(x))
	out := r.weights[r.Prefix+name+".bias"].Shape[0]
	for i, row := range x {
		y[i] = make([]float64, out)
		for o := range y[i] {
			sum := r.at(name+".bias", 0, o)
			for d, v := range row {
				sum += v * r.at(name+".weight", o, d)
			}
			y[i][o] = sum
		}
	}
	return y
}

func (r reference) norm(x matrix, name string) {
	for _, row := range x {
		mean, square := 0.0, 0.0
		for _, v := range row {
			mean += v / float64(len(row))
		}
		for _, v := range row {
			square += (v - mean) * (v - mean) / float64(len(row))
		}
		for d, v := range row {
			row[d] = (v-mean)/math.Sqrt(square+Epsilon)*r.at(name+".weight", 0, d) + r.at(name+".bias", 0, d)
		}
	}
}

func add(x, y matrix) matrix {
	for i := range x {
		for d := range x[i] {
			y[i][d] += x[i][d]
		}
	}
	return y
}
