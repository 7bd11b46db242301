package csv

import (
	"encoding/binary"
	"math"
	"math/bits"
	"strconv"
	"unsafe"
)

const (
	everyByte     = 0x0101010101010101
	everyHigh     = 0x8080808080808080
	everyLow      = 0x7f7f7f7f7f7f7f7f
	everyZero     = 0x3030303030303030 // '0'
	aboveNine     = 0x7676767676767676 // moves 10 and more to the high bit, 9 and less not
	maxExactPower = 22                 // 10^22 is the largest power of ten that a float64 holds exactly
)

// pow10 holds the powers of ten that are exact in a float64. It has 32 places so that an index masked by 31 needs no check.
var pow10 = [32]float64{
	1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22,
}

// nonDigits has the high bit of each byte set whose byte in word^everyZero is not 0 to 9.
func nonDigits(digits uint64) uint64 {
	return ((digits&everyLow + aboveNine) | digits) & everyHigh
}

// eightDigits is the number that eight digits make, the first in the lowest byte, each already less '0'.
// From "Faster integer parsing" by Ivan; also in Lemire, "Number Parsing at a Gigabyte per Second" (2021).
func eightDigits(digits uint64) uint64 {
	digits = digits*10 + digits>>8
	return ((digits&0x000000ff000000ff)*0x000f424000000064 + (digits>>16&0x000000ff000000ff)*0x0000271000000001) >> 32
}

// decimal is what stands in the text of a number: mantissa × 10^exponent.
type decimal struct {
	mantissa  uint64
	exponent  int
	negative  bool
	truncated bool // there are more digits than mantissa can hold
	integer   bool // neither point nor exponent
}

// scanDecimal reads the number that begins at b[i]: [+-] digits [. digits] [e [+-] digits], with a digit before or after the point.
// It returns where the number ends, or -1 if there is none.
func scanDecimal(b []byte, i int) (d decimal, end int) {
	if i < len(b) && (b[i] == '-' || b[i] == '+') {
		d.negative = b[i] == '-'
		i++
	}
	first := i
	d.mantissa, i = scanDigits(b, i, 0)
	digits := i - first
	fraction := 0
	d.integer = true
	if i < len(b) && b[i] == '.' {
		d.integer = false
		begin := i + 1
		d.mantissa, i = scanDigits(b, begin, d.mantissa)
		fraction = i - begin
		digits += fraction
	}
	if digits == 0 {
		return d, -1
	}
	if digits > 19 {
		// Leading zeros do not count. What is left may have overflowed.
		for j := first; j < i && (b[j] == '0' || b[j] == '.'); j++ {
			if b[j] == '0' {
				digits--
			}
		}
		d.truncated = digits > 19
	}
	d.exponent = -fraction
	if i < len(b) && b[i]|0x20 == 'e' {
		d.integer = false
		i++
		negative := false
		if i < len(b) && (b[i] == '-' || b[i] == '+') {
			negative = b[i] == '-'
			i++
		}
		begin, exponent := i, 0
		for ; i < len(b) && b[i]-'0' <= 9; i++ {
			if exponent < 100_000 {
				exponent = exponent*10 + int(b[i]-'0')
			}
		}
		if i == begin {
			return d, -1
		}
		if negative {
			exponent = -exponent
		}
		d.exponent += exponent
	}
	return d, i
}

// scanDigits appends the digits from b[i] on to a number, which may overflow, and returns where they end.
func scanDigits(b []byte, i int, number uint64) (uint64, int) {
	for i+8 <= len(b) {
		digits := binary.LittleEndian.Uint64(b[i:]) ^ everyZero
		other := nonDigits(digits)
		if other != 0 {
			n := bits.TrailingZeros64(other) >> 3
			if n > 0 {
				number = number*intPow10[n] + eightDigits(digits<<(64-8*uint(n)))
			}
			return number, i + n
		}
		number = number*100_000_000 + eightDigits(digits)
		i += 8
	}
	for ; i < len(b) && b[i]-'0' <= 9; i++ {
		number = number*10 + uint64(b[i]-'0')
	}
	return number, i
}

var intPow10 = [8]uint64{1, 10, 100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000}

