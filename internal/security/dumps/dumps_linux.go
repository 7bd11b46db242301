// Package dumps keeps the memory of a process that holds secrets to itself.
package dumps

import (
	"sync"

	"golang.org/x/sys/unix"
)

// mu guards whether the process is dumpable.
var mu sync.Mutex

// Prevent sees to it that this process leaves no core dump, and that no other process of its user can read its memory. A child is not concerned
// once it has called exec. It returns whether the system does so.
func Prevent() bool {
	mu.Lock()
	defer mu.Unlock()
	return set(0)
}

// Allow makes what do does work as if Prevent had not been called: it is for starting a child in a user namespace of its own, whose parent must write
// files of the child that belong to root while the two share their memory. What do starts must have called exec when it returns.
func Allow(do func() error) error {
	mu.Lock()
	defer mu.Unlock()
	if dumpable, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0); err == nil && dumpable == 0 && set(1) {
		defer set(0)
	}
	return do()
}

func set(dumpable uintptr) bool { return unix.Prctl(unix.PR_SET_DUMPABLE, dumpable, 0, 0, 0) == nil }
