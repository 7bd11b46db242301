package objects_test

import (
	"runtime"
	"testing"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/objectstore/transfer"
	"github.com/f708428e/engine/worker/objects"
)

// With TokensOnly the Flight service takes nobody's user for a proof.
func TestFlightOfTokensOnly(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("needs Linux, whose kernel tells users apart")
	}
	for _, only := range []bool{false, true} {
		h := newHead(t)
		o := h.start(objects.Config{TokensOnly: only, DataDir: t.TempDir()})
		h.stream()
		c, err := transfer.Dial(t.Context(), o.Flight())
		check(t, err)
		_, err = c.Get(t.Context(), engine.NewObjectID())
		if refused := engine.KindOf(err) == engine.KindUnauthenticated; err == nil || refused != only {
			t.Errorf("tokens only %v: %v", only, err)
		}
		check(t, c.Close())
	}
}
