package runtime

import "strconv"

// Device is where a model runs. The zero value is the CPU. Devices can be compared.
type Device struct {
	gpu int // The number of the GPU plus one.
}

// GPU is the GPU with a number on this machine, from 0, as CUDA counts those that the process may see.
func GPU(number int) Device { return Device{gpu: number + 1} }

// GPU returns the GPU's number; ok is false for the CPU.
func (d Device) GPU() (number int, ok bool) { return d.gpu - 1, d.gpu != 0 }

// String is "cpu", or "cuda:" and the number.
func (d Device) String() string {
	if number, ok := d.GPU(); ok {
		return "cuda:" + strconv.Itoa(number)
	}
	return "cpu"
}
