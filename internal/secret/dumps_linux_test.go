package secret_test

import (
	"testing"

	"golang.org/x/sys/unix"

	"github.com/f708428e/engine/internal/secret"
)

func TestKeepFromDumps(t *testing.T) {
	if !secret.KeepFromDumps() {
		t.Fatal("the system refuses")
	}
	// The value is the call's result.
	if dumpable, _, errno := unix.Syscall(unix.SYS_PRCTL, unix.PR_GET_DUMPABLE, 0, 0); errno != 0 || dumpable != 0 {
		t.Errorf("PR_GET_DUMPABLE is %d, %v", dumpable, errno)
	}
}
