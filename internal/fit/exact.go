package fit

import (
	"math"
	"math/big"
	"math/bits"

	"github.com/f708428e/engine"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// A float64 is a whole number times a power of two that is at least 2^-1074, and its square one times at least 2^-2148. So their sums are
// whole numbers of these units, and are kept as such: adding is exact, and the order does not matter.
const (
	unitBits   = 1074
	squareBits = 2 * unitBits
	// maxSumBits bounds what a message may say of a sum: no more than 2^63 additions of the largest square.
	maxSumBits = 2*squareBits + 64
)

// blockBits is how many exponents a block has, as a power of two: most columns need one or two blocks.
const blockBits = 6

// bucket sums the mantissas, of 53 bits, of values of one exponent, and their squares. Neither overflows before 2^63 values.
type bucket struct {
	// low and high are a signed number of 128 bits.
	low, high uint64
	squares   [3]uint64
}

// sums are the exact sums of float64 values and of their squares. The zero value has seen none.
type sums struct {
	blocks [2048 >> blockBits]*[1 << blockBits]bucket
	// values and squares are in units of 2^-1074 and 2^-2148. What is in the blocks comes in addition.
	values, squares big.Int
}

// add adds a finite value.
func (s *sums) add(v float64) {
	b := math.Float64bits(v)
	mantissa, exponent := b&(1<<52-1), b>>52&0x7ff
	if exponent > 0 {
		mantissa |= 1 << 52
	}
	block := s.blocks[exponent>>blockBits]
	if block == nil {
		block = new([1 << blockBits]bucket)
		s.blocks[exponent>>blockBits] = block
	}
	to := &block[exponent&(1<<blockBits-1)]
	var carry uint64
	if b>>63 == 0 {
		to.low, carry = bits.Add64(to.low, mantissa, 0)
		to.high += carry
	} else {
		to.low, carry = bits.Sub64(to.low, mantissa, 0)
		to.high -= carry
	}
	high, low := bits.Mul64(mantissa, mantissa)
	to.squares[0], carry = bits.Add64(to.squares[0], low, 0)
	to.squares[1], carry = bits.Add64(to.squares[1], high, carry)
	to.squares[2] += carry
}

// fold moves what is in the blocks into the totals.
func (s *sums) fold() {
	var word, number big.Int
	for i, block := range s.blocks {
		if block == nil {
			continue
		}
		for j := range block {
			from := &block[j]
			shift := uint(max(0, i<<blockBits+j-1))         //nolint:gosec // Not negative.
			number.Lsh(word.SetInt64(int64(from.high)), 64) //nolint:gosec // It is the signed half.
			number.Add(&number, word.SetUint64(from.low))
			s.values.Add(&s.values, number.Lsh(&number, shift))
			number.SetUint64(from.squares[2])
			for _, digit := range []uint64{from.squares[1], from.squares[0]} {
				number.Add(number.Lsh(&number, 64), word.SetUint64(digit))
			}
			s.squares.Add(&s.squares, number.Lsh(&number, 2*shift))
		}
		s.blocks[i] = nil
	}
}

func sumToProto(v *big.Int) *enginev1.ExactSum {
	if v.Sign() == 0 {
		return &enginev1.ExactSum{}
	}
	magnitude := new(big.Int).Abs(v)
	shift := magnitude.TrailingZeroBits()
	return &enginev1.ExactSum{
		Magnitude: magnitude.Rsh(magnitude, shift).Bytes(), Exponent: int32(shift), Negative: v.Sign() < 0, //nolint:gosec // See maxSumBits.
	}
}

// mergeSum adds what a message says.
func mergeSum(into *big.Int, message *enginev1.ExactSum) error {
	magnitude, exponent := message.GetMagnitude(), message.GetExponent()
	if exponent < 0 || exponent > maxSumBits || len(magnitude) > maxSumBits/8 {
		return engine.Errorf(engine.KindCorrupt, "merge fit", "", "a sum of %d bytes times 2^%d", len(magnitude), exponent)
	}
	v := new(big.Int).SetBytes(magnitude)
	v.Lsh(v, uint(exponent)) //nolint:gosec // Checked.
	if message.GetNegative() {
		v.Neg(v)
	}
	into.Add(into, v)
	return nil
}

// quotientPrecision is enough for a result that is rounded to 53 bits in the end.
const quotientPrecision = 320

// moments returns the mean and the standard deviation of the n values, n above 0, each rounded once.
func (s *sums) moments(n int64) (mean, std float64) {
	s.fold()
	unit := new(big.Int).Lsh(big.NewInt(n), unitBits)
	mean, _ = new(big.Rat).SetFrac(&s.values, unit).Float64()
	// n² times the variance, which is not negative.
	spread := new(big.Int).Mul(&s.squares, big.NewInt(n))
	spread.Sub(spread, new(big.Int).Mul(&s.values, &s.values))
	if spread.Sign() <= 0 {
		return mean, 0
	}
	root := new(big.Float).SetPrec(quotientPrecision).SetInt(spread)
	root.Sqrt(root)
	root.Quo(root, new(big.Float).SetPrec(quotientPrecision).SetInt(unit))
	std, _ = root.Float64()
	return mean, std
}
