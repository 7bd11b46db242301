package runtime_test

import (
	"testing"

	"github.com/f708428e/engine/runtime"
)

func TestDevice(t *testing.T) {
	var cpu runtime.Device
	if number, ok := cpu.GPU(); ok || cpu.String() != "cpu" {
		t.Errorf("the zero device is %v, GPU %d", cpu, number)
	}
	for number, name := range []string{"cuda:0", "cuda:1"} {
		d := runtime.GPU(number)
		if got, ok := d.GPU(); !ok || got != number || d.String() != name || d == cpu || d != runtime.GPU(number) {
			t.Errorf("GPU(%d) is %v, GPU %d, %v", number, d, got, ok)
		}
	}
}
