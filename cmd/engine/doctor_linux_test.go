package main

import (
	"io"
	"strings"
	"testing"
)

func TestReadMemory(t *testing.T) {
	t.Setenv("ENGINE_TEST_IS_ENGINE", "1")
	secret := []byte("what another process must be able to read")
	got, err := askToRead(t.Context(), secret)
	if err != nil && strings.Contains(err.Error(), "operation not permitted") {
		t.Skip("process_vm_readv is not permitted here (ptrace scope or seccomp)")
	}
	if err != nil || string(got) != string(secret) {
		t.Errorf("got %q, %v", got, err)
	}
	for _, place := range []string{"", "1", "1:2", "1:2:x", "1:2:-3", "1:1:100000"} {
		if err := readMemory(place, strings.NewReader("\n"), io.Discard); err == nil {
			t.Errorf("%q is taken", place)
		}
	}
}
