package objectstore

import (
	"syscall"

	"github.com/f708428e/engine"
)

// minDescriptors is how many open files a store needs to be of use: one for each arena, which may be hundreds of large objects,
// one for each connection, and what the rest of the process has.
const minDescriptors = 1024

// CheckLimits returns an error of kind engine.KindExhausted if this process may not have as many files open as a store needs, and
// says how to change that.
func CheckLimits() error {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return engine.Errorf(engine.KindInternal, "check limits", "", "getrlimit: %w", err)
	}
	return checkDescriptors(uint64(limit.Cur)) //nolint:unconvert // Its type differs between systems.
}

func checkDescriptors(limit uint64) error {
	if limit >= minDescriptors {
		return nil
	}
	return engine.Errorf(engine.KindExhausted, "check limits", "", "at most %d files may be open, and an object store needs %d: one for each arena and each connection", limit, minDescriptors).
		WithHint("raise it with `ulimit -n %d`, or LimitNOFILE in the service's unit", 64*minDescriptors)
}
