package storetest_test

import (
	"flag"
	"fmt"
	"testing"

	"go.uber.org/goleak"

	"github.com/f708428e/engine/blob/memory"
	"github.com/f708428e/engine/internal/testenv"
	"github.com/f708428e/engine/objectstore"
	"github.com/f708428e/engine/objectstore/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	seedFlag = flag.Uint64("seed", 0, "run the random history of this seed alone; 0 is many seeds")
	seeds    = flag.Uint64("seeds", 30, "how many random histories there are; ten times as many in the long tests, and a hundred times in those that run for hours")
	steps    = flag.Int("steps", 400, "how long a random history is")
)

// TestRandomHistories tries each configuration with each sort of faults as the seeds go on.
func TestRandomHistories(t *testing.T) {
	t.Run("some", func(t *testing.T) { histories(t, 1, *seeds) })
	t.Run("many", func(t *testing.T) {
		testenv.Full(t)
		histories(t, *seeds+1, *seeds*10)
	})
	t.Run("very many", func(t *testing.T) {
		testenv.Soak(t)
		histories(t, *seeds*10+1, *seeds*100)
	})
}

func histories(t *testing.T, from, to uint64) {
	const mib = 1 << 20
	configs := []objectstore.Config{
		{CapacityBytes: 4 * mib, ArenaBytes: 4 * mib},
		{CapacityBytes: 8 * mib, ArenaBytes: mib},
		{CapacityBytes: 2 * mib, ArenaBytes: 1},
		{CapacityBytes: 6 * mib, ArenaBytes: 2 * mib, HighWater: 0.3, LowWater: 0.1},
		{CapacityBytes: 6 * mib, ArenaBytes: 2 * mib, HighWater: 1, LowWater: 1},
	}
	faults := []storetest.Faults{
		{},
		{Unavailable: 0.2, LostReply: 0.2},
		{Full: 0.7},
		{DamagedPut: 0.3, DamagedGet: 0.3, CutGet: 0.1},
		{Unavailable: 1},
		{}, // Without a bucket.
	}
	if *seedFlag != 0 {
		from, to = *seedFlag, *seedFlag
	}
	for seed := from; seed <= to; seed++ {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			h := storetest.History{Seed: seed, Steps: *steps, Config: configs[seed%5], Bucket: memory.New("spill"), Faults: faults[seed/5%6]}
			if seed/5%6 == 5 {
				h.Bucket = nil
			}
			h.Run(t)
		})
	}
}
