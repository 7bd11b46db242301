package cuda_test

import (
	"errors"
	"os"
	"path/filepath"
	goruntime "runtime"
	"slices"
	"testing"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/runtime/cuda"
)

// TestProbe holds on machines with and without GPUs.
func TestProbe(t *testing.T) {
	driver, err := cuda.Probe()
	again, errAgain := cuda.Probe()
	if driver != again || !errors.Is(errAgain, err) {
		t.Errorf("%v, %v, then %v, %v", driver, err, again, errAgain)
	}
	if err != nil {
		if kind := engine.KindOf(err); kind != engine.KindNotFound && kind != engine.KindUnavailable {
			t.Errorf("kind %s of %v", kind, err)
		}
		return
	}
	if driver.Version == "" {
		t.Error("no version")
	}
	for i, d := range driver.Devices {
		t.Logf("%d: %s, %s", i, d.Name, engine.FormatSize(d.MemoryBytes))
		if d.Name == "" || d.MemoryBytes <= 0 {
			t.Errorf("device %d is %+v", i, d)
		}
	}
}

func TestMissing(t *testing.T) {
	if _, err := cuda.Missing(filepath.Join(t.TempDir(), "none.so")); err == nil {
		t.Error("a file that is not there")
	}
	text := filepath.Join(t.TempDir(), "text.so")
	if err := os.WriteFile(text, []byte("no library"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := cuda.Missing(text); err == nil {
		t.Error("a file that is no library")
	}
	if goruntime.GOOS != "linux" {
		return
	}
	program, err := os.Executable() // Of all that it needs, nothing is missing: it runs.
	if err != nil {
		t.Fatal(err)
	}
	const none = "libengine-test-that-is-not-there.so.1"
	missing, err := cuda.Missing(program, none)
	if err != nil || !slices.Equal(missing, []string{none}) {
		t.Errorf("got %q, %v", missing, err)
	}
}
