// Package cuda finds out which NVIDIA GPUs there are and whether a library that uses them can be loaded. It asks NVIDIA's driver,
// which it looks for while the program runs: nothing of CUDA is needed to build the engine or to run it without a GPU. Without cgo,
// and on systems other than Linux, there are no GPUs.
package cuda

import (
	"debug/elf"
	"sync"

	"github.com/f708428e/engine"
)

// Device is a GPU.
type Device struct {
	// Name is the vendor's, such as "NVIDIA H100 80GB HBM3".
	Name string
	// MemoryBytes is all memory that it has.
	MemoryBytes int64
}

// Driver is what NVIDIA's driver says.
type Driver struct {
	// Version is the version of CUDA that it supports, such as "13.0".
	Version string
	// Devices are the GPUs that this process may see, by number: those of the environment variable CUDA_VISIBLE_DEVICES if that is set,
	// in its order. The caller must not change them.
	Devices []Device
}

// Probe asks the driver, once in a process; later calls return the same. The first takes some 100 ms where there is a GPU, next to
// nothing elsewhere. A machine with the driver and without GPUs is no error; one without the driver is of kind engine.KindNotFound; a
// driver that fails is of kind engine.KindUnavailable.
func Probe() (*Driver, error) { return probeOnce() }

var probeOnce = sync.OnceValues(probe)

// Missing returns the shared libraries that the ELF file at path needs, or that are among also, and that the system's loader does not
// find, in that order. They stay loaded. A file that cannot be read is an error.
func Missing(path string, also ...string) ([]string, error) {
	file, err := elf.Open(path)
	if err != nil {
		return nil, engine.WrapError("look for libraries", path, err)
	}
	needed, err := file.ImportedLibraries()
	_ = file.Close() // It was only read.
	if err != nil {
		return nil, engine.WrapError("look for libraries", path, err)
	}
	var missing []string
	for _, name := range append(needed, also...) {
		if !loadable(name) {
			missing = append(missing, name)
		}
	}
	return missing, nil
}
