package engine_test

import (
	"testing"

	"github.com/f708428e/engine"
)

func TestJobStateTerminal(t *testing.T) {
	want := map[engine.JobState]bool{
		engine.JobPending: false, engine.JobRunning: false,
		engine.JobStopped: true, engine.JobSucceeded: true, engine.JobFailed: true,
		"": false, "SOMETHING": false,
	}
	for s, w := range want {
		if got := s.Terminal(); got != w {
			t.Errorf("%q: terminal is %t", s, got)
		}
	}
}

func TestElementType(t *testing.T) {
	tests := []struct {
		element engine.ElementType
		name    string
		size    int
	}{
		{engine.ElementUnknown, "unknown", 0},
		{engine.Float32, "float", 4}, {engine.Float64, "double", 8}, {engine.Float16, "float16", 2},
		{engine.Int8, "int8", 1}, {engine.Int16, "int16", 2}, {engine.Int32, "int32", 4}, {engine.Int64, "int64", 8},
		{engine.Uint8, "uint8", 1}, {engine.Uint16, "uint16", 2}, {engine.Uint32, "uint32", 4}, {engine.Uint64, "uint64", 8},
		{engine.Bool, "bool", 1}, {engine.String, "string", 0},
		{engine.ElementType(200), "element(200)", 0},
	}
	for _, tt := range tests {
		if tt.element.String() != tt.name || tt.element.SizeBytes() != tt.size {
			t.Errorf("%d is %s with %d bytes, want %s with %d", tt.element, tt.element, tt.element.SizeBytes(), tt.name, tt.size)
		}
	}
}

func TestTensorSpecString(t *testing.T) {
	tests := []struct {
		spec engine.TensorSpec
		want string
	}{
		{engine.TensorSpec{Name: "x", Type: engine.Float64, Shape: []int64{-1, 11}}, "x: double[?, 11]"},
		{engine.TensorSpec{Name: "y", Type: engine.String}, "y: string[]"},
	}
	for _, tt := range tests {
		if got := tt.spec.String(); got != tt.want {
			t.Errorf("%q, want %q", got, tt.want)
		}
	}
}
