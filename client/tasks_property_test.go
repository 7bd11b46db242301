package client_test

import (
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/f708428e/engine"
	"github.com/f708428e/engine/client"
	"github.com/f708428e/engine/internal/testenv"
	enginev1 "github.com/f708428e/engine/proto/engine/v1"
)

// Whatever becomes of the streams, every task ends once, with its own outcome, and is acknowledged; the head forgets nothing that it should
// keep and keeps nothing that it should forget.
func TestEveryTaskEndsOnce(t *testing.T) { endsOnce(t, 4, 300) }

func TestEveryTaskEndsOnceLong(t *testing.T) {
	testenv.Full(t)
	rounds := 20
	if testenv.IsSoak() {
		rounds = 200
	}
	endsOnce(t, rounds, 3_000)
}

func endsOnce(t *testing.T, rounds, perClient int) {
	seed := seedOf(t)
	for round := range rounds {
		r := rand.New(rand.NewPCG(seed, uint64(round)))
		w, tasks := newTaskWorld(t)
		tasks.window = int64(10 + r.IntN(perClient))
		tasks.head.lease = 30 * time.Millisecond
		var late []*enginev1.TaskOutcome
		tasks.run = func(s submission) *enginev1.TaskOutcome { // under the lock
			outcome := succeeded(s.GetTaskId())
			outcome.Attempts = int32(engine.TaskUID(s.GetTaskId())[13]) // what its client checks
			switch r.IntN(10) {
			case 0:
				late = append(late, outcome)
				return nil
			case 1, 2:
				tasks.stream.close(engine.Errorf(engine.KindUnavailable, "run tasks", "", "the stream breaks"))
			}
			return outcome
		}
		tasks.refuse = func(s submission) *enginev1.TaskRefusal {
			if r.IntN(20) == 0 {
				return &enginev1.TaskRefusal{TaskId: s.GetTaskId(), RetryAfterMillis: r.Int64N(3)}
			}
			return nil
		}
		stop := make(chan struct{})
		var finisher sync.WaitGroup
		finisher.Go(func() { // what was held back comes some time
			for {
				tasks.mu.Lock()
				some := late
				late = nil
				changed := tasks.changed
				tasks.mu.Unlock()
				for _, outcome := range some {
					tasks.finish(outcome)
				}
				select {
				case <-changed:
				case <-stop:
					return
				}
			}
		})
		const clients = 3
		var wg sync.WaitGroup
		all := make([][]*client.TaskHandle, clients)
		for i := range all {
			wg.Go(func() {
				for j := range perClient {
					h := w.Run(t.Context(), engine.Task{Operator: "noop", Params: j % 7})
					all[i] = append(all[i], h)
					if j%50 == 0 {
						<-h.Done()
					}
				}
			})
		}
		wg.Wait()
		total := 0
		for _, handles := range all {
			for _, h := range handles {
				total++
				if result, err := h.Wait(t.Context()); err != nil || result.Attempts != int(h.ID()[13]) {
					t.Fatalf("round %d: %+v, %v", round, result, err)
				}
			}
		}
		close(stop)
		finisher.Wait()
		tasks.await(t, "acknowledgements", func() bool { return len(tasks.acknowledged) == total && len(tasks.ended) == 0 })
		if len(tasks.known) != total {
			t.Errorf("round %d: %d tasks ran, want %d", round, len(tasks.known), total)
		}
		w.close()
	}
}
