package dumps_test

import (
	"errors"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/f708428e/engine/internal/security/dumps"
)

func dumpable(t *testing.T) int {
	t.Helper()
	n, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestPrevent(t *testing.T) {
	before := dumpable(t)
	refused := errors.New("refused")
	inside := -1
	look := func() error {
		inside = dumpable(t)
		return refused
	}
	if err := dumps.Allow(look); !errors.Is(err, refused) || inside != before || dumpable(t) != before {
		t.Errorf("before: %d, inside %d, %v", before, inside, err)
	}
	if !dumps.Prevent() {
		t.Fatal("the system refuses")
	}
	if got := dumpable(t); got != 0 {
		t.Errorf("prevented: %d", got)
	}
	if err := dumps.Allow(look); !errors.Is(err, refused) || inside != 1 || dumpable(t) != 0 {
		t.Errorf("allowed: %d inside, %d after, %v", inside, dumpable(t), err)
	}
}
