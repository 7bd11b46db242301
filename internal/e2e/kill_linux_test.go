package e2e_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/f708428e/engine/client"
	"github.com/f708428e/engine/internal/failpoint"
	"github.com/f708428e/engine/internal/testenv"
)

// killAt runs a scenario's job with a process killed at a place when it comes there for the nth time.
func (k *killer) killAt(s killScenario, p failpoint.Point, nth int) {
	k.t.Helper()
	k.run(s, fmt.Sprintf("%s:%d", p, nth), nil)
	if _, err := os.Stat(k.path(fmt.Sprintf("run-%d/marks/%s", k.runs, p.Mark()))); err != nil {
		k.t.Errorf("nobody was killed at %s: %v", p, err)
	}
}

// TestKilledAtSomePlaces is a slice of the matrix below: some place of each process.
func TestKilledAtSomePlaces(t *testing.T) {
	k := newKiller(t, &alone{})
	for _, c := range []struct {
		scenario string
		point    failpoint.Point
		nth      int
	}{
		{"csv, append", failpoint.FolderLinked, 2}, {"parquet, append", failpoint.HeadCommitted, 3},
		{"csv, overwrite", failpoint.FolderReplaced, 1}, {"parquet, error", failpoint.ExecutorRan, 4},
		{"s3, csv, error", failpoint.BucketPut, 2}, {"s3, csv, overwrite", failpoint.BucketOldDeleted, 1},
		{"file size", failpoint.FolderSealed, 5}, {"file size", failpoint.FolderRevealed, 2}, {"s3, file size", failpoint.BucketRevealed, 3},
		{"postgres, resumed", failpoint.TableAbandoned, 1}, {"postgres, resumed", failpoint.HeadResumed, 1},
		{"postgres, rejects", failpoint.TableSucceeded, 1}, {"rejects", failpoint.FolderSealed, 2},
	} {
		s := scenario(c.scenario)
		k.killAt(s, c.point, c.nth)
		if t.Failed() {
			t.Fatalf("%s, at %s", s.name, c.point)
		}
	}
}

// TestKillMatrix kills a process of every scenario at places that its job passes, at the first visit and at a later one: at all of them in
// a soak, else at every place in two scenarios, and at a sixth of the places in the others. All places must have been passed by some job.
func TestKillMatrix(t *testing.T) {
	testenv.Full(t)
	newKiller(t, &alone{}).matrix(seeded(t))
}

// TestKilledAtAnyInstant kills workers, executors, heads, and all at once at random instants.
func TestKilledAtAnyInstant(t *testing.T) {
	testenv.Full(t)
	newKiller(t, &alone{}).anyInstant(seeded(t), 50)
}

// seeded is a test's randomness, whose seed it prints.
func seeded(t *testing.T) *rand.Rand {
	t.Helper()
	seed := uint64(time.Now().UnixNano()) //nolint:gosec // Any number will do.
	t.Logf("seed %d", seed)
	return rand.New(rand.NewPCG(seed, 0)) //nolint:gosec // A test's randomness.
}

// within runs a test within the killer's own, which fails by what is found.
func (k *killer) within(name string, do func(t *testing.T)) {
	outer := k.t
	outer.Run(name, func(t *testing.T) {
		k.t, k.watcher.t = t, t
		defer func() { k.t, k.watcher.t = outer, outer }()
		do(t)
	})
}

func (k *killer) matrix(random *rand.Rand) {
	everywhere, had := map[failpoint.Point]int{}, map[failpoint.Point]int{}
	done := 0
	for _, s := range killScenarios {
		k.within(s.name, func(t *testing.T) {
			done++
			counts := k.run(s, "", nil)
			maps.Copy(everywhere, counts)
			kills := 0
			for _, p := range slices.Sorted(maps.Keys(counts)) {
				if slices.Contains(s.before, p) {
					continue
				}
				// All of them take half an hour: the full tests draw a sixth of those that two scenarios have had, and the matrix over TLS
				// has each once more.
				if had[p] >= 2 && !testenv.IsSoak() && random.IntN(6) > 0 {
					continue
				}
				had[p]++
				k.killAt(s, p, 1)
				// Where processes come often, each comes half as often as all.
				if later := counts[p] / 3; later > 1 {
					k.killAt(s, p, 2+random.IntN(later-1))
					kills++
				}
				kills++
				if t.Failed() {
					t.Fatalf("at %s", p)
				}
			}
			t.Logf("%d kills", kills)
		})
	}
	for _, p := range failpoint.Points() {
		if everywhere[p] == 0 && done == len(killScenarios) && p != unreached {
			k.t.Errorf("no job comes to %s", p)
		}
	}
}

// unreached is the place that no scenario's job comes to: only one that fails with nothing to show leaves no notes behind.
const unreached = failpoint.FolderNotesRemoved

func (k *killer) anyInstant(random *rand.Rand, instants int) {
	for instant := 0; instant < instants; {
		s := killScenarios[random.IntN(len(killScenarios))]
		kills := 1 + random.IntN(3)
		waits := make([]time.Duration, kills)
		whom, heads := make([]int, kills), make([]int, kills)
		var told []string
		for i := range kills {
			waits[i], whom[i], heads[i] = time.Duration(random.IntN(400_000))*time.Microsecond, random.IntN(5), random.IntN(6)
			told = append(told, fmt.Sprintf("%s after %s", []string{fmt.Sprint("head ", heads[i]), "worker 1", "worker 2", "executors", "all"}[whom[i]], waits[i]))
		}
		happened := 0
		k.run(s, "", func(v *victims, _ *client.Job, ended <-chan struct{}) {
			for i := range kills {
				select {
				case <-time.After(waits[i]):
				case <-ended:
					return
				}
				switch whom[i] {
				case 0:
					v.kill(heads[i] % v.heads)
				case 3:
					for _, pid := range append(v.executorsOf(v.worker(0)), v.executorsOf(v.worker(1))...) {
						_ = syscall.Kill(pid, syscall.SIGKILL) // it may have ended
					}
				case 4:
					v.kill(v.all()...)
				default:
					v.kill(v.worker(whom[i] - 1))
				}
				happened++
			}
		})
		instant += happened
		if k.t.Failed() {
			k.t.Fatalf("%s, killed: %s", s.name, strings.Join(told, ", "))
		}
	}
}
