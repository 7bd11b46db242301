//go:build cgo

package onnx

import (
	goruntime "runtime"
	"testing"

	ort "github.com/yalue/onnxruntime_go"
)

// brokenValue panics where the binding would.
type brokenValue struct{ ort.Value }

func (brokenValue) Destroy() error { panic("broken") }

// TestRelease releases what a call may hold: nothing nil is destroyed, and a panic leaves no memory pinned. The collector ends a
// process that drops a Pinner with pinned memory.
func TestRelease(t *testing.T) {
	for _, values := range [][]ort.Value{
		{nil, (*ort.Tensor[float32])(nil), (*ort.StringTensor)(nil), (*ort.CustomDataTensor)(nil)},
		{brokenValue{}},
	} {
		func() {
			defer func() {
				if r := recover(); (r != nil) != (len(values) == 1) {
					t.Errorf("%d values: panic %v", len(values), r)
				}
			}()
			c := &call{outputs: values}
			c.pins.Pin(new([64]byte))
			c.release()
		}()
	}
	for range 3 {
		goruntime.GC()
	}
}
