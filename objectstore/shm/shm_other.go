//go:build !linux

package shm

import (
	"os"
	"sync/atomic"

	"github.com/f708428e/engine"
)

// Arena is memory of this process; nobody else can map it.
type Arena struct {
	data  []byte
	ready atomic.Int64
}

// NewArena makes an arena of sizeBytes bytes.
func NewArena(name string, sizeBytes int64) (*Arena, error) {
	if sizeBytes <= 0 {
		return nil, errorf(engine.KindInvalidArgument, name, "an arena of %d bytes", sizeBytes)
	}
	return &Arena{data: make([]byte, sizeBytes)}, nil
}

// File is nil: there is nothing to pass on.
func (a *Arena) File() *os.File { return nil }

// Bytes is the arena's memory.
func (a *Arena) Bytes() []byte { return a.data }

// SizeBytes is the arena's length.
func (a *Arena) SizeBytes() int64 { return int64(len(a.data)) }

// ReadyBytes is the greatest length that MakeReady was asked for.
func (a *Arena) ReadyBytes() int64 { return a.ready.Load() }

// MakeReady does nothing but keep count.
func (a *Arena) MakeReady(end int64) error {
	end = min(end, a.SizeBytes())
	for {
		ready := a.ready.Load()
		if ready >= end || a.ready.CompareAndSwap(ready, end) {
			return nil
		}
	}
}

// Seal does nothing: no other process has the memory.
func (a *Arena) Seal() error { return nil }

// Close gives the memory back.
func (a *Arena) Close() error {
	a.data = nil
	return nil
}

// Mapping cannot be made on this system.
type Mapping struct{}

// Map fails: memory is shared between processes on Linux alone.
func Map(_ *os.File, _ int64, _ Access) (*Mapping, error) {
	return nil, errorf(engine.KindUnavailable, "", "sharing memory between processes needs Linux")
}

// Bytes is nil.
func (m *Mapping) Bytes() []byte { return nil }

// Populate does nothing.
func (m *Mapping) Populate(_ Range, _ Access) {}

// Close does nothing.
func (m *Mapping) Close() error { return nil }

// ReadOnly fails: memory is shared between processes on Linux alone.
func ReadOnly(_ *os.File) (*os.File, error) {
	return nil, errorf(engine.KindUnavailable, "", "sharing memory between processes needs Linux")
}
