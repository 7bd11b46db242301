package csv

import (
	"math"
	"math/big"
	"math/bits"
)

// The powers of ten between which eiselLemire works: all that tables of measured numbers have. strconv does the rest.
const minPower, maxPower = -64, 64

// powers holds the upper 128 bits of 10^minPower to 10^maxPower, rounded down: the low word, then the high one.
var powers = makePowers()

func makePowers() (table [maxPower - minPower + 1][2]uint64) {
	low := new(big.Int).SetUint64(math.MaxUint64)
	for power := minPower; power <= maxPower; power++ {
		x := new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(max(power, -power))), nil)
		if power < 0 {
			// 10^-64 has 213 bits: the quotient has more than the 128 that are kept.
			x.Quo(new(big.Int).Lsh(big.NewInt(1), 384), x)
		}
		if shift := x.BitLen() - 128; shift >= 0 {
			x.Rsh(x, uint(shift))
		} else {
			x.Lsh(x, uint(-shift))
		}
		table[power-minPower] = [2]uint64{new(big.Int).And(x, low).Uint64(), new(big.Int).Rsh(x, 64).Uint64()}
	}
	return table
}

// eiselLemire is the float64 nearest to mantissa × 10^power, or false in the rare cases in which 128 bits of the power do not decide
// it, and for powers and results that are out of reach. The mantissa is not zero.
//
// Daniel Lemire, "Number Parsing at a Gigabyte per Second", Software: Practice and Experience 51 (8), 2021, section 5.
func eiselLemire(mantissa uint64, power int) (float64, bool) {
	if power < minPower || power > maxPower {
		return 0, false
	}
	table := &powers[power-minPower]
	zeros := bits.LeadingZeros64(mantissa)
	mantissa <<= uint(zeros)
	// 217706 / 2^16 is log2(10), near enough for these powers.
	exponent := (217706*power)>>16 + 64 + 1023 - zeros

	high, low := bits.Mul64(mantissa, table[1])
	if high&0x1ff == 0x1ff && low+mantissa < mantissa {
		// What the power's low word adds could carry into the bits that matter.
		high2, low2 := bits.Mul64(mantissa, table[0])
		sum, carry := bits.Add64(low, high2, 0)
		high += carry
		if high&0x1ff == 0x1ff && sum+1 == 0 && low2+mantissa < mantissa {
			return 0, false
		}
		low = sum
	}
	top := high >> 63
	significand := high >> (top + 9)
	exponent -= int(1 ^ top)
	if low == 0 && high&0x1ff == 0 && significand&3 == 1 {
		return 0, false // perhaps just in the middle of two floats
	}
	significand = (significand + significand&1) >> 1
	if significand>>53 != 0 {
		significand >>= 1
		exponent++
	}
	if exponent < 1 || exponent >= 0x7ff {
		return 0, false
	}
	return math.Float64frombits(uint64(exponent)<<52 | significand&(1<<52-1)), true
}
