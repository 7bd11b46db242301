package sim_test

import (
	"errors"
	"os"
	"strconv"
	"testing"

	"github.com/f708428e/engine/head/sim"
	"github.com/f708428e/engine/internal/testenv"
)

// seeds is how many histories are simulated.
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
	var sum sim.Stats
	n := seeds(t)
	for seed := range n {
		stats, err := sim.Run(sim.Options{Seed: seed})
		if err != nil {
			t.Fatalf("%v\nrun it again with ENGINE_SIM_SEED=%d go test ./head/sim", err, seed)
		}
		sum.Events += stats.Events
		sum.Heads += stats.Heads
		sum.Lost += stats.Lost
		sum.Jobs += stats.Jobs
		sum.Tasks += stats.Tasks
		sum.Attempts += stats.Attempts
	}
	t.Logf("%d histories: %+v", n, sum)
}

// TestManySimulations is TestSimulation with more of them.
func TestManySimulations(t *testing.T) {
	testenv.Full(t)
	t.Setenv("ENGINE_SIM_SEEDS", "10000")
	TestSimulation(t)
}

// TestSimulationFindsFaults switches one safeguard after the other off; each must be missed within the histories of every test run.
func TestSimulationFindsFaults(t *testing.T) {
	for _, fault := range []sim.Fault{
		sim.PublishWithoutRight, sim.NoAdoptionWait, sim.LongLeases, sim.RenewOnAnswer, sim.AcknowledgeEarly, sim.OverwriteParts,
		sim.IgnoreRevocations, sim.OverlappingHeads,
	} {
		t.Run(string(fault), func(t *testing.T) {
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
	for seed := range uint64(20) {
		first, err := sim.Run(sim.Options{Seed: seed})
		second, again := sim.Run(sim.Options{Seed: seed})
		if first != second || (err == nil) != (again == nil) {
			t.Fatalf("seed %d: %+v and %+v", seed, first, second)
		}
	}
}
