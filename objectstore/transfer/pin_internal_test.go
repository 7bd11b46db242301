package transfer

import (
	"runtime"
	"testing"

	"google.golang.org/grpc/mem"
)

// TestDroppedBuffers lets go of buffers as gRPC does: some it frees, some it forgets. The object is given back once, when all are gone.
func TestDroppedBuffers(t *testing.T) {
	for _, freed := range []int{0, 1, 2, 3} {
		released := make(chan struct{}, 2)
		c := &connection{pins: map[*pin]struct{}{}}
		p := c.pin(func() { released <- struct{}{} })
		func() {
			var lent []mem.BufferSlice
			for range 3 {
				buffers, err := (&outgoing{body: make([]byte, 1<<20), pin: p}).marshal()
				if err != nil {
					t.Fatal(err)
				}
				lent = append(lent, buffers)
			}
			for _, buffers := range lent[:freed] {
				buffers.Free()
			}
			runtime.GC()
			if len(released) > 0 {
				t.Fatal("given back while buffers are in use")
			}
			runtime.KeepAlive(lent)
		}()
		p.end()
		for len(released) == 0 {
			runtime.GC()
			runtime.Gosched()
		}
		runtime.GC()
		runtime.GC()
		c.mu.Lock()
		pins := len(c.pins)
		c.mu.Unlock()
		p.mu.Lock()
		buffers := p.buffers
		p.mu.Unlock()
		if len(released) != 1 || pins != 0 || buffers != 0 {
			t.Errorf("%d freed: given back %d times, %d pins, %d buffers", freed, len(released), pins, buffers)
		}
	}
}
