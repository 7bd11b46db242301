//go:build unix && !linux

package transfer

// preferHuge does nothing: only Linux can be asked for large pages.
func preferHuge([]byte) {}
