//go:build !unix

package transfer

import "github.com/f708428e/engine"

// reserve fails: on this system only what fits the heap can be put.
func reserve(size int64) (data []byte, free func(), err error) {
	return nil, nil, engine.Errorf(engine.KindExhausted, "reserve memory", "", "%d bytes: not supported on this system", size)
}

// affordable reports whether the system would give a process so much memory. Here nobody knows.
func affordable(int64) error { return nil }
