package process

import (
	"errors"
	"fmt"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/f708428e/engine/internal/cgroup"
)

// An error that may pass does not leave later executors without cgroups, and is told once.
func TestFailed(t *testing.T) {
	for name, test := range map[string]struct {
		err   error
		never bool
	}{
		"not permitted": {unix.EACCES, true},
		"old":           {unix.ENOSYS, true},
		"read only":     {unix.EROFS, true},
		"descriptors":   {unix.EMFILE, false},
		"memory":        {unix.ENOMEM, false},
		"too many":      {unix.EAGAIN, false},
		"shared":        {cgroup.ErrShared, false},
	} {
		t.Run(name, func(t *testing.T) {
			g := &cgroups{}
			if err := g.failed(fmt.Errorf("make: %w", test.err)); !errors.Is(err, test.err) {
				t.Errorf("the first time: %v", err)
			}
			if err := g.failed(fmt.Errorf("make: %w", test.err)); err != nil {
				t.Errorf("again: %v", err)
			}
			if g.never != test.never || g.measure().Missing != "make: "+test.err.Error() {
				t.Errorf("got %v, %q", g.never, g.measure().Missing)
			}
			if err := g.failed(errors.New("another")); (err == nil) != test.never || !g.never {
				t.Errorf("another one: %v, %v", err, g.never)
			}
		})
	}
}
