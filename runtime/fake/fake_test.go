package fake_test

import (
	"context"
	"errors"
	"testing"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/runtime"
	"github.com/f708428e/engine/runtime/enginetest"
	"github.com/f708428e/engine/runtime/fake"
)

func TestLoader(t *testing.T) { enginetest.TestLoader(t, fake.New()) }

func TestFaults(t *testing.T) {
	loader := fake.New()
	request := runtime.LoadRequest{Path: enginetest.WriteModel(t, enginetest.LinearModel(engine.Float64, 1, 1))}
	lost := engine.Errorf(engine.KindUnavailable, "use device", "0", "gone")
	loader.SetFaults(fake.Faults{Load: lost})
	if _, err := loader.Load(t.Context(), request); !errors.Is(err, lost) {
		t.Errorf("load: %v", err)
	}
	loader.SetFaults(fake.Faults{Run: lost, SparedRuns: 2})
	model, err := loader.Load(t.Context(), request)
	if err != nil {
		t.Fatal(err)
	}
	run := func(ctx context.Context) error {
		input := enginetest.Floats(engine.Float64, []int64{1, 1}, 1)
		return model.Run(ctx, []runtime.Tensor{input}, []runtime.Output{{}})
	}
	for i, wantErr := range []bool{false, false, true, true} {
		if err := run(t.Context()); (err != nil) != wantErr || err != nil && engine.KindOf(err) != engine.KindUnavailable {
			t.Errorf("call %d: %v", i, err)
		}
	}

	gate := make(chan struct{})
	loader.SetFaults(fake.Faults{Gate: gate})
	ctx, cancel := context.WithCancel(t.Context())
	canceled := make(chan error)
	go func() { canceled <- run(ctx) }()
	cancel()
	if err := <-canceled; engine.KindOf(err) != engine.KindCanceled {
		t.Errorf("canceled at the gate: %v", err)
	}
	go func() { canceled <- run(t.Context()) }()
	gate <- struct{}{} // returns when the call is there
	if err := <-canceled; err != nil {
		t.Error(err)
	}
	if got, want := loader.Stats(), (fake.Stats{Loads: 1, Open: 1, Runs: 6}); got != want {
		t.Errorf("stats %+v, want %+v", got, want)
	}
	if err := model.Close(); err != nil || loader.Stats().Open != 0 {
		t.Errorf("close: %v, %+v", err, loader.Stats())
	}
}