// scanFloat reads the decimal number that begins at b[i] and returns the nearest float64 and where the number ends, or -1 if there
// is no number or it is beyond the range. It does not know nan and inf.
func scanFloat(b []byte, i int) (float64, int) {
	d, end := scanDecimal(b, i)
	if end < 0 {
		return 0, -1
	}
	if f, ok := d.float64(); ok {
		return f, end
	}
	f, err := strconv.ParseFloat(asString(b[i:end]), 64)
	if err != nil {
		return 0, -1
	}
	return f, end
}

// float64 is the nearest float64, if it can be had quickly.
func (d *decimal) float64() (float64, bool) {
	if d.truncated {
		return 0, false
	}
	var f float64
	switch {
	case d.mantissa>>53 == 0 && d.exponent >= -maxExactPower && d.exponent <= maxExactPower:
		// Both are exact, so one operation rounds once (Clinger, "How to Read Floating Point Numbers Accurately", 1990).
		if d.exponent < 0 {
			f = float64(d.mantissa) / pow10[-d.exponent&31]
		} else {
			f = float64(d.mantissa) * pow10[d.exponent&31]
		}
	case d.mantissa == 0:
	default:
		var ok bool
		if f, ok = eiselLemire(d.mantissa, d.exponent); !ok {
			return 0, false
		}
	}
	if d.negative {
		f = -f
	}
	return f, true
}

// parseFloat is the float64 that a whole text stands for.
func parseFloat(b []byte) (float64, bool) {
	f, end := scanFloat(b, 0)
	if end == len(b) && end > 0 {
		return f, true
	}
	return parseSpecial(b)
}

// parseSpecial knows nan, inf, and infinity.
func parseSpecial(b []byte) (float64, bool) {
	sign := 1
	if len(b) > 0 && (b[0] == '-' || b[0] == '+') {
		if b[0] == '-' {
			sign = -1
		}
		b = b[1:]
	}
	switch {
	case equalFold(b, "nan"):
		return math.NaN(), true
	case equalFold(b, "inf"), equalFold(b, "infinity"):
		return math.Inf(sign), true
	}
	return 0, false
}

// equalFold compares b with a word in lower-case letters.
func equalFold(b []byte, word string) bool {
	if len(b) != len(word) {
		return false
	}
	for i := range b {
		if b[i]|0x20 != word[i] {
			return false
		}
	}
	return true
}

// parseFloat32 is the float32 that a whole text stands for.
func parseFloat32(b []byte) (float32, bool) {
	f, ok := parseFloat(b)
	if !ok {
		return 0, false
	}
	if single, ok := narrow(f); ok {
		return single, true
	}
	double, err := strconv.ParseFloat(asString(b), 32)
	return float32(double), err == nil
}

// narrow is the float32 nearest to the number of which f is the nearest float64, where f alone tells: not if f lies just
// in the middle of two float32, nor if the result has fewer bits than usual or is beyond the range.
func narrow(f float64) (float32, bool) {
	magnitude := math.Float64bits(f) &^ (1 << 63)
	single := float32(f)
	switch {
	case magnitude == 0 || math.IsInf(f, 0) || f != f:
		return single, true
	case magnitude < (1023-126)<<52, magnitude&(1<<29-1) == 1<<28, math.IsInf(float64(single), 0):
		return 0, false
	}
	return single, true
}

// parseInt is the integer that a whole text stands for.
func parseInt(b []byte) (int64, bool) {
	d, end := scanDecimal(b, 0)
	if end != len(b) || end < 0 || !d.integer || d.truncated {
		return 0, false
	}
	return d.int64()
}

func (d *decimal) int64() (int64, bool) {
	if d.negative {
		return -int64(d.mantissa), d.mantissa <= 1<<63
	}
	return int64(d.mantissa), d.mantissa < 1<<63
}

// asString is b as a string that must not outlive it.
func asString(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// parseBool knows the values of a declared bool column.
func parseBool(b []byte) (value, ok bool) {
	if len(b) == 1 {
		return b[0] == '1', b[0] == '0' || b[0] == '1'
	}
	return parseBoolWord(b)
}

// parseBoolWord knows the values by which a bool column is inferred.
func parseBoolWord(b []byte) (value, ok bool) {
	switch string(b) {
	case "true", "True", "TRUE":
		return true, true
	case "false", "False", "FALSE":
		return false, true
	}
	return false, false
}
