//go:build cgo

package onnx

import (
	"errors"
	"path/filepath"
	"strconv"
	"strings"

	ort "github.com/yalue/onnxruntime_go"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/runtime"
	"github.com/f708428e/engine/runtime/cuda"
)

const (
	// providerName is the library that ONNX Runtime loads from its own folder to use CUDA.
	providerName = "libonnxruntime_providers_cuda.so"
	// cudnnName is one that the provider asks for only when a model needs it.
	cudnnName = "libcudnn.so.9"

	howToGetCUDA = "point --onnxruntime at the library of a GPU build of ONNX Runtime " + Version + ", with " + providerName + " beside it, or ask for no gpu"
)

// CheckCUDA finds out whether models can run on this machine's GPUs: whether the library can use CUDA, with all that it needs, and
// whether there is a GPU. It loads CUDA's libraries, which stay. Errors are those of Library, or of kind engine.KindUnavailable.
func (l *Loader) CheckCUDA() error {
	library, err := l.Library()
	if err != nil {
		return err
	}
	options, err := ort.NewSessionOptions()
	if err != nil {
		return modelError("use CUDA", library.Path, err)
	}
	return errors.Join(useDevice(options, library, runtime.GPU(0), 0), options.Destroy())
}

// useDevice makes sessions run on the device; the CPU needs nothing.
func useDevice(options *ort.SessionOptions, library Library, device runtime.Device, memoryBytes int64) error {
	const op = "use CUDA"
	number, ok := device.GPU()
	if !ok {
		return nil
	}
	provider, err := ort.NewCUDAProviderOptions()
	if err != nil {
		if strings.Contains(err.Error(), "not enabled in this build") {
			return engine.Errorf(engine.KindUnavailable, op, library.Path, "this ONNX Runtime has no CUDA").WithHint(howToGetCUDA)
		}
		return modelError(op, library.Path, err)
	}
	defer func() { _ = provider.Destroy() }() // it has been made
	driver, err := cuda.Probe()
	switch {
	case err != nil:
		return engine.Errorf(engine.KindUnavailable, op, device.String(), "%w", err)
	case number < 0 || number >= len(driver.Devices):
		return engine.Errorf(engine.KindUnavailable, op, device.String(), "there is no such device: CUDA sees %d here", len(driver.Devices)).
			WithHint("see engine doctor, CUDA_VISIBLE_DEVICES, and the worker's --num-gpus")
	}
	if err := provider.Update(cudaOptions(number, memoryBytes)); err != nil {
		return modelError(op, device.String(), err)
	}
	if err := options.AppendExecutionProviderCUDA(provider); err != nil {
		return loadError(library, err)
	}
	return nil
}

func cudaOptions(number int, memoryBytes int64) map[string]string {
	options := map[string]string{
		"device_id": strconv.Itoa(number),
		// By default every new shape of a convolution is timed with all algorithms, for seconds.
		"cudnn_conv_algo_search": "HEURISTIC",
		// By default products are computed with 10 bits of mantissa. Results shall be those of the CPU.
		"use_tf32": "0",
	}
	if memoryBytes > 0 {
		options["gpu_mem_limit"] = strconv.FormatInt(memoryBytes, 10)
	}
	return options
}

// loadError explains why ONNX Runtime could not load the library that uses CUDA; it says that to its log alone.
func loadError(library Library, err error) error {
	const op = "use CUDA"
	path := library.Path
	if resolved, err := filepath.EvalSymlinks(path); err == nil {
		path = resolved
	}
	provider := filepath.Join(filepath.Dir(path), providerName)
	missing, errMissing := cuda.Missing(provider, cudnnName)
	switch {
	case errMissing != nil:
		return engine.Errorf(engine.KindUnavailable, op, provider, "%w", errMissing).WithHint(howToGetCUDA)
	case len(missing) > 0:
		return engine.Errorf(engine.KindUnavailable, op, provider, "it needs %s, not found", strings.Join(missing, ", ")).
			WithHint("install CUDA and cuDNN of the versions that this build of ONNX Runtime is for, and name their folders in LD_LIBRARY_PATH")
	default:
		return engine.Errorf(engine.KindUnavailable, op, provider, "%s", shorten(err, provider))
	}
}
