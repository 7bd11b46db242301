package e2e_test

import (
	"fmt"
	"time"

	"github.com/f708428e/engine/internal/cgroup"
)

// removeLeftovers removes the cgroups of executors whose workers were killed, as the next worker would. Those executors may still be about to end.
func removeLeftovers() error {
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(50 * time.Millisecond) { // sleep: nothing tells when processes have left a cgroup of version 1.
		left, err := cgroup.Sweep()
		switch {
		case err != nil:
			return nil //nolint:nilerr // Nothing is left where nothing can be made.
		case len(left) == 0:
			return nil
		case time.Now().After(deadline):
			return fmt.Errorf("cgroups are left: %q", left)
		}
	}
}
