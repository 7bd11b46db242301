package hostid_test

import (
	"encoding/hex"
	"os"
	"os/exec"
	"runtime"
	"testing"

	"github.com/f708428e/engine/internal/hostid"
)

// TestSameInAnotherProcess runs this test again in a child, which must have the same id.
func TestSameInAnotherProcess(t *testing.T) {
	if runtime.GOOS != "linux" {
		if id := hostid.ID(); id != "" {
			t.Errorf("id %q, expected none on %s", id, runtime.GOOS)
		}
		return
	}
	if os.Getenv("HOSTID_CHILD") != "" {
		if _, err := os.Stdout.WriteString("<" + hostid.ID() + ">"); err != nil {
			t.Fatal(err)
		}
		return
	}
	id := hostid.ID()
	if raw, err := hex.DecodeString(id); err != nil || len(raw) != 16 {
		t.Fatalf("id %q, expected 32 hexadecimal digits", id)
	}
	child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestSameInAnotherProcess$", "-test.v=false")
	child.Env = append(os.Environ(), "HOSTID_CHILD=1")
	out, err := child.Output()
	if err != nil {
		t.Fatal(err)
	}
	if got := string(out[:min(len(out), len(id)+2)]); got != "<"+id+">" {
		t.Errorf("a child process says %q, this one %q", out, id)
	}
}
