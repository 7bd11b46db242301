package worker

import (
	"github.com/f708428e/engine"
	"github.com/f708428e/engine/runtime"
)

// modelPlace is where the models of a task run.
type modelPlace struct {
	device runtime.Device
	// memoryBytes is what the task may take of a GPU's memory; zero means as much as there is.
	memoryBytes int64
	// hostBytes is what the task has been granted of the machine's memory; zero means that it did not say.
	hostBytes int64
}

// placeModels decides where the models of a task run that holds these resources, and of GPUs those with these numbers.
func placeModels[N int | int32](held engine.Resources, gpus []N) (modelPlace, error) {
	const op = "choose device"
	switch {
	case len(gpus) > 1:
		return modelPlace{}, engine.Errorf(engine.KindInvalidArgument, op, "", "the task has %d GPUs, and a model runs on one", len(gpus)).
			WithHint("ask for gpu: 1 or a part of one; several tasks run side by side")
	case len(gpus) == 1:
		return modelPlace{runtime.GPU(int(gpus[0])), held.GPUMemoryBytes, held.MemoryBytes}, nil
	case held.GPU > 0 || held.GPUMemoryBytes > 0:
		return modelPlace{}, engine.Errorf(engine.KindInternal, op, "", "the task asks for a GPU, and was granted none")
	default:
		return modelPlace{hostBytes: held.MemoryBytes}, nil
	}
}
