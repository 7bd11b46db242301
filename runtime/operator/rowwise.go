package operator

// IsRowwise tells whether what an operator makes of a row depends on that row alone and costs little, so that rows may be given to it
// again, in other record batches.
func IsRowwise(op Operator) bool {
	switch op.(type) {
	case *cast, *with, *Filter:
		return true
	default:
		return false
	}
}
