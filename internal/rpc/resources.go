package rpc

import (
	"strconv"

	"github.com/f708428e/engine"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// ResourcesFromProto reads and checks resources. What is not set is zero, the CPU too. Nil is nothing.
func ResourcesFromProto(wire *enginev1.Resources) (engine.Resources, error) {
	r := engine.Resources{CPU: wire.GetCpu(), GPU: wire.GetGpu(), Custom: wire.GetCustom()}
	for _, size := range []struct {
		text  string
		bytes *int64
	}{{wire.GetMemory(), &r.MemoryBytes}, {wire.GetGpuMemory(), &r.GPUMemoryBytes}} {
		if size.text == "" {
			continue
		}
		bytes, err := engine.ParseSize(size.text)
		if err != nil {
			return engine.Resources{}, err
		}
		*size.bytes = bytes
	}
	return r, r.Validate()
}

// ResourcesToProto is the inverse of ResourcesFromProto.
func ResourcesToProto(r engine.Resources) *enginev1.Resources {
	wire := &enginev1.Resources{Cpu: &r.CPU, Gpu: r.GPU, Custom: r.Custom}
	if r.MemoryBytes != 0 {
		wire.Memory = strconv.FormatInt(r.MemoryBytes, 10)
	}
	if r.GPUMemoryBytes != 0 {
		wire.GpuMemory = strconv.FormatInt(r.GPUMemoryBytes, 10)
	}
	return wire
}
