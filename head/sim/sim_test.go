package sim_test

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"sync/atomic"
	"testing"

	"github.com/f708428e/engine/head/sim"
)

// seeds is how many histories are simulated; `make sim` asks for more.
func seeds(t *testing.T) uint64 {
	if text := os.Getenv("ENGINE_SIM_SEEDS"); text != "" {
		n, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			t.Fatalf("ENGINE_SIM_SEEDS: %v", err)
		}
		return n
	}
	return 500
}

// TestSimulation runs histories of a whole cluster. ENGINE_SIM_SEED runs one, ENGINE_SIM_SEEDS says how many.
func TestSimulation(t *testing.T) {
	if text := os.Getenv("ENGINE_SIM_SEED"); text != "" {
		seed, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			t.Fatalf("ENGINE_SIM_SEED: %v", err)
		}
		stats, err := sim.Run(sim.Options{Seed: seed})
		t.Logf("%+v", stats)
		if err != nil {
			t.Fatal(err)
		}
		return
	}
	n := seeds(t)
	var next atomic.Uint64
	for core := range runtime.GOMAXPROCS(0) {
		t.Run(fmt.Sprint("core ", core), func(t *testing.T) {
			t.Parallel()
			var sum sim.Stats
			for seed := next.Add(1) - 1; seed < n && !t.Failed(); seed = next.Add(1) - 1 {
				stats, err := sim.Run(sim.Options{Seed: seed})
				if err != nil {
					t.Errorf("%v\nrun it again with ENGINE_SIM_SEED=%d go test -run Simulation$ ./head/sim", err, seed)
					next.Store(n)
					return
				}
				sum.Add(stats)
			}
			t.Logf("%+v", sum)
		})
	}
}

// TestSimulationFindsFaults switches one safeguard after the other off; each must be missed within the histories of every test run.
func TestSimulationFindsFaults(t *testing.T) {
	for _, fault := range []sim.Fault{
		sim.PublishWithoutRight, sim.NoAdoptionWait, sim.LongLeases, sim.RenewOnAnswer, sim.AcknowledgeEarly, sim.OverwriteParts,
		sim.IgnoreRevocations, sim.OverlappingHeads, sim.RunAcknowledged, sim.IgnoreAdmission,
	} {
		t.Run(string(fault), func(t *testing.T) {
			t.Parallel()
			for seed := range uint64(500) {
				_, err := sim.Run(sim.Options{Seed: seed, Break: fault})
				var failure *sim.Failure
				if errors.As(err, &failure) {
					t.Logf("found with seed %d: %s", seed, failure.What)
					return
				}
			}
			t.Fatal("500 histories did not show it")
		})
	}
}

// TestSameSeedSameHistory keeps the simulation from depending on anything but its seed.
func TestSameSeedSameHistory(t *testing.T) {
	for seed := range uint64(5) {
		first, err := sim.Run(sim.Options{Seed: seed})
		second, again := sim.Run(sim.Options{Seed: seed})
		if first != second || (err == nil) != (again == nil) {
			t.Fatalf("seed %d: %+v and %+v", seed, first, second)
		}
	}
}
