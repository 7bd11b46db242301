// Package wine makes the example's data: rows that look like the physicochemical measurements of red wines, with a
// quality that depends on them and on noise. The rows are synthetic; only the ranges are those of real wines.
//
// A row is a pure function of the seed and its index, in integer arithmetic: the same rows come out however they are cut
// into files, on every machine, and from the same few lines of Python in train.py.
package wine

import "strconv"

// Columns are the names of the columns in their order: eleven measurements and the quality.
var Columns = [12]string{
	"fixed acidity", "volatile acidity", "citric acid", "residual sugar", "chlorides", "free sulfur dioxide",
	"total sulfur dioxide", "density", "pH", "sulphates", "alcohol", "quality",
}

// Quality is the index of the column that a model predicts.
const Quality = len(Columns) - 1

// Row holds the values of one row, each in units of its column's last decimal: with Decimals 2, 351 is 3.51.
type Row [len(Columns)]int64

// Decimals is the number of decimal places of every column.
var Decimals = [len(Columns)]int{1, 3, 2, 2, 3, 0, 0, 4, 2, 2, 1, 0}

// step is what every value is a multiple of, in units of the last decimal.
var step = [len(Columns)]int64{1, 5, 1, 5, 1, 1, 1, 1, 1, 1, 1, 1}

// probabilities are those of the quantiles below, in units of 1/65536: 0, 1, 5, 25, 50, 75, 95, 99 and 100%.
var probabilities = [9]int64{0, 655, 3277, 16384, 32768, 49152, 62259, 64881, 65536}

// quantiles of every measurement, in units of the last decimal. Total sulfur dioxide is what comes on top of the free.
var quantiles = [Quality][len(probabilities)]int64{
	{46, 52, 61, 71, 79, 92, 118, 133, 159},
	{120, 180, 270, 390, 520, 640, 840, 1020, 1580},
	{0, 0, 0, 9, 26, 42, 60, 70, 100},
	{90, 140, 160, 190, 220, 260, 510, 830, 1550},
	{12, 42, 54, 70, 79, 90, 126, 358, 611},
	{1, 3, 4, 7, 14, 21, 35, 50, 72},
	{3, 5, 7, 13, 22, 42, 80, 105, 217},
	{9901, 9922, 9936, 9956, 9968, 9978, 10000, 10012, 10037},
	{274, 293, 306, 321, 331, 340, 357, 370, 401},
	{33, 42, 47, 55, 62, 73, 93, 126, 200},
	{84, 90, 92, 95, 102, 111, 125, 134, 149},
}

// At returns the row at an index, which starts at 0. It is safe for concurrent use.
func At(seed, index uint64) Row {
	var row Row
	for column := range Quality {
		u := int64(random(seed, index, uint64(column)) >> 48)
		k := 1
		for u >= probabilities[k] {
			k++
		}
		low, high := quantiles[column][k-1], quantiles[column][k]
		value := low + (high-low)*(u-probabilities[k-1])/(probabilities[k]-probabilities[k-1])
		row[column] = value / step[column] * step[column]
	}
	row[6] += row[5]

	// The quality in units of 1/10,000, as a linear function plus the sum of four uniform numbers.
	score := 56000 - 11*(row[1]-530) - 19*(row[4]-87) - 30*(row[6]-46) - 50*(row[8]-331) + 90*(row[9]-66) + 280*(row[10]-104)
	noise := random(seed, index, uint64(Quality))
	sum := int64(noise&0xffff + noise>>16&0xffff + noise>>32&0xffff + noise>>48)
	score += sum*10/63 - 20805
	row[Quality] = min(max((max(score, 0)+5000)/10000, 3), 8)
	return row
}

// random is the output of SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014)
// at the position of a row and column.
func random(seed, index, column uint64) uint64 {
	z := seed*0xd1342543de82ef95 + (index*16+column+1)*0x9e3779b97f4a7c15
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

var powers = [...]int64{1, 10, 100, 1000, 10000}

// Float returns a column's value. It is the float64 nearest to the decimal that AppendCSV writes, so that a CSV file and
// a Parquet file of the same rows hold the same numbers.
func (r *Row) Float(column int) float64 {
	return float64(r[column]) / float64(powers[Decimals[column]])
}

// AppendHeader appends the header line of a semicolon-separated file, names in quotes.
func AppendHeader(b []byte) []byte {
	for column, name := range Columns {
		if column > 0 {
			b = append(b, ';')
		}
		b = strconv.AppendQuote(b, name)
	}
	return append(b, '\n')
}

// AppendCSV appends the row as a line of a semicolon-separated file, without trailing zeros: 9.4, 11, 0.088.
func (r *Row) AppendCSV(b []byte) []byte {
	for column := range r {
		if column > 0 {
			b = append(b, ';')
		}
		decimals := Decimals[column]
		whole, fraction := r[column]/powers[decimals], r[column]%powers[decimals]
		b = strconv.AppendInt(b, whole, 10)
		if fraction == 0 {
			continue
		}
		b = append(b, '.')
		for fraction > 0 {
			decimals--
			b = append(b, byte('0'+fraction/powers[decimals]))
			fraction %= powers[decimals]
		}
	}
	return append(b, '\n')
}
