package parquet

import "math/bits"

// word is how the values of a column are compared: by their bits, so that zeros of either sign and every NaN remain what they are.
type word interface{ uint32 | uint64 }

const (
	// maxDictionary is how many values a dictionary holds at most, so that its table stays in the processor's second-level cache.
	maxDictionary = 1 << 15
	leastSlots    = 1 << 10
	// dictionaryTrial is how many distinct values are taken in before it matters how often each occurs.
	dictionaryTrial = 1 << 12
)

// dictionary numbers the distinct values of a column chunk. It keeps its memory when it is reset.
type dictionary[W word] struct {
	// values holds the distinct values from place 1 on, in the order of their first appearance.
	values []W
	// slots is a hash table with linear probing: places in values, 0 for none.
	slots []uint16
	shift uint
	// seen is how many values have been numbered.
	seen int
}

func (d *dictionary[W]) reset() {
	if d.slots == nil {
		d.resize(leastSlots)
	} else {
		clear(d.slots)
	}
	d.values = append(d.values[:0], 0)
	d.seen = 0
}

func (d *dictionary[W]) resize(slots int) {
	d.slots = make([]uint16, slots)
	d.shift = uint(64 - bits.Len(uint(slots-1)))
}

// size is the number of distinct values.
func (d *dictionary[W]) size() int { return len(d.values) - 1 }

// distinct are the values by their number.
func (d *dictionary[W]) distinct() []W { return d.values[1:] }

const hashFactor = 0x9e3779b97f4a7c15

// number sets numbers to those of values. It returns how many it did: fewer than all if the dictionary is full, or will be. That is
// taken to be so if values have recurred less often than maxDictionary equally frequent ones would have.
func (d *dictionary[W]) number(values []W, numbers []uint16) int {
	numbers = numbers[:len(values)]
	slots, known, shift := d.slots, d.values, d.shift&63
	mask := uint(len(slots) - 1)
	for i, v := range values {
		at := uint(uint64(v)*hashFactor>>shift) & mask
		place := slots[at]
		for place != 0 && known[place] != v {
			at = (at + 1) & mask
			place = slots[at]
		}
		if place != 0 {
			numbers[i] = place - 1
			continue
		}
		size := len(known) - 1
		if size == maxDictionary || size >= dictionaryTrial && size&(size-1) == 0 && d.seen+i-size < size*size/(2*maxDictionary) {
			d.values = known
			d.seen += i
			return i
		}
		known = append(known, v)
		numbers[i] = uint16(size)
		slots[at] = uint16(size + 1)
		if 2*(size+1) > len(slots) {
			d.values = known
			d.grow()
			slots, shift = d.slots, d.shift&63
			mask = uint(len(slots) - 1)
		}
	}
	d.values = known
	d.seen += len(values)
	return len(values)
}

func (d *dictionary[W]) grow() {
	d.resize(4 * len(d.slots))
	mask := uint(len(d.slots) - 1)
	for i, v := range d.values[1:] {
		at := uint(uint64(v)*hashFactor>>(d.shift&63)) & mask
		for d.slots[at] != 0 {
			at = (at + 1) & mask
		}
		d.slots[at] = uint16(i + 1)
	}
}
