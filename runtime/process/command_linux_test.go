package process_test

import (
	"os"
	"os/exec"
	"testing"
)

// testCommand runs a test of this binary in a process of its own.
func testCommand(t *testing.T, name string, environment ...string) *exec.Cmd {
	t.Helper()
	command := exec.CommandContext(t.Context(), os.Args[0], "-test.run", name, "-test.v")
	command.Env = append(os.Environ(), environment...)
	return command
}
