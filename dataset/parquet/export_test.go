package parquet

import "errors"

// PoisonPools makes the memory of writers and readers be overwritten when it is freed.
func PoisonPools(on bool) { poisonPools = on }

// AppendHybrid encodes numbers of so many bits.
func AppendHybrid(values []uint16, width int) []byte { return appendHybrid(nil, values, width) }

// LookUp decodes n numbers of so many bits, and looks them up, in steps of so many.
func LookUp(b []byte, width int, dictionary []uint64, n, step int) ([]uint64, error) {
	r, ok := newHybridReader(append(append([]byte{}, b...), make([]byte, pageSlack)...), 0, len(b), width)
	if !ok {
		return nil, errors.New("too wide")
	}
	out := make([]uint64, n)
	for at := 0; at < n; at += step {
		if err := lookUp(&r, dictionary, out[at:min(n, at+step)]); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// PageHeaderSize parses the header of a page.
func PageHeaderSize(b []byte) (int, bool) {
	_, size, ok := parsePageHeader(b)
	return size, ok
}
