package testcluster_test

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/internal/testcluster"
	"github.com/f708428e/engine/model"
	"github.com/f708428e/engine/model/modeltest"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
	"github.com/f708428e/engine/runtime"
	"github.com/f708428e/engine/runtime/fake"
)

// TestGPUJob runs models on the GPUs that a job's tasks were granted, and on the CPU if they ask for none.
func TestGPUJob(t *testing.T) {
	loader := fake.New()
	loader.SetGPUs(2)
	c := testcluster.Start(t, testcluster.Options{Workers: 1, GPU: 2, TargetSplitBytes: 500, Models: func() runtime.Loader { return loader }})
	loads := func() (cpu, first, second int) {
		return loader.Loads(runtime.Device{}), loader.Loads(runtime.GPU(0)), loader.Loads(runtime.GPU(1))
	}

	_, spec := embedJob(t, 200, nil)
	wait(t, submit(t, c, spec), engine.JobSucceeded)
	if cpu, first, second := loads(); cpu != 1 || first != 0 || second != 0 {
		t.Errorf("without a GPU: %d, %d, %d loads", cpu, first, second)
	}

	gate := make(chan struct{})
	loader.SetFaults(fake.Faults{Gate: gate})
	_, spec = embedJob(t, 200, nil)
	spec.Resources = &enginev1.Resources{Gpu: 1, GpuMemory: "512MiB"}
	job := submit(t, c, spec)
	for range 2 { // Two tasks, each on a device of its own, have loaded the model there.
		select {
		case gate <- struct{}{}:
		case <-withTimeout(t).Done():
			t.Fatal("no model is called")
		}
	}
	loader.SetFaults(fake.Faults{})
	close(gate)
	wait(t, job, engine.JobSucceeded)
	if cpu, first, second := loads(); cpu != 1 || first+second == 0 {
		t.Errorf("with a GPU: %d, %d, %d loads", cpu, first, second)
	}
}

// TestGPURefused gives no other device to a task whose GPU cannot be used, and takes no more GPUs than one.
func TestGPURefused(t *testing.T) {
	c := testcluster.Start(t, testcluster.Options{Workers: 1, GPU: 2})
	_, spec := embedJob(t, 20, nil)
	spec.Resources = &enginev1.Resources{Gpu: 0.5}
	spec.Retry = &enginev1.Retry{MaxAttempts: 1}
	if result := wait(t, submit(t, c, spec), engine.JobFailed); result.Err.Kind != engine.KindUnavailable || !strings.Contains(result.Err.Error(), "CUDA") {
		t.Errorf("got %v", result.Err)
	}
	spec.Resources = &enginev1.Resources{Gpu: 2}
	_, other := embedJob(t, 20, nil)
	other.Resources = spec.Resources
	if result := wait(t, submit(t, c, other), engine.JobFailed); result.Err.Kind != engine.KindInvalidArgument || !strings.Contains(result.Err.Error(), "a model runs on one") {
		t.Errorf("got %v", result.Err)
	}
}

// TestQuantizedOnGPU refuses what CUDA could run in small part alone.
func TestQuantizedOnGPU(t *testing.T) {
	loader := fake.New()
	loader.SetGPUs(1)
	c := testcluster.Start(t, testcluster.Options{Workers: 1, GPU: 1, Models: func() runtime.Loader { return loader }})
	source, err := model.OpenEmbedding(t.Context(), modeltest.Tiny("bert").Folder(t))
	if err != nil {
		t.Fatal(err)
	}
	quantized := filepath.Join(t.TempDir(), "int8")
	if _, err := source.Quantize(t.Context(), t.TempDir(), quantized); err != nil {
		t.Fatal(err)
	}
	_, spec := embedJob(t, 20, nil)
	spec.Steps[1].GetEmbed().Model = quantized
	spec.Resources = &enginev1.Resources{Gpu: 1}
	result := wait(t, submit(t, c, spec), engine.JobFailed)
	if result.Err.Kind != engine.KindInvalidArgument || !strings.Contains(result.Err.Error(), "computes in integers") || loader.Loads(runtime.GPU(0)) != 0 {
		t.Errorf("got %v", result.Err)
	}
}
